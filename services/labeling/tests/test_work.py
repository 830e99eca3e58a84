"""Claims, leases, answers, undo: who gets what, and what counts."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from slipway_labeling.domain.tasks import AssignmentState, TaskState
from slipway_labeling.usecases.annotators import Annotators
from slipway_labeling.usecases.projects import Projects
from slipway_labeling.usecases.tasks import Tasks, Wanted
from slipway_labeling.usecases.work import Work
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import FailedPrecondition, InvalidArgument
from sqlalchemy import text

ONCE = Repeat("Test", "", b"")
Act = Callable[..., Any]


def later(database: Database, seconds: int) -> None:
    """Let leases be older by so many seconds."""
    with database.transaction() as connection:
        statement = "UPDATE assignments SET lease_time = lease_time - :by, claim_time = claim_time - :by"
        connection.execute(text(statement), {"by": timedelta(seconds=seconds)})


def taken(database: Database) -> list[tuple[int, int]]:
    """Return (counted, true) leases and standing answers per task."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT t.taken, count(a.task) FILTER (WHERE a.state IN ('LEASED', 'SUBMITTED')) AS n "
                "FROM tasks t LEFT JOIN assignments a ON a.task = t.serial GROUP BY t.serial ORDER BY 1"
            )
        ).all()
    return [(row.taken, row.n) for row in rows]


def test_what_is_held_comes_first_and_a_repeat_gives_the_same(
    flowers: Callable[..., str], work: Work, act: Act
) -> None:
    name = flowers()

    with act("ann"):
        one = work.claim(name, 1)
        three = work.claim(name, 3)
        again = work.claim(name, 3)

    assert three.assignments[0] == one.assignments[0]
    assert len(three.assignments) == 3
    assert again.assignments == three.assignments
    assert again.waiting_count == 9


def test_the_higher_priority_goes_out_first_then_the_older_task(
    flowers: Callable[..., str], tasks: Tasks, work: Work, act: Act
) -> None:
    name = flowers(Wanted(keys=("p05", "p06")))
    tasks.create(name, Wanted(keys=("p09",), priority=1.0), ONCE)

    with act("ann"):
        found = work.claim(name, 3).assignments

    assert [assignment.key for assignment in found] == ["p09", "p05", "p06"]


def test_held_tasks_go_to_nobody(flowers: Callable[..., str], work: Work, act: Act) -> None:
    name = flowers(Wanted(hold=True))

    with act("ann"):
        given = work.claim(name, 1)

    assert given.assignments == ()
    assert given.waiting_count == 0


def test_a_task_goes_to_as_many_people_as_its_overlap_and_no_more(
    flowers: Callable[..., str], work: Work, act: Act, database: Database
) -> None:
    name = flowers(Wanted(keys=("p00",)), overlap=2)

    found = []
    for person in ("ann", "bob", "cem"):
        with act(person):
            found.append(len(work.claim(name, 1).assignments))

    assert found == [1, 1, 0]
    assert taken(database) == [(2, 2)]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_sixteen_at_once_never_share_beyond_the_overlap_nor_wait_in_a_ring(
    count: int, flowers: Callable[..., str], work: Work, act: Act, database: Database
) -> None:
    name = flowers(overlap=3)

    def labour(person: str) -> list[str]:
        done = []
        with act(person):
            while assignments := work.claim(name, count).assignments:
                for assignment in assignments:
                    work.submit(assignment.name, ["rose"], 5, ONCE)
                    done.append(assignment.key)
        return done

    with ThreadPoolExecutor(16) as pool:
        done = list(pool.map(labour, [f"ann{number}" for number in range(16)]))

    seen = Counter(key for keys in done for key in keys)
    assert set(seen.values()) == {3}
    assert len(seen) == 12
    assert taken(database) == [(3, 3)] * 12


def test_a_second_submission_is_refused_and_changes_nothing(
    flowers: Callable[..., str], work: Work, act: Act, projects: Projects
) -> None:
    name = flowers()
    with act("ann"):
        held = work.claim(name, 1).assignments[0]
        work.submit(held.name, ["rose"], 5, ONCE)

        with pytest.raises(FailedPrecondition) as refused:
            work.submit(held.name, ["tulip"], 5, ONCE)

    assert refused.value.reason == "ALREADY_SUBMITTED"
    assert projects.get(name).annotation_count == 1


def test_a_repeat_by_request_id_returns_the_first_annotation(
    flowers: Callable[..., str], work: Work, act: Act, projects: Projects
) -> None:
    name = flowers()
    with act("ann"):
        held = work.claim(name, 1).assignments[0]
        repeat = Repeat("SubmitAnnotation", "r-1", b"same")

        first = work.submit(held.name, ["rose"], 5, repeat)

        assert work.submit(held.name, ["rose"], 5, repeat) == first
    assert projects.get(name).annotation_count == 1


