"""The loop that makes the cluster follow the rows, whatever was killed in between.

Each step compares what is there with what should be and does nothing where they agree, so a step that
was done before a kill is not done again, and one that was not is done at the next look. Order up: pods
ready, subset, route. Order down: route, propagation, pods, subset.
"""

import logging
import time
from dataclasses import replace

from prometheus_client import Gauge
from slipway_runtime.db import Database
from slipway_runtime.errors import SlipwayError

from slipway_rollout.clients import Cluster
from slipway_rollout.domain import Endpoint, RouteEdited, ServedVersion, State
from slipway_rollout.engine import manifests, route, status
from slipway_rollout.engine.manifests import Placement
from slipway_rollout.store import Store
from slipway_rollout.usecases.routing import Routing

log = logging.getLogger(__name__)

VERSIONS = Gauge("slipway_rollout_served_versions", "Served versions by state", ["state"])


class Follower:
    """Makes the cluster follow the rows.

    Args:
        database: Of this service.
        cluster: The Kubernetes API.
        placement: Where and how model pods run.
        propagation_s: What a route needs to reach every sidecar.
        resync_interval_s: Between two looks at an endpoint on which nothing is left to do.
    """

    def __init__(
        self,
        *,
        database: Database,
        cluster: Cluster,
        placement: Placement,
        propagation_s: float,
        resync_interval_s: float,
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._placement = placement
        self._routing = Routing(cluster, placement)
        self._propagation_s = propagation_s
        self._resync_interval_s = resync_interval_s
        self._looked_at: dict[str, float] = {}

    def sweep(self) -> None:
        """Look at every endpoint that is due; trouble with one does not keep the others waiting."""
        with self._database.transaction() as connection:
            endpoints = _all(Store(connection))
        for state in State:
            VERSIONS.labels(state.value).set(sum(v.state is state for e in endpoints for v in e.versions))
        for endpoint in endpoints:
            if endpoint.settled and self._fresh(endpoint.id):
                continue
            try:
                self.follow(endpoint.id)
                self._looked_at[endpoint.id] = time.monotonic()
            except SlipwayError as error:
                log.warning("%s cannot be followed now: %s", endpoint.name, error.message)
            except Exception:
                log.exception("%s cannot be followed now", endpoint.name)

    def _fresh(self, id: str) -> bool:
        return time.monotonic() - self._looked_at.get(id, float("-inf")) < self._resync_interval_s

    def follow(self, id: str) -> None:
        """Do what is left to do for one endpoint, holding its row."""
        with self._database.transaction() as connection:
            store = Store(connection)
            endpoint = store.find(id, lock=True)
            if endpoint is None:
                return
            after = self._taken_away(endpoint) if endpoint.deleting else self._followed(endpoint)
            if after is None:
                store.remove(endpoint)
            elif after != endpoint:
                running = store.running(id)
                reason = after.route_warning and f"edited: {after.route_warning}"
                store.save(after, actor=running.name if running and not reason else "rollout", reason=reason)

    def _followed(self, endpoint: Endpoint) -> Endpoint:
        if self._cluster.get("Service", endpoint.id) is None:
            self._cluster.create(manifests.service(endpoint, self._placement))
        for version in endpoint.versions:
            endpoint = endpoint.with_version(self._with_pods(endpoint, version))
        return self._without_drained(self._routed(endpoint))

    def _with_pods(self, endpoint: Endpoint, version: ServedVersion) -> ServedVersion:
        name = manifests.deployment_name(endpoint, version)
        found = self._cluster.get("Deployment", name)
        if found is not None:
            return status.observed(version, found)
        if version.state is State.STOPPING:
            return replace(version, ready_replicas=0)
        self._cluster.create(manifests.deployment(endpoint, version, self._placement))
        return replace(version, state=State.STARTING, ready_replicas=0)

    def _routed(self, endpoint: Endpoint) -> Endpoint:
        found = self._routing.read(endpoint)
        if found is not None and route.is_foreign(found, endpoint.route_serial):
            return _with_foreign(endpoint, found)
        if endpoint.foreign_route:
            endpoint = replace(endpoint, foreign_route="", route_warning="", revision=endpoint.revision + 1)
        known = self._routing.adopted(endpoint, found)
        wanted = _first_gets_all(_as_routed(known))
        if not any(version.routed for version in wanted.versions):
            if found is not None:
                self._routing.remove(endpoint)
            return wanted
        try:
            return self._routing.write(wanted, known=known.weights)
        except RouteEdited:
            return endpoint  # edited since it was read: the next look says so

    def _without_drained(self, endpoint: Endpoint) -> Endpoint:
        for version in endpoint.versions:
            if version.state is not State.STOPPING or version.routed:
                continue
            if version.unrouted_s is not None and version.unrouted_s < self._propagation_s:
                continue
            if self._scaled_down(endpoint, version):
                endpoint = replace(endpoint, versions=tuple(v for v in endpoint.versions if v != version))
                self._routing.prune(endpoint)
                self._cluster.delete("Deployment", manifests.deployment_name(endpoint, version))
        return endpoint

    def _scaled_down(self, endpoint: Endpoint, version: ServedVersion) -> bool:
        name = manifests.deployment_name(endpoint, version)
        found = self._cluster.get("Deployment", name)
        if found is None or status.drained(found):
            return True
        if found["spec"].get("replicas", 1):
            self._cluster.patch("Deployment", name, manifests.scale_patch(found, 0))
        return False

    def _taken_away(self, endpoint: Endpoint) -> Endpoint | None:
        self._routing.remove(endpoint)
        if endpoint.unrouted_s is None:
            unrouted = tuple(replace(v, routed=False, unrouted_s=0.0) for v in endpoint.versions)
            return replace(endpoint, unrouted_s=0.0, versions=unrouted, revision=endpoint.revision + 1)
        if endpoint.versions and endpoint.unrouted_s < self._propagation_s:
            return endpoint
        left = self._without_drained(endpoint)
        if left.versions:
            return left
        self._cluster.delete("DestinationRule", endpoint.id)
        self._cluster.delete("Service", endpoint.id)
        log.info("%s is gone", endpoint.name)
        return None


def _all(store: Store) -> list[Endpoint]:
    endpoints: list[Endpoint] = []
    while page := store.page(endpoints[-1].id if endpoints else "", 500):
        endpoints += page
    return endpoints


def _as_routed(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with routes for the versions that are ready, and none for those that stop."""
    for version in endpoint.versions:
        if version.state is State.READY and not version.routed:
            endpoint = endpoint.with_version(replace(version, routed=True))
        if version.state is State.STOPPING and version.routed:
            endpoint = endpoint.with_version(replace(version, routed=False, unrouted_s=0.0, weight=0))
    return endpoint


def _first_gets_all(endpoint: Endpoint) -> Endpoint:
    routed = [version for version in endpoint.versions if version.routed]
    if not routed or any(version.weight for version in routed):
        return endpoint
    return replace(endpoint.with_weights({routed[0].subset: 100}), revision=endpoint.revision + 1)


def _with_foreign(endpoint: Endpoint, found: route.Route) -> Endpoint:
    """Return the endpoint with the weights that somebody else set: in force, and not ours to undo."""
    if found.digest == endpoint.foreign_route:
        return endpoint
    return replace(
        endpoint.with_weights(found.weights),
        foreign_route=found.digest,
        route_warning=route.differs(found, endpoint.weights),
        revision=endpoint.revision + 1,
    )
