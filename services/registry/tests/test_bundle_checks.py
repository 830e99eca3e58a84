"""What a bundle may hold: looked at without loading any of it, refused with the file's name."""

import pickle
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parcels import arrays, parts, with_manifest, write, zipped
from slipway_registry.engine.bundle import ALLOWED, BundleError, check_name, read

WEIGHTS = "m/data/weights/weight_0"


def refusal(folder: Path, files: dict[str, bytes]) -> str:
    """Return why a bundle of these files is refused."""
    with pytest.raises(BundleError) as caught:
        read(write(folder, files))
    return str(caught.value)


def why(folder: Path, **changed: bytes) -> str:
    """Return why a bundle with these files, rightly listed, is refused; `model__pt2=…` adds model.pt2."""
    return refusal(folder, with_manifest(parts({k.replace("__", "."): v for k, v in changed.items()}))[1])


def test_a_good_bundle_says_its_digest_its_manifest_and_its_evaluation(tmp_path: Path) -> None:
    name, files = with_manifest(parts(), engines=["onnx"])

    found = read(write(tmp_path / "b", files))

    assert f"bundles/{found.digest}" == name
    assert found.manifest["engines"] == ["onnx"]
    assert found.evaluation["metrics"] == {"accuracy": 0.75}


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../model.onnx",
        "a/model.onnx",
        "/etc/passwd",
        "..\\model.onnx",
        "model.onnx\0",
        "run.sh",
    ],
)
def test_a_name_with_a_folder_or_of_no_bundles_file_is_refused(name: str) -> None:
    with pytest.raises(BundleError):
        check_name(name)


def test_every_allowed_name_passes() -> None:
    assert [check_name(name) for name in ALLOWED] == list(ALLOWED)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "signature.json", "evaluation.json"])
def test_a_bundle_that_lacks_a_file_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    files = {other: data for other, data in parts().items() if other != name}

    assert name in refusal(tmp_path / "b", with_manifest(files)[1])


def test_a_file_that_is_not_the_listed_one_is_refused_by_its_name(tmp_path: Path) -> None:
    _, files = with_manifest(parts())

    assert "model.onnx" in refusal(tmp_path / "a", {**files, "model.onnx": b"another graph"})
    assert "model.onnx" in refusal(tmp_path / "b", {**files, "model.onnx": files["model.onnx"][:-1]})
    assert "profile.json" in refusal(tmp_path / "c", {**files, "profile.json": b"{}"})


def test_a_manifest_that_lists_itself_what_was_not_sent_or_a_path_is_refused(tmp_path: Path) -> None:
    listed_only = with_manifest(parts({"profile.json": b"{}"}))[1]
    del listed_only["profile.json"]

    assert "profile.json" in refusal(tmp_path / "a", listed_only)
    assert "manifest.json" in refusal(tmp_path / "b", with_manifest(parts({"manifest.json": b"{}"}))[1])
    path = with_manifest({**parts(), "../x": b"x"})[1]
    del path["../x"]
    assert "no folders" in refusal(tmp_path / "c", path)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b"{}", b'{"files": []}', b'{"files": {"model.onnx": 1}}', b"\xff", b"[" * 100_000],
)
def test_a_manifest_that_is_none_is_refused(manifest: bytes, tmp_path: Path) -> None:
    assert refusal(tmp_path / "b", {**parts(), "manifest.json": manifest})


@pytest.mark.parametrize(
    "document",
    [
        b"{",
        b"[]",
        b"1",
        b'{"a": ' + b"[" * 100_000,
        b'{"loss": NaN}',
        b'{"loss": -Infinity}',
        b'{"a": "\\u0000"}',
        b'{"a": "\\ud800"}',
    ],
    ids=["cut", "list", "number", "deep", "nan", "infinity", "nul", "half-a-character"],
)
def test_json_that_the_registry_could_not_keep_is_refused_by_file(document: bytes, tmp_path: Path) -> None:
    assert "'evaluation.json'" in why(tmp_path / "b", evaluation__json=document)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self._path,))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "file", ["model.onnx", "weights.safetensors", "golden.npz", "profile.json", "model.pt2"]
)
def test_a_pickle_in_place_of_a_file_is_refused_and_never_runs(
    file: str, protocol: int, tmp_path: Path
) -> None:
    trap = tmp_path / "it-ran"
    planted = pickle.dumps(Trap(trap), protocol=protocol)

    assert repr(file) in why(tmp_path / "b", **{file.replace(".", "__"): planted})
    assert not trap.exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("member", ["m/data.pkl", "m/data/weights.pt", "m/a.pickle", WEIGHTS])
def test_a_pickle_in_an_archive_is_refused_and_never_runs(member: str, protocol: int, tmp_path: Path) -> None:
    trap = tmp_path / "it-ran"
    planted = pickle.dumps(Trap(trap), protocol=protocol)

    for number, data in enumerate((planted, b"N0" + planted, planted[:-1])):  # a prefix; no STOP: runs anyway
        assert member in why(tmp_path / f"b{number}", model__pt2=zipped({member: data}))
    assert not trap.exists()


