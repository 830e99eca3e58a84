"""Reviews: accept, correct, reopen, and what they do to the work."""

from collections.abc import Callable
from typing import Any

import pytest
from slipway_labeling.domain.tasks import TaskState, Verdict
from slipway_labeling.usecases.reviews import Reviews
from slipway_labeling.usecases.tasks import Tasks, Wanted
from slipway_labeling.usecases.work import Work
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from sqlalchemy import text

ONCE = Repeat("Test", "", b"")
Act = Callable[..., Any]


@pytest.fixture
def answered(new_project: Callable[..., str], tasks: Tasks, work: Work, act: Act) -> str:
    """Return a task that ann answered with `rose`."""
    name = new_project()
    tasks.create(name, Wanted(keys=("p00",)), ONCE)
    with act("ann"):
        return work.submit(work.claim(name, 1).assignments[0].name, ["rose"], 5, ONCE).task_name


def with_consensus(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("UPDATE tasks SET consensus = '{rose}', consensus_confidence = 0.9"))


def test_accepting_takes_the_consensus(
    answered: str, reviews: Reviews, work: Work, act: Act, database: Database
) -> None:
    with_consensus(database)

    with act("rita", "reviewer"):
        task = reviews.review(answered, Verdict.ACCEPT, None, "good", ONCE)

    assert (task.state, task.reviewed, task.reviewer) == (TaskState.REVIEWED, ("rose",), "users/rita")


def test_without_a_consensus_nothing_is_accepted(answered: str, reviews: Reviews) -> None:
    with pytest.raises(FailedPrecondition, match="ComputeConsensus") as refused:
        reviews.review(answered, Verdict.ACCEPT, None, "", ONCE)

    assert refused.value.reason == "TASK_STATE"


def test_a_correction_is_an_annotation_of_the_reviewer(
    answered: str, reviews: Reviews, work: Work, act: Act
) -> None:
    with act("rita", "reviewer"):
        reviews.review(answered, Verdict.CORRECT, ["tulip"], "look at the leaves", ONCE)
        task = reviews.review(answered, Verdict.CORRECT, ["lily"], "or not", ONCE)
        found, _ = work.list_annotations("labelingProjects/flowers", answered, "annotators/rita", 0, "")

    assert task.reviewed == ("lily",)
    assert [(one.labels, one.revision, one.current, one.assignment_name) for one in found] == [
        (("tulip",), 1, False, ""),
        (("lily",), 2, True, ""),
    ]


def test_a_correction_outside_the_schema_is_refused(answered: str, reviews: Reviews) -> None:
    with pytest.raises(InvalidArgument) as refused:
        reviews.review(answered, Verdict.CORRECT, ["dog"], "", ONCE)

    assert refused.value.reason == "LABEL_NOT_IN_SCHEMA"


@pytest.mark.parametrize(("verdict", "answer"), [(Verdict.CORRECT, None), (Verdict.ACCEPT, ["rose"])])
def test_an_answer_comes_with_a_correction_alone(
    answered: str, reviews: Reviews, verdict: Verdict, answer: list[str] | None
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        reviews.review(answered, verdict, answer, "", ONCE)

    assert refused.value.violations[0].field == "answer"


def test_a_reopened_task_goes_to_one_more_person(
    answered: str, reviews: Reviews, work: Work, act: Act
) -> None:
    reviews.review(answered, Verdict.CORRECT, ["tulip"], "", ONCE)

    task = reviews.review(answered, Verdict.REOPEN, None, "ask once more", ONCE)

    with act("ann"):
        mine = work.claim("labelingProjects/flowers", 1).assignments
    with act("bob"):
        bobs = work.claim("labelingProjects/flowers", 1).assignments
    with act("cem"):
        cems = work.claim("labelingProjects/flowers", 1).assignments
    assert (task.state, task.reviewed, task.overlap) == (TaskState.OPEN, None, 2)
    assert (len(mine), len(bobs), len(cems)) == (0, 1, 0)


def test_an_open_task_is_not_reopened(
    new_project: Callable[..., str], tasks: Tasks, reviews: Reviews
) -> None:
    name = new_project()
    tasks.create(name, Wanted(keys=("p00",)), ONCE)
    (task,), _ = tasks.list(name, "", False, 0, "")

    with pytest.raises(FailedPrecondition) as refused:
        reviews.review(task.name, Verdict.REOPEN, None, "", ONCE)

    assert refused.value.reason == "TASK_STATE"


def test_what_was_reviewed_is_not_undone(answered: str, reviews: Reviews, work: Work, act: Act) -> None:
    reviews.review(answered, Verdict.CORRECT, ["tulip"], "", ONCE)

    with act("ann"):
        mine, _ = work.list_annotations("labelingProjects/flowers", "", "", 0, "")
        with pytest.raises(FailedPrecondition) as refused:
            work.undo(mine[0].name, ONCE)

    assert refused.value.reason == "ANNOTATION_USED"


def test_an_annotator_reads_the_comment_once_it_has_answered(
    answered: str, reviews: Reviews, tasks: Tasks, act: Act
) -> None:
    reviews.review(answered, Verdict.CORRECT, ["tulip"], "look at the leaves", ONCE)

    with act("ann"):
        anns = tasks.get(answered)
    with act("bob"):
        bobs = tasks.get(answered)

    assert (anns.review_comment, anns.reviewed) == ("look at the leaves", None)
    assert (bobs.review_comment, bobs.reviewed) == ("", None)


def test_an_annotator_does_not_review(answered: str, reviews: Reviews, act: Act) -> None:
    with act("ann"), pytest.raises(PermissionDenied):
        reviews.review(answered, Verdict.CORRECT, ["tulip"], "", ONCE)
