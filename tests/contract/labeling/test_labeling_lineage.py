"""What callers may rely on of lineage: annotators → annotations → commits, and back."""

from desk import Desk, by_key, refused
from slipway.labeling.v1 import labeling_pb2 as pb


def test_from_an_annotator_to_commits_and_back(desk: Desk) -> None:
    dataset = desk.dataset(3)
    project = desk.project(dataset, overlap=1)
    desk.tasks(project, keys=["k000.txt", "k001.txt"])
    first = desk.answer(project, "lin", by_key({}))
    one = desk.ended(desk.snapshot(project, message="one"))
    desk.tasks(project, keys=["k002.txt"])
    (last,) = desk.answer(project, "mia", by_key({}))
    two = desk.ended(desk.snapshot(project, message="two"))

    names = {annotation.name for annotation in first}
    assert set(desk.children("annotators/lin")) == names
    assert desk.children(first[0].name) == [one.commit, two.commit]
    assert desk.children(last.name) == [two.commit]
    assert set(desk.parents(one.commit)) == names
    assert set(desk.parents(two.commit)) == names | {last.name}
    assert desk.parents(last.name) == ["annotators/mia", last.task]
    assert desk.parents(last.task) == [desk.stub().GetTask(pb.GetTaskRequest(name=last.task)).dataset_commit]


def test_projects_lead_to_tasks_and_tasks_to_annotations_withdrawn_ones_too(desk: Desk) -> None:
    project = desk.project(desk.dataset(1))
    desk.tasks(project)
    (annotation,) = desk.answer(project, "nia", by_key({}))
    desk.stub("nia", "annotator").UndoAnnotation(pb.UndoAnnotationRequest(name=annotation.name))

    (task,) = desk.children(project)

    assert task == annotation.task
    found = desk.children(task)
    assert found[0] == annotation.name
    assert len(found) == 2
    assert desk.children("annotators/nia") == found


def test_a_correction_leads_back_to_its_reviewer(desk: Desk) -> None:
    project = desk.project(desk.dataset(1))
    desk.tasks(project)
    (task,) = desk.task_names(project).values()
    answer = pb.Answer(choice=pb.Choice(labels=["rose"]))
    desk.stub("rob", "reviewer").ReviewTask(
        pb.ReviewTaskRequest(name=task, verdict=pb.ReviewTaskRequest.CORRECT, answer=answer)
    )

    snapshot = desk.ended(desk.snapshot(project))

    (correction,) = desk.parents(snapshot.commit)
    assert desk.parents(correction) == ["annotators/rob", task]
    assert desk.children("annotators/rob") == [correction]


def test_a_commit_names_its_contributors_with_counts_and_first_annotations(desk: Desk) -> None:
    dataset = desk.dataset(5)
    before = desk.head(dataset)
    project = desk.project(dataset, overlap=2)
    desk.tasks(project)
    first = desk.answer(project, "kim", by_key({}))
    desk.answer(project, "leo", by_key({}))
    desk.stub().ComputeConsensus(pb.ComputeConsensusRequest(parent=project))
    commit = desk.ended(desk.snapshot(project)).commit

    request = pb.ListContributorsRequest(parent=commit, page_size=1)
    page = desk.stub().ListContributors(request)
    request.page_token = page.next_page_token
    rest = desk.stub().ListContributors(request)

    (kim,), (leo,) = page.contributors, rest.contributors
    assert (kim.annotator, kim.annotation_count, kim.example_count) == ("annotators/kim", 5, 5)
    assert list(kim.annotations) == [annotation.name for annotation in first[:3]]
    assert (leo.annotator, leo.annotation_count) == ("annotators/leo", 5)
    assert rest.next_page_token == ""
    others = desk.stub().ListContributors(pb.ListContributorsRequest(parent=before))
    assert list(others.contributors) == []


def test_contributors_are_told_to_engineers_and_of_commits_alone(desk: Desk) -> None:
    asked = pb.ListContributorsRequest(parent="datasets/a/commits/zz")

    wrong = refused(lambda: desk.stub().ListContributors(asked))
    foreign = refused(lambda: desk.stub("zoe", "annotator").ListContributors(asked))

    assert [violation.field for violation in wrong.violations] == ["parent"]
    assert foreign.reason == "ROLE_MISSING"


def test_what_a_failed_snapshot_held_leads_nowhere(desk: Desk) -> None:
    project = desk.project(desk.dataset(1))
    desk.tasks(project)
    (annotation,) = desk.answer(project, "ann", by_key({}))

    desk.ended(desk.snapshot(project, branch="none"))

    assert desk.children(annotation.name) == []


def test_a_commit_of_somebody_else_has_no_annotations(desk: Desk) -> None:
    dataset = desk.dataset(1)

    assert desk.parents(desk.head(dataset)) == []


def test_lineage_comes_in_pages(desk: Desk) -> None:
    project = desk.project(desk.dataset(5))
    desk.tasks(project)
    made = desk.answer(project, "pia", by_key({}))
    snapshot = desk.ended(desk.snapshot(project))

    names = [annotation.name for annotation in made]
    assert desk.children("annotators/pia", size=2) == names
    assert desk.parents(snapshot.commit, size=2) == names
    assert len(desk.children(project, size=2)) == 5
    assert desk.parents(names[0], size=1) == ["annotators/pia", made[0].task]
    page = desk.stub().ListChildren(pb.ListChildrenRequest(name="annotators/pia", page_size=2))
    foreign = refused(
        lambda: desk.stub().ListChildren(
            pb.ListChildrenRequest(name=project, page_size=2, page_token=page.next_page_token)
        )
    )
    assert foreign.reason == "INVALID_PAGE_TOKEN"


def test_unknown_names_and_foreign_roles_are_refused(desk: Desk) -> None:
    project = desk.project(desk.dataset(1))
    desk.tasks(project)
    desk.answer(project, "zoe", by_key({}))
    stub = desk.stub()

    for name, reason in (
        ("annotators/zoee", "ANNOTATOR_NOT_FOUND"),
        ("annotations/999999999", "ANNOTATION_NOT_FOUND"),
        ("annotations/x", "ANNOTATION_NOT_FOUND"),
        ("labelingProjects/none", "PROJECT_NOT_FOUND"),
        (f"{project}/tasks/999999999", "TASK_NOT_FOUND"),
        ("models/flowers", "INVALID_FIELD"),
        ("", "INVALID_FIELD"),
    ):
        error = refused(lambda name=name: stub.ListChildren(pb.ListChildrenRequest(name=name)))
        assert error.reason == reason, name
    parents = refused(lambda: stub.ListParents(pb.ListParentsRequest(name="datasets/a/commits/zz")))
    assert parents.reason == "INVALID_FIELD"
    near = refused(lambda: stub.ListChildren(pb.ListChildrenRequest(name="annotators/zoee")))
    assert "zoe" in near.metadata["near"]
    annotator = desk.stub("zoe", "annotator")
    foreign = refused(lambda: annotator.ListChildren(pb.ListChildrenRequest(name="annotators/zoe")))
    assert foreign.reason == "ROLE_MISSING"
