"""What callers may rely on of snapshots: reviewed and consensus labels become one commit, whatever moves."""

import pytest
from desk import Desk, State, by_key, refused
from running import Keys, Service
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_labeling.clients import Ingestion
from slipway_labeling.domain.snapshots import Row
from slipway_runtime.errors import Aborted, InvalidArgument, NotFound
from slipway_runtime.rpc import Channels


@pytest.fixture
def client(keys: Keys, ingestion: Service) -> Ingestion:
    return Ingestion(Channels(lambda: keys.service("labeling")), ingestion.address)


def test_the_client_reads_rows_media_and_head(desk: Desk, client: Ingestion) -> None:
    dataset = desk.dataset(4)

    head = client.head(dataset, "main")

    assert head == desk.head(dataset)
    assert [one.key for one in client.examples(head)] == [f"k{n:03d}.txt" for n in range(4)]
    assert [one.key for one in client.examples(head, keys=["k002.txt", "none"])] == ["k002.txt"]
    assert client.media(head, "k001.txt") == ("text/plain", f"{dataset.partition('/')[2]} 1".encode())
    row = client.rows(head, ["k003.txt"])["k003.txt"]
    assert (row.group, row.attributes) == ("g1", {"light": "dim"})


def test_the_client_says_what_ingestion_has_not(desk: Desk, client: Ingestion) -> None:
    dataset = desk.dataset(1)

    with pytest.raises(NotFound, match="mian") as missing:
        client.head(dataset, "mian")

    assert missing.value.reason == "DATASET_NOT_FOUND"
    with pytest.raises(NotFound, match="'none'"):
        client.media(desk.head(dataset), "none")


def test_the_client_uploads_and_commits_once_per_request_id(desk: Desk, client: Ingestion) -> None:
    dataset = desk.dataset(2)
    head = desk.head(dataset)
    blob = desk.rows(head)["k000.txt"].blob
    rows = [Row("k000.txt", blob, "rose", "annotations/1", "g0", {"light": "bright"})]

    uploads = [client.upload(dataset, rows, "u1") for _ in range(2)]
    commits = [
        client.commit(dataset, "main", uploads[:1], "m", "c1", on_behalf_of="users/ann", expected_head=head)
        for _ in range(2)
    ]

    assert len(set(uploads)) == len(set(commits)) == 1
    made = desk.history(dataset)[0]
    assert (made.name, made.author) == (commits[0], "users/ann")
    with pytest.raises(Aborted):
        client.commit(dataset, "main", uploads[:1], "m", "c2", expected_head=head)
    with pytest.raises(InvalidArgument, match="nothing"):
        client.commit(dataset, "main", uploads[:1], "m", "c3")
    with pytest.raises(InvalidArgument, match="k9"):
        client.upload(dataset, [Row("k9", "f" * 64, "rose")], "u2")


def test_a_snapshot_commits_consensus_labels_and_leaves_the_rest_as_it_is(desk: Desk) -> None:
    dataset = desk.dataset(6)
    before = desk.rows(desk.head(dataset))
    project = desk.project(dataset)
    desk.tasks(project, keys=[f"k{n:03d}.txt" for n in range(4)])
    made = desk.answer(project, "ann", by_key({"k001.txt": "rose"}))

    snapshot = desk.ended(desk.snapshot(project, message="first labels"))

    assert (snapshot.state, snapshot.error) == (State.SUCCEEDED, "")
    assert (snapshot.label_count, snapshot.left_out_count, snapshot.annotation_count) == (4, 0, 4)
    assert snapshot.commit == desk.head(dataset)
    newest = desk.history(dataset)[0]
    assert (newest.author, newest.message) == ("users/eva", "first labels")
    after = desk.rows(snapshot.commit)
    sources = {one.key: one.name for one in made}
    for key, row in after.items():
        assert (row.blob, row.group, dict(row.attributes)) == (
            before[key].blob,
            before[key].group,
            dict(before[key].attributes),
        )
        assert row.label_source == sources.get(key, "")
    assert [after[f"k{n:03d}.txt"].label for n in range(6)] == ["daisy", "rose", "daisy", "daisy", "", ""]


def test_reviews_go_before_consensus_and_name_their_annotation(desk: Desk) -> None:
    dataset = desk.dataset(3)
    project = desk.project(dataset)
    desk.tasks(project)
    made = {one.key: one.name for one in desk.answer(project, "ann", by_key({}))}
    task = desk.task_names(project)["k001.txt"]
    answer = pb.Answer(choice=pb.Choice(labels=["tulip"]))
    desk.stub("rea", "reviewer").ReviewTask(
        pb.ReviewTaskRequest(name=task, verdict=pb.ReviewTaskRequest.CORRECT, answer=answer)
    )

    snapshot = desk.ended(desk.snapshot(project))

    rows = desk.rows(snapshot.commit)
    assert {key: row.label for key, row in rows.items()} == {
        "k000.txt": "daisy",
        "k001.txt": "tulip",
        "k002.txt": "daisy",
    }
    assert rows["k000.txt"].label_source == made["k000.txt"]
    assert rows["k001.txt"].label_source not in ("", made["k001.txt"])
    correction = desk.stub().GetAnnotation(pb.GetAnnotationRequest(name=rows["k001.txt"].label_source))
    assert correction.annotator == "annotators/rea"


def test_several_labels_are_joined_in_schema_order(desk: Desk) -> None:
    dataset = desk.dataset(2)
    project = desk.project(dataset, multiple=True)
    desk.tasks(project)
    desk.answer(project, "ann", lambda key: ["tulip", "daisy"] if key == "k000.txt" else [])

    snapshot = desk.ended(desk.snapshot(project))

    rows = desk.rows(snapshot.commit)
    assert [rows["k000.txt"].label, rows["k001.txt"].label] == ["daisy|tulip", ""]
    assert rows["k001.txt"].label_source.startswith("annotations/")


