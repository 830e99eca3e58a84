"""The verbs on endpoints, one transaction each. The worker makes the cluster follow what they write."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from slipway_runtime.db import Database, PageToken, Repeat, page_size
from slipway_runtime.errors import InvalidArgument
from slipway_runtime.identity import current_caller

from slipway_rollout import domain
from slipway_rollout.clients import Cluster, Registry
from slipway_rollout.domain import Endpoint, ServingConfig, State
from slipway_rollout.engine.manifests import Placement
from slipway_rollout.store import Store
from slipway_rollout.usecases.routing import Routing

_LISTING = PageToken(("endpoints",))


class Endpoints:
    """What people and services may ask about endpoints.

    Args:
        database: Of this service.
        registry: Knows models and versions.
        cluster: Where routes are written.
        placement: Where and how model pods run.
        watch_interval_s: Between two looks of a watch at the rows.
    """

    def __init__(
        self,
        *,
        database: Database,
        registry: Registry,
        cluster: Cluster,
        placement: Placement,
        watch_interval_s: float,
    ) -> None:
        self._database = database
        self._registry = registry
        self._routing = Routing(cluster, placement)
        self._watch_interval_s = watch_interval_s

    def create_endpoint(
        self, id: str, model: str, description: str, config: ServingConfig, request_id: str, request: bytes
    ) -> Endpoint:
        """Create an endpoint that serves nothing yet.

        Raises:
            InvalidArgument: The id, the model's name or the configuration is not allowed.
            NotFound: The registry has no such model.
            AlreadyExists: There is an endpoint of that id.
        """
        new = Endpoint(
            id=domain.endpoint_id(id),
            model=domain.parse_model(model),
            description=domain.checked_description(description),
            config=domain.checked_config(config),
            creator=current_caller().subject,
        )

        def effect(store: Store) -> Endpoint:
            self._registry.check_model(model)
            return store.add(new)

        return self._once("CreateEndpoint", request_id, request, effect)

    def get_endpoint(self, name: str) -> Endpoint:
        """Return an endpoint.

        Raises:
            NotFound: There is none of that name.
        """
        id = domain.parse_endpoint(name)
        with self._database.transaction() as connection:
            return Store(connection).get(id)

    def list_endpoints(self, size: int, token: str) -> tuple[list[Endpoint], str]:
        """Return a page by name, and the token of the next one."""
        limit, key = page_size(size), _LISTING.decode(token)
        with self._database.transaction() as connection:
            rows = Store(connection).page(str(key[0]) if key else "", limit + 1)
        more = len(rows) > limit
        return rows[:limit], _LISTING.encode(rows[limit - 1].id) if more else ""

    def update_endpoint(self, name: str, etag: str, description: str, paths: tuple[str, ...]) -> Endpoint:
        """Change the description.

        Raises:
            InvalidArgument: The mask names something else, or nothing; or the description is too long.
            Aborted: The etag is stale.
        """
        if paths != ("description",):
            named = ", ".join(paths) or "nothing"
            raise InvalidArgument.field("update_mask", f"names {named}; only 'description' can be changed")
        id, description = domain.parse_endpoint(name), domain.checked_description(description)
        with self._database.transaction() as connection:
            store = Store(connection)
            endpoint = store.get(id, lock=True)
            domain.check_etag(endpoint, etag)
            domain.check_alive(endpoint)
            return store.save(_revised(replace(endpoint, description=description)))

    def delete_endpoint(self, name: str, force: bool, request_id: str, request: bytes) -> Endpoint:
        """Begin to take an endpoint away; the worker ends it.

        Raises:
            FailedPrecondition: It has traffic and `force` is not set.
        """
        id = domain.parse_endpoint(name)

        def effect(store: Store) -> Endpoint:
            endpoint = store.get(id, lock=True)
            domain.check_deletable(endpoint, force=force)
            running = store.running(id, lock=True)
            if running is not None:
                ended = running  # it may have ended, its last write outstanding
                if not running.state.ended:
                    ended = domain.aborted(running, f"{endpoint.name} is deleted", current_caller().subject)
                store.save_rollout(replace(ended, settled=True, end_time=store.now()))
            stopping = tuple(replace(v, state=State.STOPPING, weight=0) for v in endpoint.versions)
            gone = replace(endpoint, deleting=True, versions=stopping, shadow="", shadow_percent=0)
            return store.save(_revised(gone), actor=current_caller().subject, reason="deleted")

        return self._once("DeleteEndpoint", request_id, request, effect)

    def deploy_version(self, name: str, model_version: str, request_id: str, request: bytes) -> Endpoint:
        """Begin to serve a version.

        Raises:
            NotFound: The registry has no such version.
            InvalidArgument: It belongs to another model.
            AlreadyExists: The endpoint has it already.
        """
        id = domain.parse_endpoint(name)
        domain.parse_version(model_version)

        def effect(store: Store) -> Endpoint:
            self._registry_check(store.get(id), model_version)
            endpoint = store.get(id, lock=True)
            domain.check_alive(endpoint)
            domain.check_free(store.running(id), "a release")
            return store.save(_revised(domain.deploy(endpoint, model_version)))

        return self._once("DeployVersion", request_id, request, effect)

    def _registry_check(self, endpoint: Endpoint, model_version: str) -> None:
        """Ask the registry, unless the version cannot be deployed anyway."""
        domain.check_alive(endpoint)
        domain.deploy(endpoint, model_version)
        self._registry.check_version(model_version)

    def undeploy_version(self, name: str, model_version: str, request_id: str, request: bytes) -> Endpoint:
        """Begin to stop a version.

        Raises:
            NotFound: The endpoint does not serve it.
            FailedPrecondition: It has weight, or gets the mirror.
        """
        id = domain.parse_endpoint(name)
        domain.parse_version(model_version)

        def effect(store: Store) -> Endpoint:
            endpoint = store.get(id, lock=True)
            domain.check_alive(endpoint)
            domain.check_free(store.running(id), "stopping a version")
            return store.save(_revised(domain.undeploy(endpoint, model_version)))

        return self._once("UndeployVersion", request_id, request, effect)

    def set_split(
        self, name: str, weights: Mapping[str, int], etag: str, request_id: str, request: bytes
    ) -> Endpoint:
        """Set the weights, in the mesh and in the row; they are in force when this returns.

        With the etag of an endpoint whose route somebody else changed, that change is overwritten;
        without one it is not.

        Raises:
            InvalidArgument: The weights do not sum to 100, or name a version that is not ready.
            NotFound: A version is not served.
            Aborted: The etag is stale, or others kept writing the route.
            RouteEdited: Somebody else changed the route.
            FailedPrecondition: A rollout moves the weights (ROLLOUT_RUNNING).
        """
        id = domain.parse_endpoint(name)

        def effect(store: Store) -> Endpoint:
            endpoint = self._in_force(store.get(id, lock=True))
            domain.check_alive(endpoint)
            domain.check_etag(endpoint, etag)
            domain.check_free(store.running(id), "another split")
            wanted = _revised(domain.split(endpoint, weights))
            accepted = endpoint.foreign_route if etag else ""
            written = self._routing.write(wanted, known=endpoint.weights, accepted=accepted)
            return store.save(written, actor=current_caller().subject, reason="split set by hand")

        return self._once("SetSplit", request_id, request, effect)

    def set_shadow(self, name: str, subset: str, percent: int, request_id: str, request: bytes) -> Endpoint:
        """Mirror live requests to a version, or end that.

        Raises:
            FailedPrecondition: The version has weight, or is not ready.
            RouteEdited: Somebody else changed the route.
        """
        id = domain.parse_endpoint(name)

        def effect(store: Store) -> Endpoint:
            endpoint = self._in_force(store.get(id, lock=True))
            domain.check_alive(endpoint)
            domain.check_free(store.running(id), "another shadow")
            wanted = _revised(domain.shadow(endpoint, subset, percent))
            return store.save(
                self._routing.write(wanted, known=endpoint.weights), actor=current_caller().subject
            )

        return self._once("SetShadow", request_id, request, effect)

    def _in_force(self, endpoint: Endpoint) -> Endpoint:
        return self._routing.adopted(endpoint, self._routing.read(endpoint))

    def watch_endpoint(self, name: str, listening: Callable[[], bool]) -> Iterator[Endpoint]:
        """Yield the endpoint, and again whenever it has changed, while somebody listens."""
        last: Endpoint | None = None
        while listening():
            current = self.get_endpoint(name)
            if last is None or replace(current, update_time=last.update_time) != last:
                yield current
                last = current
            time.sleep(self._watch_interval_s)

    def _once(
        self, method: str, request_id: str, request: bytes, effect: Callable[[Store], Endpoint]
    ) -> Endpoint:
        with self._database.transaction() as connection:
            return Repeat(method, request_id, request).once(
                connection, Endpoint, lambda: effect(Store(connection))
            )


def _revised(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, revision=endpoint.revision + 1)
