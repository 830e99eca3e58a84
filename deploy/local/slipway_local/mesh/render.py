"""From Istio objects and pods to the files that Envoy reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from slipway_local.layout import SERVICES, Layout
from slipway_local.mesh import envoy
from slipway_local.mesh.objects import (
    GRPC_GATEWAY,
    INGRESS,
    MODELS,
    REST_GATEWAY,
    IstioObjects,
    Manifest,
    ObjectError,
    host_name,
    spiffe_id,
)
from slipway_local.mesh.policies import jwt_filter, rbac_filter
from slipway_local.mesh.routes import route_configuration, translate, virtual_host

Resource = dict[str, Any]

MODEL_CALLERS = ("gateway", INGRESS)


class PodLike(Protocol):
    """What the renderer needs to know of a pod."""

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """Its labels."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def port(self) -> int:
        """Where it listens."""

    @property
    def inbound_port(self) -> int:
        """Where its sidecar would listen."""


@dataclass(frozen=True)
class ModelObjects:
    """What rollout wrote, by name of the endpoint."""

    services: Mapping[str, Manifest] = field(default_factory=dict)
    routes: Mapping[str, Manifest] = field(default_factory=dict)
    rules: Mapping[str, Manifest] = field(default_factory=dict)


@dataclass
class Files:
    """All files below the xDS folder, by relative path, and what could not be enforced, by endpoint."""

    contents: dict[str, Resource] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)

    def resources(self, path: str, kind: str, found: Sequence[Resource]) -> None:
        """Put a list of resources into a file."""
        typed = [{"@type": f"type.googleapis.com/{kind}", **one} for one in found]
        self.contents[path] = {"resources": typed}


