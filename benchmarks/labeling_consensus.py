"""ComputeConsensus and GetQualityReport through labeling's API beside a floor: the engine alone.

A pass makes a project of 10,000 tasks with three answers each, of twelve annotators who err in 2 % to 30 %,
and calls ComputeConsensus twice: the first writes every task's consensus, the second finds nothing to change.
Meanwhile another caller reads the project again and again: its slowest call tells how long the arithmetic
keeps others waiting.

* labeling: against the running service, over gRPC. It reads the answers, judges the annotators, computes the
  consensus (Dawid-Skene), writes, in one transaction.
* floor: `dawid_skene` and `judge` on the same answers in this process. No database, no conversion.

    python benchmarks/labeling_consensus.py [--passes 5] [--tasks 10000] [--json FILE]
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import psycopg
from measuring.figures import keep, ratios, spread, table
from measuring.processes import workplace
from slipway.labeling.v1 import labeling_pb2 as pb
from slipway.labeling.v1 import labeling_pb2_grpc
from slipway_labeling.engine.annotators import judge
from slipway_labeling.engine.answers import Answers
from slipway_labeling.engine.consensus import dawid_skene
from slipway_local.testing import PostgresServer, Running

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "contract"))

from running import Keys, Service  # noqa: E402

LABELS = [f"label{number}" for number in range(10)]
RATES = np.array([0.02, 0.05, 0.05, 0.05, 0.1, 0.02, 0.05, 0.05, 0.05, 0.1, 0.05, 0.3])
OVERLAP = 3


@dataclass(frozen=True)
class Measure:
    """One pass, in seconds; `cpu` are those of the service for all three calls and the other caller's."""

    first: float
    second: float
    report: float
    cpu: float
    slowest_other_call: float
    floor: float


