"""Made-up callers of an endpoint: what monitoring and the mesh count of them, by the weights in force."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import httpx
from cluster import Operator
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway.monitoring.v1 import monitoring_pb2_grpc

LIVE, SHADOW = pb.PredictionEvent.LIVE, pb.PredictionEvent.SHADOW
BOUNDS = (1, 5, 10, 25, 50, 100, 250)


@dataclass
class Behaviour:
    """How a version answers."""

    accuracy: float = 0.95
    error_rate: float = 0.0
    median_ms: float = 4.0
    classes: tuple[str, ...] = ("daisy", "rose", "tulip")


class Outcomes(monitoring_pb2_grpc.MonitoringServiceServicer):
    """Monitoring's ListOutcomes over a log in memory: a cursor is a place in it. `asked` is called before."""

    def __init__(self) -> None:
        self.log: dict[str, list[tuple[float, pb.OutcomeCount]]] = {}
        self.asked: Callable[[], None] = lambda: None

    def add(self, endpoint: str, count: pb.OutcomeCount) -> None:
        """Append to an endpoint's log."""
        self.log.setdefault(endpoint, []).append((time.time(), count))

    def ListOutcomes(self, request: Any, context: grpc.ServicerContext) -> Any:
        """List."""
        log = self.log.get(request.endpoint, [])
        start = request.start_time.ToNanoseconds() / 1e9
        first = int(request.cursor) if request.cursor else sum(at < start for at, _ in log)
        page = log[first : first + 200]
        self.asked()
        return pb.ListOutcomesResponse(
            outcomes=[count for _, count in page],
            cursor=str(first + len(page)) if log else "",
            more=len(log) > first + len(page),
        )


class Admin:
    """Envoy's administration port, as far as a rollout reads it; its counters are set by the callers."""

    def __init__(self) -> None:
        self.started = time.time()
        self.lock = threading.Lock()
        self.grpc: Counter[tuple[str, int]] = Counter()
        self.slow: Counter[tuple[str, float]] = Counter()
        admin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(admin.page(self.path).encode())

            def log_message(self, format: str, *args: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def page(self, path: str) -> str:
        """Return a page."""
        with self.lock:
            return self._page(path)

    def _page(self, path: str) -> str:
        if path.startswith("/server_info"):
            return f'{{"uptime_current_epoch": "{time.time() - self.started:.0f}s"}}'
        assert "filter" in parse_qs(urlsplit(path).query)
        lines = [
            f'envoy_cluster_grpc_{status}{{envoy_cluster_name="{cluster}"}} {count}'
            for (cluster, status), count in self.grpc.items()
        ]
        clusters = {cluster for cluster, _ in self.slow}
        for cluster in clusters:
            reached = 0
            for bound in (*BOUNDS, float("inf")):
                reached += self.slow[cluster, bound]
                le = "+Inf" if bound == float("inf") else f"{bound}"
                name = f'envoy_cluster_upstream_rq_time_bucket{{envoy_cluster_name="{cluster}",le="{le}"}}'
                lines.append(f"{name} {reached}")
        return "\n".join(lines) + "\n"

    def restart(self) -> None:
        """Begin all counters again, as an Envoy that was killed."""
        with self.lock:
            self.grpc.clear()
            self.slow.clear()
            self.started = time.time() + 10

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Callers:
    """Callers of one endpoint, whose labels come a moment later; they begin at once.

    `sent` counts requests by version; `labels` False holds labels back.
    """

    endpoint: str
    operator: Operator
    outcomes: Outcomes
    admin: Admin
    versions: dict[str, Behaviour]
    per_s: float = 300.0
    every_s: float = 0.1
    labels: bool = True
    seed: int = 1
    sent: Counter[str] = field(default_factory=Counter)
    exposed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Call no more."""
        self._stopped.set()
        self._thread.join(60)

    def _call(self) -> None:
        while not self._stopped.wait(self.every_s):
            try:
                self._turn()
            except httpx.TransportError:
                continue  # a caller that was not heard calls again

    def _turn(self) -> None:
        found = self.operator.get("VirtualService", self.endpoint)
        if found is not None:
            split = next(r for r in found["spec"]["http"] if r["name"] == "split")
            weights = {d["destination"]["subset"]: d.get("weight", 100) for d in split["route"]}
            asked = int(self.per_s * self.every_s)
            chosen = Counter(self._random.choices(list(weights), list(weights.values()), k=asked))
            for subset, count in chosen.items():
                self._answer(subset, count, LIVE)
            if "mirror" in split:
                rule = self.operator.get("DestinationRule", self.endpoint)
                subsets = {s["name"]: s["labels"]["version"] for s in rule["spec"]["subsets"]} if rule else {}
                if "shadow" in subsets:  # else the mirror has ended since
                    self._answer(subsets["shadow"], asked, SHADOW)

    def _answer(self, subset: str, count: int, role: Any) -> None:
        version, draw = self.versions[subset], self._random
        self.sent[subset] += count
        errors = sum(draw.random() < version.error_rate for _ in range(count))
        live = f"model|ingress|{self.endpoint}|{subset}"
        cluster = f"pod|{self.endpoint}-{subset}-0" if role == SHADOW else live
        timed = f"model|ingress|{self.endpoint}|shadow" if role == SHADOW else live
        took = [version.median_ms * draw.lognormvariate(0, 0.4) for _ in range(count)]
        with self.admin.lock:
            self.admin.grpc[cluster, 0] += count - errors
            self.admin.grpc[cluster, 13] += errors
            for one in took:
                self.admin.slow[timed, next((b for b in BOUNDS if one <= b), float("inf"))] += 1
        good = count - errors
        self.exposed[subset] += good * (role == LIVE)
        labelled = good if self.labels and role == LIVE else 0
        row = pb.OutcomeCount(
            model_version=f"models/m/versions/{subset[1:]}",
            role=role,
            row_count=good,
            class_counts=Counter(draw.choices(version.classes, k=good)),
            labelled_count=labelled,
            correct_count=sum(draw.random() < version.accuracy for _ in range(labelled)),
        )
        row.second.FromSeconds(int(time.time()))
        if good:
            self.outcomes.add(f"endpoints/{self.endpoint}", row)


def serve_outcomes() -> tuple[grpc.Server, str, Outcomes]:
    """Start it; return the server, its address, and the log."""
    server, outcomes = grpc.server(futures.ThreadPoolExecutor(4)), Outcomes()
    monitoring_pb2_grpc.add_MonitoringServiceServicer_to_server(outcomes, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}", outcomes