def test_a_repeat_after_undo_returns_the_first_annotation_and_answers_nothing(
    flowers: Callable[..., str], work: Work, act: Act, projects: Projects
) -> None:
    name = flowers()
    with act("ann"):
        held = work.claim(name, 1).assignments[0]
        repeat = Repeat("SubmitAnnotation", "r-1", b"same")
        first = work.submit(held.name, ["rose"], 5, repeat)
        work.undo(first.name, ONCE)

        assert work.submit(held.name, ["rose"], 5, repeat) == first
    assert projects.get(name).annotation_count == 0


def test_a_request_id_of_other_content_is_refused_and_answers_nothing(
    flowers: Callable[..., str], work: Work, act: Act, projects: Projects
) -> None:
    name = flowers()
    with act("ann"):
        one, two = work.claim(name, 2).assignments
        work.submit(one.name, ["rose"], 5, Repeat("SubmitAnnotation", "r-1", b"one"))

        with pytest.raises(InvalidArgument) as refused:
            work.submit(two.name, ["rose"], 5, Repeat("SubmitAnnotation", "r-1", b"two"))

    assert refused.value.reason == "REQUEST_ID_REUSED"
    assert projects.get(name).annotation_count == 1


def test_a_lease_that_ran_out_is_refused_and_its_task_goes_to_another(
    flowers: Callable[..., str], work: Work, act: Act, database: Database
) -> None:
    name = flowers(Wanted(keys=("p00",)), lease_s=3600)
    with act("ann"):
        held = work.claim(name, 1).assignments[0]
    later(database, 3601)

    with act("bob"):
        found = work.claim(name, 1).assignments
    with act("ann"), pytest.raises(FailedPrecondition) as refused:
        work.submit(held.name, ["rose"], 5, ONCE)

    assert [assignment.key for assignment in found] == ["p00"]
    assert refused.value.reason == "LEASE_EXPIRED"
    assert taken(database) == [(1, 1)]


def test_a_lease_of_ones_own_that_ran_out_may_come_again(
    flowers: Callable[..., str], work: Work, act: Act, database: Database
) -> None:
    name = flowers(Wanted(keys=("p00",)), lease_s=3600)
    with act("ann"):
        first = work.claim(name, 1).assignments[0]
        later(database, 3601)
        work.sweep()

        second = work.claim(name, 1).assignments[0]

    assert second.name == first.name
    assert second.claim_time > first.claim_time
    assert taken(database) == [(1, 1)]


def test_a_renewed_lease_lives_longer(
    flowers: Callable[..., str], work: Work, act: Act, database: Database
) -> None:
    name = flowers(lease_s=3600)
    with act("ann"):
        held = work.claim(name, 1).assignments[0]
        later(database, 2400)
        renewed = work.renew(held.name)
        later(database, 2400)

        made = work.submit(held.name, ["rose"], 5, ONCE)

    assert renewed.lease_time > held.lease_time
    assert made.lease_ms >= 4_800_000


@pytest.mark.parametrize("state", [AssignmentState.SKIPPED, AssignmentState.FLAGGED])
def test_a_task_given_back_goes_to_others_and_not_to_the_same_person(
    flowers: Callable[..., str], work: Work, act: Act, tasks: Tasks, state: AssignmentState
) -> None:
    name = flowers(Wanted(keys=("p00",)))
    give_back = work.skip if state is AssignmentState.SKIPPED else work.flag
    with act("ann"):
        held = work.claim(name, 1).assignments[0]
        ended = give_back(held.name, "it shows a dog", ONCE)
        mine = work.claim(name, 1).assignments
    with act("bob"):
        others = work.claim(name, 1).assignments

    flagged, _ = tasks.list(name, "", True, 0, "")
    assert (ended.state, ended.comment) == (state, "it shows a dog")
    assert mine == ()
    assert [assignment.key for assignment in others] == ["p00"]
    assert [task.flag_count for task in flagged] == ([1] if state is AssignmentState.FLAGGED else [])


def test_a_flag_needs_its_comment(flowers: Callable[..., str], work: Work, act: Act) -> None:
    name = flowers()
    with act("ann"):
        held = work.claim(name, 1).assignments[0]

        with pytest.raises(InvalidArgument) as refused:
            work.flag(held.name, " ", ONCE)

    assert refused.value.violations[0].field == "comment"


