"""Rows out of the object store: what is damaged there is named, never served."""

from typing import Any

import pytest
from slipway_ingestion.domain import Row
from slipway_ingestion.engine.ranges import RangeRef, digest_of
from slipway_ingestion.usecases.content import Content, Cost, DamagedRowsError

ROWS = [Row(f"{number:03}", blob="ab" * 32, size=1, label="rose") for number in range(40)]
REF = RangeRef(digest_of(ROWS), ROWS[0].key, ROWS[-1].key, len(ROWS), len(ROWS))


class Bucket:
    """Objects in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.kept.setdefault(key, data) is data

    def get(self, key: str, **_: Any) -> bytes:
        return self.kept[key]


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def content(bucket: Bucket) -> Content:
    return Content(objects=bucket, cache_bytes=1 << 20)  # type: ignore[arg-type]


def test_a_range_with_another_label_in_it_is_damaged_and_its_object_is_named(bucket: Bucket) -> None:
    content(bucket).keep_range(REF, ROWS, Cost())
    forged = [Row(row.key, blob=row.blob, size=row.size, label="tulip") for row in ROWS]
    other = RangeRef(digest_of(forged), REF.first_key, REF.last_key, REF.rows, REF.bytes)
    content(bucket).keep_range(other, forged, Cost())

    assert content(bucket).rows(REF) == ROWS
    bucket.kept[f"ranges/{REF.digest}"] = bucket.kept[f"ranges/{other.digest}"]

    with pytest.raises(DamagedRowsError, match=REF.digest):
        content(bucket).rows(REF)


def test_rows_of_an_upload_that_were_changed_are_damaged(bucket: Bucket) -> None:
    digest = content(bucket).keep_rows(ROWS, Cost())

    assert content(bucket).rows_of_upload(digest) == ROWS
    bucket.kept[f"uploads/{digest}"] += b"x"

    with pytest.raises(DamagedRowsError, match=digest):
        content(bucket).rows_of_upload(digest)
