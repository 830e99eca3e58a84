"""The inference front beside a peer (tritonserver) and floors (empty grpc.aio, bare ONNX Runtime).

A tiny convolutional net (uint8 28x28 images, compute negligible) is served over KServe v2 gRPC with raw
contents, one row per request. Callers are processes of their own: grpc.aio with tritonclient's stubs, 1, 8
and 64 calls in flight. The same request bytes, token included, go to every server. One pass measures all of
them at all three concurrencies; every second pass goes in reverse order, so that a machine that slows down
favours nobody. Ratios are taken within a pass.

The front is whole: tokens are checked, tensors validated, events spooled to disk and delivered to a
monitoring that only says yes; once without spans, once with every span kept and sent to an OTLP receiver that
does nothing. Every reply's status is checked, and
every 16th reply's values. Little's law (requests/s x p50 is near the calls in flight) is checked, too. CPU is
that of the server's processes, engine child included, over every request of the pass.

    python benchmarks/inference_front.py [--seconds 2.5] [--passes 5] [--callers 1] [--json FILE]
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from measuring import convnet, triton_peer
from measuring.caller import Order, Result
from measuring.figures import keep, percentile, ratios, spread, table
from measuring.processes import ServerProcess, workplace
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "contract"))

from running import Keys, free_port  # noqa: E402

IN_FLIGHT = (1, 8, 64)
BARE_BATCHES = (1, 8, 32, 64)
FRONT, TRACED = "slipway front", "slipway front, traced"
PEER, FLOOR = "tritonserver", "do-nothing grpc.aio"
_STARTS_WITHIN_S = 60.0
_LITTLE = (0.7, 1.3)  # p50 is not the mean that the law speaks of


@dataclass(frozen=True)
class Contestant:
    """A running server; `rows` of the golden images are sent to it."""

    name: str
    address: str
    process: ServerProcess
    rows: int = convnet.MAX_BATCH


@dataclass(frozen=True)
class Measure:
    """One contestant at one concurrency in one pass."""

    name: str
    in_flight: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    batch_rows: float
    caller_cores: float
    checked: int

    @property
    def little(self) -> float:
        """requests/s x p50 by calls in flight; near 1 or the figure is wrong."""
        return self.requests_per_s * self.p50_ms / 1000 / self.in_flight


class CallerProcess:
    """A process of callers; one order at a time."""

    def __init__(self) -> None:
        command = [sys.executable, str(HERE / "measuring" / "caller.py")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def begin(self, order: Order) -> None:
        """Give an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()

    def result(self) -> Result:
        """Return what the order gave; a wrong reply raises."""
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline() or '{"error": "the callers ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return Result(**answer)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class Meter:
    """Sends orders to callers and reads the servers' own counts around them."""

    def __init__(self, *, callers: Sequence[CallerProcess], token: str, golden: Path, seconds: float) -> None:
        self._callers = callers
        self._token = token
        self._golden = golden
        self._seconds = seconds

    def wait_ready(self, contestant: Contestant) -> None:
        """Wait until the model is ready."""
        stop_at = time.monotonic() + _STARTS_WITHIN_S
        request = pb.ModelReadyRequest(name=convnet.MODEL)
        while time.monotonic() < stop_at:
            contestant.process.check()
            with contextlib.suppress(grpc.RpcError):
                if self._ask(contestant, "ModelReady", request).ready:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"{contestant.name} was not ready within {_STARTS_WITHIN_S:g} s")

    def measure(self, contestant: Contestant, in_flight: int) -> Measure:
        """Return one measurement."""
        callers = self._callers[:in_flight]
        order = Order(
            address=contestant.address,
            token=self._token,
            model=convnet.MODEL,
            golden=str(self._golden),
            rows=contestant.rows,
            in_flight=in_flight // len(callers),
            seconds=self._seconds,
        )
        batches, cpu_s = self._batches(contestant), contestant.process.cpu_s()
        for caller in callers:
            caller.begin(order)
        results = [caller.result() for caller in callers]
        cpu_s, batches = contestant.process.cpu_s() - cpu_s, self._batches(contestant) - batches
        requests = sum(result.all_replies for result in results)
        latencies = [latency for result in results for latency in result.latencies_ms]
        return Measure(
            name=contestant.name,
            in_flight=in_flight,
            requests_per_s=len(latencies) / self._seconds,
            p50_ms=percentile(latencies, 0.50),
            p99_ms=percentile(latencies, 0.99),
            cpu_ms=cpu_s * 1000 / requests,
            batch_rows=requests / batches if batches else 0.0,
            caller_cores=sum(result.caller_cpu_s for result in results) / max(r.wall_s for r in results),
            checked=sum(result.checked for result in results),
        )

    def _batches(self, contestant: Contestant) -> int:
        if contestant.name == FLOOR:
            return 0
        reply = self._ask(contestant, "ModelStatistics", pb.ModelStatisticsRequest(name=convnet.MODEL))
        return int(reply.model_stats[0].execution_count)

    def _ask(self, contestant: Contestant, method: str, request: Any) -> Any:
        with grpc.insecure_channel(contestant.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            metadata = (("authorization", f"Bearer {self._token}"),)
            return getattr(stub, method)(request, metadata=metadata, timeout=5)


def start_front(
    name: str, bundle: Path, keys: Keys, folder: Path, monitoring: str, otlp: str = ""
) -> Contestant:
    """Start the front over the folder of bundles, with a spool that is delivered as in production."""
    port = free_port()
    settings = {
        "otlp_endpoint": otlp,
        "monitoring": monitoring,
        "grpc_port": port,
        "http_port": free_port(),
        "jwks": keys.jwks,
        "spool_dir": folder / f"spool-{port}",
        "log_level": "WARNING",
    }
    environment = {f"SLIPWAY_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "slipway_inference.main", "serve", "--repository", str(bundle.parent)]
    process = ServerProcess(command, folder / f"front-{port}.log", environment)
    return Contestant(name, f"127.0.0.1:{port}", process)


def start_sink(what: str, folder: Path) -> Contestant:
    """Start what takes the spans, or the events."""
    port = free_port()
    command = [sys.executable, str(HERE / "measuring" / f"{what}_sink.py"), str(port)]
    return Contestant(f"{what} sink", f"127.0.0.1:{port}", ServerProcess(command, folder / f"{what}.log"))


def start_floor(bundle: Path, folder: Path) -> Contestant:
    """Start the do-nothing server; it knows one answer, so one image is sent to it."""
    port = free_port()
    script = HERE / "measuring" / "floor_front.py"
    command = [sys.executable, str(script), str(port), str(bundle / "golden.npz")]
    return Contestant(FLOOR, f"127.0.0.1:{port}", ServerProcess(command, folder / "floor.log"), rows=1)


def start_peer(bundle: Path, folder: Path) -> Contestant | None:
    """Start tritonserver, or say how to get it."""
    home = triton_peer.installed()
    if home is None:
        print(f"SKIPPED: the peer tritonserver is not installed; {triton_peer.how_to_install()}")
        return None
    port = free_port()
    return Contestant(PEER, f"127.0.0.1:{port}", triton_peer.start(home, bundle, folder, port))


def bare_rows_per_s(bundle: Path, seconds: float) -> dict[int, float]:
    """Return rows/s of the bare session by batch size, one thread."""
    session = convnet.session(str(bundle / "model.onnx"))
    names = [name for name, _ in convnet.OUTPUTS]
    with np.load(bundle / "golden.npz") as golden:
        images = golden["in.image"]
    found = {}
    for batch in BARE_BATCHES:
        inputs = {"image": images[:batch]}
        runs, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds:
            session.run(names, inputs)
            runs += 1
        found[batch] = runs * batch / spent
    return found


def report(passes: list[list[Measure]], bare: list[dict[int, float]]) -> list[str]:
    """Print the tables; return the warnings."""
    names = list(dict.fromkeys(measure.name for measure in passes[0]))
    head = [
        "in flight",
        "server",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "CPU ms/request",
        "rows/batch",
        "caller cores",
    ]
    rows, compared = [], []
    for in_flight in IN_FLIGHT:
        series = {name: _series(passes, name, in_flight) for name in names}
        for name, found in series.items():
            rows.append([str(in_flight), name, *_cells(found)])
        front = series.pop(FRONT)
        compared += [[str(in_flight), name, *_compared(front, found)] for name, found in series.items()]
    print("\n" + table(head, rows))
    print("\n" + table(["in flight", "front /", "requests/s", "p50", "p99", "CPU per request"], compared))
    cells = [[str(size), spread([found[size] for found in bare])] for size in BARE_BATCHES]
    print("\n" + table(["batch", "bare ONNX Runtime, 1 thread, rows/s"], cells))
    checked = sum(measure.checked for found in passes for measure in found)
    print(f"\nevery reply was OK; the values of {checked} replies were checked against golden ones")
    return [warning for found in passes for measure in found for warning in _warnings(measure)]


def _series(passes: list[list[Measure]], name: str, in_flight: int) -> list[Measure]:
    return [one for found in passes for one in found if (one.name, one.in_flight) == (name, in_flight)]


def _cells(found: list[Measure]) -> list[str]:
    batch_rows = statistics.median(one.batch_rows for one in found)
    return [
        spread([one.requests_per_s for one in found]),
        spread([one.p50_ms for one in found], 2),
        spread([one.p99_ms for one in found], 2),
        spread([one.cpu_ms for one in found], 3),
        f"{batch_rows:.1f}" if batch_rows else "–",
        f"{statistics.median(one.caller_cores for one in found):.2f}",
    ]


def _compared(front: list[Measure], other: list[Measure]) -> list[str]:
    fields = ("requests_per_s", "p50_ms", "p99_ms", "cpu_ms")
    return [spread(ratios([getattr(a, f) for a in front], [getattr(b, f) for b in other]), 2) for f in fields]


def _warnings(measure: Measure) -> list[str]:
    if _LITTLE[0] <= measure.little <= _LITTLE[1]:
        return []
    where = f"{measure.name}, {measure.in_flight} in flight"
    return [
        f"WARNING: {where}: requests/s x p50 is {measure.little:.2f} of the calls in flight (Little's law)"
    ]


def start_all(bundle: Path, keys: Keys, folder: Path, ends: contextlib.ExitStack) -> list[Contestant]:
    """Start every contestant; the stack ends them."""
    spans, events = start_sink("span", folder), start_sink("event", folder)
    for sink in (spans, events):
        ends.callback(sink.process.stop)
    starts: list[Callable[[], Contestant | None]] = [
        lambda: start_front(FRONT, bundle, keys, folder, events.address),
        lambda: start_front(TRACED, bundle, keys, folder, events.address, spans.address),
        lambda: start_peer(bundle, folder),
        lambda: start_floor(bundle, folder),
    ]
    contestants = []
    for start in starts:
        if (contestant := start()) is not None:
            ends.callback(contestant.process.stop)
            contestants.append(contestant)
    return contestants


def run(arguments: argparse.Namespace) -> None:
    """Start all, measure in turns, end all."""
    with workplace("front") as (folder, ends):
        bundle = convnet.write_bundle(folder / "bundles" / convnet.MODEL)
        keys = Keys(folder / "keys")
        contestants = start_all(bundle, keys, folder, ends)
        callers = [CallerProcess() for _ in range(arguments.callers)]
        for caller in callers:
            ends.callback(caller.stop)
        golden, seconds = bundle / "golden.npz", arguments.seconds
        meter = Meter(callers=callers, token=keys.user(), golden=golden, seconds=seconds)
        for contestant in contestants:
            meter.wait_ready(contestant)
        passes, bare = [], []
        for number in range(arguments.passes):
            turns = [(one, calls) for calls in IN_FLIGHT for one in contestants]
            passes.append([meter.measure(*turn) for turn in (turns if number % 2 == 0 else turns[::-1])])
            bare.append(bare_rows_per_s(bundle, seconds / 10))
            print(f"pass {number + 1} of {arguments.passes} done", flush=True)
    warnings = report(passes, bare)
    print("\n".join(warnings))
    keep(arguments.json, {"passes": [[asdict(one) for one in found] for found in passes], "bare": bare})


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=2.5, help="of one measurement, its warm-up not counted"
    )
    parser.add_argument("--passes", type=int, default=5, help="how often all are measured in turn")
    parser.add_argument("--callers", type=int, choices=(1, 2, 4), default=1, help="processes of callers")
    parser.add_argument("--json", type=Path, help="file for every pass")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
