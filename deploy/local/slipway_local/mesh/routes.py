"""VirtualServices as Envoy routes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slipway_local.mesh.objects import Manifest, ObjectError

Resource = dict[str, Any]
ClusterOf = Callable[[Manifest], str]


def virtual_host(name: str, domains: Sequence[str], routes: Sequence[Resource]) -> Resource:
    """Return a virtual host."""
    return {"name": name, "domains": list(domains), "routes": list(routes)}


def route_configuration(name: str, hosts: Sequence[Resource]) -> Resource:
    """Return the routes of a listener; clusters that are not there are refused, not answered with 404."""
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": name,
        "virtual_hosts": list(hosts),
        "validate_clusters": False,
    }


def translate(route: Manifest, cluster_of: ClusterOf, *, hint: str = "") -> list[Resource]:
    """Return one Istio HTTP route as Envoy routes, one per match.

    Args:
        route: An entry of `spec.http`.
        cluster_of: Names the cluster of a destination.
        hint: Appended to the text of a direct response.

    Raises:
        ObjectError: Weights, destinations or a header's condition make no sense.
    """
    if "directResponse" in route:
        action: Resource = {"direct_response": _direct(route["directResponse"], hint)}
    else:
        action = {"route": _forward(route, cluster_of)}
    action |= _response_headers(route)
    name = str(route.get("name", ""))
    return [{"name": name, "match": match, **action} for match in _matches(route)]


def _forward(route: Manifest, cluster_of: ClusterOf) -> Resource:
    destinations = route.get("route") or []
    weights = _weights(route, destinations)
    clusters = [
        {"name": cluster_of(one["destination"]), "weight": weight}
        for one, weight in zip(destinations, weights, strict=True)
    ]
    forward: Resource = {"weighted_clusters": {"clusters": clusters}, "timeout": route.get("timeout", "0s")}
    retries = route.get("retries", {"attempts": 2, "retryOn": "connect-failure,refused-stream"})
    if retries.get("attempts"):
        forward["retry_policy"] = {
            "num_retries": retries["attempts"],
            "retry_on": retries.get("retryOn", "connect-failure,refused-stream"),
            "retry_host_predicate": [_PREVIOUS_HOSTS],
            "host_selection_retry_max_attempts": 3,
        }
    if "mirror" in route:
        percent = float(route.get("mirrorPercentage", {}).get("value", 100))
        fraction = {"numerator": int(percent * 10_000), "denominator": "MILLION"}
        mirror = {"cluster": cluster_of(route["mirror"]), "runtime_fraction": {"default_value": fraction}}
        forward["request_mirror_policies"] = [mirror]
    return forward


_PREVIOUS_HOSTS = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    },
}


def _weights(route: Manifest, destinations: Sequence[Manifest]) -> list[int]:
    if len(destinations) == 1:
        return [100]
    weights = [int(destination.get("weight", 0)) for destination in destinations]
    if not weights or min(weights) < 0 or sum(weights) != 100:
        name = route.get("name", "")
        raise ObjectError(f"route {name!r}: weights {weights} must be at least 0 and sum to 100")
    return weights


def _matches(route: Manifest) -> list[Resource]:
    return [_match(match) for match in route.get("match") or [{}]]


def _match(match: Mapping[str, Any]) -> Resource:
    found: Resource = dict(match.get("uri") or {"prefix": "/"})
    if "exact" in found:
        found = {"path": found["exact"]}
    headers = [_header(name, condition) for name, condition in (match.get("headers") or {}).items()]
    return {**found, **({"headers": headers} if headers else {})}


def _header(name: str, condition: Mapping[str, Any]) -> Resource:
    if "regex" in condition:  # of the whole value, in RE2's syntax, in Istio and in Envoy
        return {"name": name, "string_match": {"safe_regex": {"regex": condition["regex"]}}}
    if "exact" in condition:
        return {"name": name, "string_match": {"exact": condition["exact"]}}
    raise ObjectError(f"header {name!r} is matched by {sorted(condition)}; use exact or regex")


def _direct(response: Manifest, hint: str) -> Resource:
    text = response.get("body", {}).get("string", "") + hint
    return {"status": response["status"], "body": {"inline_string": text}}


def _response_headers(route: Manifest) -> Resource:
    to_set = route.get("headers", {}).get("response", {}).get("set", {})
    if not to_set:
        return {}
    return {
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in to_set.items()
        ]
    }
