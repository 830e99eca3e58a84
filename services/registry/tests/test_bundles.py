"""Bundles in and out over a real store: kept as a whole, once, under what they are."""

import json
from pathlib import Path

import numpy as np
import pytest
from parcels import arrays, parts, sent, with_manifest, zipped
from slipway_registry.domain import BundleFile
from slipway_registry.usecases.bundles import REFUSED, Bundles
from slipway_runtime.errors import InvalidArgument, NotFound, ResourceExhausted
from slipway_runtime.objects import ObjectStore


def received(bundles: Bundles, name: str, *wanted: str) -> dict[str, bytes]:
    """Return the files that come out."""
    found: dict[str, bytes] = {}
    for part in bundles.read(name, wanted):
        if isinstance(part, BundleFile):
            current, found[part.name] = part.name, b""
        else:
            found[current] += part
    return found


def test_a_bundle_comes_out_as_it_went_in_or_the_files_asked_for(bundles: Bundles) -> None:
    name, files = with_manifest(parts())

    made = bundles.receive(name, sent(files))

    assert made.name == name
    assert received(bundles, name) == files
    assert received(bundles, name, "golden.npz") == {"golden.npz": files["golden.npz"]}
    assert made.size_bytes == sum(map(len, files.values()))
    listed = json.loads(files["manifest.json"])["files"]
    assert {file.name: file.blake3 for file in made.files if file.name in listed} == {
        file: entry["blake3"] for file, entry in listed.items()
    }
    with pytest.raises(InvalidArgument, match="does not hold"):
        received(bundles, name, "model.pt2")


def test_the_same_bundle_again_is_the_same_answer(bundles: Bundles) -> None:
    name, files = with_manifest(parts())

    assert bundles.receive(name, sent(files)) == bundles.receive(name, sent(files))


def test_another_manifest_over_the_same_files_changes_nothing_that_is_kept(bundles: Bundles) -> None:
    name, files = with_manifest(parts())
    same, others = with_manifest(parts(), parity={"max_abs_diff": 0.0}, engines=["torch"])
    made = bundles.receive(name, sent(files))

    again = bundles.receive(same, sent(others))

    assert same == name
    assert again == made == bundles.get(name)
    assert received(bundles, name) == files


def test_a_bundle_that_is_refused_leaves_nothing_and_is_counted(
    bundles: Bundles, objects: ObjectStore, tmp_path: Path
) -> None:
    name, good = with_manifest(parts())
    pickled = with_manifest(parts({"golden.npz": arrays(x=np.array([{}], dtype=object))}))
    outside = with_manifest(parts({"model.pt2": zipped({"../x": b"x"})}))
    refused = [
        pickled,
        outside,
        (name, {**good, "model.onnx": b"another graph"}),
        (name, {**good, "../../etc/passwd": b"x"}),
        ("bundles/" + "0" * 64, good),
        (name, {}),
    ]
    before = REFUSED._value.get()

    for asked, files in refused:
        with pytest.raises(InvalidArgument) as caught:
            bundles.receive(asked, sent(files))
        assert caught.value.reason == "BUNDLE_REFUSED"
        with pytest.raises(NotFound):
            bundles.get(asked)

    assert REFUSED._value.get() - before == len(refused)
    assert objects.list("") == []
    assert list((tmp_path / "staging").iterdir()) == []


@pytest.mark.parametrize("field", ["split", "metrics", "classes", "confusion_matrix", "per_class"])
def test_an_evaluation_that_no_listing_could_show_is_refused_by_field(bundles: Bundles, field: str) -> None:
    evaluation = json.dumps({"split": "test", "metrics": {"accuracy": 0.75}, field: {"a": ["b"]}}).encode()
    name, files = with_manifest(parts({"evaluation.json": evaluation}))

    with pytest.raises(InvalidArgument, match=field) as refused:
        bundles.receive(name, sent(files))

    assert refused.value.reason == "BUNDLE_REFUSED"


def test_a_stream_out_of_order_is_refused(bundles: Bundles) -> None:
    name, files = with_manifest(parts())

    with pytest.raises(InvalidArgument, match="before a file was begun"):
        bundles.receive(name, iter([b"bytes"]))
    with pytest.raises(InvalidArgument, match="was sent twice"):
        bundles.receive(name, [*sent(files), *sent({"model.onnx": b"x"})])


@pytest.mark.parametrize("lie", [0, 1 << 40], ids=["small", "large"])
def test_a_bundle_above_the_limit_is_refused_whatever_it_says_of_its_size(
    lie: int, bundles: Bundles, tmp_path: Path
) -> None:
    read = []

    def endless() -> object:
        yield BundleFile("model.onnx", lie, "")
        while True:
            read.append(1 << 18)
            yield bytes(1 << 18)

    with pytest.raises(ResourceExhausted):
        bundles.receive("bundles/" + "0" * 64, endless())  # type: ignore[arg-type]

    assert sum(read) <= (1 << 20) + (1 << 18)
    assert list((tmp_path / "staging").iterdir()) == []


def test_an_upload_that_breaks_off_leaves_nothing_and_can_be_repeated(
    bundles: Bundles, objects: ObjectStore, tmp_path: Path
) -> None:
    name, files = with_manifest(parts())

    def broken() -> object:
        yield from list(sent(files))[:3]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        bundles.receive(name, broken())  # type: ignore[arg-type]
    left = (objects.list(""), list((tmp_path / "staging").iterdir()))
    bundles.receive(name, sent(files))

    assert left == ([], [])
    assert received(bundles, name) == files
