"""Tasks made of a commit's examples."""

from collections.abc import Callable

import pytest
from slipway_labeling.domain.tasks import TaskState
from slipway_labeling.usecases.tasks import Made, Tasks, Wanted
from slipway_runtime.db import Repeat
from slipway_runtime.errors import InvalidArgument, NotFound

ONCE = Repeat("Test", "", b"")
COMMIT = f"datasets/flowers/commits/{'c' * 64}"


def test_every_example_becomes_a_task_once(new_project: Callable[..., str], tasks: Tasks) -> None:
    name = new_project(overlap=3)

    first = tasks.create(name, Wanted(keys=("p03", "p04")), ONCE)
    second = tasks.create(name, Wanted(), ONCE)

    found, _ = tasks.list(name, "", False, 0, "")
    assert (first, second) == (Made(2, 0), Made(10, 2))
    assert [task.key for task in found][:3] == ["p03", "p04", "p00"]
    assert {(task.dataset_commit, task.overlap) for task in found} == {(COMMIT, 3)}


def test_a_split_and_the_unlabelled_can_be_asked_for(new_project: Callable[..., str], tasks: Tasks) -> None:
    name = new_project()

    made = tasks.create(name, Wanted(split="train", unlabelled_only=True), ONCE)

    assert made == Made(9, 0)


def test_a_task_that_is_there_keeps_what_it_is(new_project: Callable[..., str], tasks: Tasks) -> None:
    name = new_project()
    tasks.create(name, Wanted(keys=("p00",), hold=True), ONCE)

    tasks.create(name, Wanted(keys=("p00",), gold={"p00": ("rose",)}, priority=9), ONCE)

    (task,), _ = tasks.list(name, "", False, 0, "")
    assert (task.state, task.gold, task.priority) == (TaskState.HELD, None, 0)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (Wanted(commit="datasets/flowers"), "dataset_commit"),
        (Wanted(commit=f"datasets/others/commits/{'c' * 64}"), "dataset_commit"),
        (Wanted(split="training"), "split"),
        (Wanted(priority=float("nan")), "priority"),
        (Wanted(keys=("p00",) * 10_001), "keys"),
        (Wanted(gold={"p00": ("dog",)}), "gold['p00'].choice.labels"),
        (Wanted(gold={"p77": ("rose",)}), "gold"),
    ],
)
def test_what_cannot_be_is_refused_by_field(
    new_project: Callable[..., str], tasks: Tasks, wanted: Wanted, field: str
) -> None:
    name = new_project()

    with pytest.raises(InvalidArgument) as refused:
        tasks.create(name, wanted, ONCE)

    assert refused.value.violations[0].field == field
    assert tasks.list(name, "", False, 0, "") == ([], "")


def test_a_key_that_the_commit_has_not_is_named(new_project: Callable[..., str], tasks: Tasks) -> None:
    name = new_project()

    with pytest.raises(NotFound, match="'p99'") as refused:
        tasks.create(name, Wanted(keys=("p00", "p99")), ONCE)

    assert refused.value.reason == "DATASET_NOT_FOUND"


def test_pages_go_by_priority_and_then_by_age(new_project: Callable[..., str], tasks: Tasks) -> None:
    name = new_project()
    tasks.create(name, Wanted(keys=("p05", "p06", "p07")), ONCE)
    tasks.create(name, Wanted(keys=("p00", "p01"), priority=0.1), ONCE)

    seen: list[str] = []
    token = ""
    while True:
        page, token = tasks.list(name, "OPEN", False, 2, token)
        seen += [task.key for task in page]
        if not token:
            break

    assert seen == ["p00", "p01", "p05", "p06", "p07"]


@pytest.mark.parametrize("task", ["77", "x", "9" * 30])
def test_an_unknown_task_is_not_found(new_project: Callable[..., str], tasks: Tasks, task: str) -> None:
    name = new_project()

    with pytest.raises(NotFound) as refused:
        tasks.get(f"{name}/tasks/{task}")

    assert refused.value.reason == "TASK_NOT_FOUND"
