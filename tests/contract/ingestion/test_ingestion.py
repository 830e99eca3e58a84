"""What callers may rely on in ingestion, beside the battery: uploads, commits, diffs, reads, kills."""

import io
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from blake3 import blake3
from PIL import Image
from running import Keys, Service
from slipway.ingestion.v1 import ingestion_pb2 as pb
from slipway.ingestion.v1 import ingestion_pb2_grpc
from slipway_runtime.errors import SlipwayError
from slipway_runtime.rpc import from_rpc_error


@pytest.fixture(scope="module")
def stub(ingestion: Service, keys: Keys) -> Iterator[Any]:
    with ingestion.channel(keys.user("ann")) as opened:
        yield ingestion_pb2_grpc.IngestionServiceStub(opened)


@pytest.fixture
def dataset(stub: Any) -> str:
    return str(stub.CreateDataset(pb.CreateDatasetRequest(dataset_id=f"d-{uuid.uuid4().hex[:12]}")).name)


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), shade).save(buffer, "PNG")
    return buffer.getvalue()


def upload(
    stub: Any, dataset: str, items: dict[str, bytes | None], label: str = "x", request_id: str = ""
) -> Any:
    def requests() -> Iterator[Any]:
        header = pb.UploadHeader(parent=dataset, request_id=request_id, label_source="imports/test")
        yield pb.UploadExamplesRequest(header=header)
        for key, data in items.items():
            item = pb.UploadItem(key=key, label=label)
            if data is not None:
                item.data = data
            yield pb.UploadExamplesRequest(item=item)

    return stub.UploadExamples(requests(), timeout=120)


def commit(stub: Any, dataset: str, *uploads: str, **fields: Any) -> Any:
    request = pb.CreateCommitRequest(parent=dataset, uploads=uploads, message="a change", **fields)
    return stub.CreateCommit(request, timeout=60)


def read(stub: Any, name: str, **fields: Any) -> dict[str, bytes]:
    parts = stub.ReadExamples(pb.ReadExamplesRequest(commit=name, **fields), timeout=60)
    return {one.example.key: one.data for part in parts for one in part.examples}


def refusal(error: grpc.RpcError) -> SlipwayError:
    return from_rpc_error(error)


def test_damaged_items_are_refused_by_key_and_reason_and_the_rest_goes_in(stub: Any, dataset: str) -> None:
    good = png(10)
    items = {
        "good.png": good,
        "cut.png": good[:40],
        "odd.bin": b"\x00\xff\xfe",
        "../up.txt": b"text",
        "empty.txt": b"",
        "note.txt": b"a text",
    }

    made = upload(stub, dataset, items)

    assert {item.key: item.reason for item in made.refused} == {
        "cut.png": "DAMAGED_IMAGE",
        "odd.bin": "UNKNOWN_MEDIA_TYPE",
        "../up.txt": "INVALID_KEY",
        "empty.txt": "EMPTY",
    }
    assert (made.accepted_count, made.refused_count) == (2, 4)


def test_what_was_committed_is_read_back_byte_for_byte(stub: Any, dataset: str) -> None:
    items = {f"k/{number:03d}": f"text {number % 7}".encode() for number in range(300)}
    made = upload(stub, dataset, dict(items))

    name = commit(stub, dataset, made.name).name

    assert read(stub, name) == items
    rows = stub.ListExamples(pb.ListExamplesRequest(parent=name, page_size=1000)).examples
    assert all(row.blob == blake3(items[row.key]).hexdigest() for row in rows)
    assert {row.label_source for row in rows} == {"imports/test"}


def test_splits_partition_the_examples_and_filter_reads(stub: Any, dataset: str) -> None:
    items = {f"k/{number:03d}": str(number).encode() for number in range(400)}
    name = commit(stub, dataset, upload(stub, dataset, dict(items)).name).name

    parts = [read(stub, name, split=split) for split in ("train", "validation", "test")]

    assert sum(map(len, parts)) == 400
    assert set().union(*parts) == set(items)
    assert 280 < len(parts[0]) < 350


