"""What annotators may see and do, and what pausing one means."""

from collections.abc import Callable
from typing import Any

import pytest
from slipway_labeling.usecases.annotators import Annotators
from slipway_labeling.usecases.tasks import Tasks, Wanted
from slipway_labeling.usecases.work import Work
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from sqlalchemy import text

ONCE = Repeat("Test", "", b"")
Act = Callable[..., Any]


def taken(database: Database) -> list[int]:
    """Return how many leases and standing answers each task counts."""
    with database.transaction() as connection:
        return list(connection.execute(text("SELECT taken FROM tasks ORDER BY serial")).scalars())


def test_an_annotator_sees_neither_gold_nor_what_others_did(
    flowers: Callable[..., str], work: Work, act: Act, tasks: Tasks, database: Database
) -> None:
    name = flowers(Wanted(keys=("p00",), gold={"p00": ("rose",)}), gold_percent=100)
    with act("ann"):
        made = work.submit(work.claim(name, 1).assignments[0].name, ["rose"], 5, ONCE)
    with database.transaction() as connection:
        connection.execute(text("UPDATE tasks SET consensus = '{rose}', prelabel = '{rose}'"))

    with act("bob"):
        task = tasks.get(made.task_name)
        found, _ = work.list_annotations(name, "", "", 0, "")
        with pytest.raises(NotFound) as hidden:
            work.get_annotation(made.name)
        with pytest.raises(InvalidArgument):
            work.list_annotations(name, "", "annotators/ann", 0, "")

    assert (task.gold, task.consensus, task.prelabel) == (None, None, None)
    assert found == []
    assert hidden.value.reason == "ANNOTATION_NOT_FOUND"
    assert tasks.get(made.task_name).gold == ("rose",)


def test_a_paused_annotator_loses_its_leases_and_gets_no_more_until_resumed(
    flowers: Callable[..., str], work: Work, act: Act, annotators: Annotators, database: Database
) -> None:
    name = flowers()
    with act("ann"):
        held = work.claim(name, 2).assignments
    annotators.pause(f"{name}/annotators/ann", "guesses", ONCE)

    with act("ann"):
        for call in (lambda: work.claim(name, 1), lambda: work.submit(held[0].name, ["rose"], 5, ONCE)):
            with pytest.raises(FailedPrecondition) as refused:
                call()
            assert (refused.value.reason, refused.value.metadata["reason"]) == ("ANNOTATOR_PAUSED", "guesses")
    assert taken(database) == [0] * 12
    annotators.resume(f"{name}/annotators/ann", ONCE)
    with act("ann"):
        assert len(work.claim(name, 2).assignments) == 2


def test_a_foreign_assignment_is_not_found(flowers: Callable[..., str], work: Work, act: Act) -> None:
    name = flowers()
    with act("ann"):
        held = work.claim(name, 1).assignments[0]

    with act("bob"), pytest.raises(NotFound) as refused:
        work.submit(held.name, ["rose"], 5, ONCE)

    assert refused.value.reason == "ASSIGNMENT_NOT_FOUND"


def test_an_engineer_does_not_annotate_and_an_annotator_does_not_manage(
    flowers: Callable[..., str], work: Work, act: Act, tasks: Tasks, annotators: Annotators
) -> None:
    name = flowers()

    with pytest.raises(PermissionDenied):
        work.claim(name, 1)
    with act("ann"):
        for call in (
            lambda: tasks.create(name, Wanted(), ONCE),
            lambda: tasks.list(name, "", False, 0, ""),
            lambda: annotators.pause(f"{name}/annotators/bob", "no", ONCE),
        ):
            with pytest.raises(PermissionDenied):
                call()


def test_the_bytes_of_a_task_need_a_lease(
    flowers: Callable[..., str], work: Work, act: Act, tasks: Tasks
) -> None:
    name = flowers(Wanted(keys=("p00",)))
    with act("ann"):
        held = work.claim(name, 1).assignments[0]
        task = held.name.partition("/assignments/")[0]

        assert tasks.media(task) == ("image/png", b"p00")
    with act("bob"), pytest.raises(FailedPrecondition) as refused:
        tasks.media(task)
    assert refused.value.reason == "LEASE_EXPIRED"
    assert tasks.media(task) == ("image/png", b"p00")
