"""The verbs over monitors: what is watched at an endpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from slipway_runtime.db import Database, PageToken, page_size
from slipway_runtime.errors import Aborted, InvalidArgument
from slipway_runtime.identity import current_caller, require_role
from sqlalchemy import Connection

from slipway_monitoring.domain.monitors import (
    CHANGEABLE,
    Monitor,
    MonitorSpec,
    Objective,
    ObjectiveKind,
    check_spec,
)
from slipway_monitoring.domain.names import endpoint_id_of_monitor
from slipway_monitoring.store.monitors import MonitorStore
from slipway_monitoring.usecases.sources import monitored

WRITERS = frozenset({"admin", "engineer", "service"})
_PAGE = 500


class Monitors:
    """The verbs over monitors."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> Monitor:
        """Return the monitor of an endpoint; the defaults where nobody set one.

        Raises:
            NotFound: No event came from the endpoint, and nobody set a monitor.
        """
        endpoint = endpoint_id_of_monitor(name)
        with self._database.transaction() as connection:
            found = MonitorStore(connection).get(endpoint)
            if found is None:
                monitored(connection, f"endpoints/{endpoint}")
        assert found is not None
        return found

    def list(self, size: int, token: str) -> tuple[Sequence[Monitor], str]:
        """Return a page of monitors, by name."""
        limit, tokens = page_size(size), PageToken(("monitors",), (str,))
        after = tokens.decode(token)
        with self._database.transaction() as connection:
            found = MonitorStore(connection).list(str(after[0]) if after else "", limit + 1)
        return found[:limit], tokens.encode(found[limit - 1].endpoint) if len(found) > limit else ""

    def update(self, name: str, etag: str, wanted: MonitorSpec, paths: Sequence[str]) -> Monitor:
        """Make or change a monitor; the same content again changes nothing.

        Args:
            name: `monitors/{endpoint}`; the endpoint need not have had events.
            etag: As read, or empty to overwrite whatever is there.
            wanted: New values.
            paths: Which of them count; all when empty.

        Raises:
            PermissionDenied: The caller is neither admin, engineer nor a service.
            Aborted: The etag is stale.
            InvalidArgument: A value or path is not allowed.
        """
        require_role(current_caller(), WRITERS)
        endpoint = endpoint_id_of_monitor(name, "monitor.name")
        if unknown := sorted(set(paths) - CHANGEABLE):
            allowed = ", ".join(sorted(CHANGEABLE))
            raise InvalidArgument.field("update_mask", f"names {', '.join(unknown)}; name some of {allowed}")
        with self._database.transaction() as connection:
            store = MonitorStore(connection)
            store.lock(endpoint)
            current = store.get(endpoint) or Monitor(endpoint, MonitorSpec())
            if etag and etag != current.etag:
                message = (
                    f"{name} was changed by another; its etag is {current.etag!r}: read again, then update"
                )
                raise Aborted("ETAG_MISMATCH", message, metadata={"etag": current.etag})
            chosen = {path: getattr(wanted, path) for path in paths or CHANGEABLE}
            spec = check_spec(replace(current.spec, **chosen))
            if spec == current.spec and current.revision:
                return current
            return store.put(endpoint, spec, current_caller().subject)


def every_monitor(connection: Connection) -> list[Monitor]:
    """Return all monitors, those of the defaults too."""
    store, found = MonitorStore(connection), list[Monitor]()
    while len(page := store.list(found[-1].endpoint if found else "", _PAGE)) == _PAGE:
        found += page
    return found + page


def thresholds_of(objectives: Sequence[Objective]) -> Mapping[str, float]:
    """Return the milliseconds by which latency is counted, by key."""
    return {o.key: o.threshold_ms for o in objectives if o.kind is ObjectiveKind.LATENCY}
