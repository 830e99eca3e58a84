"""A commit as a local folder, by the real service: verified, cached, never half, nothing of yours lost."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from running import Keys, Service
from slipway.client.checkout import check_out
from slipway.client.errors import SlipwayError
from slipway.client.sources import read_source
from slipway.ingestion.v1 import ingestion_pb2 as pb
from slipway.ingestion.v1 import ingestion_pb2_grpc

TEXTS = {
    "rose/1.txt": "one",
    "rose/2.txt": "two",
    "tulip/1.txt": "one",
    "odd//key.txt": "three",
    "rose": "four",
}


@pytest.fixture(scope="module")
def stub(ingestion: Service, keys: Keys) -> Iterator[Any]:
    with ingestion.channel(keys.user("ann")) as opened:
        yield ingestion_pb2_grpc.IngestionServiceStub(opened)


@pytest.fixture
def dataset(stub: Any) -> str:
    return str(stub.CreateDataset(pb.CreateDatasetRequest(dataset_id=f"d-{uuid.uuid4().hex[:12]}")).name)


def commit(stub: Any, dataset: str, texts: dict[str, str], **fields: Any) -> str:
    header = pb.UploadHeader(parent=dataset, label_source="imports/test")
    items = [
        pb.UploadItem(key=key, data=text.encode(), label=f"l-{text}", group="g", attributes={"lamp": "old"})
        for key, text in texts.items()
    ]
    parts = [pb.UploadExamplesRequest(header=header), *(pb.UploadExamplesRequest(item=i) for i in items)]
    upload = stub.UploadExamples(iter(parts), timeout=60)
    request = pb.CreateCommitRequest(parent=dataset, uploads=[upload.name], message="m", **fields)
    return str(stub.CreateCommit(request, timeout=60).name)


def test_every_example_lies_in_the_folder_under_its_key_where_that_can_be(
    stub: Any, dataset: str, tmp_path: Path
) -> None:
    name = commit(stub, dataset, TEXTS)

    done = check_out(stub, name, tmp_path / "out", cache=tmp_path / "cache")

    rows = [json.loads(line) for line in (tmp_path / "out" / "examples.jsonl").read_text().splitlines()]
    assert {row["key"]: (tmp_path / "out" / row["path"]).read_text() for row in rows} == TEXTS
    assert {row["key"] for row in rows if row["path"] != row["key"]} == {"odd//key.txt", "rose"}
    assert (done.examples, done.fetched) == (5, 4)  # "one" is there twice and comes once


def test_a_checkout_imports_again_as_the_same_examples(stub: Any, dataset: str, tmp_path: Path) -> None:
    name = commit(stub, dataset, TEXTS)
    check_out(stub, name, tmp_path / "out", cache=tmp_path / "cache")

    items = read_source(tmp_path / "out" / "examples.jsonl")

    assert {item.key: item.content().decode() for item in items} == TEXTS
    assert {(i.label_source, i.group, *i.attributes.items()) for i in items} == {
        ("imports/test", "g", ("lamp", "old"))
    }
    assert {item.label for item in items} == {f"l-{text}" for text in TEXTS.values()}


def test_a_second_checkout_fetches_what_changed(stub: Any, dataset: str, tmp_path: Path) -> None:
    first = commit(stub, dataset, TEXTS)
    check_out(stub, first, tmp_path / "out", cache=tmp_path / "cache")
    second = commit(stub, dataset, {"rose/2.txt": "changed"}, remove_keys=["tulip/1.txt"])

    done = check_out(stub, second, tmp_path / "out", cache=tmp_path / "cache")

    assert (done.examples, done.fetched) == (4, 1)
    assert (tmp_path / "out" / "rose" / "2.txt").read_text() == "changed"
    assert not (tmp_path / "out" / "tulip").exists()


def test_a_damaged_blob_of_the_cache_is_fetched_again(stub: Any, dataset: str, tmp_path: Path) -> None:
    name = commit(stub, dataset, {"a.txt": "true bytes"})
    check_out(stub, name, tmp_path / "one", cache=tmp_path / "cache")
    digest = blake3(b"true bytes").hexdigest()
    cached = tmp_path / "cache" / digest[:2] / digest[2:]
    cached.chmod(0o644)
    cached.write_bytes(b"false bytes")

    done = check_out(stub, name, tmp_path / "two", cache=tmp_path / "cache")

    assert done.fetched == 1
    assert (tmp_path / "two" / "a.txt").read_bytes() == b"true bytes"


def test_changed_files_are_refused_by_name_unless_forced(stub: Any, dataset: str, tmp_path: Path) -> None:
    name = commit(stub, dataset, {"a.txt": "one", "b.txt": "two"})
    out = tmp_path / "out"
    check_out(stub, name, out, cache=tmp_path / "cache")
    (out / "a.txt").write_text("my own work")

    with pytest.raises(SlipwayError, match=r"a\.txt"):
        check_out(stub, name, out, cache=tmp_path / "cache")
    assert (out / "a.txt").read_text() == "my own work"

    check_out(stub, name, out, cache=tmp_path / "cache", force=True)
    assert (out / "a.txt").read_text() == "one"


def test_a_folder_of_something_else_is_refused_even_when_forced(
    stub: Any, dataset: str, tmp_path: Path
) -> None:
    name = commit(stub, dataset, {"a.txt": "one"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")

    with pytest.raises(SlipwayError, match="of no checkout"):
        check_out(stub, name, tmp_path / "out", cache=tmp_path / "cache", force=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_bytes_that_are_not_the_blobs_leave_no_folder(stub: Any, dataset: str, tmp_path: Path) -> None:
    name = commit(stub, dataset, {"a.txt": "one", "b.txt": "two"})

    class Lying:
        """The real service behind a wire that flips a bit."""

        def ReadExamples(self, request: Any) -> Iterator[Any]:
            for part in stub.ReadExamples(request):
                for one in part.examples:
                    one.data = one.data[:-1] + b"?" if one.data else b""
                yield part

    with pytest.raises(SlipwayError, match="not its own"):
        check_out(Lying(), name, tmp_path / "out", cache=tmp_path / "cache")

    assert [path.name for path in tmp_path.iterdir()] in ([], ["cache"])
    assert check_out(stub, name, tmp_path / "out", cache=tmp_path / "cache").examples == 2


def test_one_split_alone_may_be_checked_out(stub: Any, dataset: str, tmp_path: Path) -> None:
    name = commit(stub, dataset, {f"{i}.txt": f"text {i}" for i in range(40)})

    done = {
        split: check_out(stub, name, tmp_path / split, split=split, cache=tmp_path / "cache")
        for split in ("train", "validation", "test")
    }

    assert sum(one.examples for one in done.values()) == 40
