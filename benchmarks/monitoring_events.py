"""Prediction events into monitoring beside a floor: a bare COPY of the same rows.

A pass makes fresh events of one row each: 10 probabilities, an embedding of 64 numbers, ids of trace and
request, and (with `--captured`) an image of 28 x 28 bytes. Each contestant takes them in batches, one after
the other, from one caller:

* monitoring: ReportEvents over gRPC. Events are checked, kept once per spool, counted into the log that
  cursors read, joined with labels that wait, and durable before the answer.
* COPY: the same columns by binary COPY into a table without indexes, a transaction per batch: what any store
  in PostgreSQL pays at least.
* COPY, indexed: the same into a table with monitoring's indexes.

Every second pass goes in reverse order; ratios are taken within a pass. CPU is of the client's or service's
process alone, without PostgreSQL's. After the first pass the rows of all are counted.

    python benchmarks/monitoring_events.py [--rows 20000] [--batch 500] [--captured] [--passes 5]
        [--json FILE]
"""

import argparse
import contextlib
import os
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import psycopg
from measuring.figures import keep, ratios, spread, table
from measuring.processes import workplace
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway.monitoring.v1 import monitoring_pb2_grpc
from slipway_local.testing import PostgresServer, Running

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "contract"))

from running import Keys, Service, free_port  # noqa: E402

OURS, BARE, INDEXED = "monitoring", "COPY", "COPY, indexed"
ENDPOINT, VERSION = "endpoints/bench", "models/bench/versions/1"
Row = tuple[Any, ...]
TYPES = [
    "text", "int4", "int4", "int8", "int4", "int2", "timestamptz", "float4", "int4", "float4", "bool", "uuid",
    "text", "bytea", "bytea",
]  # fmt: skip
COLUMNS = (
    "prediction_id, row, endpoint, arrival, version, role, time, latency_ms, predicted, confidence, "
    "captured, trace_id, request_id, probabilities, embedding"
)


@dataclass(frozen=True)
class Measure:
    """One contestant in one pass."""

    name: str
    rows_per_s: float
    cpu_us_per_row: float


class Contestant(Protocol):
    """Something that takes batches of events."""

    name: str

    def prepare(self, batches: Sequence[pb.ReportEventsRequest]) -> None:
        """Lay the batches ready; not counted."""

    def take(self) -> None:
        """Take what lies ready; counted."""

    def cpu_s(self) -> float:
        """Return its CPU seconds so far."""

    def count(self) -> int:
        """Return how many rows it has."""


class Monitoring:
    """The service, and a database connection that counts."""

    name = OURS

    def __init__(self, service: Service, keys: Keys, url: str, ends: contextlib.ExitStack) -> None:
        opened = ends.enter_context(service.channel(keys.service("inference")))
        self._stub: Any = monitoring_pb2_grpc.MonitoringServiceStub(opened)
        self._process = psutil.Process(service.pid)
        self._database = psycopg.connect(url, autocommit=True)
        self._batches: Sequence[pb.ReportEventsRequest] = ()

    def prepare(self, batches: Sequence[pb.ReportEventsRequest]) -> None:
        self._batches = batches

    def take(self) -> None:
        for batch in self._batches:
            answer = self._stub.ReportEvents(batch, timeout=60)
            if answer.acknowledged_sequence != batch.produced_sequence:
                raise RuntimeError(f"only {answer.acknowledged_sequence} events were taken")

    def cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def count(self) -> int:
        return _count(self._database, "SELECT count(*) FROM predictions")


