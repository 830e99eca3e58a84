"""Predicted inputs become examples: one commit, once, with an index from each prediction to its commit."""

import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from running import Keys, Service
from slipway.ingestion.v1 import ingestion_pb2 as pb
from slipway.ingestion.v1 import ingestion_pb2_grpc
from slipway_runtime.rpc import from_rpc_error


@pytest.fixture(scope="module")
def stub(ingestion: Service, keys: Keys) -> Iterator[Any]:
    with ingestion.channel(keys.service("monitoring")) as opened:
        yield ingestion_pb2_grpc.IngestionServiceStub(opened)


@pytest.fixture
def dataset(stub: Any) -> str:
    return str(stub.CreateDataset(pb.CreateDatasetRequest(dataset_id=f"p-{uuid.uuid4().hex[:12]}")).name)


def name() -> str:
    return f"predictions/{uuid.uuid4()}-1a2b3c4d.0"


def take(stub: Any, dataset: str, texts: dict[str, bytes], request_id: str = "", **header: Any) -> Any:
    values = {"message": "captured inputs", "label_source": "imports/captured", **header}

    def requests() -> Iterator[Any]:
        first = pb.ImportPredictionsHeader(
            parent=dataset, request_id=request_id or uuid.uuid4().hex, **values
        )
        yield pb.ImportPredictionsRequest(header=first)
        for key, data in texts.items():
            item = pb.PredictionItem(key=key, data=data, group="camera-1", attributes={"predicted": "daisy"})
            yield pb.ImportPredictionsRequest(item=item)

    return stub.ImportPredictions(requests(), timeout=60)


def history(stub: Any, dataset: str) -> list[Any]:
    return list(stub.ListCommits(pb.ListCommitsRequest(parent=dataset)).commits)


def children(stub: Any, of: str, **page: Any) -> Any:
    return stub.ListChildren(pb.ListChildrenRequest(name=of, **page))


def test_an_import_is_one_commit_that_each_of_its_predictions_leads_to(stub: Any, dataset: str) -> None:
    texts = {name(): f"input {number}".encode() for number in range(7)}

    made = take(stub, dataset, texts)

    assert (made.imported_count, made.repeated_count, made.refused_count) == (7, 0, 0)
    assert history(stub, dataset)[0].name == made.commit
    assert history(stub, dataset)[0].author == "services/monitoring"
    examples = stub.ListExamples(pb.ListExamplesRequest(parent=made.commit)).examples
    assert {one.key for one in examples} == set(texts)
    assert {(one.group, one.attributes["predicted"]) for one in examples} == {("camera-1", "daisy")}
    assert all(list(children(stub, key).names) == [made.commit] for key in texts)


def test_the_same_import_again_changes_nothing_and_answers_the_same(stub: Any, dataset: str) -> None:
    texts = {name(): b"an input"}

    first, again = (take(stub, dataset, texts, "once") for _ in range(2))

    assert again == first
    assert len(history(stub, dataset)) == 2
    with pytest.raises(grpc.RpcError) as caught:
        take(stub, dataset, {name(): b"another"}, "once")
    assert from_rpc_error(caught.value).reason == "REQUEST_ID_REUSED"


def test_a_prediction_that_the_branch_has_already_is_not_doubled(stub: Any, dataset: str) -> None:
    old, new = name(), name()
    first = take(stub, dataset, {old: b"an input"})

    second = take(stub, dataset, {old: b"an input, sent otherwise", new: b"a new input"})
    third = take(stub, dataset, {old: b"an input"})

    assert (second.imported_count, second.repeated_count) == (1, 1)
    assert (third.imported_count, third.repeated_count, third.commit) == (0, 1, second.commit)
    parts = stub.ReadExamples(pb.ReadExamplesRequest(commit=second.commit))
    assert {one.example.key: one.data for part in parts for one in part.examples} == {
        old: b"an input",
        new: b"a new input",
    }
    assert list(children(stub, old).names) == [first.commit]


def test_bad_items_are_refused_one_by_one_and_the_rest_is_committed(stub: Any, dataset: str) -> None:
    good, empty, odd = name(), name(), name()

    made = take(stub, dataset, {good: b"good", empty: b"", odd: b"\x00\xff", "flowers/a.txt": b"text"})

    assert {item.key: item.reason for item in made.refused} == {
        empty: "EMPTY",
        odd: "UNKNOWN_MEDIA_TYPE",
        "flowers/a.txt": "INVALID_KEY",
    }
    assert (made.imported_count, made.refused_count) == (1, 3)


def test_the_predictions_of_a_commit_are_its_parents_page_by_page(stub: Any, dataset: str) -> None:
    texts = {name(): f"input {number}".encode() for number in range(5)}
    before = history(stub, dataset)[0].name
    made = take(stub, dataset, texts)

    found, token = [], ""
    for _ in range(4):
        page = stub.ListParents(pb.ListParentsRequest(name=made.commit, page_size=2, page_token=token))
        found += page.names
        token = page.next_page_token
        if not token:
            break

    assert found == [before, *sorted(texts)]


def test_a_prediction_that_was_never_imported_has_no_children(stub: Any) -> None:
    assert list(children(stub, name()).names) == []


@pytest.mark.parametrize(
    ("header", "reason", "word"),
    [
        ({"message": " "}, "INVALID_FIELD", "header.message"),
        ({"branch": "mian"}, "BRANCH_NOT_FOUND", "main"),
    ],
)
def test_a_header_that_cannot_work_is_refused_by_field(
    stub: Any, dataset: str, header: dict[str, str], reason: str, word: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        take(stub, dataset, {name(): b"an input"}, **header)

    refused = from_rpc_error(caught.value)
    assert refused.reason == reason
    assert word in f"{refused} {refused.metadata}"
