"""What a Deployment says about the version that it runs."""

from dataclasses import replace
from typing import Any

from slipway_rollout.domain import ServedVersion, State


def observed(version: ServedVersion, deployment: dict[str, Any]) -> ServedVersion:
    """Return the version as its Deployment shows it.

    READY: all pods asked for are ready. FAILED: the progress deadline passed, or no pod can be made;
    it is left again when pods come up after all. A stopping version stays so.
    """
    wanted = int(deployment["spec"].get("replicas", 1))
    status = deployment.get("status") or {}
    current = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    ready = int(status.get("readyReplicas") or 0) if current else 0
    counted = replace(version, ready_replicas=ready, replicas=wanted)
    if version.state is State.STOPPING:
        return counted
    if wanted and ready >= wanted:
        return replace(counted, state=State.READY, error="")
    trouble = _trouble(status) if current else ""
    if trouble:
        return replace(counted, state=State.FAILED, error=trouble)
    lost = f"{ready} of {wanted} pods serve" if version.routed else ""
    return replace(counted, state=State.STARTING, error=lost)


def drained(deployment: dict[str, Any]) -> bool:
    """Return whether the Deployment has no pod any more, and is not about to make one."""
    status = deployment.get("status") or {}
    current = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return bool(current and not deployment["spec"].get("replicas", 1) and not status.get("replicas"))


def _trouble(status: dict[str, Any]) -> str:
    for condition in status.get("conditions") or []:
        kind, holds = condition.get("type"), condition.get("status")
        if (kind, holds) in (("Progressing", "False"), ("ReplicaFailure", "True")):
            said = (condition.get("reason", ""), condition.get("message", ""))
            return ": ".join(text for text in said if text) or "the Deployment does not progress"
    return ""
