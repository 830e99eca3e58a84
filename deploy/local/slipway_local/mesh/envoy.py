"""Envoy's configuration as plain objects: addresses, TLS, connection managers, clusters.

Istio's defaults are written out where Envoy's differ: no circuit breakers, no panic threshold, no timeouts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Resource = dict[str, Any]

HOST = "127.0.0.1"
_TYPES = "type.googleapis.com/envoy"
_HCM = f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_UNLIMITED = 4_294_967_295


def typed(path: str, **fields: Any) -> Resource:
    """Return a message with its type, such as `extensions.filters.http.router.v3.Router`."""
    return {"@type": f"{_TYPES}.{path}", **fields}


def file_source(path: Path) -> Resource:
    """Return a configuration source that watches a file."""
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def endpoint(port: int) -> Resource:
    """Return one endpoint of this machine."""
    address = {"socket_address": {"address": HOST, "port_value": port}}
    return {"lb_endpoints": [{"endpoint": {"address": address}}]}


def load_assignment(name: str, ports: Sequence[int]) -> Resource:
    """Return the endpoints of a cluster."""
    return {"cluster_name": name, "endpoints": [endpoint(port) for port in ports]}


def secret(name: str, folder: Path) -> Resource:
    """Return a reference to a certificate that is rotated by file."""
    return {"name": name, "sds_config": file_source(folder / f"{name}.json")}


def upstream_tls(identity: str, spiffe_id: str, sds: Path, authority: Path) -> Resource:
    """Return mutual TLS towards a workload whose identity must be the given one."""
    common = {
        "tls_certificate_sds_secret_configs": [secret(identity, sds)],
        "validation_context": {
            "trusted_ca": {"filename": str(authority)},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": spiffe_id}}],
        },
    }
    context = typed("extensions.transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context=common)
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def downstream_tls(identity: str, sds: Path, authority: Path) -> Resource:
    """Return mutual TLS for an inbound listener: a caller without a certificate is not heard."""
    common = {
        "tls_certificate_sds_secret_configs": [secret(identity, sds)],
        "validation_context": {"trusted_ca": {"filename": str(authority)}},
    }
    context = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context=common,
        require_client_certificate=True,
    )
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def cluster(name: str, *, http2: bool, tls: Resource | None = None) -> Resource:
    """Return a cluster without its endpoints."""
    protocol: Resource = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    options = typed("extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config=protocol)
    limits = dict.fromkeys(
        ("max_connections", "max_pending_requests", "max_requests", "max_retries"), _UNLIMITED
    )
    return {
        "name": name,
        "alt_stat_name": name.replace(".", "_"),
        "connect_timeout": "2s",
        "circuit_breakers": {"thresholds": [limits]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        **({"transport_socket": tls} if tls else {}),
    }


def static_cluster(name: str, port: int, *, http2: bool, tls: Resource | None = None) -> Resource:
    """Return a cluster of one fixed port."""
    return {
        **cluster(name, http2=http2, tls=tls),
        "type": "STATIC",
        "load_assignment": load_assignment(name, [port]),
    }


def file_cluster(name: str, endpoints: Path, *, tls: Resource) -> Resource:
    """Return an HTTP/2 cluster whose endpoints come from a file."""
    config = {"eds_config": file_source(endpoints), "service_name": name}
    return {
        **cluster(name, http2=True, tls=tls),
        "type": "EDS",
        "eds_cluster_config": config,
        "lb_policy": "LEAST_REQUEST",
        "ignore_health_on_host_removal": True,
    }


_PATH = "%PATH(NQ:ORIG_OR_PATH)%"  # without the query


def tracing(service: str) -> Resource:
    """Return tracing to monitoring's OTLP receiver: the caller's trace goes on, a path names the span."""
    provider = typed(
        "config.trace.v3.OpenTelemetryConfig",
        grpc_service={"envoy_grpc": {"cluster_name": "otlp"}, "timeout": "1s"},
        service_name=service,
    )
    return {
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": provider},
        "spawn_upstream_span": True,
        "operation": _PATH,
        "upstream_operation": _PATH,
        "random_sampling": {"value": 100},
    }


_GRPC_COUNTS = {
    "name": "envoy.filters.http.grpc_stats",
    "typed_config": typed("extensions.filters.http.grpc_stats.v3.FilterConfig", stats_for_all_methods=False),
}


def listener(
    name: str,
    port: int,
    *,
    routes: Resource,
    filters: Sequence[Resource] = (),
    tls: Resource | None = None,
    trace_as: str = "",
    counts_grpc: bool = False,
) -> Resource:
    """Return an HTTP listener on this machine.

    Args:
        name: Of the listener and its statistics.
        port: Where it listens.
        routes: `{"rds": …}` or `{"route_config": …}`.
        filters: Before the router.
        tls: Transport socket; None is plaintext.
        trace_as: Service name of its spans; nothing for none.
        counts_grpc: Whether calls are counted by grpc-status, per cluster.
    """
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": typed("extensions.filters.http.router.v3.Router"),
    }
    manager: Resource = {
        "@type": _HCM,
        "stat_prefix": name.replace(".", "_"),
        "codec_type": "AUTO",
        "stream_idle_timeout": "0s",
        "normalize_path": True,
        "http2_protocol_options": {"max_concurrent_streams": 2048},
        "http_filters": [*filters, *([_GRPC_COUNTS] if counts_grpc else []), router],
        **routes,
    }
    if trace_as:
        manager["tracing"] = tracing(trace_as)
    chain: Resource = {"filters": [{"name": "envoy.http", "typed_config": manager}]}
    if tls is not None:
        chain["transport_socket"] = tls
    address = {"socket_address": {"address": HOST, "port_value": port}}
    return {"name": name, "address": address, "filter_chains": [chain]}


def route_source(name: str, folder: Path) -> Resource:
    """Return routes that come from a file of their own."""
    return {"rds": {"route_config_name": name, "config_source": file_source(folder / f"{name}.json")}}


_LATENCIES = {
    "match": {"suffix": "upstream_rq_time"},
    "buckets": [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 75, 100, 150, 250, 500, 1000, 2500, 5000, 10000],
}


def bootstrap(admin_port: int, xds: Path, otlp_port: int) -> Resource:
    """Return what Envoy is started with: an admin port, and where the rest is read from."""
    admin_address = {"socket_address": {"address": HOST, "port_value": admin_port}}
    return {
        "node": {"id": "laptop", "cluster": "slipway"},
        "admin": {"address": admin_address},
        "dynamic_resources": {
            "lds_config": file_source(xds / "lds.json"),
            "cds_config": file_source(xds / "cds.json"),
        },
        "static_resources": {"clusters": [static_cluster("otlp", otlp_port, http2=True)]},
        "stats_flush_interval": "0.5s",  # histograms are merged then; a rollout reads them as often
        "stats_config": {"histogram_bucket_settings": [_LATENCIES]},
        "layered_runtime": {
            "layers": [
                {"name": "static", "static_layer": {"overload.global_downstream_max_connections": 50000}}
            ]
        },
    }
