"""The mesh's counters of an endpoint: from Envoy's administration port, or from a Prometheus on a cluster."""

import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol

from prometheus_client.parser import text_string_to_metric_families

from slipway_rollout.domain import Counters

TIMEOUT_S = 3.0
_SAME_S = 2.0  # that two looks at one start differ at most: Envoy says its age to a second
Form = Literal["envoy", "prometheus"]


class MeshCounters(Protocol):
    """What a rollout asks of the mesh."""

    def read(self, endpoint: str, stable: str, new: str) -> Counters | None:
        """Return the counters of two subsets of an endpoint and of its shadow; None when nobody counts.

        Raises:
            OSError: They cannot be read now.
        """


class NoCounters:
    """For a mesh that nobody counts: the gates that need counters hold."""

    def read(self, endpoint: str, stable: str, new: str) -> Counters | None:
        """Return None."""
        return None


class EnvoyCounters:
    """The laptop's one Envoy: callers' side for live traffic, the pods' side for grpc-status of the shadow.

    Args:
        url: Of Envoy's administration port.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def read(self, endpoint: str, stable: str, new: str) -> Counters | None:
        """Return the counters.

        Raises:
            OSError: They cannot be read now, or it is not known which start they count from.
        """
        started = self._started()
        name = re.escape(endpoint)
        clusters = rf"model\|[^|]+\|{name}\|({stable}|{new}|shadow)|pod\|{name}-{new}-[0-9]+"
        wanted = rf"^cluster\.({clusters})\.(grpc\.[0-9]+|upstream_rq_time)$"
        query = urllib.parse.urlencode({"usedonly": "", "filter": wanted})
        text = _get(f"{self._url}/stats/prometheus?{query}")
        arms = {stable: "stable", new: "new", "shadow": "shadow"}
        if abs(self._started() - started) > _SAME_S:  # a start, or a pause of this process, in between
            raise OSError("Envoy started while its counters were read")
        return Counters(dict(_envoy_series(text, arms)), started)

    def _started(self) -> float:
        info = json.loads(_get(f"{self._url}/server_info"))
        return time.time() - float(info["uptime_current_epoch"].rstrip("s"))


def _envoy_series(text: str, arms: dict[str, str]) -> Iterator[tuple[str, float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            cluster = sample.labels.get("envoy_cluster_name", "")
            pod = cluster.startswith("pod|")
            arm = "shadow" if pod else arms.get(cluster.rpartition("|")[2], "")
            status = re.fullmatch(r"envoy_cluster_grpc_(\d+)(_total)?", sample.name)
            if status and arm and (pod or arm != "shadow"):
                yield f"{arm} grpc-{status[1]} {cluster}", sample.value
            if sample.name == "envoy_cluster_upstream_rq_time_bucket" and arm and not pod:
                yield f"{arm} le-{_bound(sample.labels['le'])} {cluster}", sample.value


class PrometheusCounters:
    """A cluster's Prometheus with Istio's standard metrics, unaggregated, so that restarts show in a series.

    Args:
        url: Of Prometheus.
        namespace: Of the endpoints.
    """

    def __init__(self, url: str, namespace: str) -> None:
        self._url = url.rstrip("/")
        self._namespace = namespace

    def read(self, endpoint: str, stable: str, new: str) -> Counters | None:
        """Return the counters: live traffic as callers' proxies report it, the shadow as its own does."""
        host = f'destination_service="{endpoint}.{self._namespace}.svc.cluster.local"'
        live = f'reporter="source",{host},destination_version=~"{stable}|{new}"'
        shadow = f'reporter="destination",{host},destination_version="{new}"'
        values: dict[str, float] = {}
        for selector, arms in ((live, {stable: "stable", new: "new"}), (shadow, {new: "shadow"})):
            values |= _istio_series(self._ask(f"istio_requests_total{{{selector}}}"), arms)
            values |= _istio_series(
                self._ask(f"istio_request_duration_milliseconds_bucket{{{selector}}}"), arms
            )
        return Counters(values)

    def _ask(self, query: str) -> Iterable[dict[str, Any]]:
        text = _get(f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        found: list[dict[str, Any]] = json.loads(text)["data"]["result"]
        return found


def _istio_series(results: Iterable[dict[str, Any]], arms: dict[str, str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for one in results:
        labels = dict(one["metric"])
        arm = arms.get(labels.get("destination_version", ""), "")
        upper, status = labels.pop("le", None), labels.get("grpc_response_status", "")
        kind = f"le-{_bound(upper)}" if upper is not None else f"grpc-{status if status.isdecimal() else 2}"
        if arm:
            series = json.dumps(labels, sort_keys=True)
            values[f"{arm} {kind} {series}"] = float(one["value"][1])
    return values


def counters(form: Form, url: str, namespace: str) -> MeshCounters:
    """Return the counters that the settings name; an empty URL means none."""
    if not url:
        return NoCounters()
    return EnvoyCounters(url) if form == "envoy" else PrometheusCounters(url, namespace)


def _bound(text: str) -> str:
    return "inf" if text == "+Inf" else f"{float(text):g}"


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        return str(answer.read().decode())
