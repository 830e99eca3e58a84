"""Writing an endpoint's route: subsets first, then the weights in one patch, never over another's edit."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prometheus_client import Counter
from slipway_runtime.errors import Aborted

from slipway_rollout.clients import Cluster
from slipway_rollout.domain import SHADOW_SUBSET, Endpoint, RouteEdited
from slipway_rollout.engine import manifests, route
from slipway_rollout.engine.manifests import Placement

log = logging.getLogger(__name__)

_ATTEMPTS = 8
_BACKOFF_S = 0.05
WRITES = Counter(
    "slipway_rollout_route_writes", "Writes of routes by outcome: written, conflict, edited", ["outcome"]
)


class Routing:
    """The route and the subsets of endpoints. Callers hold the endpoint's row, so writes do not cross.

    Args:
        cluster: The Kubernetes API.
        placement: Namespace and gateway.
    """

    def __init__(self, cluster: Cluster, placement: Placement) -> None:
        self._cluster = cluster
        self._placement = placement

    def read(self, endpoint: Endpoint) -> route.Route | None:
        """Return the route as it stands, or None."""
        found = self._cluster.get("VirtualService", endpoint.id)
        return None if found is None else route.read(found)

    def adopted(self, endpoint: Endpoint, found: route.Route | None) -> Endpoint:
        """Return the endpoint with the weights in force, those of the route as found.

        They differ from the row's when we were killed after the write and before the commit.
        """
        if found is None or not found.intact or found.serial <= endpoint.route_serial:
            return endpoint
        known = replace(endpoint, route_serial=found.serial)
        if found.weights == {v.subset: v.weight for v in endpoint.versions if v.routed}:
            return known
        log.info("%s takes over the weights %s from its route", endpoint.name, found.weights)
        return replace(known.with_weights(found.weights), revision=endpoint.revision + 1)

    def write(self, endpoint: Endpoint, *, known: Mapping[str, int], accepted: str = "") -> Endpoint:
        """Make the mesh follow the endpoint; nothing is written where it does already.

        Args:
            endpoint: As it shall be.
            known: The weights that we believe are in force, for the message.
            accepted: Digest of a foreign route that may be overwritten.

        Raises:
            RouteEdited: Somebody else changed the route.
            Aborted: Others kept writing it.
        """
        for attempt in range(_ATTEMPTS):
            self._subsets(endpoint, prune=False)
            written = self._write_once(endpoint, known, accepted)
            if written is not None:
                self._subsets(written, prune=True)
                return written
            WRITES.labels("conflict").inc()
            time.sleep(_BACKOFF_S * (attempt + 1))
        message = f"the route of {endpoint.name} was changed by others {_ATTEMPTS} times; try again"
        raise Aborted("ROUTE_BUSY", message, retry_after_s=1)

    def _write_once(self, endpoint: Endpoint, known: Mapping[str, int], accepted: str) -> Endpoint | None:
        current = self.read(endpoint)
        if current is not None and route.is_foreign(current, endpoint.route_serial):
            if current.digest != accepted:
                WRITES.labels("edited").inc()
                seen = current.digest == endpoint.foreign_route  # its weights are the row's by now
                said = endpoint.route_warning if seen else route.differs(current, known)
                raise RouteEdited.of(endpoint, said)
            endpoint = replace(endpoint, foreign_route="", route_warning="")
        serial = max(endpoint.route_serial, current.serial if current else 0)
        endpoint = replace(endpoint, route_serial=serial)
        wanted = manifests.virtual_service(
            endpoint, [v for v in endpoint.versions if v.routed], self._placement
        )
        if current is None:
            return self._done(endpoint, self._cluster.create(wanted))
        patch = route.patch_to(current.manifest, wanted)
        if not patch:
            return endpoint
        return self._done(endpoint, self._cluster.patch("VirtualService", endpoint.id, patch))

    def _done(self, endpoint: Endpoint, written: bool) -> Endpoint | None:
        if not written:
            return None
        WRITES.labels("written").inc()
        return replace(endpoint, route_serial=endpoint.route_serial + 1)

    def remove(self, endpoint: Endpoint) -> None:
        """Take the route away; the subsets stay until the pods are gone."""
        self._cluster.delete("VirtualService", endpoint.id)

    def prune(self, endpoint: Endpoint) -> None:
        """Take subsets away that no version of the endpoint has any more."""
        self._subsets(endpoint, prune=True)

    def _subsets(self, endpoint: Endpoint, *, prune: bool) -> None:
        """Give the DestinationRule the routed versions' subsets; others leave it only when pruned.

        A route to a subset that is not there answers with errors, so adding comes before the route and
        pruning after it. Subsets of versions that drain stay if they are there, but never come back.
        """
        listed = [v.subset for v in endpoint.versions if v.routed]
        draining = {v.subset for v in endpoint.versions} - set(listed)
        wanted = manifests.destination_rule(endpoint, listed, self._placement)
        for _ in range(_ATTEMPTS):
            current = self._cluster.get("DestinationRule", endpoint.id)
            if current is None:
                if (prune and not listed) or self._cluster.create(wanted):
                    return
                continue
            kept = draining if prune else None
            patch = _subsets_patch(current, wanted["spec"]["subsets"], kept)
            if not patch or self._cluster.patch("DestinationRule", endpoint.id, patch):
                return
        raise Aborted("ROUTE_BUSY", f"the subsets of {endpoint.name} were changed by others; try again")


def _subsets_patch(
    current: dict[str, Any], wanted: list[dict[str, Any]], kept: set[str] | None
) -> route.Patch:
    """Return the patch to the subsets wanted; of the others those in `kept` stay, or all with None."""
    there = (current.get("spec") or {}).get("subsets") or []
    names = {subset["name"] for subset in wanted}
    others = [subset for subset in there if subset["name"] not in names]
    target = [*wanted, *(subset for subset in others if kept is None or subset["name"] in kept)]
    if sorted(there, key=_by_name) == sorted(target, key=_by_name):
        return []
    return [
        {
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": current["metadata"]["resourceVersion"],
        },
        {"op": "add", "path": "/spec/subsets", "value": target},
    ]


def _by_name(subset: dict[str, Any]) -> tuple[bool, str]:
    return subset["name"] == SHADOW_SUBSET, subset["name"]
