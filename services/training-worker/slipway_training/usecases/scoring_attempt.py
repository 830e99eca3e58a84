"""One attempt at a scoring job. The process scores, this does all calls.

Parts are fixed ranges of the selected keys, so that every attempt cuts the same; what an attempt finds
there it does not score again.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
from blake3 import blake3
from slipway_runtime.errors import Internal

from slipway_training.domain import Measures, Outcome, Part, ScoringJob
from slipway_training.engine import bundle, data, events, parts
from slipway_training.engine.parts import ScoredRow
from slipway_training.engine.process import EngineProcess
from slipway_training.engine.spec import ScoringSpec
from slipway_training.store import ScoringStore
from slipway_training.usecases.bench import Bench
from slipway_training.usecases.lease import Heartbeat
from slipway_training.usecases.scoring_jobs import part_key, read_scores
from slipway_training.usecases.worker import Ending

AHEAD = 2  # parts ordered at a time: one is scored while the next is read


class _EndedError(Exception):
    """The process ended before its work was done."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.error)
        self.ending = ending


class ScoringAttempt:
    """One attempt; it holds the job's lease while `heartbeat` beats.

    Args:
        bench: What to work with.
        job: As claimed, with the attempt's number.
        heartbeat: Says when to stop.
    """

    def __init__(self, bench: Bench, job: ScoringJob, heartbeat: Heartbeat) -> None:
        self._bench = bench
        self._job = job
        self._heartbeat = heartbeat
        self._folder = bench.work_dir / "scoring" / job.id / str(job.attempt)

    def run(self) -> Ending:
        """Score what is not scored yet; then measure and record when the job evaluates.

        Raises:
            InterruptedAttempt: cancelled, fenced off, or the worker stops.
            SlipwayError: a neighbour refused, or is away.
        """
        spec = self._job.spec
        with ExitStack() as held:
            version = self._fetch_bundle(spec.bundle, held)
            champion = self._fetch_bundle(spec.champion_bundle, held) if spec.champion_bundle else None
            return self._run(version, champion)

    def _run(self, version: Path, champion: Path | None) -> Ending:
        spec, job = self._job.spec, self._job
        rows = self._selected()
        if spec.evaluate and not rows:
            return Ending(Outcome.FAILED, _nothing_labelled(job))
        cut = [rows[start : start + spec.part_size] for start in range(0, len(rows), spec.part_size)]
        with self._bench.database.transaction() as connection:
            store = ScoringStore(connection)
            store.note(job.id, job.attempt, total_count=len(rows), classes=list(bundle.classes(version)))
            there = {part.number for part in store.parts(job.id)}
        missing = [number for number in range(len(cut)) if number not in there]
        measures = job.measures
        try:
            if missing or (spec.evaluate and measures is None):
                measures = self._compute(version, champion, cut, missing)
        except _EndedError as ended:
            return ended.ending
        if measures is None:
            return Ending(Outcome.SUCCEEDED)
        self._heartbeat.check()
        classes = bundle.classes(version), () if champion is None else bundle.classes(champion)
        return Ending(Outcome.SUCCEEDED, values={"evaluation": self._record(measures, classes)})

    def _record(self, measures: Measures, classes: tuple[Sequence[str], Sequence[str]]) -> str:
        """Send parts and measures as they are stored: a repeat by another attempt sends the same."""
        scores = read_scores(self._bench.database, self._bench.objects, self._job.id)
        return self._bench.registry.record_evaluation(self._job, measures, classes, scores)

    def _fetch_bundle(self, name: str, held: ExitStack) -> Path:
        digest = name.rpartition("/")[2]
        folder = held.enter_context(self._bench.bundles.hold(digest))
        if not folder.is_dir():
            bundle.unpack(folder, digest, self._downloaded(name))
        return folder

    def _downloaded(self, name: str) -> Iterator[tuple[str, bytes]]:
        for part in self._bench.registry.download(name, bundle.FILES):
            self._heartbeat.check()
            yield part

    def _selected(self) -> list[ScoredRow]:
        """Return the rows to score, in key order: a function of the job alone."""
        spec, ingestion = self._job.spec, self._bench.ingestion
        trained = {row.key for row in ingestion.rows(spec.training_commit, "train") if row.label}
        selected = []
        for row in ingestion.rows(spec.dataset_commit, spec.split):
            self._heartbeat.check()
            if (spec.evaluate and not row.label) or (spec.unlabelled_only and row.label):
                continue
            selected.append(
                ScoredRow(
                    key=row.key,
                    label=row.label,
                    split=row.split,
                    in_training=row.key in trained,
                    group=row.group,
                    attributes=dict(row.attributes),
                )
            )
        return selected

    def _compute(
        self, version: Path, champion: Path | None, cut: Sequence[Sequence[ScoredRow]], missing: Sequence[int]
    ) -> Measures | None:
        """Run the process over the missing parts, then for the measures when the job evaluates."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        told = ScoringSpec(
            parent_pid=os.getpid(),
            threads=self._bench.threads,
            version=str(version),
            champion=str(champion or ""),
        )
        process = EngineProcess("slipway_training.engine.scoring", told, self._folder, "scoring", orders=True)
        self._heartbeat.on_interrupt(process.stop)
        death = ""
        try:
            answers = process.events()
            self._score(process, answers, cut, missing)
            return self._measure(process, answers, cut[0]) if self._job.spec.evaluate else None
        except StopIteration:  # the pipe ended: what the process died of is known when it is closed
            pass
        finally:
            self._heartbeat.on_interrupt(lambda: None)
            death = process.close()
        self._heartbeat.check()
        error = death or "the scoring process ended without a result"
        raise _EndedError(Ending(Outcome.LOST, error, retry=True))

    def _score(
        self,
        process: EngineProcess,
        answers: Iterator[events.Event | None],
        cut: Sequence[Sequence[ScoredRow]],
        missing: Sequence[int],
    ) -> None:
        waiting: list[int] = []
        for number in missing:
            process.order(events.Score(str(self._check_out(f"part-{number}", cut[number]))))
            waiting.append(number)
            if len(waiting) == AHEAD:
                self._answer(answers)
                self._keep(waiting.pop(0), cut)
        for number in waiting:
            self._answer(answers)
            self._keep(number, cut)

    def _measure(
        self, process: EngineProcess, answers: Iterator[events.Event | None], rows: Sequence[ScoredRow]
    ) -> Measures:
        """Measure unless an earlier attempt has: a second record must say the same as the first."""
        if self._job.measures is not None:
            return self._job.measures
        process.order(events.Measure(str(self._check_out("measure", rows))))
        measured = self._answer(answers)
        assert isinstance(measured, events.Measured)
        measures = Measures(**asdict(measured))
        self._heartbeat.check()
        with self._bench.database.transaction() as connection:
            ScoringStore(connection).note(self._job.id, self._job.attempt, measures=asdict(measures))
        return measures

    def _answer(self, answers: Iterator[events.Event | None]) -> events.Event:
        """Return the process's next answer.

        Raises:
            StopIteration: there is none; the process has ended.
        """
        while True:
            event = next(answers)
            self._heartbeat.check()
            if isinstance(event, events.Failed):
                raise _EndedError(Ending(Outcome.FAILED, event.message, retry=event.retry))
            if event is not None:
                return event

    def _check_out(self, name: str, rows: Sequence[ScoredRow]) -> Path:
        """Read these examples' bytes into a folder; the process takes them from there."""
        self._heartbeat.check()
        folder, keys = self._folder / name, [row.key for row in rows]
        data.check_out(folder, self._read(keys))
        return folder

    def _read(self, keys: Sequence[str]) -> Iterator[data.Row]:
        wanted = iter(keys)
        for example, content in self._bench.ingestion.examples(self._job.spec.dataset_commit, keys):
            if example.key != next(wanted, None):
                raise Internal(
                    "INTERNAL", f"ingestion answered with {example.key!r}, which was not asked for"
                )
            yield data.Row(example.key, example.label, example.split, example.blob, content)
        if next(wanted, None) is not None:
            raise Internal("INTERNAL", "ingestion left out examples that were asked for")

    def _keep(self, number: int, cut: Sequence[Sequence[ScoredRow]]) -> None:
        """Store a part, then its row; the fence decides whether it counts."""
        folder = self._folder / f"part-{number}"
        with np.load(folder / "scores.npz", allow_pickle=False) as arrays:
            packed = parts.pack(cut[number], dict(arrays))
        part = Part(number=number, count=len(cut[number]), digest=blake3(packed).hexdigest())
        self._bench.objects.put(part_key(self._job.id, part), packed)
        with self._bench.database.transaction() as connection:
            ScoringStore(connection).add_part(self._job.id, self._job.attempt, part)
        shutil.rmtree(folder)


def _nothing_labelled(job: ScoringJob) -> str:
    where = f" in the split '{job.spec.split}'" if job.spec.split else ""
    return f"{job.spec.dataset_commit} has no labelled example{where}; label some, or choose another split"
