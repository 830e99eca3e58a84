"""Objects against a real S3."""

import pytest
from slipway_runtime.errors import NotFound, Unavailable
from slipway_runtime.objects import ObjectStore
from slipway_runtime.settings import ObjectSettings


@pytest.fixture
def store(s3: object) -> ObjectStore:
    return ObjectStore.connect(
        ObjectSettings(
            s3_endpoint=s3.endpoint,  # type: ignore[attr-defined]
            s3_access_key=s3.access_key,  # type: ignore[attr-defined]
            s3_secret_key=s3.secret_key,  # type: ignore[attr-defined]
            s3_bucket=s3.fresh_bucket(),  # type: ignore[attr-defined]
        )
    )


def test_what_was_put_is_read_back_whole_and_in_part(store: ObjectStore) -> None:
    store.put("a/b", b"0123456789")

    assert store.get("a/b") == b"0123456789"
    assert store.get("a/b", offset=2, length=3) == b"234"
    assert b"".join(store.stream("a/b", 4)) == b"0123456789"


def test_a_missing_object_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(NotFound, match="nothing/here"):
        store.get("nothing/here")


def test_keys_are_listed_and_deleted(store: ObjectStore) -> None:
    for key in ("x/1", "x/2", "y/1"):
        store.put_if_absent(key, b"x")

    store.delete(["x/1", "x/never"])

    assert store.list("x/") == ["x/2"]
    assert store.put_if_absent("x/2", b"other") is False
    assert store.get("x/2") == b"x"


def test_a_server_that_is_away_is_unavailable() -> None:
    settings = ObjectSettings(
        s3_endpoint="127.0.0.1:1", s3_access_key="a", s3_secret_key="b" * 8, s3_bucket="none"
    )

    with pytest.raises(Unavailable):
        ObjectStore.connect(settings)
