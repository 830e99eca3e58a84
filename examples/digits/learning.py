"""Steps 2 to 6: data in, two commits, two trainings of which one is killed, and what came of them."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from data import Picture, rescanned
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from slipway.client import SlipwayError, pages
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.registry.v1 import registry_pb2 as reg
from slipway.training.v1 import training_pb2 as trn

if TYPE_CHECKING:
    from story import Story

JOB_WITHIN_S = 180.0
CHECKPOINT_WITHIN_S = 2.5  # a worker saves every two seconds
MAX_EPOCHS = 400
ENDED = (trn.TrainingJob.SUCCEEDED, trn.TrainingJob.FAILED, trn.TrainingJob.CANCELLED)


def ingest(story: "Story", broken: list[Picture]) -> None:
    """(2) Upload every image and three damaged files, which are refused by name; commit the rest."""
    with story.steps.step("ingest") as step:
        story.dataset = _fresh_dataset(story)
        pictures = [*story.plot.pictures, *broken]
        upload = _upload(story, pictures)
        commit = _commit(story, upload.name, "import of all images")
        named = ", ".join(refused.key for refused in upload.refused)
        step.figures |= {
            "sent": len(pictures),
            "accepted": upload.accepted_count,
            "refused": upload.refused_count,
            "bytes": upload.accepted_bytes,
            "objects": upload.new_objects + commit.new_objects,
        }
        step.headline = f"{upload.accepted_count} of {len(pictures)} taken; refused by name: {named}"
        if {refused.key for refused in upload.refused} != {picture.key for picture in broken}:
            raise AssertionError(f"refused {named}, which are not the damaged files")


def change(story: "Story") -> None:
    """(3) A second scan of 20 examples; the diff shows exactly these, and what they cost."""
    with story.steps.step("change") as step:
        changed = [rescanned(picture) for picture in story.plot.pictures[::71][:20]]
        upload = _upload(story, changed)
        commit = _commit(story, upload.name, "second scan of 20 examples")
        base, target = story.commits
        asked = ing.DiffCommitsRequest(base=base, target=target)
        diff = list(pages(story.client.ingestion.DiffCommits, asked, "changes"))
        exact = {change.key for change in diff} == {picture.key for picture in changed}
        new_bytes = upload.new_bytes + commit.new_bytes
        new_objects = upload.new_objects + commit.new_objects
        step.figures |= {
            "changed": len(diff),
            "exact": exact,
            "new_objects": new_objects,
            "new_bytes": new_bytes,
            "dataset_bytes": commit.total_bytes,
        }
        step.headline = f"diff shows {len(diff)} changes, cost {new_objects} objects and {new_bytes:,} bytes"
        if not exact:
            raise AssertionError("the diff is not the 20 examples that were changed")


def train_with_a_kill(story: "Story") -> None:
    """(4) Train; kill the attempt in mid-training; it goes on from its checkpoint."""
    with story.steps.step("train, killed once") as step:
        wanted = dict(story.plot.first)
        job, killed_at = _train_and_kill(story, wanted)
        while not killed_at and wanted["epochs"] < MAX_EPOCHS:  # this machine was through too soon
            wanted["epochs"] *= 2
            job, killed_at = _train_and_kill(story, wanted)
        expect_success(job)
        resumed_at = job.attempts[-1].start_step
        story.versions.append(version(story, job))
        accuracy = story.versions[-1].evaluation.metrics["accuracy"]
        step.figures |= {
            "attempts": len(job.attempts),
            "killed_at_step": killed_at,
            "last_step_reported": job.attempts[0].last_step,
            "resumed_at_step": resumed_at,
            "total_steps": job.progress.total_steps,
            "accuracy": accuracy,
        }
        step.headline = f"killed at step {killed_at}, resumed at {resumed_at}; accuracy {accuracy:.4f}"
        if not (killed_at and len(job.attempts) == 2 and resumed_at > 0):
            raise AssertionError("the attempt was not killed in mid-training, or did not resume")


def _train_and_kill(story: "Story", hyperparameters: dict[str, Any]) -> tuple[Any, int]:
    """Submit a job and kill its attempt once there is a checkpoint; return how it ended and the step.

    A job that nears its end before is cancelled, and the step is 0.
    """
    submitted = submit(story, hyperparameters, "v1")
    since, killed_at, cancelled = 0.0, 0, False
    for job in watch(story, submitted.name, "v1"):
        if killed_at or cancelled or job.state != trn.TrainingJob.RUNNING or job.progress.stage != "train":
            continue
        since = since or time.monotonic()
        if time.monotonic() - since > CHECKPOINT_WITHIN_S:
            killed_at = job.progress.step
            os.kill(job.attempts[-1].pid, signal.SIGKILL)
        elif job.progress.step > 0.9 * job.progress.total_steps:
            cancelled = True
            with suppress(SlipwayError):  # it may have ended meanwhile
                story.client.training.CancelTrainingJob(trn.CancelTrainingJobRequest(name=job.name))
    return job, killed_at


def train_again(story: "Story") -> None:
    """(5) A second job with other hyperparameters; both runs side by side."""
    with story.steps.step("train again") as step:
        story.versions.append(train(story, story.plot.second, "v2"))
        scores = [made.evaluation.metrics["accuracy"] for made in story.versions]
        baseline = story.versions[0].evaluation.baseline.get("accuracy", 0.0)
        runs = [story.client.registry.GetRun(reg.GetRunRequest(name=v.run)) for v in story.versions]
        differing = [key for key in runs[0].params if runs[0].params[key] != runs[1].params[key]]
        step.figures |= {"accuracy_v1": scores[0], "accuracy_v2": scores[1], "accuracy_baseline": baseline}
        step.figures |= {"test_examples": story.versions[0].evaluation.example_count}
        step.headline = (
            f"v1 {scores[0]:.4f}, v2 {scores[1]:.4f}, majority class {baseline:.4f}; "
            f"they differ in {', '.join(differing)}"
        )


def bundles(story: "Story") -> None:
    """(6) What crosses to serving: files, sizes, and how close the exported graph is to the model."""
    with story.steps.step("bundles") as step:
        for number, made in enumerate(story.versions, start=1):
            bundle = story.client.registry.GetBundle(reg.GetBundleRequest(name=made.bundle))
            step.figures |= {
                f"files_v{number}": len(bundle.files),
                f"bytes_v{number}": bundle.size_bytes,
                f"parity_max_abs_diff_v{number}": made.parity_max_abs_diff,
            }
        worst = max(made.parity_max_abs_diff for made in story.versions)
        step.headline = f"{len(bundle.files)} files each; exported within {worst:.1e} of the trained model"


def _fresh_dataset(story: "Story") -> str:
    """Make the data set under the story's name, or the next free one: a story may be told twice."""
    listing = pages(story.client.ingestion.ListDatasets, ing.ListDatasetsRequest(), "datasets")
    taken = {dataset.name.removeprefix("datasets/") for dataset in listing}
    names = [story.plot.name, *(f"{story.plot.name}-{number}" for number in range(2, 1000))]
    name = next(name for name in names if name not in taken)
    story.client.ingestion.CreateDataset(ing.CreateDatasetRequest(dataset_id=name))
    story.plot.name = name
    return f"datasets/{name}"


