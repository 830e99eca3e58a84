"""What is erased is in no read from the answer on, does not come back, and leaves a record."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from blake3 import blake3
from running import Keys, Service
from slipway.ingestion.v1 import ingestion_pb2 as pb
from slipway.ingestion.v1 import ingestion_pb2_grpc
from slipway_runtime.errors import SlipwayError
from slipway_runtime.rpc import from_rpc_error

WITHIN_S = 180


@pytest.fixture(scope="module")
def stub(ingestion: Service, keys: Keys) -> Iterator[Any]:
    with ingestion.channel(keys.user("ann")) as opened:
        yield ingestion_pb2_grpc.IngestionServiceStub(opened)


@pytest.fixture
def dataset(stub: Any) -> str:
    return str(stub.CreateDataset(pb.CreateDatasetRequest(dataset_id=f"e-{uuid.uuid4().hex[:12]}")).name)


def upload(stub: Any, dataset: str, texts: dict[str, bytes]) -> Any:
    def requests() -> Iterator[Any]:
        yield pb.UploadExamplesRequest(header=pb.UploadHeader(parent=dataset, label_source="imports/test"))
        for key, data in texts.items():
            yield pb.UploadExamplesRequest(item=pb.UploadItem(key=key, label="daisy", data=data))

    return stub.UploadExamples(requests(), timeout=60)


def commit(stub: Any, dataset: str, texts: dict[str, bytes], **fields: Any) -> Any:
    uploads = [upload(stub, dataset, texts).name] if texts else []
    request = pb.CreateCommitRequest(parent=dataset, uploads=uploads, message="a change", **fields)
    return stub.CreateCommit(request, timeout=60)


def read(stub: Any, name: str) -> dict[str, bytes]:
    parts = stub.ReadExamples(pb.ReadExamplesRequest(commit=name), timeout=60)
    return {one.example.key: one.data for part in parts for one in part.examples}


def erase(stub: Any, dataset: str, **what: Any) -> Any:
    values = {"reason": "asked for by letter 17", **what}
    return stub.CreateErasure(pb.CreateErasureRequest(parent=dataset, **values), timeout=60)


def ended(stub: Any, erasure: Any) -> Any:
    """Wait for an erasure's end; return it."""
    stop_at = time.monotonic() + WITHIN_S
    while True:
        found = stub.GetErasure(pb.GetErasureRequest(name=erasure.name))
        if found.state == pb.Erasure.SUCCEEDED:
            return found
        assert time.monotonic() < stop_at, found
        time.sleep(0.05)


def refusal(call: Any) -> SlipwayError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


def mine(text: str) -> bytes:
    """Return a text that no other test has."""
    return f"{text} {uuid.uuid4().hex}".encode()


def test_an_erased_example_is_in_no_view_of_any_commit_and_each_says_so(stub: Any, dataset: str) -> None:
    erika, rose = mine("erika"), mine("rose")
    first = commit(stub, dataset, {"erika.txt": erika, "rose.txt": rose})
    second = commit(stub, dataset, {"tulip.txt": mine("tulip")})
    stub.GetCommitStatistics(pb.GetCommitStatisticsRequest(name=first.name))

    erasure = erase(stub, dataset, key="erika.txt")

    for one, left in ((first, {"rose.txt"}), (second, {"rose.txt", "tulip.txt"})):
        assert set(read(stub, one.name)) == left
        assert {e.key for e in stub.ListExamples(pb.ListExamplesRequest(parent=one.name)).examples} == left
        counted = stub.GetCommitStatistics(pb.GetCommitStatisticsRequest(name=one.name))
        assert counted.example_count == len(left)
    changes = stub.DiffCommits(pb.DiffCommitsRequest(base=first.name, target=second.name)).changes
    assert [change.key for change in changes] == ["tulip.txt"]
    done = ended(stub, erasure)
    assert (done.creator, done.reason, done.commit_count) == ("users/ann", "asked for by letter 17", 2)
    assert (done.deleted_blob_count, done.kept_blob_count) == (1, 0)
    for before in (first, second):
        after = stub.GetCommit(pb.GetCommitRequest(name=before.name))
        assert (after.erased_count, after.erased_bytes) == (1, len(erika))
        assert (after.name, after.content_digest, after.example_count) == (
            before.name,
            before.content_digest,
            before.example_count,
        )
    marked = stub.ListChildren(pb.ListChildrenRequest(name=erasure.name)).names
    assert sorted(marked) == sorted([first.name, second.name])


