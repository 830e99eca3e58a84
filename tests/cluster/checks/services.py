"""A service is whole: routed, guarded, reachable through the door, and asked for tokens."""

from collections.abc import Iterator

from .objects import Finding, Manifest, Objects, Pod, namespace_of

_OWN_DOOR = "gateway"  # takes API tokens, which are no JWTs, and is no gRPC server


def check(objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each part that a service lacks; `deploy/k8s/README.md` lists them."""
    for pod in objects.pods():
        serves = any(container.get("args") == ["serve"] for _, container in pod.containers())
        if pod.namespace != "slipway" or not serves:
            continue
        if not _selecting(objects, "AuthorizationPolicy", pod):
            yield Finding(pod.where, "AuthorizationPolicy", "is missing: every pod in the mesh may call it")
        if not _selecting(objects, "PodDisruptionBudget", pod):
            yield Finding(pod.where, "PodDisruptionBudget", "is missing: a drain may stop all of its pods")
        if pod.name != _OWN_DOOR:
            yield from _called(objects, pod)


def _called(objects: Objects, pod: Pod) -> Iterator[Finding]:
    if not _selecting(objects, "RequestAuthentication", pod):
        yield Finding(pod.where, "RequestAuthentication", "is missing: the sidecar checks no token")
    host = f"{pod.name}.{pod.namespace}.svc.cluster.local"
    if not any(host in one["spec"]["hosts"] for one in objects.of("VirtualService")):
        yield Finding(pod.where, "VirtualService", f"none routes {host}: the default retries hold")
    if not any(one["spec"]["host"] == host for one in objects.of("DestinationRule")):
        yield Finding(pod.where, "DestinationRule", f"none is for {host}")
    door = objects.find("VirtualService", "slipway", "grpc-door")
    routes = [route for route in (door or {"spec": {"http": []}})["spec"]["http"] if "route" in route]
    if host not in [one["destination"]["host"] for route in routes for one in route["route"]]:
        yield Finding(pod.where, "VirtualService slipway/grpc-door", f"has no route to {host}")


def _selecting(objects: Objects, kind: str, pod: Pod) -> list[Manifest]:
    found = []
    for policy in objects.of(kind):
        labels = (policy["spec"].get("selector") or {}).get("matchLabels") or {}
        if namespace_of(policy) == pod.namespace and labels and labels.items() <= pod.labels.items():
            found.append(policy)
    return found
