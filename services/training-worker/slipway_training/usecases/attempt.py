"""One attempt at a job, from checkout to registered version. The process trains, this does all calls."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from slipway_runtime import archive
from slipway_runtime.errors import NotFound, SlipwayError

from slipway_training.domain import Job, Outcome, State
from slipway_training.engine import checkpoint, data, declared, events
from slipway_training.engine.child import environment
from slipway_training.engine.process import EngineProcess
from slipway_training.engine.spec import Spec
from slipway_training.store import Store
from slipway_training.usecases.bench import Bench
from slipway_training.usecases.jobs import code_key
from slipway_training.usecases.lease import Heartbeat
from slipway_training.usecases.reporting import Reporter, checkpoint_key
from slipway_training.usecases.worker import Ending


class AttemptRun:
    """One attempt; it holds the job's lease while `heartbeat` beats.

    Args:
        bench: What to work with.
        job: As claimed, with the attempt's number.
        heartbeat: Says when to stop.
    """

    def __init__(self, bench: Bench, job: Job, heartbeat: Heartbeat) -> None:
        self._bench = bench
        self._job = job
        self._heartbeat = heartbeat
        self._folder = bench.work_dir / "attempts" / job.id / str(job.attempt)

    def run(self) -> Ending:
        """Train and register, or only register when an earlier attempt has the bundle already.

        Raises:
            InterruptedAttempt: cancelled, fenced off, or the worker stops.
            SlipwayError: a neighbour refused, or is away.
        """
        if self._job.bundle:
            self._take_over_run()
            return self._register(self._job.bundle)
        self._open_run()
        reporter = Reporter(
            job=self._job,
            database=self._bench.database,
            registry=self._bench.registry,
            objects=self._bench.objects,
        )
        try:
            return self._train(reporter)
        finally:
            reporter.end_span()

    def _open_run(self) -> None:
        code = archive.read(self._bench.objects.get(code_key(self._job.spec.task_code)))
        spec = self._job.spec
        run = self._bench.registry.open_run(
            self._job, declared.resolved(code, spec.entry_point, spec.hyperparameters)
        )
        self._job = replace(self._job, run=run)
        with self._bench.database.transaction() as connection:
            Store(connection).note(self._job.id, self._job.attempt, run=run)
        shutil.rmtree(self._folder, ignore_errors=True)
        code.unpack(self._folder / "code")

    def _train(self, reporter: Reporter) -> Ending:
        commit = self._job.spec.dataset_commit
        digest, revision = commit.rpartition("/")[2], self._bench.ingestion.erasure_revision(commit)
        name = f"{digest}-{revision}" if revision else digest
        self._bench.checkouts.replace(digest, name)  # one from before an erasure has what was erased
        with self._bench.checkouts.hold(name) as checkout:
            return self._train_on(checkout, reporter)

    def _train_on(self, checkout: Path, reporter: Reporter) -> Ending:
        reporter.stage("checkout")
        data.check_out(checkout, self._rows())
        self._fetch_checkpoint()
        self._heartbeat.check()
        process = EngineProcess(
            "slipway_training.engine.child", self._spec(checkout), self._folder, "training"
        )
        self._heartbeat.on_interrupt(process.stop)
        last: events.Event | None = None
        try:
            for event in process.events():
                self._handle(event, reporter, process.pid)
                last = event or last
        finally:
            self._heartbeat.on_interrupt(lambda: None)
            death = process.close()
        self._heartbeat.check()
        if isinstance(last, events.Failed):
            reporter.flush()
            return Ending(Outcome.FAILED, last.message, retry=last.retry)
        if not isinstance(last, events.Done):
            return Ending(Outcome.LOST, death or "the training process ended without a result", retry=True)
        reporter.stage("register")
        reporter.flush()
        bundle = self._bench.registry.upload_bundle(last.digest, Path(last.folder))
        with self._bench.database.transaction() as connection:
            Store(connection).note(self._job.id, self._job.attempt, bundle=bundle)
        return self._register(bundle)

    def _handle(self, event: events.Event | None, reporter: Reporter, pid: int) -> None:
        match event:
            case events.Stage(name):
                reporter.stage(name)
            case events.Resumed(step):
                reporter.resumed(step, pid)
                self._begin_attempt(step)
            case events.Progress():
                reporter.progress(event)
            case events.Metrics():
                reporter.metrics(event)
            case events.Saved():
                reporter.saved(event)
        reporter.tick()

    def _begin_attempt(self, step: int) -> None:
        self._bench.registry.begin_attempt(
            self._job.run, self._job.attempt, step, self._bench.host, environment()
        )

    def _take_over_run(self) -> None:
        try:
            self._begin_attempt(self._job.progress.total_steps)
        except SlipwayError as error:
            if error.reason != "RUN_FINISHED":  # finished by the attempt before, which died right after
                raise

    def _register(self, bundle: str) -> Ending:
        """Every step is the same when repeated; the row's compare-and-set comes last."""
        version = self._bench.registry.create_version(self._job, bundle, self._job.attempt)
        self._bench.registry.finish_run(self._job, State.SUCCEEDED, self._job.attempt)
        return Ending(Outcome.SUCCEEDED, values={"model_version": version})

    def _rows(self) -> Iterator[data.Row]:
        for example, content in self._bench.ingestion.examples(self._job.spec.dataset_commit):
            self._heartbeat.check()
            yield data.Row(example.key, example.label, example.split, example.blob, content)

    def _fetch_checkpoint(self) -> None:
        """Put the newest whole checkpoint into the folder: an earlier attempt's here, or the stored one."""
        earlier = [path for path in self._folder.parent.iterdir() if path != self._folder]
        local = checkpoint.newest(*earlier)
        with self._bench.database.transaction() as connection:
            stored = Store(connection).checkpoints(self._job.id)
        if local is not None:
            shutil.copy(local, self._folder / local.name)
        for name in stored:
            if local is not None and checkpoint.step_of(local.name) >= checkpoint.step_of(name):
                return
            try:
                (self._folder / name).write_bytes(self._bench.objects.get(checkpoint_key(self._job.id, name)))
            except NotFound:
                continue
            if checkpoint.verifies(self._folder / name):
                return

    def _spec(self, checkout: Path) -> Spec:
        spec = self._job.spec
        facts = {
            "task": spec.entry_point,
            "run": self._job.run,
            "job": self._job.name,
            "dataset_commit": spec.dataset_commit,
            "code_digest": spec.task_code,
            "seed": spec.seed,
        }
        return Spec(
            parent_pid=os.getpid(),
            code=str(self._folder / "code"),
            entry_point=spec.entry_point,
            hyperparameters=spec.hyperparameters,
            seed=spec.seed,
            threads=self._bench.threads,
            checkout=str(checkout),
            folder=str(self._folder),
            checkpoint_s=self._bench.checkpoint_s,
            facts=facts,
        )
