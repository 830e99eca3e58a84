"""The status of a Deployment, in the fields and reasons of Kubernetes."""

from typing import Any


def status(
    deployment: dict[str, Any],
    *,
    replicas: int,
    updated: int,
    ready: int,
    age_s: float,
    trouble: str,
    refused: str = "",
) -> dict[str, Any]:
    """Return what the Deployment's controller would say.

    Args:
        deployment: As the API holds it.
        replicas: Pods that exist, those that leave too.
        updated: Pods of the current template.
        ready: Pods that serve.
        age_s: Since its spec was last written.
        trouble: What ails its pods.
        refused: Why no pod of the template will ever serve: known long before the deadline.
    """
    wanted = int(deployment["spec"].get("replicas", 1))
    deadline_s = float(deployment["spec"].get("progressDeadlineSeconds", 600))
    late = ready < wanted and age_s > deadline_s
    return {
        "observedGeneration": int(deployment["metadata"].get("generation", 0)),
        "replicas": replicas,
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(wanted - ready, 0),
        "conditions": [
            _available(ready, wanted),
            _progressing(ready, wanted, late, deadline_s, trouble),
            *([_refused(refused)] if refused else []),
        ],
    }


def _available(ready: int, wanted: int) -> dict[str, str]:
    enough = ready >= wanted
    reason = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
    message = f"{ready} of {wanted} pods serve"
    return {"type": "Available", "status": str(enough), "reason": reason, "message": message}


def _refused(why: str) -> dict[str, str]:
    return {"type": "ReplicaFailure", "status": "True", "reason": "ModelRefused", "message": why}


def _progressing(ready: int, wanted: int, late: bool, deadline_s: float, trouble: str) -> dict[str, str]:
    condition = {"type": "Progressing", "status": str(not late)}
    if late:
        message = f"not ready within {deadline_s:g} s" + (f": {trouble}" if trouble else "")
        return {**condition, "reason": "ProgressDeadlineExceeded", "message": message}
    reason = "NewReplicaSetAvailable" if ready >= wanted else "ReplicaSetUpdated"
    return {**condition, "reason": reason, "message": trouble}