def answers_of(tasks: int, seed: int) -> Answers:
    """Return simulated answers: each task goes to three of twelve annotators."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(len(LABELS), size=tasks)
    people = np.argsort(rng.random((tasks, RATES.size)), axis=1)[:, :OVERLAP]
    wrong = rng.random(people.shape) < RATES[people]
    label = (truth[:, None] + wrong * rng.integers(1, len(LABELS), size=people.shape)) % len(LABELS)
    task = np.repeat(np.arange(tasks), OVERLAP)
    return Answers(task, people.ravel(), label.ravel(), tasks, RATES.size, len(LABELS))


def fill(url: str, project: str, answers: Answers) -> None:
    """Write the project and its answers as the work of people leaves them."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(
            "INSERT INTO projects (id, display_name, dataset, schema_version, overlap, lease_s, "
            "gold_percent, prelabel_percent, pause_rule, consensus_method, creator) VALUES (%s, '', "
            "'datasets/bench', 1, %s, 600, 0, 0, '{}', 'DAWID_SKENE', 'users/bench')",
            (project, OVERLAP),
        )
        connection.execute("INSERT INTO schemas VALUES (%s, 1, %s, false, '')", (project, LABELS))
        connection.execute(
            "INSERT INTO tasks (project, key, dataset_commit, blob, media_type, state, overlap, taken, "
            "given, answer_count) SELECT %s, 't' || n, '', '', 'image/png', 'ANSWERED', %s, %s, %s, %s "
            "FROM generate_series(0, %s) AS n",
            (project, OVERLAP, OVERLAP, OVERLAP, OVERLAP, answers.tasks - 1),
        )
        connection.execute(
            "WITH g AS (SELECT t.serial, x.place, 'ann' || x.who AS who, x.label, "
            "nextval('annotations_id_seq') AS id FROM unnest(%s::int[], %s::int[], %s::text[]) "
            "WITH ORDINALITY AS x(task, who, label, place) "
            "JOIN tasks t ON t.project = %s AND t.key = 't' || x.task), "
            "made AS (INSERT INTO annotations (id, project, task, number, annotator, labels, revision, "
            "withdrawn, lease_ms, lead_ms, prelabel_shown, schema_version) OVERRIDING SYSTEM VALUE "
            "SELECT id, %s, serial, place, who, ARRAY[label], 1, false, 1, 1, false, 1 FROM g) "
            "INSERT INTO assignments (task, number, project, annotator, state, lease_time, claim_time, "
            "schema_version, prelabel_shown, annotation) SELECT serial, place, %s, who, 'SUBMITTED', now(), "
            "now(), 1, false, id FROM g",
            (
                answers.task.tolist(),
                answers.annotator.tolist(),
                [LABELS[label] for label in answers.label],
                project,
                project,
                project,
            ),
        )
        connection.commit()
        connection.autocommit = True
        connection.execute("ANALYZE")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call took, and its answer."""
    begun = time.perf_counter()
    answer = call()
    return time.perf_counter() - begun, answer


def measure(service: Service, keys: Keys, url: str, number: int, tasks: int) -> Measure:
    """Fill a project and compute its consensus, beside the engine alone."""
    project, answers = f"bench{number}", answers_of(tasks, number)
    fill(url, project, answers)
    parent, done, others = f"labelingProjects/{project}", threading.Event(), [0.0]
    with service.channel(keys.user("eva", "engineer")) as channel:
        stub: Any = labeling_pb2_grpc.LabelingServiceStub(channel)  # type: ignore[no-untyped-call]

        def read() -> None:
            while not done.wait(0.02):
                others.append(timed(lambda: stub.GetProject(pb.GetProjectRequest(name=parent)))[0])

        other = threading.Thread(target=read)
        cpu = psutil.Process(service.pid).cpu_times()
        other.start()
        first, found = timed(lambda: stub.ComputeConsensus(pb.ComputeConsensusRequest(parent=parent)))
        second, _ = timed(lambda: stub.ComputeConsensus(pb.ComputeConsensusRequest(parent=parent)))
        done.set()
        other.join()
        report, _ = timed(lambda: stub.GetQualityReport(pb.GetQualityReportRequest(parent=parent)))
        spent = psutil.Process(service.pid).cpu_times()
    if found.answer_count != tasks * OVERLAP or list(found.paused) != [f"{parent}/annotators/ann11"]:
        raise RuntimeError(f"{found.answer_count} answers, paused {found.paused}: it should be ann11 alone")
    floor, _ = timed(lambda: (dawid_skene(answers), judge(answers)))
    cpu_s = spent.user + spent.system - cpu.user - cpu.system
    return Measure(first, second, report, cpu_s, max(others), floor)


def run(arguments: argparse.Namespace) -> None:
    """Start all, measure, end all."""
    found: list[Measure] = []
    with workplace("consensus") as (folder, ends):
        running = Running()
        ends.callback(running.stop)
        postgres, keys = PostgresServer(running.start()), Keys(folder / "keys")
        url = postgres.fresh_database()
        # Nobody is judged in between: the call alone is measured.
        settings = {"database_url": url, "ingestion": "127.0.0.1:9", "judge_interval_s": 86_400}
        service = Service("slipway_labeling.main", keys, **settings)
        ends.callback(service.stop)
        service.migrate().start()
        for number in range(arguments.passes):
            found.append(measure(service, keys, url, number, arguments.tasks))
            print(f"pass {number + 1} of {arguments.passes}: {found[-1]}", flush=True)
    floor = [one.floor for one in found]
    rows = []
    for name, field in (
        ("ComputeConsensus, all written", "first"),
        ("ComputeConsensus, nothing new", "second"),
        ("GetQualityReport", "report"),
        ("CPU of the service for these three", "cpu"),
        ("slowest call of another meanwhile", "slowest_other_call"),
        ("engine alone", "floor"),
    ):
        values = [getattr(one, field) for one in found]
        rows.append([name, spread(values, 2), spread(ratios(values, floor), 2)])
    print("\n" + table([f"{arguments.tasks} tasks x {OVERLAP}", "seconds", "/ engine alone"], rows))
    keep(arguments.json, {"passes": [asdict(one) for one in found]})


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--passes", type=int, default=5, help="how often it is measured")
    parser.add_argument("--tasks", type=int, default=10_000, help="of each project")
    parser.add_argument("--json", type=Path, help="file for every pass")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