def test_a_small_change_of_a_large_commit_costs_little_and_is_the_whole_diff(stub: Any, dataset: str) -> None:
    items = {f"row/{number:05d}": f"content {number}".encode() for number in range(10_000)}
    first = commit(stub, dataset, upload(stub, dataset, dict(items)).name)
    changed = {f"row/{number:05d}": b"changed" for number in range(4000, 4020)}

    second = commit(stub, dataset, upload(stub, dataset, dict(changed)).name)

    page = stub.DiffCommits(pb.DiffCommitsRequest(base=first.name, target=second.name))
    assert {change.key for change in page.changes} == set(changed)
    assert {change.kind for change in page.changes} == {pb.ExampleChange.CHANGED}
    assert page.ranges_read <= 6 < page.ranges_total
    assert second.new_objects <= 5
    assert second.new_bytes < first.new_bytes / 10


def test_equal_content_has_an_equal_digest_whatever_the_history(stub: Any, dataset: str) -> None:
    items = {f"k/{number:04d}": str(number).encode() for number in range(500)}
    whole = commit(stub, dataset, upload(stub, dataset, dict(items)).name)
    commit(stub, dataset, remove_keys=sorted(items)[100:300])

    back = {key: items[key] for key in sorted(items)[100:300]}
    again = commit(stub, dataset, upload(stub, dataset, dict(back)).name)

    assert again.content_digest == whole.content_digest
    assert again.name != whole.name


def test_a_label_changes_without_the_bytes_coming_again(stub: Any, dataset: str) -> None:
    commit(stub, dataset, upload(stub, dataset, {"a.txt": b"bytes"}, label="old").name)

    name = commit(stub, dataset, upload(stub, dataset, {"a.txt": None}, label="new").name).name

    (row,) = stub.ListExamples(pb.ListExamplesRequest(parent=name)).examples
    assert (row.label, row.blob) == ("new", blake3(b"bytes").hexdigest())
    assert read(stub, name) == {"a.txt": b"bytes"}


def test_a_bare_row_under_a_new_key_is_refused_by_name(stub: Any, dataset: str) -> None:
    made = upload(stub, dataset, {"nothing.txt": None})

    with pytest.raises(grpc.RpcError) as caught:
        commit(stub, dataset, made.name)

    assert "nothing.txt" in refusal(caught.value).message


def test_writers_at_once_on_one_branch_all_land(stub: Any, dataset: str) -> None:
    uploads = [upload(stub, dataset, {f"w{number}.txt": str(number).encode()}) for number in range(8)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda made: commit(stub, dataset, made.name), uploads))

    head = stub.GetBranch(pb.GetBranchRequest(name=f"{dataset}/branches/main")).commit
    assert set(read(stub, head)) == {f"w{number}.txt" for number in range(8)}
    history = stub.ListCommits(pb.ListCommitsRequest(parent=dataset, page_size=100)).commits
    assert len(history) == 9


def test_a_head_that_moved_is_said_and_nothing_is_done(stub: Any, dataset: str) -> None:
    seen = stub.GetBranch(pb.GetBranchRequest(name=f"{dataset}/branches/main")).commit
    commit(stub, dataset, upload(stub, dataset, {"a.txt": b"a"}).name)
    late = upload(stub, dataset, {"b.txt": b"b"})

    with pytest.raises(grpc.RpcError) as caught:
        commit(stub, dataset, late.name, expected_head=seen)

    assert refusal(caught.value).reason == "BRANCH_MOVED"


def test_an_empty_commit_is_refused_and_a_repeat_of_a_real_one_is_not(stub: Any, dataset: str) -> None:
    made = upload(stub, dataset, {"a.txt": b"a"})
    first = commit(stub, dataset, made.name, request_id="once")

    again = commit(stub, dataset, made.name, request_id="once")

    assert again == first
    with pytest.raises(grpc.RpcError) as caught:
        commit(stub, dataset, made.name)
    assert refusal(caught.value).reason == "EMPTY_COMMIT"


def test_an_upload_is_repeated_by_its_request_id_and_refused_with_other_content(
    stub: Any, dataset: str
) -> None:
    first = upload(stub, dataset, {"a.txt": b"a"}, request_id="up")

    assert upload(stub, dataset, {"a.txt": b"a"}, request_id="up") == first
    with pytest.raises(grpc.RpcError) as caught:
        upload(stub, dataset, {"a.txt": b"other"}, request_id="up")
    assert refusal(caught.value).reason == "REQUEST_ID_REUSED"


def test_history_comes_by_page_and_a_prefix_names_a_commit(stub: Any, dataset: str) -> None:
    for number in range(4):
        commit(stub, dataset, upload(stub, dataset, {f"{number}.txt": str(number).encode()}).name)

    seen, token = [], ""
    while True:
        page = stub.ListCommits(pb.ListCommitsRequest(parent=dataset, page_size=2, page_token=token))
        seen += [one.name for one in page.commits]
        token = page.next_page_token
        if not token:
            break

    assert len(seen) == len(set(seen)) == 5
    assert stub.GetCommit(pb.GetCommitRequest(name=seen[0][:-50])).name == seen[0]


