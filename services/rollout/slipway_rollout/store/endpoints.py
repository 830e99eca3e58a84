"""Endpoints and the versions that they serve, in rows."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from slipway_rollout import domain
from slipway_rollout.domain import Endpoint, ServedVersion, ServingConfig, State

_metadata = sa.MetaData()
_endpoints = sa.Table(
    "endpoints",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("model", sa.Text),
    sa.Column("description", sa.Text),
    sa.Column("config", sa.JSON),
    sa.Column("shadow", sa.Text),
    sa.Column("shadow_percent", sa.Integer),
    sa.Column("revision", sa.BigInteger),
    sa.Column("route_serial", sa.BigInteger),
    sa.Column("foreign_route", sa.Text),
    sa.Column("route_warning", sa.Text),
    sa.Column("deleting", sa.Boolean),
    sa.Column("unrouted_time", sa.DateTime(timezone=True)),
    sa.Column("create_time", sa.DateTime(timezone=True)),
    sa.Column("update_time", sa.DateTime(timezone=True)),
    sa.Column("creator", sa.Text),
)
_versions = sa.Table(
    "served_versions",
    _metadata,
    sa.Column("endpoint", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("model_version", sa.Text),
    sa.Column("weight", sa.Integer),
    sa.Column("state", sa.Text),
    sa.Column("ready_replicas", sa.Integer),
    sa.Column("replicas", sa.Integer),
    sa.Column("error", sa.Text),
    sa.Column("routed", sa.Boolean),
    sa.Column("unrouted_time", sa.DateTime(timezone=True)),
    sa.Column("create_time", sa.DateTime(timezone=True)),
)


def _age_s(table: sa.Table) -> Any:
    age = sa.func.clock_timestamp() - table.c.unrouted_time
    return sa.func.extract("epoch", age).label("unrouted_s")


class EndpointRows:
    """Endpoints inside one transaction.

    Args:
        connection: The transaction.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, endpoint: Endpoint) -> Endpoint:
        """Add a new endpoint and return it as stored.

        Raises:
            AlreadyExists: There is one of that id.
        """
        row = insert(_endpoints).values(id=endpoint.id, creator=endpoint.creator, **_fields(endpoint))
        added = row.on_conflict_do_nothing().returning(_endpoints.c.id)  # an INSERT's rowcount is not kept
        if self._connection.execute(added).first() is None:
            remedy = "choose another id, or use the one that is there"
            raise domain.already_exists(f"{endpoint.name} exists already", remedy)
        return self.get(endpoint.id)

    def get(self, id: str, *, lock: bool = False) -> Endpoint:
        """Return an endpoint; `lock` keeps others from changing it until the transaction ends.

        Raises:
            NotFound: There is none; near matches are named.
        """
        found = self.find(id, lock=lock)
        if found is None:
            raise domain.endpoint_not_found(f"endpoints/{id}", [f"endpoints/{known}" for known in self.ids()])
        return found

    def find(self, id: str, *, lock: bool = False) -> Endpoint | None:
        """Return an endpoint, or None."""
        query = sa.select(_endpoints, _age_s(_endpoints)).where(_endpoints.c.id == id)
        row = self._connection.execute(query.with_for_update() if lock else query).mappings().first()
        return None if row is None else _endpoint(row, self._versions([id]).get(id, ()))

    def page(self, after: str, limit: int) -> list[Endpoint]:
        """Return at most `limit` endpoints with ids past `after`, by id."""
        query = sa.select(_endpoints, _age_s(_endpoints)).where(_endpoints.c.id > after)
        rows = self._connection.execute(query.order_by(_endpoints.c.id).limit(limit)).mappings().all()
        versions = self._versions([row["id"] for row in rows])
        return [_endpoint(row, versions.get(row["id"], ())) for row in rows]

    def serving(self, model_version: str, after: str, limit: int) -> list[str]:
        """Return the ids, past `after`, of endpoints that serve a version."""
        query = sa.select(_versions.c.endpoint).where(
            _versions.c.model_version == model_version, _versions.c.endpoint > after
        )
        return list(self._connection.execute(query.order_by(_versions.c.endpoint).limit(limit)).scalars())

    def ids(self) -> list[str]:
        """Return the ids of all endpoints."""
        return list(self._connection.execute(sa.select(_endpoints.c.id).order_by(_endpoints.c.id)).scalars())

    def save(self, endpoint: Endpoint) -> Endpoint:
        """Write an endpoint and its versions as they are, and return it as stored."""
        unrouted = _stamp(_endpoints, endpoint.unrouted_s)
        change = sa.update(_endpoints).where(_endpoints.c.id == endpoint.id)
        self._connection.execute(
            change.values(**_fields(endpoint), unrouted_time=unrouted, update_time=sa.func.clock_timestamp())
        )
        numbers = [version.number for version in endpoint.versions]
        gone = sa.delete(_versions).where(_versions.c.endpoint == endpoint.id)
        self._connection.execute(gone.where(_versions.c.number.not_in(numbers)))
        for version in endpoint.versions:
            self._save_version(endpoint, version)
        return self.get(endpoint.id)

    def remove(self, endpoint: Endpoint) -> None:
        """Remove an endpoint; its versions go with it."""
        self._connection.execute(sa.delete(_endpoints).where(_endpoints.c.id == endpoint.id))

    def _save_version(self, endpoint: Endpoint, version: ServedVersion) -> None:
        values = {
            "model_version": version.model_version,
            "weight": version.weight,
            "state": version.state.value,
            "ready_replicas": version.ready_replicas,
            "replicas": version.replicas,
            "error": version.error,
            "routed": version.routed,
        }
        row = insert(_versions).values(
            endpoint=endpoint.id, number=version.number, create_time=sa.func.clock_timestamp(), **values
        )
        stamp = _stamp(_versions, version.unrouted_s)
        keys = ["endpoint", "number"]
        self._connection.execute(
            row.on_conflict_do_update(index_elements=keys, set_={**values, "unrouted_time": stamp})
        )

    def _versions(self, ids: list[str]) -> dict[str, tuple[ServedVersion, ...]]:
        query = sa.select(_versions, _age_s(_versions)).where(_versions.c.endpoint.in_(ids))
        found: dict[str, tuple[ServedVersion, ...]] = {}
        for row in self._connection.execute(query.order_by(_versions.c.number)).mappings():
            found[row["endpoint"]] = (*found.get(row["endpoint"], ()), _version(row))
        return found