def test_a_new_commit_has_the_digest_of_one_that_never_had_the_example(stub: Any, dataset: str) -> None:
    texts = {f"k{number:03d}.txt": mine("text") for number in range(300)}
    commit(stub, dataset, {**texts, "k150-erika.txt": mine("erika")})
    ended(stub, erase(stub, dataset, key="k150-erika.txt"))

    after = commit(stub, dataset, {"new.txt": b"new"})

    other = stub.CreateDataset(pb.CreateDatasetRequest(dataset_id=f"e-{uuid.uuid4().hex[:12]}")).name
    never = commit(stub, other, {**texts, "new.txt": b"new"})
    assert (after.content_digest, after.erased_count) == (never.content_digest, 0)


def test_what_was_erased_does_not_come_back_by_key_or_by_bytes(stub: Any, dataset: str) -> None:
    erika = mine("erika")
    commit(stub, dataset, {"erika.txt": erika, "rose.txt": b"rose"})
    waiting = upload(stub, dataset, {"erika.txt": mine("erika again"), "tulip.txt": b"tulip"})
    ended(stub, erase(stub, dataset, key="erika.txt"))

    made = upload(stub, dataset, {"erika.txt": b"other bytes", "else.txt": erika, "lily.txt": b"lily"})
    late = stub.CreateCommit(
        pb.CreateCommitRequest(parent=dataset, uploads=[waiting.name, made.name], message="late")
    )

    assert {item.key: item.reason for item in made.refused} == {"erika.txt": "ERASED", "else.txt": "ERASED"}
    assert set(read(stub, late.name)) == {"rose.txt", "tulip.txt", "lily.txt"}


def test_an_erasure_by_blob_takes_every_key_that_has_the_bytes(stub: Any, dataset: str) -> None:
    erika = mine("erika")
    made = commit(stub, dataset, {"a.txt": erika, "b.txt": erika, "c.txt": b"c"})

    ended(stub, erase(stub, dataset, blob=blake3(erika).hexdigest()))

    assert set(read(stub, made.name)) == {"c.txt"}
    assert stub.GetCommit(pb.GetCommitRequest(name=made.name)).erased_count == 2


def test_another_data_set_keeps_what_it_holds(stub: Any, dataset: str) -> None:
    texts = {f"k{number:03d}.txt": mine("text") for number in range(40)}
    one = commit(stub, dataset, texts)
    other = stub.CreateDataset(pb.CreateDatasetRequest(dataset_id=f"e-{uuid.uuid4().hex[:12]}")).name
    two = commit(stub, other, texts)
    assert one.content_digest == two.content_digest

    done = ended(stub, erase(stub, dataset, key="k007.txt"))

    assert (done.deleted_blob_count, done.kept_blob_count) == (0, 1)
    assert read(stub, two.name) == texts
    assert "k007.txt" not in read(stub, one.name)
    assert ended(stub, erase(stub, other, key="k007.txt")).deleted_blob_count == 1
    assert set(read(stub, two.name)) == set(texts) - {"k007.txt"}


def test_every_content_that_a_key_ever_had_is_erased(stub: Any, dataset: str) -> None:
    old, new = mine("old"), mine("new")
    first = commit(stub, dataset, {"erika.txt": old, "copy.txt": old, "rose.txt": b"rose"})
    commit(stub, dataset, {"erika.txt": new})

    done = ended(stub, erase(stub, dataset, key="erika.txt"))

    assert done.deleted_blob_count == 2
    assert set(read(stub, first.name)) == {"rose.txt"}


