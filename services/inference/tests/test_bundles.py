"""Bundles on this machine: every file is what the digest says, or the bundle is not there."""

import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubling import DOCUMENT, SIGNATURE, golden, graph, parts, with_manifest, write
from slipway_inference.domain import BundleRefused
from slipway_inference.engine.bundles import clear_leftovers, keep, open_bundle
from slipway_inference.engine.onnx_engine import OnnxEngine
from slipway_inference.engine.torch_engine import TorchEngine, check_archive
from slipway_inference.engine.warmup import check_golden, measure_costs


def pieces(files: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the files as they come over the wire: in pieces."""
    for name, data in files.items():
        for start in range(0, len(data), 100):
            yield name, data[start : start + 100]


def test_a_bundle_is_kept_under_its_digest_and_fetched_once(tmp_path: Path) -> None:
    digest, files = with_manifest(parts())

    kept = keep(tmp_path / "cache", digest, pieces(files))
    again = keep(tmp_path / "cache", digest, iter([("never", b"asked for")]))

    assert kept == again
    assert (kept.folder.name, kept.digest, kept.classes) == (digest, digest, ("left", "right"))
    assert {path.name: path.read_bytes() for path in kept.folder.iterdir()} == files


def test_a_kept_bundle_that_was_damaged_is_fetched_anew(tmp_path: Path) -> None:
    digest, files = with_manifest(parts())
    folder = keep(tmp_path, digest, pieces(files)).folder
    (folder / "model.onnx").write_bytes(b"damaged")

    again = keep(tmp_path, digest, pieces(files))

    assert (again.folder / "model.onnx").read_bytes() == files["model.onnx"]


def changed(files: dict[str, bytes], **replaced: bytes) -> dict[str, bytes]:
    return {**files, **{name.replace("__", "."): data for name, data in replaced.items()}}


WHOLE = with_manifest(parts())
WRONG: dict[str, dict[str, bytes]] = {
    "a path": {**WHOLE[1], "../evil": b"x"},
    "a folder's name": {**WHOLE[1], "..": b"x"},
    "an absolute path": {**WHOLE[1], "/tmp/evil": b"x"},
    "a damaged model": changed(WHOLE[1], model__onnx=b"other"),
    "a cut model": changed(WHOLE[1], model__onnx=WHOLE[1]["model.onnx"][:-1]),
    "no model": {name: data for name, data in WHOLE[1].items() if name != "model.onnx"},
    "no manifest": parts(),
    "a manifest that is no JSON": changed(WHOLE[1], manifest__json=b"{"),
    "a manifest that is no object": changed(WHOLE[1], manifest__json=b"[]"),
    "a manifest without files": changed(WHOLE[1], manifest__json=b"{}"),
    "a surplus file that no digest covers": {**WHOLE[1], "model.pt2": b"planted"},
    "another bundle": with_manifest(parts(golden__npz=golden(4)))[1],
}


@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_what_is_not_the_bundle_of_that_digest_is_refused_and_leaves_nothing(
    wrong: str, tmp_path: Path
) -> None:
    cache = tmp_path / "deep" / "cache"

    with pytest.raises(BundleRefused):
        keep(cache, WHOLE[0], pieces(WRONG[wrong]))

    assert list(tmp_path.rglob("*")) == [tmp_path / "deep", cache]


def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, bytes]]:
        yield from list(pieces(WHOLE[1]))[:3]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        keep(tmp_path, WHOLE[0], broken())

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_front_left_goes_at_the_next_start_but_never_while_another_downloads(
    tmp_path: Path,
) -> None:
    (tmp_path / ".bundle-half").mkdir()
    seen = []

    def watched() -> Iterator[tuple[str, bytes]]:
        clear_leftovers(tmp_path)
        seen.extend(path.name for path in tmp_path.glob(".bundle-*"))
        yield from pieces(WHOLE[1])

    keep(tmp_path, WHOLE[0], watched())
    clear_leftovers(tmp_path)

    assert len(seen) == 2
    assert [path.name for path in tmp_path.iterdir()] == [WHOLE[0]]


@pytest.mark.parametrize("needed", ["signature.json", "golden.npz"])
def test_a_bundle_that_lists_no_signature_or_golden_answers_is_refused(needed: str, tmp_path: Path) -> None:
    files = {name: data for name, data in parts().items() if name != needed}

    with pytest.raises(BundleRefused, match=needed):
        open_bundle(write(tmp_path / "b", with_manifest(files)[1]))


def test_a_signature_without_classes_is_one_of_no_classes(tmp_path: Path) -> None:
    document = json.dumps({**DOCUMENT, "classes": None}).encode()

    found = open_bundle(write(tmp_path / "b", with_manifest(parts(signature__json=document))[1]))

    assert found.classes == ()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self._path,))


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


def test_golden_answers_that_hold_a_pickle_are_refused_and_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "it-ran"
    array = io.BytesIO()
    objects: dict[str, Any] = {"in.x": np.array([Trap(trap)], dtype=object), "out.y": np.zeros((1, 2))}
    np.savez(array, **objects)
    engine = OnnxEngine(write(tmp_path / "b", parts()), SIGNATURE, 1)

    for data in (array.getvalue(), pickle.dumps(Trap(trap))):
        (tmp_path / "b" / "golden.npz").write_bytes(data)
        with pytest.raises(BundleRefused):
            check_golden(engine, tmp_path / "b", SIGNATURE)

    assert not trap.exists()


ROW = np.ones((1, 2), np.float32)


def saved(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name.replace("_", "."): array for name, array in arrays.items()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (golden()[:-30], "golden"),
        (b"PK\x03\x04 and no more", "golden"),
        (b"", "golden"),
        (saved(in_x=ROW), "lacks out.y"),
        (saved(out_y=ROW), "lacks in.x"),
        (golden(rows=0), "golden"),
        (golden(factor=2.01), "differs by up to"),
        (saved(in_x=ROW, out_y=np.full((1, 2), np.nan)), "differs by up to"),
        (saved(in_x=ROW, out_y=np.full((1, 3), 2.0)), "has shape"),
        (saved(in_x=np.ones((1, 3)), out_y=np.full((1, 3), 2.0)), "golden"),
        (saved(in_x=np.array(["a"]), out_y=ROW), "golden"),
    ],
    ids=["cut", "head", "empty", "no-out", "no-in", "no-rows", "off", "nan", "shape", "in-shape", "text"],
)
def test_golden_answers_that_do_not_come_out_are_refused(data: bytes, said: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "b", parts(golden__npz=data))
    engine = OnnxEngine(folder, SIGNATURE, 1)

    with pytest.raises(BundleRefused, match=said):
        check_golden(engine, folder, SIGNATURE)


def test_golden_answers_are_compared_batch_by_batch(tmp_path: Path) -> None:
    folder = write(tmp_path / "b", parts(golden__npz=golden(rows=21)))
    engine = OnnxEngine(folder, SIGNATURE, 1)

    assert check_golden(engine, folder, SIGNATURE) == 0.0
    assert check_golden(engine, folder, SIGNATURE.limited(5)) == 0.0


@pytest.mark.parametrize("data", [b"", b"no graph", graph()[:-5]])
def test_a_graph_that_does_not_load_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match=r"model\.onnx"):
        OnnxEngine(write(tmp_path / "b", parts(model__onnx=data)), SIGNATURE, 1)


def test_a_graph_without_a_tensor_of_the_signature_is_refused(tmp_path: Path) -> None:
    other = graph().replace(b"\x01y", b"\x01w")

    with pytest.raises(BundleRefused, match="lacks y"):
        OnnxEngine(write(tmp_path / "b", parts(model__onnx=other)), SIGNATURE, 1)


def test_costs_are_measured_up_to_the_largest_batch(tmp_path: Path) -> None:
    engine = OnnxEngine(write(tmp_path / "b", parts()), SIGNATURE, 1)

    costs = measure_costs(engine, {"x": np.zeros((6, 2), np.float32)}, 6)

    assert list(costs)[:1] == [1]
    assert set(costs) <= {1, 2, 4, 6}
    assert all(cost_ms > 0 for cost_ms in costs.values())


def test_an_archive_that_leaves_its_folder_or_holds_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    for name in ("..__x", "a__..__x", "__x", "a__code.py", "a__lib.so"):
        path.write_bytes(zipped(**{name: b"x"}))
        with pytest.raises(BundleRefused, match="plain members"):
            check_archive(path)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_planted_in_an_archive_is_refused_and_never_runs(protocol: int, tmp_path: Path) -> None:
    trap, path = tmp_path / "it-ran", tmp_path / "model.pt2"
    planted = pickle.dumps(Trap(trap), protocol=protocol)

    for name in ("m__data.pkl", "m__weights.pt", *(["m__data__weights__0"] if protocol else [])):
        path.write_bytes(zipped(**{name: planted}))
        with pytest.raises(BundleRefused, match="must not be loaded"):
            check_archive(path)

    assert not trap.exists()


@pytest.mark.parametrize("data", [b"", b"no archive", zipped(x=b"1")[:-4]])
def test_an_archive_that_is_none_is_refused(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")  # the engine sets it for its whole process
    folder = write(tmp_path / "b", {"model.pt2": data})

    with pytest.raises(BundleRefused):
        TorchEngine(folder, SIGNATURE, 1)