def _stamp(table: sa.Table, unrouted_s: float | None) -> Any:
    """Return what `unrouted_time` becomes: kept when set, by the database's clock when new."""
    return None if unrouted_s is None else sa.func.coalesce(table.c.unrouted_time, sa.func.clock_timestamp())


def _fields(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "model": endpoint.model,
        "description": endpoint.description,
        "config": asdict(endpoint.config),
        "shadow": endpoint.shadow,
        "shadow_percent": endpoint.shadow_percent,
        "revision": endpoint.revision,
        "route_serial": endpoint.route_serial,
        "foreign_route": endpoint.foreign_route,
        "route_warning": endpoint.route_warning,
        "deleting": endpoint.deleting,
    }


def _endpoint(row: Mapping[Any, Any], versions: tuple[ServedVersion, ...]) -> Endpoint:
    return Endpoint(
        id=row["id"],
        model=row["model"],
        description=row["description"],
        config=ServingConfig(**row["config"]),
        versions=versions,
        shadow=row["shadow"],
        shadow_percent=row["shadow_percent"],
        revision=row["revision"],
        route_serial=row["route_serial"],
        foreign_route=row["foreign_route"],
        route_warning=row["route_warning"],
        deleting=row["deleting"],
        unrouted_s=_seconds(row["unrouted_s"]),
        create_time=row["create_time"],
        update_time=row["update_time"],
        creator=row["creator"],
    )


def _version(row: Mapping[Any, Any]) -> ServedVersion:
    return ServedVersion(
        model_version=row["model_version"],
        weight=row["weight"],
        state=State(row["state"]),
        ready_replicas=row["ready_replicas"],
        replicas=row["replicas"],
        error=row["error"],
        routed=row["routed"],
        unrouted_s=_seconds(row["unrouted_s"]),
        create_time=row["create_time"],
    )


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)