def test_undo_writes_a_revision_and_leases_the_assignment_again(
    flowers: Callable[..., str], work: Work, act: Act, tasks: Tasks, database: Database
) -> None:
    name = flowers(Wanted(keys=("p00",)))
    with act("ann"):
        held = work.claim(name, 1).assignments[0]
        first = work.submit(held.name, ["rose"], 5, ONCE)
        leased = work.undo(first.name, ONCE)
        last = work.submit(leased.name, ["tulip"], 5, ONCE)
        found, _ = work.list_annotations(name, "", "", 0, "")

    assert leased.name == held.name
    assert [(a.revision, a.labels, a.withdrawn, a.current) for a in found] == [
        (1, ("rose",), False, False),
        (2, None, True, False),
        (3, ("tulip",), False, True),
    ]
    assert last == found[-1]
    assert tasks.get(last.task_name).answer_count == 1
    assert taken(database) == [(1, 1)]


def test_an_undone_task_is_open_again(
    flowers: Callable[..., str], work: Work, act: Act, tasks: Tasks
) -> None:
    name = flowers(Wanted(keys=("p00",)))
    with act("ann"):
        made = work.submit(work.claim(name, 1).assignments[0].name, ["rose"], 5, ONCE)
        answered = tasks.get(made.task_name).state
        work.undo(made.name, ONCE)

    assert answered is TaskState.ANSWERED
    assert tasks.get(made.task_name).state is TaskState.OPEN


def test_what_was_undone_is_not_undone_again(flowers: Callable[..., str], work: Work, act: Act) -> None:
    name = flowers()
    with act("ann"):
        made = work.submit(work.claim(name, 1).assignments[0].name, ["rose"], 5, ONCE)
        work.undo(made.name, ONCE)

        with pytest.raises(FailedPrecondition) as refused:
            work.undo(made.name, ONCE)

    assert refused.value.reason == "TASK_STATE"


def test_annotations_are_immutable_in_the_database_too(
    flowers: Callable[..., str], work: Work, act: Act, database: Database
) -> None:
    name = flowers()
    with act("ann"):
        work.submit(work.claim(name, 1).assignments[0].name, ["rose"], 5, ONCE)

    for statement in ("UPDATE annotations SET lead_ms = 1", "DELETE FROM annotations"):
        with (
            pytest.raises(Exception, match="annotations are immutable"),
            database.transaction() as connection,
        ):
            connection.execute(text(statement))


def test_gold_is_for_everybody_and_stays_in_its_share(
    flowers: Callable[..., str], work: Work, act: Act, annotators: Annotators
) -> None:
    name = flowers(Wanted(gold={"p00": ("rose",), "p01": ("rose",)}), gold_percent=100)

    for person in ("ann", "bob"):
        with act(person):
            for label in ("rose", "tulip"):
                work.submit(work.claim(name, 1).assignments[0].name, [label], 5, ONCE)

    figures, _ = annotators.list(name, 0, "")
    assert [(one.id, one.gold_count, one.gold_correct_count) for one in figures] == [
        ("ann", 2, 1),
        ("bob", 2, 1),
    ]


def test_without_a_gold_share_gold_is_given_to_nobody(
    flowers: Callable[..., str], work: Work, act: Act
) -> None:
    name = flowers(Wanted(keys=("p00",), gold={"p00": ("rose",)}))

    with act("ann"):
        given = work.claim(name, 1)

    assert given.assignments == ()


def test_a_label_added_to_the_schema_may_be_chosen_at_once(
    flowers: Callable[..., str], work: Work, act: Act, projects: Projects
) -> None:
    name = flowers()
    with act("ann"):
        first, second = work.claim(name, 2).assignments
        work.submit(first.name, ["rose"], 5, ONCE)
    project = projects.get(name)
    schema = replace(project.spec.schema, labels=("rose", "tulip", "lily", "daisy"))
    projects.update(name, project.etag, replace(project.spec, schema=schema), ["schema"])

    with act("ann"):
        made = work.submit(second.name, ["daisy"], 5, ONCE)

    assert made.schema_version == 2


def test_the_share_of_prelabels_shown_is_the_projects(
    flowers: Callable[..., str], work: Work, act: Act, database: Database
) -> None:
    name = flowers(overlap=20, prelabel_percent=50)
    with database.transaction() as connection:
        connection.execute(text("UPDATE tasks SET prelabel = '{lily}'"))

    shown = []
    for number in range(20):
        with act(f"ann{number}"):
            shown += [one.prelabel for one in work.claim(name, 12).assignments]

    assert set(shown) == {None, ("lily",)}
    assert 80 <= sum(label is not None for label in shown) <= 160  # of 240; 0.5 ± 5 standard deviations
