"""Projects and schemas: what an engineer may decide, and change later."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from slipway_labeling.domain.projects import (
    PauseRule,
    ProjectSpec,
    Schema,
    check_answer,
    check_schema,
    check_spec,
    next_schema,
)
from slipway_labeling.usecases.projects import Projects
from slipway_labeling.usecases.tasks import Tasks, Wanted
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import Aborted, InvalidArgument
from sqlalchemy import text

SCHEMA = Schema(("rose", "tulip", "lily"))
ONCE = Repeat("Test", "", b"")


@pytest.mark.parametrize(
    "labels",
    [("rose",), ("rose", "rose"), ("rose", ""), ("rose", "a|b"), ("rose", "x" * 101), ("rose", "new\nline")],
)
def test_labels_that_a_row_could_not_hold_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_schema(Schema(labels))

    assert refused.value.violations[0].field.startswith("project.schema.classification.labels")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("overlap", 21),
        ("overlap", -1),
        ("lease_s", 86_401),
        ("gold_percent", 101),
        ("prelabel_percent", -1),
        ("dataset", "flowers"),
        ("pause_rule", PauseRule(max_error_rate=1.0)),
        ("pause_rule", PauseRule(confidence=float("nan"))),
    ],
)
def test_a_value_that_is_not_allowed_is_named(field: str, value: Any) -> None:
    spec = replace(ProjectSpec("Flowers", "datasets/flowers", SCHEMA), **{field: value})

    with pytest.raises(InvalidArgument) as refused:
        check_spec(spec)

    assert refused.value.violations[0].field.startswith(f"project.{field}")


def test_a_label_outside_the_schema_is_refused_with_what_is_near() -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_answer(SCHEMA, ["tulips"])

    assert refused.value.reason == "LABEL_NOT_IN_SCHEMA"
    assert refused.value.metadata["near"] == "tulip"
    assert "did you mean 'tulip'?" in refused.value.message


@pytest.mark.parametrize("labels", [[], ["rose", "lily"]])
def test_a_single_class_wants_exactly_one_label(labels: list[str]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_answer(SCHEMA, labels)

    assert refused.value.reason == "INVALID_FIELD"


def test_several_labels_come_in_schema_order_and_none_may_be_an_answer() -> None:
    schema = replace(SCHEMA, multiple=True)

    assert check_answer(schema, ["lily", "rose"]) == ("rose", "lily")
    assert check_answer(schema, []) == ()
    with pytest.raises(InvalidArgument):
        check_answer(schema, ["lily", "lily"])


def test_a_schema_that_gains_a_label_is_its_next_version() -> None:
    assert next_schema(SCHEMA, replace(SCHEMA, labels=(*SCHEMA.labels, "daisy"))).version == 2


def test_a_schema_that_stays_the_same_keeps_its_version() -> None:
    assert next_schema(SCHEMA, replace(SCHEMA, version=7)) is SCHEMA


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (Schema(("rose", "lily")), "LABEL_REMOVED"),
        (Schema(("tulip", "rose", "lily")), "INVALID_FIELD"),
        (replace(SCHEMA, multiple=True), "INVALID_FIELD"),
    ],
)
def test_a_schema_loses_moves_and_turns_nothing(wanted: Schema, reason: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        next_schema(SCHEMA, wanted)

    assert refused.value.reason == reason


def test_an_update_changes_what_the_mask_names_and_keeps_every_schema(
    new_project: Callable[..., str], projects: Projects, database: Database
) -> None:
    first = projects.get(new_project())
    wanted = replace(
        first.spec,
        display_name="Ignored",
        overlap=3,
        schema=replace(SCHEMA, labels=(*SCHEMA.labels, "daisy")),
    )

    changed = projects.update(first.name, first.etag, wanted, ["overlap", "schema"])

    with database.transaction() as connection:
        kept = connection.execute(text("SELECT version, labels FROM schemas ORDER BY version")).all()
    assert (changed.spec.display_name, changed.spec.overlap) == ("Flowers", 3)
    assert changed.spec.schema.version == 2
    assert [(row.version, len(row.labels)) for row in kept] == [(1, 3), (2, 4)]


def test_a_stale_etag_changes_nothing(new_project: Callable[..., str], projects: Projects) -> None:
    first = projects.get(new_project())
    projects.update(first.name, first.etag, replace(first.spec, overlap=2), ["overlap"])

    with pytest.raises(Aborted) as refused:
        projects.update(first.name, first.etag, replace(first.spec, overlap=5), ["overlap"])

    assert refused.value.reason == "ETAG_MISMATCH"
    assert projects.get(first.name).spec.overlap == 2


@pytest.mark.parametrize("paths", [[], ["dataset"], ["name"]])
def test_a_mask_that_names_nothing_changeable_is_refused(
    new_project: Callable[..., str], projects: Projects, paths: list[str]
) -> None:
    first = projects.get(new_project())

    with pytest.raises(InvalidArgument) as refused:
        projects.update(first.name, first.etag, first.spec, paths)

    assert refused.value.violations[0].field == "update_mask"


def test_counts_are_of_tasks_by_state(
    new_project: Callable[..., str], projects: Projects, tasks: Tasks
) -> None:
    name = new_project()
    tasks.create(name, Wanted(keys=("p00", "p01")), ONCE)
    tasks.create(name, Wanted(keys=("p02",), hold=True), ONCE)

    assert projects.get(name).task_counts == {"OPEN": 2, "HELD": 1}