class Renderer:
    """Renders everything; pure but for the paths that it names."""

    def __init__(self, layout: Layout, objects: IstioObjects, xds: Path, authority: Path) -> None:
        self._layout = layout
        self._objects = objects
        self._xds = xds
        self._authority = authority
        self._last_good: dict[str, dict[str, list[Resource]]] = {}

    def render(self, models: ModelObjects, pods: Sequence[PodLike]) -> Files:
        """Return all files; an endpoint whose objects make no sense keeps its last good routes."""
        files = Files()
        hosts = self._model_hosts(models, files)
        clusters = [*self._service_clusters(), *self._model_clusters(models, pods, files)]
        clusters += [envoy.static_cluster(f"pod|{pod.name}", pod.port, http2=True) for pod in pods]
        files.resources("cds.json", "envoy.config.cluster.v3.Cluster", clusters)
        listeners = [*self._doors(), *self._sidecars(), *(self._pod_listener(pod) for pod in pods)]
        files.resources("lds.json", "envoy.config.listener.v3.Listener", listeners)
        for caller in (*SERVICES, INGRESS):
            configuration = self._routes_of(caller, hosts.get(caller, []), sorted(models.routes))
            files.contents[f"rds/{configuration['name']}.json"] = {"resources": [configuration]}
        return files

    # Services

    def _service_clusters(self) -> list[Resource]:
        found = []
        for service in SERVICES:
            port = self._layout.app_port(service)
            found.append(envoy.static_cluster(f"inbound|{service}", port, http2=service != "gateway"))
            callers = (caller for caller in (*SERVICES, INGRESS) if caller != service)
            found += [self._to_service(caller, service) for caller in callers]
        return found

    def _to_service(self, caller: str, service: str) -> Resource:
        tls = envoy.upstream_tls(caller, spiffe_id(service), self._xds / "sds", self._authority)
        port = self._layout.inbound_port(service)
        return envoy.static_cluster(f"service|{caller}|{service}", port, http2=service != "gateway", tls=tls)

    def _sidecars(self) -> list[Resource]:
        found = []
        for service in SERVICES:
            outbound = f"outbound-{service}"
            found.append(
                envoy.listener(
                    outbound,
                    self._layout.outbound_port(service),
                    routes=envoy.route_source(outbound, self._xds / "rds"),
                    trace_as="envoy",
                    counts_grpc=True,
                )
            )
            inbound = self._layout.inbound_port(service)
            found.append(self._inbound(service, service, "slipway", inbound, f"inbound|{service}"))
        return found

    def _pod_listener(self, pod: PodLike) -> Resource:
        return self._inbound(pod.name, "inference", MODELS, pod.inbound_port, f"pod|{pod.name}")

    def _inbound(self, name: str, identity: str, namespace: str, port: int, cluster: str) -> Resource:
        workload = "" if namespace == MODELS else identity
        filters = [
            *([self._objects.http_filter("shadow-role")] if namespace == MODELS else []),
            *rbac_filter(self._objects.policies(workload, namespace)),
            *jwt_filter(self._objects.issuers(workload, namespace), self._layout.jwks),
        ]
        forward = {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}
        config: Resource = {
            "name": f"inbound-{name}",
            "virtual_hosts": [virtual_host("all", ["*"], [forward])],
        }
        config["validate_clusters"] = False  # the cluster may reach Envoy a moment after the listener
        return envoy.listener(
            f"inbound-{name}",
            port,
            routes={"route_config": config},
            filters=filters,
            tls=envoy.downstream_tls(identity, self._xds / "sds", self._authority),
            counts_grpc=namespace == MODELS,
        )

    # Doors and routes

    def _doors(self) -> list[Resource]:
        rest = [
            one
            for route in self._objects.door_routes(REST_GATEWAY)
            for one in translate(route, self._via_door)
        ]
        rest_routes = {"name": "rest-door", "virtual_hosts": [virtual_host("all", ["*"], rest)]}
        return [
            envoy.listener(
                "rest-door", self._layout.rest_door, routes={"route_config": rest_routes}, trace_as="ingress"
            ),
            envoy.listener(
                "grpc-door",
                self._layout.grpc_door,
                routes=envoy.route_source(f"outbound-{INGRESS}", self._xds / "rds"),
                filters=[self._objects.http_filter("endpoint-by-header")],
                trace_as="ingress",
                counts_grpc=True,
            ),
        ]

    def _via_door(self, destination: Manifest) -> str:
        return f"service|{INGRESS}|{host_name(destination['host'])}"

    def _routes_of(self, caller: str, models: list[Resource], endpoints: Sequence[str]) -> Resource:
        hosts = list(models)
        if caller == INGRESS:
            known = ", ".join(endpoints) or "none yet"
            routes = [
                one
                for route in self._objects.door_routes(GRPC_GATEWAY)
                for one in translate(route, self._via_door, hint=f"; endpoints: {known}")
            ]
            hosts.append(virtual_host("all", ["*"], routes))
        else:
            hosts += [
                virtual_host(host, _domains(host), self._service_routes(caller, routes))
                for host, routes in self._objects.mesh_services()
                if host_name(host) != caller
            ]
        return route_configuration(f"outbound-{caller}", hosts)

    def _service_routes(self, caller: str, routes: Sequence[Manifest]) -> list[Resource]:
        def cluster_of(destination: Manifest) -> str:
            return f"service|{caller}|{host_name(destination['host'])}"

        return [one for route in routes for one in translate(route, cluster_of)]

    # Models

    def _model_hosts(self, models: ModelObjects, files: Files) -> dict[str, list[Resource]]:
        """Return the virtual hosts of every endpoint by caller."""
        found: dict[str, list[Resource]] = {caller: [] for caller in MODEL_CALLERS}
        for name, manifest in models.routes.items():
            try:
                rendered = self._endpoint_routes(name, manifest, models)
                self._last_good[name] = rendered
            except ObjectError as error:
                files.troubles[name] = f"VirtualService {name!r}: {error}; the last good routes stay"
                rendered = self._last_good.get(name, {})
            host = f"{name}.{MODELS}.svc.cluster.local"
            for caller, routes in rendered.items():
                found[caller].append(virtual_host(host, _domains(host), routes))
        self._last_good = {name: kept for name, kept in self._last_good.items() if name in models.routes}
        return found

    def _endpoint_routes(
        self, name: str, manifest: Manifest, models: ModelObjects
    ) -> dict[str, list[Resource]]:
        subsets = {subset["name"] for subset in _subsets(models.rules.get(name))}
        gateways = manifest["spec"].get("gateways", ["mesh"])
        callers = [c for c, via in (("gateway", "mesh"), (INGRESS, GRPC_GATEWAY)) if via in gateways]
        rendered: dict[str, list[Resource]] = {}
        for caller in callers:

            def cluster_of(destination: Manifest, caller: str = caller) -> str:
                subset = destination.get("subset", "")
                if host_name(destination["host"]) != name or subset not in subsets:
                    wanted = f"{destination['host']} subset {subset!r}"
                    raise ObjectError(
                        f"{wanted} is not in the DestinationRule; its subsets: {sorted(subsets)}"
                    )
                return f"model|{caller}|{name}|{subset}"

            routes = manifest["spec"].get("http") or []
            rendered[caller] = [
                one for route in routes if route.get("route") for one in translate(route, cluster_of)
            ]
        return rendered

    def _model_clusters(self, models: ModelObjects, pods: Sequence[PodLike], files: Files) -> list[Resource]:
        found = []
        for name, rule in models.rules.items():
            selector = dict((models.services.get(name) or {}).get("spec", {}).get("selector") or {})
            for subset in _subsets(rule):
                wanted = {**selector, **(subset.get("labels") or {})}
                ports = sorted(pod.inbound_port for pod in pods if wanted.items() <= dict(pod.labels).items())
                for caller in MODEL_CALLERS:
                    cluster = f"model|{caller}|{name}|{subset['name']}"
                    path = f"eds/{caller}.{name}.{subset['name']}.json"
                    kind = "envoy.config.endpoint.v3.ClusterLoadAssignment"
                    files.resources(path, kind, [envoy.load_assignment(cluster, ports)])
                    tls = envoy.upstream_tls(
                        caller, spiffe_id("inference"), self._xds / "sds", self._authority
                    )
                    found.append(envoy.file_cluster(cluster, self._xds / path, tls=tls))
        return found


def _subsets(rule: Manifest | None) -> list[Manifest]:
    return list((rule or {}).get("spec", {}).get("subsets") or [])


def _domains(host: str) -> list[str]:
    return [host, f"{host}:*"]