def _upload(story: "Story", pictures: list[Picture]) -> Any:
    columns = (TextColumn("   uploading"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=story.steps.console, transient=True) as progress:
        bar = progress.add_task("upload", total=len(pictures))

        def requests() -> Iterator[Any]:
            header = ing.UploadHeader(parent=story.dataset, label_source=f"imports/{story.plot.name}")
            yield ing.UploadExamplesRequest(header=header)
            for picture in pictures:
                item = ing.UploadItem(key=picture.key, data=picture.png, label=picture.label)
                yield ing.UploadExamplesRequest(item=item)
                progress.advance(bar)

        return story.client.ingestion.UploadExamples(requests(), timeout=120)


def _commit(story: "Story", upload: str, message: str) -> Any:
    request = ing.CreateCommitRequest(parent=story.dataset, uploads=[upload], message=message)
    commit = story.client.ingestion.CreateCommit(request, timeout=60)
    story.commits.append(commit.name)
    return commit


def submit(
    story: "Story",
    hyperparameters: dict[str, Any],
    title: str,
    *,
    commit: str = "",
    entry_point: str = "",
    seed: int = 7,
) -> Any:
    """Queue a training job on a commit, the newest of `main` when none is named; return it."""
    return story.client.submit_training(
        story.plot.task,
        entry_point=entry_point or story.plot.entry_point,
        display_name=f"{story.plot.name} {title}",
        experiment=f"experiments/{story.plot.name}",
        model=f"models/{story.plot.name}",
        dataset_commit=commit or story.commits[-1],
        hyperparameters=hyperparameters,
        seed=seed,
    )


def train(story: "Story", hyperparameters: dict[str, Any], title: str, **options: Any) -> Any:
    """Train to the end with a bar; options as `submit`; return the version."""
    *_, job = watch(story, submit(story, hyperparameters, title, **options).name, title)
    expect_success(job)
    return version(story, job)


def watch(story: "Story", name: str, title: str) -> Iterator[Any]:
    """Yield the job whenever it changes until it ends, with a bar of its steps."""
    columns = (TextColumn(f"   {title} {{task.description}}"), BarColumn(), MofNCompleteColumn())
    stop_at = time.monotonic() + JOB_WITHIN_S
    with Progress(*columns, TimeElapsedColumn(), console=story.steps.console, transient=True) as progress:
        bar = progress.add_task("waits for a worker", total=None)
        while True:
            job = story.client.training.GetTrainingJob(trn.GetTrainingJobRequest(name=name))
            state = job.progress
            progress.update(
                bar,
                description=state.stage or "waits for a worker",
                completed=state.step,
                total=state.total_steps or None,
            )
            yield job
            if job.state in ENDED:
                return
            if time.monotonic() > stop_at:
                raise TimeoutError(f"{name} did not end within {JOB_WITHIN_S:.0f} s; it is at {state.stage}")
            time.sleep(0.1)


def expect_success(job: Any) -> None:
    """Fail with the job's own reason unless it succeeded."""
    if job.state != trn.TrainingJob.SUCCEEDED:
        raise AssertionError(f"{job.name} ended as {trn.TrainingJob.State.Name(job.state)}: {job.error}")


def version(story: "Story", job: Any) -> Any:
    """Return the version that a job made."""
    return story.client.registry.GetModelVersion(reg.GetModelVersionRequest(name=job.model_version))
