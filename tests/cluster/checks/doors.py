"""The ways in: a Gateway's port is a Service's port, and a route takes the calls to its own port alone."""

from collections.abc import Iterator

from .objects import Finding, Manifest, Objects, where

INGRESS = {"istio": "ingressgateway"}  # the labels of the pods that come with Istio


def check(objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each door that nobody can reach, and each route that swallows a port."""
    exposed = {
        port.get("targetPort", port["port"])
        for service in objects.of("Service")
        if service["spec"].get("selector") == INGRESS
        for port in service["spec"]["ports"]
    }
    for gateway in objects.of("Gateway"):
        if gateway["spec"].get("selector") != INGRESS:
            yield Finding(where(gateway), "spec.selector", f"is not {INGRESS}: no pod of Istio's has it")
        for server in gateway["spec"]["servers"]:
            if server["port"]["number"] not in exposed:
                problem = f"no Service of the ingress gateway has the port {server['port']['number']}"
                yield Finding(where(gateway), "spec.servers.port", problem)
    for service in objects.of("VirtualService"):
        if "mesh" in (service["spec"].get("gateways") or ["mesh"]):
            yield from _ports(objects, service)


def _ports(objects: Objects, routes: Manifest) -> Iterator[Finding]:
    for host in routes["spec"]["hosts"]:
        name, _, rest = host.partition(".")
        found = objects.find("Service", rest.partition(".")[0], name)
        ports = [port["port"] for port in (found or {"spec": {"ports": []}})["spec"]["ports"]]
        for index, route in enumerate(routes["spec"].get("http") or []):
            field = f"spec.http[{route.get('name', index)}].match.port"
            to = [(one["destination"].get("port") or {}).get("number") for one in route.get("route") or []]
            matched = [match.get("port") for match in route.get("match") or [{}]]
            for port in matched:
                if port is None and len(ports) > 1:
                    yield Finding(where(routes), field, f"is not said: calls to {ports} would all go to {to}")
                elif port is not None and port not in ports:
                    yield Finding(where(routes), field, f"{host} has no port {port}")
                elif port is not None and any(one not in (None, port) for one in to):
                    yield Finding(where(routes), field, f"calls to {port} would go to {to}")
