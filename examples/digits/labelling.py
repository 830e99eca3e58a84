"""Second act, (a) to (c): labels are forgotten, people give them anew, and what they gave is trained on."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Any

from google.protobuf.field_mask_pb2 import FieldMask
from learning import train
from people import Person, Worker, hire, work
from slipway.client import pages
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway.registry.v1 import registry_pb2 as reg
from slipway.training.v1 import training_pb2 as trn

if TYPE_CHECKING:
    from story import Story

FORGOTTEN = 0.8
SEEDS = 100
GOLD = 20
OPENED = 300
OVERLAP = 3
PEOPLE = (Person("ann", 0.02), Person("ben", 0.05), Person("cas", 0.30))
CARELESS = PEOPLE[-1]


@dataclass
class Arm:
    """One way of choosing what to label, and what came of it."""

    name: str
    order: int
    project: str = ""
    commit: str = ""
    version: Any = None


@dataclass
class Labels:
    """What the steps of labelling leave for one another."""

    truth: dict[str, str]
    classes: list[str]
    seeds: list[str] = field(default_factory=list)
    base: str = ""
    seed_version: Any = None
    active: Arm = field(default_factory=lambda: Arm("active", lab.OrderTasksRequest.MARGIN))
    control: Arm = field(default_factory=lambda: Arm("control", lab.OrderTasksRequest.RANDOM))
    exam: str = ""
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[Arm, Arm]:
        """Both ways of choosing."""
        return self.active, self.control


def forget(story: "Story") -> Labels:
    """(a) Forget the labels of 80 % of the training split; trust 100 of the rest, leave out the others."""
    with story.steps.step("forget labels") as step:
        draw = random.Random(11)
        truth = {picture.key: picture.label for picture in story.plot.pictures}
        labels = Labels(truth, story.plot.classes)
        listing = ing.ListExamplesRequest(parent=story.commits[0], split="train")
        rows = list(pages(story.client.ingestion.ListExamples, listing, "examples"))
        draw.shuffle(rows)
        count = round(FORGOTTEN * len(rows))
        pool, kept = rows[:count], rows[count:]
        labels.seeds = sorted(row.key for row in kept[:SEEDS])
        left_out = [row.key for row in kept[SEEDS:]]
        labels.base = _rewritten(story, "relabel", relabel=pool, remove=left_out, message="labels forgotten")
        # Fixed before anything is chosen: what an arm left over is no fair exam, it took the hard ones out.
        asked = sorted(row.key for row in [*pool, *kept[:SEEDS]])
        labels.exam = _rewritten(story, "exam", relabel=[], remove=asked, message="what nobody is asked")
        step.figures |= {
            "train": len(rows),
            "forgotten": len(pool),
            "trusted": len(labels.seeds),
            "left_out": len(left_out),
        }
        step.headline = f"{len(pool)} of {len(rows)} train labels forgotten; {len(labels.seeds)} are trusted"
        return labels


def first_model(story: "Story", labels: Labels) -> None:
    """(a) Train on the trusted labels alone: the model that says what it is unsure of."""
    with story.steps.step("train on trusted labels") as step:
        labels.seed_version = train(story, story.plot.few, "seed", commit=labels.base)
        accuracy = labels.seed_version.evaluation.metrics["accuracy"]
        step.figures |= {"labels": SEEDS, "accuracy": accuracy}
        step.headline = f"{SEEDS} labels: accuracy {accuracy:.4f} on the held-out split"


def choose(story: "Story", labels: Labels) -> None:
    """(a) Score what is unlabelled, open the 300 of the smallest margin, and 300 drawn ones as control."""
    with story.steps.step("choose what to label") as step:
        client = story.client
        asked = client.score(labels.seed_version.name, labels.base, split="train", unlabelled_only=True)
        job = _finished(client.watch_scoring_job(asked.name))
        for arm in labels.arms:
            _project(story, labels, arm)
            sent = client.import_scores(arm.project, job.name)
            ordered = client.labeling.OrderTasks(
                lab.OrderTasksRequest(
                    parent=arm.project,
                    order=arm.order,
                    model_version=labels.seed_version.name,
                    open_count=OPENED,
                    seed=5,
                )
            )
            step.figures |= {f"opened_{arm.name}": len(ordered.opened)}
        step.figures |= {"scored": job.done_count, "stored": sent.stored_count}
        step.headline = (
            f"{job.done_count} examples scored; {OPENED} of the smallest margin opened, "
            f"{OPENED} drawn ones beside them as control"
        )


def annotate(story: "Story", labels: Labels) -> None:
    """(a) Three people, 2, 5 and 30 % wrong, label both sets with overlap 3."""
    with story.steps.step("three people label") as step:
        labels.tokens = {person.name: hire(story.client, person) for person in PEOPLE}
        seconds = 0.0
        everybody: list[Worker] = []
        for arm in labels.arms:
            workers = [
                Worker(p, labels.tokens[p.name], arm.project, labels.truth, labels.classes, seed=3)
                for p in PEOPLE
            ]
            seconds += work(workers)
            everybody += workers
        answers = sum(worker.answers for worker in everybody)
        step.figures |= {
            "answers": answers,
            "answers_per_s": answers / seconds,
            "wrong": sum(worker.wrong for worker in everybody),
            "paused_at_work": sum(worker.paused for worker in everybody),
        }
        step.headline = f"{answers} answers, {answers / seconds:.0f}/s through the API"


def agree(story: "Story", labels: Labels) -> None:
    """(b) Consensus; the careless one is flagged and paused, the careful ones are not."""
    with story.steps.step("consensus") as step:
        for arm in labels.arms:
            _let_pause(story, arm.project)
            found = story.client.labeling.ComputeConsensus(lab.ComputeConsensusRequest(parent=arm.project))
            judged = {a.name.rpartition("/")[2]: a for a in found.annotators}
            right, told = _correct(story, labels, arm)
            step.figures |= {f"labels_{arm.name}": told, f"right_{arm.name}": right / max(told, 1)}
            for person in PEOPLE:
                one = judged[person.name]
                step.figures |= {
                    f"{person.name}_error_{arm.name}": one.error_rate,
                    f"{person.name}_flagged_{arm.name}": one.careless,
                    f"{person.name}_paused_{arm.name}": one.paused,
                }
        quality = story.client.labeling.GetQualityReport(
            lab.GetQualityReportRequest(parent=labels.active.project)
        )
        step.figures |= {"krippendorff_alpha": quality.krippendorff_alpha.value}
        figures = step.figures
        step.headline = (
            f"{100 * float(figures['right_active']):.1f} % of {figures['labels_active']} labels right, alpha "
            f"{quality.krippendorff_alpha.value:.2f}; {CARELESS.name} errs in "
            f"{100 * float(figures[f'{CARELESS.name}_error_active']):.0f} % and is paused"
        )
        wrongly = [p.name for p in PEOPLE[:-1] if figures[f"{p.name}_flagged_active"]]
        if not figures[f"{CARELESS.name}_paused_active"] or wrongly:
            raise AssertionError(f"{CARELESS.name} is not paused, or flagged wrongly: {wrongly}")


def snapshot(story: "Story", labels: Labels) -> None:
    """(b) What was agreed becomes a commit whose rows name the annotations behind each label."""
    with story.steps.step("snapshot") as step:
        for arm in labels.arms:
            wanted = lab.Snapshot(branch=f"relabel-{arm.name}", message=f"labels of the {arm.name} arm")
            made = story.client.labeling.CreateSnapshot(
                lab.CreateSnapshotRequest(parent=arm.project, snapshot=wanted)
            )
            *_, ended = story.client.watch_snapshot(made.name)
            if ended.state != lab.Snapshot.SUCCEEDED:
                raise AssertionError(f"{ended.name} failed: {ended.error}")
            arm.commit = ended.commit
            step.figures |= {
                f"labels_{arm.name}": ended.label_count,
                f"annotations_{arm.name}": ended.annotation_count,
                f"left_out_{arm.name}": ended.left_out_count,
            }
        step.headline = (
            f"{step.figures['labels_active']} labels from {step.figures['annotations_active']} annotations "
            f"in {labels.active.commit[:40]}"
        )


def compare(story: "Story", labels: Labels) -> None:
    """(c) Train on both; both answer the same examples, which were set aside before anything was chosen."""
    with story.steps.step("active beside random") as step:
        for arm in labels.arms:
            arm.version = train(story, story.plot.few, arm.name, commit=arm.commit)
        found = evaluate(story, labels, labels.active.version.name, labels.control.version.name)
        difference, half = paired_difference(found)
        step.figures |= {
            "labels_each": SEEDS + OPENED,
            "exam": found.example_count,
            "accuracy_active": found.metrics["accuracy"],
            "accuracy_random": found.champion_metrics["accuracy"],
            "difference": difference,
            "difference_low_95": difference - half,
            "difference_high_95": difference + half,
        }
        step.headline = (
            f"on {found.example_count} unseen examples active {found.metrics['accuracy']:.4f}, random "
            f"{found.champion_metrics['accuracy']:.4f}: {100 * difference:+.2f} points (± {100 * half:.2f})"
        )


def evaluate(story: "Story", labels: Labels, version: str, champion: str = "") -> Any:
    """Evaluate a version on the exam, another one beside it; return what the registry made of it."""
    asked = story.client.evaluate(version, labels.exam, champion=champion)
    job = _finished(story.client.watch_scoring_job(asked.name))
    return story.client.registry.GetVersionEvaluation(reg.GetVersionEvaluationRequest(name=job.evaluation))


def paired_difference(evaluation: Any) -> tuple[float, float]:
    """Return the difference of the accuracies on the same examples, and half of its 95 % interval (Wald)."""
    by_label = [s for s in evaluation.slices if s.slice.startswith("label=")]
    won, lost = sum(s.won_count for s in by_label), sum(s.lost_count for s in by_label)
    n = evaluation.example_count
    difference = (won - lost) / n
    return difference, 1.96 * sqrt(max((won + lost) / n - difference**2, 0.0) / n)


def _project(story: "Story", labels: Labels, arm: Arm) -> None:
    """Make a project over the pool, held until it is ordered, with gold tasks of the trusted labels."""
    name = story.plot.name
    branch = ing.CreateBranchRequest(
        parent=story.dataset, branch_id=f"relabel-{arm.name}", commit=labels.base
    )
    story.client.ingestion.CreateBranch(branch)
    schema = lab.LabelSchema(
        classification=lab.Classification(labels=labels.classes), instructions="Which one is it?"
    )
    made = story.client.labeling.CreateProject(
        lab.CreateProjectRequest(
            project_id=f"{name}-{arm.name}",
            project=lab.Project(
                dataset=story.dataset,
                schema=schema,
                overlap=OVERLAP,
                gold_percent=10,
                pause_rule=lab.PauseRule(report_only=True),  # so that all three see every task
            ),
        )
    )
    arm.project = made.name
    gold = {key: lab.Answer(choice=lab.Choice(labels=[labels.truth[key]])) for key in labels.seeds[:GOLD]}
    story.client.labeling.CreateTasks(
        lab.CreateTasksRequest(
            parent=made.name, dataset_commit=labels.base, keys=labels.seeds[:GOLD], gold=gold
        )
    )
    story.client.labeling.CreateTasks(
        lab.CreateTasksRequest(
            parent=made.name, dataset_commit=labels.base, split="train", unlabelled_only=True, hold=True
        )
    )


def _let_pause(story: "Story", project: str) -> None:
    now = story.client.labeling.GetProject(lab.GetProjectRequest(name=project))
    changed = lab.Project(name=project, etag=now.etag, pause_rule=lab.PauseRule())
    mask = FieldMask(paths=["pause_rule"])
    story.client.labeling.UpdateProject(lab.UpdateProjectRequest(project=changed, update_mask=mask))


def _rewritten(story: "Story", branch: str, *, relabel: list[Any], remove: list[str], message: str) -> str:
    """Make a branch of the first commit on which labels are gone and examples are left out."""
    client = story.client.ingestion
    client.CreateBranch(
        ing.CreateBranchRequest(parent=story.dataset, branch_id=branch, commit=story.commits[0])
    )
    uploads = []
    if relabel:
        items = [ing.UploadItem(key=row.key, group=row.group) for row in relabel]  # no bytes: they stay
        header = ing.UploadExamplesRequest(header=ing.UploadHeader(parent=story.dataset))
        requests = iter([header, *(ing.UploadExamplesRequest(item=item) for item in items)])
        uploads = [client.UploadExamples(requests, timeout=120).name]
    request = ing.CreateCommitRequest(
        parent=story.dataset, branch=branch, uploads=uploads, remove_keys=remove, message=message
    )
    return str(client.CreateCommit(request, timeout=60).name)


def _finished(states: Iterator[Any]) -> Any:
    """Return the last state of a watched scoring job.

    Raises:
        AssertionError: It did not succeed.
    """
    *_, job = states
    if job.state != trn.TrainingJob.SUCCEEDED:
        raise AssertionError(f"{job.name} ended as {trn.TrainingJob.State.Name(job.state)}: {job.error}")
    return job


def _correct(story: "Story", labels: Labels, arm: Arm) -> tuple[int, int]:
    """Return how many consensus labels are right, and how many there are; gold tasks do not count."""
    right = told = 0
    listing = lab.ListTasksRequest(parent=arm.project)
    for task in pages(story.client.labeling.ListTasks, listing, "tasks"):
        if task.HasField("consensus") and not task.HasField("gold"):
            told += 1
            right += list(task.consensus.choice.labels) == [labels.truth[task.key]]
    return right, told
