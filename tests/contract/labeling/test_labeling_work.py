"""What people who label may rely on, against the running service."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_runtime.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied

Refused = Callable[[Callable[[], Any]], Any]


def labels_of(answer: pb.Answer) -> list[str]:
    return list(answer.choice.labels)


def test_tasks_are_made_of_the_head_and_of_a_commit_and_of_keys(house: Any) -> None:
    engineer = house.as_("eva", "engineer")
    name = house.project(tasks=False)

    keys = engineer.CreateTasks(pb.CreateTasksRequest(parent=name, keys=["t03", "t05"]))
    commit = engineer.CreateTasks(pb.CreateTasksRequest(parent=name, dataset_commit=house.commit))

    project = engineer.GetProject(pb.GetProjectRequest(name=name))
    assert (keys.created_count, keys.existing_count) == (2, 0)
    assert (commit.created_count, commit.existing_count) == (38, 2)
    assert dict(project.task_counts) == {"OPEN": 40}


@pytest.mark.parametrize(
    "fields",
    [{"keys": ["t03", "t99"]}, {"dataset_commit": f"datasets/labeled/commits/{'0' * 64}"}],
    ids=["key", "commit"],
)
def test_what_ingestion_has_not_is_not_found(house: Any, refused: Refused, fields: dict[str, Any]) -> None:
    engineer, name = house.as_("eva", "engineer"), house.project(tasks=False)

    error = refused(lambda: engineer.CreateTasks(pb.CreateTasksRequest(parent=name, **fields)))

    assert isinstance(error, NotFound)
    assert error.reason == "DATASET_NOT_FOUND"


def test_a_project_of_an_unknown_data_set_is_refused(house: Any, refused: Refused) -> None:
    schema = pb.LabelSchema(classification=pb.Classification(labels=["rose", "tulip"]))
    asked = pb.CreateProjectRequest(
        project_id="misspelt", project=pb.Project(dataset="datasets/labelled", schema=schema)
    )

    error = refused(lambda: house.as_("eva", "engineer").CreateProject(asked))

    assert isinstance(error, NotFound)
    assert (error.reason, "'labeled'" in error.message) == ("DATASET_NOT_FOUND", True)


def test_an_answer_comes_back_as_it_was_given(house: Any) -> None:
    name, ann = house.project(multiple=True), house.as_("ann")
    held = house.claimed(ann, name)

    made = house.submit(ann, held.name, "lily", "rose")

    read = ann.GetAnnotation(pb.GetAnnotationRequest(name=made.name))
    assert read == made
    assert labels_of(read.answer) == ["rose", "lily"]
    assert (read.annotator, read.assignment, read.key, read.lead_ms) == (
        "annotators/ann",
        held.name,
        held.key,
        7,
    )
    assert (read.revision, read.current, read.withdrawn) == (1, True, False)


def test_annotators_are_blind_to_each_other(house: Any, refused: Refused) -> None:
    name = house.project(overlap=2, tasks=False)
    engineer, ann, bob = house.as_("eva", "engineer"), house.as_("ann"), house.as_("bob")
    gold = {"t03": pb.Answer(choice=pb.Choice(labels=["rose"]))}
    engineer.CreateTasks(pb.CreateTasksRequest(parent=name, keys=["t03", "t04"], gold=gold))
    made = house.submit(ann, house.claimed(ann, name).name, "tulip")
    (golden,) = (
        task for task in engineer.ListTasks(pb.ListTasksRequest(parent=name)).tasks if task.key == "t03"
    )

    seen = [bob.GetTask(pb.GetTaskRequest(name=task)) for task in (made.task, golden.name)]
    held = house.claimed(bob, name)
    own = bob.ListAnnotations(pb.ListAnnotationsRequest(parent=name)).annotations

    assert golden.HasField("gold")
    assert held.name.startswith(f"{made.task}/assignments/")
    assert list(own) == []
    for task in seen:
        hidden = ("gold", "consensus", "reviewed", "prelabel")
        assert [field for field in hidden if task.HasField(field)] == []
    error = refused(lambda: bob.GetAnnotation(pb.GetAnnotationRequest(name=made.name)))
    assert error.reason == "ANNOTATION_NOT_FOUND"
    lists = (
        lambda: bob.ListTasks(pb.ListTasksRequest(parent=name)),
        lambda: bob.ListAnnotators(pb.ListAnnotatorsRequest(parent=name)),
        lambda: bob.GetAnnotator(pb.GetAnnotatorRequest(name=f"{name}/annotators/ann")),
    )
    assert all(isinstance(refused(call), PermissionDenied) for call in lists)


def test_sixteen_at_once_share_no_task_beyond_its_overlap(house: Any) -> None:
    name = house.project(overlap=3)
    people: dict[str, set[str]] = {}
    lock = threading.Lock()

    def labour(person: str) -> None:
        stub = house.as_(person)
        while held := stub.ClaimTasks(pb.ClaimTasksRequest(parent=name, count=3)).assignments:
            for assignment in held:
                made = house.submit(stub, assignment.name, "rose")
                with lock:
                    known = people.setdefault(made.task, set())
                    assert person not in known
                    known.add(person)

    threads = [threading.Thread(target=labour, args=(f"ann{number}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)

    assert Counter(map(len, people.values())) == {3: 40}


def test_a_stale_lease_takes_no_answer_and_the_sweeper_frees_its_task(house: Any, refused: Refused) -> None:
    name, ann, bob = house.project(lease_s=3600, tasks=False), house.as_("ann"), house.as_("bob")
    house.as_("eva", "engineer").CreateTasks(pb.CreateTasksRequest(parent=name, keys=["t00", "t01"]))
    held, other = house.claimed(ann, name), house.claimed(bob, name)
    house.later(held.name, 3601)

    error = refused(lambda: house.submit(ann, held.name, "rose"))
    given, stop_at = {other.key}, time.monotonic() + 60
    while len(given) == 1 and time.monotonic() < stop_at:  # one who holds a task takes nothing back himself
        given = {one.key for one in bob.ClaimTasks(pb.ClaimTasksRequest(parent=name, count=2)).assignments}
        time.sleep(0.05)

    assert isinstance(error, FailedPrecondition)
    assert error.reason == "LEASE_EXPIRED"
    assert given == {held.key, other.key}


def test_a_renewed_lease_takes_its_answer(house: Any) -> None:
    name, ann = house.project(lease_s=3600), house.as_("ann")
    held = house.claimed(ann, name)
    for _ in range(3):
        house.later(held.name, 1600)
        ann.RenewAssignment(pb.RenewAssignmentRequest(name=held.name))

    assert house.submit(ann, held.name, "rose").current


def test_a_second_submission_is_refused(house: Any, refused: Refused) -> None:
    name, ann = house.project(), house.as_("ann")
    held = house.claimed(ann, name)
    house.submit(ann, held.name, "rose")

    error = refused(lambda: house.submit(ann, held.name, "rose"))

    assert error.reason == "ALREADY_SUBMITTED"
    assert held.name in error.message


def test_a_repeat_by_request_id_returns_the_first_annotation(house: Any, refused: Refused) -> None:
    name, ann = house.project(), house.as_("ann")
    held = house.claimed(ann, name)

    first = house.submit(ann, held.name, "rose", request_id="r-1" + held.name)
    again = house.submit(ann, held.name, "rose", request_id="r-1" + held.name)
    other = refused(lambda: house.submit(ann, held.name, "lily", request_id="r-1" + held.name))

    assert again == first
    assert other.reason == "REQUEST_ID_REUSED"


def test_a_label_outside_the_schema_is_refused_with_near_matches(house: Any, refused: Refused) -> None:
    name, ann = house.project(), house.as_("ann")
    held = house.claimed(ann, name)

    error = refused(lambda: house.submit(ann, held.name, "tulips"))

    assert isinstance(error, InvalidArgument)
    assert error.reason == "LABEL_NOT_IN_SCHEMA"
    assert error.metadata["near"] == "tulip"
    assert error.violations[0].field == "answer.choice.labels"
    assert house.submit(ann, held.name, "tulip").current


def test_an_answer_of_no_kind_is_refused_by_field(house: Any, refused: Refused) -> None:
    name, ann = house.project(), house.as_("ann")
    held = house.claimed(ann, name)

    error = refused(lambda: ann.SubmitAnnotation(pb.SubmitAnnotationRequest(name=held.name)))

    assert error.violations[0].field == "answer.choice"


def test_a_foreign_role_is_told_which_it_needs(house: Any, refused: Refused) -> None:
    name = house.project()
    engineer, ann = house.as_("eva", "engineer"), house.as_("ann")

    claim = refused(lambda: engineer.ClaimTasks(pb.ClaimTasksRequest(parent=name)))
    create = refused(lambda: ann.CreateTasks(pb.CreateTasksRequest(parent=name)))

    assert isinstance(claim, PermissionDenied)
    assert "annotator" in claim.message
    assert isinstance(create, PermissionDenied)
    assert "engineer" in create.message


def test_a_foreign_assignment_is_not_found(house: Any, refused: Refused) -> None:
    name, ann, bob = house.project(), house.as_("ann"), house.as_("bob")
    held = house.claimed(ann, name)

    error = refused(lambda: house.submit(bob, held.name, "rose"))

    assert error.reason == "ASSIGNMENT_NOT_FOUND"


def test_a_paused_annotator_is_told_why_until_resumed(house: Any, refused: Refused) -> None:
    name, ann, rita = house.project(), house.as_("ann"), house.as_("rita", "reviewer")
    held = house.claimed(ann, name)
    person = f"{name}/annotators/ann"

    paused = rita.PauseAnnotator(pb.PauseAnnotatorRequest(name=person, reason="guesses"))
    calls = (lambda: house.claimed(ann, name), lambda: house.submit(ann, held.name, "rose"))
    errors = [refused(call) for call in calls]
    rita.ResumeAnnotator(pb.ResumeAnnotatorRequest(name=person))

    assert (paused.paused, paused.pause_reason) == (True, "guesses")
    assert {(error.reason, error.metadata["reason"]) for error in errors} == {("ANNOTATOR_PAUSED", "guesses")}
    assert house.claimed(ann, name).key == held.key


def test_an_unknown_annotator_is_not_found_with_near_matches(house: Any, refused: Refused) -> None:
    name, rita = house.project(), house.as_("rita", "reviewer")
    house.claimed(house.as_("annette"), name)

    error = refused(lambda: rita.GetAnnotator(pb.GetAnnotatorRequest(name=f"{name}/annotators/anette")))

    assert (error.reason, error.metadata["near"]) == ("ANNOTATOR_NOT_FOUND", "annette")


def test_undo_leases_the_task_again_and_a_repeat_is_the_same(house: Any) -> None:
    name, ann = house.project(), house.as_("ann")
    made = house.submit(ann, house.claimed(ann, name).name, "rose")
    request = pb.UndoAnnotationRequest(name=made.name, request_id="undo" + made.name)

    first, second = ann.UndoAnnotation(request), ann.UndoAnnotation(request)
    answered = house.submit(ann, first.name, "lily")

    history = ann.ListAnnotations(pb.ListAnnotationsRequest(parent=name)).annotations
    assert first == second
    assert first.state == pb.Assignment.LEASED
    assert [(one.revision, one.withdrawn, one.current) for one in history] == [
        (1, False, False),
        (2, True, False),
        (3, False, True),
    ]
    assert not history[1].HasField("answer")
    assert history[2] == answered


def test_a_reviewed_annotation_is_not_undone(house: Any, refused: Refused) -> None:
    name, ann, rita = house.project(), house.as_("ann"), house.as_("rita", "reviewer")
    made = house.submit(ann, house.claimed(ann, name).name, "rose")
    answer = pb.Answer(choice=pb.Choice(labels=["lily"]))
    review = pb.ReviewTaskRequest(name=made.task, verdict="CORRECT", answer=answer, comment="see the leaves")

    task = rita.ReviewTask(review)
    error = refused(lambda: ann.UndoAnnotation(pb.UndoAnnotationRequest(name=made.name)))

    assert (task.state, labels_of(task.reviewed), task.reviewer) == (
        pb.Task.REVIEWED,
        ["lily"],
        "users/rita",
    )
    assert error.reason == "ANNOTATION_USED"


def test_skip_and_flag_give_the_task_to_somebody_else(house: Any) -> None:
    name, ann, rita = house.project(), house.as_("ann"), house.as_("rita", "reviewer")
    one, two = ann.ClaimTasks(pb.ClaimTasksRequest(parent=name, count=2)).assignments

    skipped = ann.SkipAssignment(pb.SkipAssignmentRequest(name=one.name, comment="unsure"))
    flagged = ann.FlagAssignment(pb.FlagAssignmentRequest(name=two.name, comment="a dog"))

    mine = {a.key for a in ann.ClaimTasks(pb.ClaimTasksRequest(parent=name, count=20)).assignments}
    others = ann_free(house, name)
    complaints = rita.ListTasks(pb.ListTasksRequest(parent=name, flagged_only=True)).tasks
    assert (skipped.state, skipped.comment) == (pb.Assignment.SKIPPED, "unsure")
    assert (flagged.state, flagged.comment) == (pb.Assignment.FLAGGED, "a dog")
    assert not mine & {one.key, two.key}
    assert others == {one.key, two.key}
    assert [task.key for task in complaints] == [two.key]


def ann_free(house: Any, name: str) -> set[str]:
    """Return the first two keys that another annotator gets."""
    given = house.as_("bob").ClaimTasks(pb.ClaimTasksRequest(parent=name, count=2))
    return {assignment.key for assignment in given.assignments}


def test_a_label_may_be_added_and_none_taken_away(house: Any, refused: Refused) -> None:
    name, engineer = house.project(), house.as_("eva", "engineer")
    project = engineer.GetProject(pb.GetProjectRequest(name=name))

    def update(etag: str, *labels: str) -> Any:
        schema = pb.LabelSchema(classification=pb.Classification(labels=labels))
        changed = pb.Project(name=name, etag=etag, schema=schema)
        return engineer.UpdateProject(
            pb.UpdateProjectRequest(project=changed, update_mask=FieldMask(paths=["schema"]))
        )

    grown = update(project.etag, "rose", "tulip", "lily", "daisy")
    stale = refused(lambda: update(project.etag, "rose", "tulip", "lily", "fern"))
    lost = refused(lambda: update(grown.etag, "rose", "tulip"))

    assert grown.schema.version == 2
    assert isinstance(stale, Aborted)
    assert (lost.reason, "'lily'" in lost.message) == ("LABEL_REMOVED", True)


def test_the_bytes_of_a_task_are_for_who_holds_it(house: Any, refused: Refused) -> None:
    name, ann, bob = house.project(), house.as_("ann"), house.as_("bob")
    held = house.claimed(ann, name)
    request = pb.GetTaskMediaRequest(name=held.name.partition("/assignments/")[0])

    media = ann.GetTaskMedia(request)
    error = refused(lambda: bob.GetTaskMedia(request))

    assert (media.media_type, media.data) == ("text/plain", f"text {int(held.key[1:])}".encode())
    assert error.reason == "LEASE_EXPIRED"
