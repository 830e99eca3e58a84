"""Bytes on their way in: what they are, where they are packed, which split they fall into."""

import io
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from blake3 import blake3
from PIL import Image
from slipway_ingestion.domain import SplitPolicy, check_id, key_trouble
from slipway_ingestion.engine import inspect as looking
from slipway_ingestion.engine.inspect import Content, RefusalError, inspect
from slipway_ingestion.engine.packs import DamagedBlobError, Packer, Place, read_blobs
from slipway_runtime.errors import InvalidArgument


def image(kind: str, size: tuple[int, int] = (5, 4)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 50).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg")])
def test_images_are_known_by_their_bytes(kind: str, media_type: str) -> None:
    assert inspect("any.bin", image(kind)) == Content(media_type, 5, 4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_that_is_cut_short_is_damaged(kind: str) -> None:
    data = image(kind, (64, 64))

    with pytest.raises(RefusalError) as refused:
        inspect("x", data[: len(data) // 2])

    assert refused.value.reason == "DAMAGED_IMAGE"


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "MAX_PIXELS", 15)

    with pytest.raises(RefusalError) as refused:
        inspect("x", image("PNG"))

    assert refused.value.reason == "IMAGE_TOO_LARGE"


def test_an_image_of_more_pixels_than_pillow_opens_is_too_large_and_not_damaged() -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(buffer, "PNG")

    with pytest.raises(RefusalError) as refused:
        inspect("x", buffer.getvalue())

    assert refused.value.reason == "IMAGE_TOO_LARGE"


def test_looking_at_images_at_once_leaves_the_process_s_warnings_as_they_are() -> None:
    before = list(warnings.filters)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda data: inspect("x", data), [image("PNG", (64, 64))] * 200))

    assert list(warnings.filters) == before


def test_text_is_utf8_without_nul_and_no_image_by_name() -> None:
    assert inspect("a.txt", "grün".encode()) == Content("text/plain")
    for key, data in (("a.txt", b"\xff\xfe"), ("a.txt", b"nul\0"), ("a.png", b"text")):
        with pytest.raises(RefusalError):
            inspect(key, data)


def test_a_pack_holds_each_blob_once_and_none_that_is_known() -> None:
    packer = Packer(limit_bytes=10)
    blobs = {blake3(data).hexdigest(): data for data in (b"aaaa", b"bbbb", b"cccc")}
    for digest, data in [*blobs.items(), *blobs.items()]:
        packer.add(digest, data)
    known = blake3(b"bbbb").hexdigest()

    assert packer.full
    pack = packer.take([known])

    assert pack is not None
    assert pack.data == b"aaaacccc"
    assert packer.take([]) is None


def test_blobs_are_read_by_pack_and_a_damaged_one_is_named() -> None:
    data = b"aaaabbbb"
    places = [Place(blake3(part).hexdigest(), "p", start, 4) for start, part in ((0, b"aaaa"), (4, b"bbbb"))]
    fetched: list[str] = []

    def whole(pack: str) -> bytes:
        fetched.append(pack)
        return data

    assert set(read_blobs(places, whole, lambda *_: b"", lambda _: 8).values()) == {b"aaaa", b"bbbb"}
    assert fetched == ["p"]
    with pytest.raises(DamagedBlobError, match=places[0].blob):
        read_blobs(places[:1], lambda _: b"aaxa" + data[4:], lambda *_: b"aaxa", lambda _: 8)


def test_a_split_is_a_function_of_the_group_and_keeps_its_shares() -> None:
    policy = SplitPolicy(70, 20, 10)

    counts = Counter(policy.split(f"group {number}") for number in range(20_000))

    assert counts["train"] == pytest.approx(14_000, rel=0.03)
    assert counts["validation"] == pytest.approx(4_000, rel=0.06)
    assert policy.split("one") == policy.split("one")
    assert len({SplitPolicy(50, 50, 0, salt).split("one") for salt in "abcdefghij"}) == 2


@pytest.mark.parametrize("key", ["", "x" * 513, "a\nb", "/etc/passwd", "a/../b"])
def test_a_key_that_would_harm_is_refused(key: str) -> None:
    assert key_trouble(key)


@pytest.mark.parametrize("id", ["", "-a", "a-", "A", "a" * 64, "a/b", "ä"])
def test_an_id_is_a_dns_label(id: str) -> None:
    with pytest.raises(InvalidArgument):
        check_id("dataset_id", id)