class Copy:
    """A table of the same columns, filled by COPY."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._table = f'"{name}"'
        self._database = psycopg.connect(url)
        self._batches: list[list[Row]] = []
        self._images: list[list[bytes]] = []
        indexes = " INCLUDING INDEXES" if name == INDEXED else ""
        self._database.execute(f"CREATE TABLE {self._table} (LIKE predictions{indexes})".encode())
        self._database.execute(f"CREATE TABLE {self._images_table} (data bytea)".encode())
        self._database.commit()

    @property
    def _images_table(self) -> str:
        return f'"images of {self.name}"'

    def prepare(self, batches: Sequence[pb.ReportEventsRequest]) -> None:
        self._batches = [[_row(one.event, one.sequence) for one in batch.events] for batch in batches]
        self._images = [
            [row.inputs["image"].data for one in batch.events for row in one.event.rows if row.inputs]
            for batch in batches
        ]

    def take(self) -> None:
        statement = f"COPY {self._table} ({COLUMNS}) FROM STDIN (FORMAT binary)".encode()
        for rows, images in zip(self._batches, self._images, strict=True):
            with self._database.cursor() as cursor:
                with cursor.copy(statement) as copy:
                    copy.set_types(TYPES)
                    for row in rows:
                        copy.write_row(row)
                if images:
                    self._copy_images(cursor, images)
            self._database.commit()

    def _copy_images(self, cursor: psycopg.Cursor[Any], images: Sequence[bytes]) -> None:
        with cursor.copy(f"COPY {self._images_table} FROM STDIN (FORMAT binary)".encode()) as copy:
            copy.set_types(["bytea"])
            for image in images:
                copy.write_row((image,))

    def cpu_s(self) -> float:
        return time.process_time()

    def count(self) -> int:
        return _count(self._database, f"SELECT count(*) FROM {self._table}")


def _count(database: psycopg.Connection[Any], statement: str) -> int:
    row = database.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])


def _row(event: pb.PredictionEvent, arrival: int) -> Row:
    outputs = event.rows[0].outputs
    scores = np.frombuffer(outputs["probabilities"].data, "<f4")
    return (
        event.prediction_id, 0, 1, arrival, 1, event.role, event.time.ToDatetime(UTC), event.latency_ms,
        int(scores.argmax()), float(scores.max()), bool(event.rows[0].inputs), uuid.UUID(event.trace_id),
        event.request_id, outputs["probabilities"].data, outputs["embedding"].data,
    )  # fmt: skip


def made(rows: int, size: int, captured: bool) -> list[pb.ReportEventsRequest]:
    """Return fresh events of a fresh spool, in batches."""
    spool, rng = str(uuid.uuid4()), np.random.default_rng(time.time_ns())
    batches = []
    for start in range(1, rows + 1, size):
        stop = min(start + size, rows + 1)
        events = [
            pb.SequencedEvent(sequence=number, event=_event(rng, captured)) for number in range(start, stop)
        ]
        batches.append(
            pb.ReportEventsRequest(
                spool=spool,
                first_sequence=start,
                events=events,
                produced_sequence=stop - 1,
                endpoint=ENDPOINT,
                model_version=VERSION,
            )
        )
    return batches


def _event(rng: np.random.Generator, captured: bool) -> pb.PredictionEvent:
    row = pb.PredictedRow()
    for name, count in (("probabilities", 10), ("embedding", 64)):
        data = rng.random(count, np.float32).astype("<f4").tobytes()
        row.outputs[name].CopyFrom(pb.TensorBytes(datatype="FP32", shape=[count], data=data))
    if captured:
        image = pb.TensorBytes(datatype="UINT8", shape=[28, 28, 1], data=os.urandom(28 * 28))
        row.inputs["image"].CopyFrom(image)
    event = pb.PredictionEvent(
        prediction_id=f"{uuid.uuid4()}-abcdef12",
        endpoint=ENDPOINT,
        model_version=VERSION,
        role=pb.PredictionEvent.LIVE,
        trace_id=uuid.uuid4().hex,
        request_id=str(uuid.uuid4()),
        latency_ms=2.5,
        rows=[row],
    )
    event.time.FromDatetime(datetime.now(UTC))
    return event


def measure(contestant: Contestant, batches: Sequence[pb.ReportEventsRequest], rows: int) -> Measure:
    """Return one measurement of one pass."""
    contestant.prepare(batches)
    cpu, began = contestant.cpu_s(), time.perf_counter()
    contestant.take()
    spent = time.perf_counter() - began
    return Measure(contestant.name, rows / spent, (contestant.cpu_s() - cpu) / rows * 1e6)


def start_all(folder: Path, ends: contextlib.ExitStack) -> list[Contestant]:
    """Start the servers and make the contestants; the service knows the version already."""
    running = Running()
    ends.callback(running.stop)
    postgres, keys = PostgresServer(running.start()), Keys(folder / "keys")
    url = postgres.fresh_database()
    away = {"registry": "127.0.0.1:9", "ingestion": "127.0.0.1:9"}
    service = Service("slipway_monitoring.main", keys, database_url=url, otlp_port=free_port(), **away)
    ends.callback(service.stop)
    service.migrate()
    plain = url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(plain) as database:
        database.execute(
            "INSERT INTO versions (name, classes, scored) VALUES (%s, '{}', 'probabilities')", [VERSION]
        )
    service.start()
    return [Monitoring(service, keys, plain, ends), Copy(BARE, plain), Copy(INDEXED, plain)]


def report(passes: list[list[Measure]], rows: int, size: int) -> None:
    """Print the table."""
    lines = []
    for name in (OURS, BARE, INDEXED):
        rates, cpu = _values(passes, name, "rows_per_s"), _values(passes, name, "cpu_us_per_row")
        ratio = "" if name == OURS else spread(ratios(_values(passes, OURS, "rows_per_s"), rates), 2)
        lines.append([name, spread(rates), spread(cpu, 1), ratio])
    head = [f"{rows:,} rows, {size} a batch", "rows/s", "CPU µs/row of its process", "monitoring / it"]
    print("\n" + table(head, lines))


def _values(passes: list[list[Measure]], name: str, field: str) -> list[float]:
    return [float(getattr(one, field)) for found in passes for one in found if one.name == name]


def run(arguments: argparse.Namespace) -> None:
    """Start all, measure in turns, end all."""
    with workplace("events") as (folder, ends):
        contestants = start_all(folder, ends)
        contestants[0].prepare(made(arguments.batch, arguments.batch, arguments.captured))
        contestants[0].take()  # the first batch opens connections
        passes = []
        for number in range(arguments.passes):
            batches = made(arguments.rows, arguments.batch, arguments.captured)
            turns = contestants if number % 2 == 0 else contestants[::-1]
            passes.append([measure(one, batches, arguments.rows) for one in turns])
            if number == 0:
                _check(contestants, arguments)
            print(f"pass {number + 1} of {arguments.passes} done", flush=True)
    report(passes, arguments.rows, arguments.batch)
    keep(arguments.json, {"passes": [[asdict(one) for one in found] for found in passes]})


def _check(contestants: Sequence[Contestant], arguments: argparse.Namespace) -> None:
    for one in contestants:
        extra = arguments.batch if one.name == OURS else 0
        if one.count() != arguments.rows + extra:
            raise RuntimeError(f"{one.name} has {one.count()} rows of {arguments.rows}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000, help="rows of a pass")
    parser.add_argument("--batch", type=int, default=500, help="events of a batch")
    parser.add_argument("--captured", action="store_true", help="with an image per row")
    parser.add_argument("--passes", type=int, default=5, help="how often all are measured in turn")
    parser.add_argument("--json", type=Path, help="file for every pass")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