def test_an_erasure_is_repeated_by_its_request_id_and_else_refused_by_name(stub: Any, dataset: str) -> None:
    commit(stub, dataset, {"erika.txt": mine("erika"), "rose.txt": b"rose"})

    first = erase(stub, dataset, key="erika.txt", request_id="e")
    ended(stub, first)

    assert erase(stub, dataset, key="erika.txt", request_id="e").name == first.name
    refused = refusal(lambda: erase(stub, dataset, key="erika.txt"))
    assert (refused.reason, refused.metadata["erasure"]) == ("ERASED", first.name)
    listed = stub.ListErasures(pb.ListErasuresRequest(parent=dataset)).erasures
    assert [one.name for one in listed] == [first.name]


@pytest.mark.parametrize(
    ("what", "reason", "word"),
    [
        ({"key": "erikka.txt"}, "EXAMPLE_NOT_FOUND", "erika.txt"),
        ({"blob": "0" * 64}, "EXAMPLE_NOT_FOUND", "0" * 64),
        ({"blob": "xyz"}, "INVALID_FIELD", "blob"),
        ({}, "INVALID_FIELD", "example"),
        ({"key": "erika.txt", "reason": " "}, "INVALID_FIELD", "reason"),
    ],
)
def test_an_erasure_that_cannot_be_is_refused_with_what_to_do(
    stub: Any, dataset: str, what: dict[str, str], reason: str, word: str
) -> None:
    commit(stub, dataset, {"erika.txt": b"erika", "rose.txt": b"rose"})

    refused = refusal(lambda: erase(stub, dataset, **what))

    assert refused.reason == reason
    assert word in f"{refused} {refused.metadata}"
    assert list(stub.ListErasures(pb.ListErasuresRequest(parent=dataset)).erasures) == []


def test_a_service_may_not_erase(ingestion: Service, keys: Keys, dataset: str) -> None:
    with ingestion.channel(keys.service("labeling")) as opened:
        own = ingestion_pb2_grpc.IngestionServiceStub(opened)

        refused = refusal(lambda: erase(own, dataset, key="erika.txt"))

    assert refused.reason == "ROLE_MISSING"


def test_a_reader_with_a_number_sees_each_erasure_that_ended_once(stub: Any, dataset: str) -> None:
    commit(stub, dataset, {f"k{number}.txt": mine("text") for number in range(5)})
    names = [erase(stub, dataset, key=f"k{number}.txt") for number in range(4)]
    for one in names:
        ended(stub, one)

    seen, number = [], 0
    while True:
        request = pb.ListErasuresRequest(parent=dataset, after_number=number, page_size=3)
        page = stub.ListErasures(request).erasures
        if not page:
            break
        seen += [one.name for one in page]
        number = page[-1].number

    assert sorted(seen) == sorted(one.name for one in names)
    assert len(seen) == 4


def test_a_service_learns_which_of_its_examples_were_erased(stub: Any, dataset: str) -> None:
    erika, rose = mine("erika"), mine("rose")
    commit(stub, dataset, {"erika.txt": erika, "rose.txt": rose})
    erasure = erase(stub, dataset, key="erika.txt")
    asked = [("rose.txt", rose), ("erika.txt", b""), ("else.txt", erika)]

    examples = [
        pb.ExampleIdentity(key=key, blob=blake3(data).hexdigest() if data else "") for key, data in asked
    ]
    found = stub.CheckErased(pb.CheckErasedRequest(parent=dataset, examples=examples)).erased

    assert [(one.index, one.erasure) for one in found] == [(1, erasure.name), (2, erasure.name)]


def test_an_erased_prediction_is_not_imported_again_and_leads_nowhere(stub: Any, dataset: str) -> None:
    key, data = f"predictions/{uuid.uuid4()}-1a2b3c4d.0", mine("input")

    def take() -> Any:
        header = pb.ImportPredictionsHeader(parent=dataset, message="captured", request_id=uuid.uuid4().hex)
        parts = [
            pb.ImportPredictionsRequest(header=header),
            pb.ImportPredictionsRequest(item=pb.PredictionItem(key=key, data=data)),
        ]
        return stub.ImportPredictions(iter(parts), timeout=60)

    take()
    ended(stub, erase(stub, dataset, key=key))

    again = take()

    assert [item.reason for item in again.refused] == ["ERASED"]
    assert again.imported_count == 0
    assert list(stub.ListChildren(pb.ListChildrenRequest(name=key)).names) == []