def test_a_snapshot_without_labels_is_refused(desk: Desk) -> None:
    project = desk.project(desk.dataset(2), overlap=2)
    desk.tasks(project)
    for user, label in (("ann", "daisy"), ("ben", "rose")):
        desk.answer(project, user, lambda _, label=label: [label])

    error = refused(lambda: desk.snapshot(project))

    assert error.reason == "TOO_FEW_ANSWERS"
    assert error.metadata["left_out"] == "2"


def test_fields_of_a_snapshot_are_checked(desk: Desk) -> None:
    project = desk.project(desk.dataset(1))

    for fields, named in (
        ({"message": " "}, "snapshot.message"),
        ({"branch": "Main/x"}, "snapshot.branch"),
        ({"min_confidence": 1.5}, "snapshot.min_confidence"),
    ):
        error = refused(lambda fields=fields: desk.snapshot(project, **fields))
        assert error.violations[0].field == named
    missing = refused(lambda: desk.snapshot("labelingProjects/none"))
    assert missing.reason == "PROJECT_NOT_FOUND"
    gone = refused(lambda: desk.stub().GetSnapshot(pb.GetSnapshotRequest(name=f"{project}/snapshots/none")))
    assert gone.reason == "SNAPSHOT_NOT_FOUND"
    foreign = refused(
        lambda: desk.stub("ann", "annotator").GetSnapshot(
            pb.GetSnapshotRequest(name=f"{project}/snapshots/none")
        )
    )
    assert foreign.reason == "ROLE_MISSING"


def test_a_repeat_by_request_id_is_one_snapshot_and_lists_are_paged(desk: Desk) -> None:
    dataset = desk.dataset(2)
    project = desk.project(dataset)
    desk.tasks(project)
    desk.answer(project, "ann", by_key({}))
    request = pb.CreateSnapshotRequest(
        parent=project, snapshot=pb.Snapshot(message="once"), request_id=f"once-{project}"
    )

    first, again = (desk.stub().CreateSnapshot(request) for _ in range(2))

    assert first.name == again.name
    desk.ended(first)
    second = desk.ended(desk.snapshot(project))
    assert (second.state, second.error[:12]) == (State.FAILED, "EMPTY_COMMIT")
    page = desk.stub().ListSnapshots(pb.ListSnapshotsRequest(parent=project, page_size=1))
    rest = desk.stub().ListSnapshots(
        pb.ListSnapshotsRequest(parent=project, page_size=1, page_token=page.next_page_token)
    )
    assert [one.name for one in (*page.snapshots, *rest.snapshots)] == [second.name, first.name]
    assert not rest.next_page_token


def test_what_is_in_a_snapshot_cannot_be_undone_and_what_failed_can(desk: Desk) -> None:
    dataset = desk.dataset(1)
    project = desk.project(dataset)
    desk.tasks(project)
    (annotation,) = desk.answer(project, "ann", by_key({}))
    failed = desk.ended(desk.snapshot(project, branch="none"))

    undone = desk.stub("ann", "annotator").UndoAnnotation(pb.UndoAnnotationRequest(name=annotation.name))
    (again,) = desk.answer(project, "ann", by_key({"k000.txt": "rose"}))
    desk.ended(desk.snapshot(project))
    error = refused(
        lambda: desk.stub("ann", "annotator").UndoAnnotation(pb.UndoAnnotationRequest(name=again.name))
    )

    assert failed.state == State.FAILED
    assert failed.error.startswith("DATASET_NOT_FOUND")
    assert "none" in failed.error
    assert undone.state == pb.Assignment.LEASED
    assert error.reason == "ANNOTATION_USED"


def test_a_branch_that_moved_keeps_what_moved_it_and_gets_the_labels(
    desk: Desk, keys: Keys, ingestion: Service, client: Ingestion
) -> None:
    dataset = desk.dataset(3)
    project = desk.project(dataset)
    desk.tasks(project)
    desk.answer(project, "ann", by_key({}))
    changed = ing.UploadItem(key="k000.txt", group="other", attributes={"light": "none"})

    desk.put(dataset, [changed], "attributes", remove=["k001.txt"])
    snapshot = desk.ended(desk.snapshot(project))

    rows = desk.rows(snapshot.commit)
    assert (snapshot.label_count, snapshot.left_out_count, snapshot.annotation_count) == (2, 1, 2)
    assert {key: row.label for key, row in rows.items()} == {"k000.txt": "daisy", "k002.txt": "daisy"}
    assert (rows["k000.txt"].group, dict(rows["k000.txt"].attributes)) == ("other", {"light": "none"})


def test_bytes_that_were_replaced_do_not_get_the_label_of_the_old_ones(desk: Desk) -> None:
    dataset = desk.dataset(2)
    project = desk.project(dataset)
    desk.tasks(project)
    desk.answer(project, "ann", by_key({}))

    desk.put(dataset, [ing.UploadItem(key="k000.txt", data=b"another text")], "replaced")
    snapshot = desk.ended(desk.snapshot(project))

    rows = desk.rows(snapshot.commit)
    assert [rows["k000.txt"].label, rows["k001.txt"].label] == ["", "daisy"]
    assert snapshot.left_out_count == 1


def test_watch_ends_with_the_snapshot(desk: Desk) -> None:
    project = desk.project(desk.dataset(1))
    desk.tasks(project)
    desk.answer(project, "ann", by_key({}))
    asked = desk.snapshot(project)

    seen = list(desk.stub().WatchSnapshot(pb.WatchSnapshotRequest(name=asked.name), timeout=180))

    assert seen[-1].state == State.SUCCEEDED