def test_a_branch_moves_by_compare_and_set(stub: Any, dataset: str) -> None:
    head = commit(stub, dataset, upload(stub, dataset, {"a.txt": b"a"}).name).name
    request = pb.CreateBranchRequest(parent=dataset, branch_id="relabel", commit=head)
    branch = stub.CreateBranch(request)
    first = stub.ListCommits(pb.ListCommitsRequest(parent=dataset)).commits[-1].name
    moved = pb.UpdateBranchRequest(branch=pb.Branch(name=branch.name, etag=branch.etag, commit=first))
    moved.update_mask.paths.append("commit")

    after = stub.UpdateBranch(moved)

    assert (after.commit, after.etag != branch.etag) == (first, True)
    with pytest.raises(grpc.RpcError) as caught:
        stub.UpdateBranch(moved)
    assert refusal(caught.value).reason == "ETAG_MISMATCH"


def test_statistics_count_labels_sizes_and_duplicates(stub: Any, dataset: str) -> None:
    made = upload(stub, dataset, {"a.png": png(1), "b.png": png(1), "c.txt": b"text"}, label="cat")

    found = stub.GetCommitStatistics(
        pb.GetCommitStatisticsRequest(name=commit(stub, dataset, made.name).name)
    )

    assert dict(found.label_counts) == {"cat": 3}
    assert dict(found.image_size_counts) == {"8x8": 2}
    assert (found.example_count, found.duplicate_count) == (3, 1)


def test_the_author_is_whom_the_token_names(stub: Any, dataset: str) -> None:
    assert commit(stub, dataset, upload(stub, dataset, {"a.txt": b"a"}).name).author == "users/ann"


def test_an_unlike_policy_is_refused_by_field(stub: Any) -> None:
    bad = pb.Dataset(split_policy=pb.SplitPolicy(train_percent=80, validation_percent=30, test_percent=-10))

    with pytest.raises(grpc.RpcError) as caught:
        stub.CreateDataset(pb.CreateDatasetRequest(dataset_id="unlike", dataset=bad))

    assert [v.field for v in refusal(caught.value).violations] == ["dataset.split_policy"]


def test_a_commit_leads_to_those_made_on_it_page_by_page_and_back(stub: Any, dataset: str) -> None:
    base = commit(stub, dataset, upload(stub, dataset, {"a": png(1)}).name)
    for branch in ("left", "right"):
        stub.CreateBranch(pb.CreateBranchRequest(parent=dataset, branch_id=branch, commit=base.name))
    made = [
        commit(stub, dataset, upload(stub, dataset, {name: png(2)}).name, branch=name).name
        for name in ("left", "right")
    ]

    first = stub.ListChildren(pb.ListChildrenRequest(name=base.name, page_size=1))
    second = stub.ListChildren(
        pb.ListChildrenRequest(name=base.name, page_size=1, page_token=first.next_page_token)
    )
    parents = stub.ListParents(pb.ListParentsRequest(name=made[0]))

    assert sorted([*first.names, *second.names]) == sorted(made)
    assert not second.next_page_token
    assert list(parents.names) == [base.name]


def test_pages_of_large_rows_end_early_and_none_is_left_out(stub: Any, dataset: str) -> None:
    attributes = {f"a{number}": "x" * 3_900 for number in range(60)}
    header = pb.UploadHeader(parent=dataset, label_source="imports/test")
    items = [
        pb.UploadExamplesRequest(
            item=pb.UploadItem(key=f"{n:03d}.txt", data=b"a text", attributes=attributes)
        )
        for n in range(60)
    ]
    sent = stub.UploadExamples(iter([pb.UploadExamplesRequest(header=header), *items]), timeout=120)
    made = commit(stub, dataset, sent.name)
    keys, sizes, token = [], [], ""

    while token or not sizes:
        page = stub.ListExamples(
            pb.ListExamplesRequest(parent=made.name, page_size=1000, page_token=token), timeout=60
        )
        keys += [example.key for example in page.examples]
        sizes.append(page.ByteSize())
        token = page.next_page_token

    assert keys == [f"{n:03d}.txt" for n in range(60)]
    assert len(sizes) == 2
    assert max(sizes) < 9 << 20
