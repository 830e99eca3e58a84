"""Routes, subsets, gateways and policies: everything they name is there, and weights are weights."""

import re
from collections.abc import Iterator

from .objects import Finding, Manifest, Objects, namespace_of, where

_HOST = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc\.cluster\.local")
_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+")
_PRINCIPAL = re.compile(r"cluster\.local/ns/([a-z0-9-]+)/sa/([a-z0-9-]+)")
_DURATIONS = (
    "timeout",
    "perTryTimeout",
    "baseEjectionTime",
    "interval",
    "connectTimeout",
    "idleTimeout",
    "maxAge",
)


def check(objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each route or policy that hits nothing, or not what it says."""
    for service in objects.of("VirtualService"):
        yield from _virtual_service(objects, service)
    for rule in objects.of("DestinationRule"):
        yield from _destination_rule(objects, rule)
    for gateway in objects.of("Gateway"):
        yield from _gateway(objects, gateway)
    for policy in objects.of("AuthorizationPolicy", "RequestAuthentication", "PeerAuthentication"):
        yield from _selector(objects, policy)
    for policy in objects.of("AuthorizationPolicy"):
        yield from _policy(objects, policy)
    for manifest in objects.of("VirtualService", "DestinationRule"):
        yield from _durations(where(manifest), manifest["spec"], "spec")


def _virtual_service(objects: Objects, service: Manifest) -> Iterator[Finding]:
    place, spec = where(service), service["spec"]
    for name in spec.get("gateways") or []:
        namespace, _, short = name.rpartition("/")
        if name != "mesh" and not objects.find("Gateway", namespace or namespace_of(service), short):
            yield Finding(place, "spec.gateways", f"there is no Gateway {name!r}")
    if "mesh" in (spec.get("gateways") or ["mesh"]):
        for host in spec["hosts"]:
            yield from _host(objects, service, host, "spec.hosts")
    for index, route in enumerate(spec.get("http") or []):
        field = f"spec.http[{route.get('name', index)}]"
        if not route.get("name"):
            yield Finding(place, field, "has no name")
        yield from _retries(place, field, route)
        yield from _weights(place, field, route.get("route") or [])
        listed = [*((d["destination"], "route") for d in route.get("route") or [])]
        listed += [(route["mirror"], "mirror")] if "mirror" in route else []
        for destination, part in listed:
            yield from _destination(objects, service, destination, f"{field}.{part}")


def _retries(place: str, field: str, route: Manifest) -> Iterator[Finding]:
    retries = route.get("retries")
    if retries is None and "route" in route:
        yield Finding(place, f"{field}.retries", "is not said: the mesh's default would retry twice")
    elif retries and retries.get("attempts") and not retries.get("retryOn"):
        yield Finding(place, f"{field}.retries.retryOn", "is not said: the default retries what is not safe")


def _weights(place: str, field: str, route: list[Manifest]) -> Iterator[Finding]:
    weights = [destination.get("weight", 100 if len(route) == 1 else 0) for destination in route]
    for weight in weights:
        if weight < 0:
            yield Finding(place, f"{field}.route.weight", f"{weight} is negative")
    if route and sum(weights) != 100:
        yield Finding(place, f"{field}.route.weight", f"the weights sum to {sum(weights)}, not 100")


def _service(objects: Objects, manifest: Manifest, host: str) -> Manifest | None:
    match = _HOST.fullmatch(host)
    name, namespace = (match[1], match[2]) if match else (host, namespace_of(manifest))
    return objects.find("Service", namespace, name)


def _host(objects: Objects, manifest: Manifest, host: str, field: str) -> Iterator[Finding]:
    known = [h for entry in objects.of("ServiceEntry") for h in entry["spec"]["hosts"]]
    if "*" not in host and host not in known and _service(objects, manifest, host) is None:
        yield Finding(where(manifest), field, f"there is no Service for the host {host!r}")


def _destination(
    objects: Objects, manifest: Manifest, destination: Manifest, field: str
) -> Iterator[Finding]:
    host, place = destination["host"], where(manifest)
    yield from _host(objects, manifest, host, f"{field}.destination.host")
    service = _service(objects, manifest, host)
    port = (destination.get("port") or {}).get("number")
    if service is not None and port and port not in [p["port"] for p in service["spec"]["ports"]]:
        yield Finding(place, f"{field}.destination.port", f"{host} has no port {port}")
    subset = destination.get("subset")
    if subset and subset not in _subsets(objects, host):
        yield Finding(place, f"{field}.destination.subset", f"{host} has no subset {subset!r}")


def _subsets(objects: Objects, host: str) -> list[str]:
    rules = [rule["spec"] for rule in objects.of("DestinationRule") if rule["spec"]["host"] == host]
    return [subset["name"] for spec in rules for subset in spec.get("subsets") or []]


def _destination_rule(objects: Objects, rule: Manifest) -> Iterator[Finding]:
    host = rule["spec"]["host"]
    yield from _host(objects, rule, host, "spec.host")
    service = _service(objects, rule, host)
    for subset in rule["spec"].get("subsets") or []:
        selector = {**((service or {}).get("spec", {}).get("selector") or {}), **(subset.get("labels") or {})}
        if service is not None and not objects.hit_by(selector, namespace_of(service)):
            yield Finding(where(rule), f"spec.subsets[{subset['name']}].labels", f"{selector} hits no pod")


def _gateway(objects: Objects, gateway: Manifest) -> Iterator[Finding]:
    used = {
        name for service in objects.of("VirtualService") for name in service["spec"].get("gateways") or []
    }
    name, namespace = gateway["metadata"]["name"], namespace_of(gateway)
    if f"{namespace}/{name}" not in used and name not in used:
        yield Finding(where(gateway), "metadata.name", "no VirtualService uses it")
    for server in gateway["spec"]["servers"]:
        if not server.get("hosts"):
            yield Finding(where(gateway), "spec.servers.hosts", "is empty")


def _selector(objects: Objects, policy: Manifest) -> Iterator[Finding]:
    selector = (policy["spec"].get("selector") or {}).get("matchLabels") or {}
    # What guards the ingress gateway hits pods that come with Istio, not with these files.
    if not selector or "istio" in selector or namespace_of(policy).startswith("istio-"):
        return
    if not objects.hit_by(selector, namespace_of(policy)):
        yield Finding(where(policy), "spec.selector", f"{selector} hits no pod in {namespace_of(policy)}")


def _policy(objects: Objects, policy: Manifest) -> Iterator[Finding]:
    for index, rule in enumerate(policy["spec"].get("rules") or []):
        for source in rule.get("from") or []:
            for principal in (source.get("source") or {}).get("principals") or []:
                field = f"spec.rules[{index}].from.principals"
                yield from _principal(objects, policy, principal, field)


def _principal(objects: Objects, policy: Manifest, principal: str, field: str) -> Iterator[Finding]:
    match = _PRINCIPAL.fullmatch(principal)
    if match is None:
        if "*" not in principal:
            form = "cluster.local/ns/NAMESPACE/sa/ACCOUNT"
            yield Finding(where(policy), field, f"{principal!r} is not of the form {form}")
    elif not match[1].startswith("istio-") and not objects.find("ServiceAccount", match[1], match[2]):
        yield Finding(
            where(policy), field, f"{principal!r}: there is no ServiceAccount {match[1]}/{match[2]}"
        )


def _durations(place: str, value: object, path: str) -> Iterator[Finding]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _DURATIONS and not _DURATION.fullmatch(str(inner)):
                yield Finding(place, f"{path}.{key}", f"{inner!r} is no duration such as 5s")
            yield from _durations(place, inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _durations(place, inner, f"{path}[{index}]")
