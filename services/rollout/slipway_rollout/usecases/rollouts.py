"""The verbs on rollouts, one transaction each. The worker does what they write."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from slipway_runtime.db import Database, PageToken, Repeat, page_of, page_size
from slipway_runtime.errors import FailedPrecondition
from slipway_runtime.identity import current_caller

from slipway_rollout import domain
from slipway_rollout.clients import Registry
from slipway_rollout.domain import Endpoint, Rollout, RouteEdited, Serving, State, Verdict
from slipway_rollout.engine.evidence import Evidence
from slipway_rollout.store import Store


class Rollouts:
    """What people and services may ask about rollouts.

    Args:
        database: Of this service.
        registry: Knows models and versions.
        watch_interval_s: Between two looks of a watch at the rows.
    """

    def __init__(self, *, database: Database, registry: Registry, watch_interval_s: float) -> None:
        self._database = database
        self._registry = registry
        self._watch_interval_s = watch_interval_s

    def create_rollout(self, parent: str, asked: Rollout, request_id: str, request: bytes) -> Rollout:
        """Begin a rollout; its version is deployed when the endpoint does not serve it yet.

        Raises:
            NotFound: There is no such endpoint, or no such version.
            InvalidArgument: Steps, gates or limits are out of range, or the version is of another model.
            FailedPrecondition: Another rollout runs, the version is not approved, no other version has all
                the traffic, or somebody else's edit of the route stands.
        """
        id = domain.parse_endpoint(parent)
        domain.parse_version(asked.model_version)
        new = replace(domain.checked_rollout(asked), endpoint=id, creator=current_caller().subject)

        def effect(store: Store) -> Rollout:
            self._check(store, store.get(id), new)
            self._registry.check_version(new.model_version)
            endpoint = store.get(id, lock=True)
            stable = self._check(store, endpoint, new)
            if not any(version.model_version == new.model_version for version in endpoint.versions):
                endpoint = domain.deploy(endpoint, new.model_version)
                store.save(replace(endpoint, revision=endpoint.revision + 1))
            return store.add_rollout(replace(new, stable_version=stable), Evidence.of(new.gates))

        return self._once("CreateRollout", request_id, request, effect)

    def _check(self, store: Store, endpoint: Endpoint, new: Rollout) -> str:
        """Return the stable version, or refuse."""
        domain.check_alive(endpoint)
        domain.check_free(store.running(endpoint.id), "another rollout")
        if endpoint.foreign_route:
            raise RouteEdited.of(endpoint, endpoint.route_warning)
        served = [version for version in endpoint.versions if version.model_version == new.model_version]
        if not served:
            domain.deploy(endpoint, new.model_version)
        elif served[0].state is State.STOPPING:
            message = f"{new.model_version} is STOPPING at {endpoint.name}; wait until it is gone"
            raise FailedPrecondition("VERSION_NOT_READY", message)
        return domain.stable_of(endpoint, new.model_version)

    def get_rollout(self, name: str) -> Rollout:
        """Return a rollout.

        Raises:
            NotFound: There is none of that name.
        """
        id, number = domain.parse_rollout(name)
        with self._database.transaction() as connection:
            return Store(connection).rollout(id, number)

    def list_rollouts(self, parent: str, size: int, token: str) -> tuple[list[Rollout], str]:
        """Return a page, newest first, and the token of the next one; `endpoints/-` lists all endpoints'."""
        id = "" if parent == "endpoints/-" else domain.parse_endpoint(parent)
        limit, tokens = page_size(size), PageToken(("rollouts", id))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            store = Store(connection)
            if id:
                store.get(id)
            before = (str(key[0]), int(key[1])) if key else None
            rows = store.rollouts(id, before, limit + 1)
        page = page_of(rows, limit)
        last = page[-1] if len(page) < len(rows) else None
        return page, tokens.encode(last.endpoint, last.number) if last else ""

    def list_verdicts(self, parent: str, size: int, token: str) -> tuple[list[Verdict], str]:
        """Return a page of the decision log, newest first, and the token of the next one."""
        id, number = domain.parse_rollout(parent, field="parent")
        limit, tokens = page_size(size), PageToken(("verdicts", parent))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            store = Store(connection)
            rows = store.verdicts(store.rollout(id, number), int(key[0]) if key else None, limit + 1)
        page = page_of(rows, limit)
        return page, tokens.encode(page[-1].number) if len(page) < len(rows) else ""

    def list_servings(self, parent: str, size: int, token: str) -> tuple[list[Serving], str]:
        """Return a page of what served when, newest first, and the token of the next one."""
        id = domain.parse_endpoint(parent)
        limit, tokens = page_size(size), PageToken(("servings", id))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            store = Store(connection)
            store.get(id)
            rows = store.servings(id, int(key[0]) if key else None, limit + 1)
        more = tokens.encode(rows[limit - 1][0]) if len(rows) > limit else ""
        return [serving for _, serving in rows[:limit]], more

    def watch_rollout(self, name: str, listening: Callable[[], bool]) -> Iterator[Rollout]:
        """Yield the rollout, and again whenever it has changed, until it has ended or nobody listens."""
        last: Rollout | None = None
        while listening():
            current = self.get_rollout(name)
            if current != last:
                yield current
                last = current
            if not current.active:
                return
            time.sleep(self._watch_interval_s)

    def pause_rollout(self, name: str, reason: str, request_id: str, request: bytes) -> Rollout:
        """Stop the way up.

        Raises:
            FailedPrecondition: It has ended.
        """
        domain.checked_reason(reason)

        def change(store: Store, endpoint: Endpoint, rollout: Rollout) -> Rollout:
            return domain.paused(rollout, reason, current_caller().subject)

        return self._change("PauseRollout", name, request_id, request, change)

    def resume_rollout(self, name: str, etag: str, request_id: str, request: bytes) -> Rollout:
        """Go on at the same step; with the endpoint's etag also over somebody else's edit of the route.

        Raises:
            FailedPrecondition: It has ended or is not paused, or an edit stands and no etag is given.
            Aborted: The etag is stale.
        """

        def change(store: Store, endpoint: Endpoint, rollout: Rollout) -> Rollout:
            domain.check_etag(endpoint, etag)
            domain.check_running(rollout)
            if endpoint.foreign_route and not etag:
                raise RouteEdited.of(endpoint, endpoint.route_warning)
            return domain.resumed(rollout, endpoint.foreign_route)

        return self._change("ResumeRollout", name, request_id, request, change)

    def abort_rollout(self, name: str, reason: str, request_id: str, request: bytes) -> Rollout:
        """Give the traffic back to the stable version.

        Raises:
            FailedPrecondition: It has ended.
        """
        domain.checked_reason(reason)

        def change(store: Store, endpoint: Endpoint, rollout: Rollout) -> Rollout:
            return domain.aborted(rollout, reason, current_caller().subject)

        return self._change("AbortRollout", name, request_id, request, change)

    def finish_rollout(self, name: str, reason: str, request_id: str, request: bytes) -> Rollout:
        """Give all traffic to the new version, whatever the evidence.

        Raises:
            InvalidArgument: No reason is given.
            FailedPrecondition: It has ended, its version never served, or an edit of the route stands.
        """
        domain.checked_reason(reason)

        def change(store: Store, endpoint: Endpoint, rollout: Rollout) -> Rollout:
            if endpoint.foreign_route:
                raise RouteEdited.of(endpoint, endpoint.route_warning)
            return domain.finished(rollout, reason, current_caller().subject)

        return self._change("FinishRollout", name, request_id, request, change)

    def _change(
        self,
        method: str,
        name: str,
        request_id: str,
        request: bytes,
        change: Callable[[Store, Endpoint, Rollout], Rollout],
    ) -> Rollout:
        id, number = domain.parse_rollout(name)

        def effect(store: Store) -> Rollout:
            endpoint = store.get(id, lock=True)
            return store.save_rollout(change(store, endpoint, store.rollout(id, number, lock=True)))

        return self._once(method, request_id, request, effect)

    def _once(
        self, method: str, request_id: str, request: bytes, effect: Callable[[Store], Rollout]
    ) -> Rollout:
        with self._database.transaction() as connection:
            return Repeat(method, request_id, request).once(
                connection, Rollout, lambda: effect(Store(connection))
            )