def test_a_pickle_that_fetches_a_name_from_its_memo_is_refused(tmp_path: Path) -> None:
    def text(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode()

    hidden = text("os") + b"\x940" + text("getcwd") + b"\x940"  # memo 0 and 1, popped
    shown = text("collections") + b"0" + text("OrderedDict") + b"0"
    planted = b"\x80\x04" + hidden + shown + b"h\x00h\x01\x93)R."
    assert pickle.loads(planted) == str(Path.cwd())

    for member in ("m/data.pkl", WEIGHTS):
        assert member in why(tmp_path / member.replace("/", "-"), model__pt2=zipped({member: planted}))


def test_a_pickle_of_no_more_than_its_call_is_refused(tmp_path: Path) -> None:
    calls = (b"\x80\x04\x8c\x02os\x8c\x06getcwd\x93)R.", b"cos\ngetcwd\n)R.", b"(ios\ngetcwd\n.")
    for number, planted in enumerate(calls):
        assert pickle.loads(planted) == str(Path.cwd())
        assert WEIGHTS in why(tmp_path / f"b{number}", model__pt2=zipped({WEIGHTS: planted}))


def test_a_second_pickle_behind_an_honest_one_is_refused(tmp_path: Path) -> None:
    honest = pickle.dumps({"a": 1}, protocol=2)

    data = zipped({"m/data.pkl": honest + pickle.dumps(Trap(tmp_path / "it-ran"), protocol=2)})

    assert "m/data.pkl" in why(tmp_path / "b", model__pt2=data)


def test_an_honest_archive_of_tensors_passes(tmp_path: Path) -> None:
    tensors = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00ccollections\nOrderedDict\nq\x01)Rq\x02"
        b"ctorch\nFloatStorage\nq\x03ctorch\nfloat32\nq\x04."
    )
    files = parts(
        {
            "model.pt2": zipped(
                {"m/data.pkl": tensors, "m/models/model.json": b"{}", "m/version": b"6\n", "m/inputs.pt": b""}
            )
        }
    )

    assert read(write(tmp_path / "b", with_manifest(files)[1])).digest


@pytest.mark.parametrize("first", [0x28, 0x63, 0x80, 0x82, 0x83, 0x84, 0x93, 0x8C, 0x58])
def test_raw_weights_may_begin_with_any_byte(first: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(first)
    weights = {}
    for number in range(40):
        values = draw.normal(size=64).astype("<f4").tobytes()
        second = 2 + number % 4 if first == 0x80 else values[1]
        weights[f"m/data/weights/weight_{number}"] = bytes([first, second]) + values[2:]

    assert read(write(tmp_path / "b", with_manifest(parts({"model.pt2": zipped(weights)}))[1])).digest


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x"])
@pytest.mark.parametrize("file", ["golden.npz", "model.pt2"])
def test_an_archive_that_leaves_its_folder_is_refused(file: str, name: str, tmp_path: Path) -> None:
    assert "leaves its folder" in why(tmp_path / "b", **{file.replace(".", "__"): zipped({name: b"x"})})


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("m/data/weights/weight_0")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "linked.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")

    assert "is a link" in why(tmp_path / "b", model__pt2=path.read_bytes())


def broken_archives() -> dict[str, bytes]:
    whole = zipped({"x.npy": arrays(a=np.zeros(3))})
    secret = bytearray(whole)
    secret[6] |= 1  # says that it is encrypted, in both headers
    secret[whole.rindex(b"PK\x01\x02") + 8] |= 1
    method = bytearray(whole)
    method[whole.rindex(b"PK\x01\x02") + 10] = 99
    return {
        "no archive": b"text",
        "a cut end": whole[:-5],
        "no local header": b"XX" + whole[2:],
        "a directory elsewhere": whole[:-6] + struct.pack("<I", 7) + whole[-2:],
        "encrypted": bytes(secret),
        "an unknown method": bytes(method),
    }


@pytest.mark.parametrize("how", sorted(broken_archives()))
@pytest.mark.parametrize("file", ["golden.npz", "model.pt2"])
def test_a_damaged_archive_is_refused_by_name(file: str, how: str, tmp_path: Path) -> None:
    assert repr(file) in why(tmp_path / "b", **{file.replace(".", "__"): broken_archives()[how]})


def test_an_archive_in_an_archive_is_refused(tmp_path: Path) -> None:
    assert "archive in an archive" in why(tmp_path / "b", model__pt2=zipped({"m/x": zipped({"y": b"z"})}))


def test_an_archive_in_place_of_a_graph_is_refused(tmp_path: Path) -> None:
    assert "'model.onnx'" in why(tmp_path / "b", model__onnx=zipped({"data.pkl": b"x"}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"12345678",
        struct.pack("<Q", 1 << 40) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        b"\x80\x04" + b"{" * 9,
    ],
)
def test_weights_that_are_no_safetensors_are_refused(data: bytes, tmp_path: Path) -> None:
    assert "weights.safetensors" in why(tmp_path / "b", weights__safetensors=data)


def test_golden_answers_of_objects_are_refused(tmp_path: Path) -> None:
    assert "no plain array" in why(tmp_path / "a", golden__npz=arrays(x=np.array([{}], dtype=object)))
    assert "no plain array" in why(tmp_path / "b", golden__npz=zipped({"x.npy": b"text"}))
    structured = np.zeros(2, dtype=[("a", "f4"), ("b", "O")])
    assert "no plain array" in why(tmp_path / "c", golden__npz=arrays(x=structured))


def test_golden_answers_that_unpack_to_too_much_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(arrays(x=np.zeros(1))[:128])
        for _ in range(257):
            member.write(bytes(1 << 20))

    assert path.stat().st_size < 1 << 20
    assert "unpacks to" in why(tmp_path / "b", golden__npz=path.read_bytes())
