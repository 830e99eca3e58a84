"""A key's bucket never changes, and keys spread evenly."""

from collections import Counter

import pytest
from scipy.stats import chisquare
from slipway_gateway.domain.buckets import bucket_of


@pytest.mark.parametrize(
    ("endpoint", "key", "bucket"), [("flowers", "ann", "64"), ("flowers", "7", "70"), ("trees", "ann", "79")]
)
def test_a_bucket_is_what_it_has_always_been(endpoint: str, key: str, bucket: str) -> None:
    assert bucket_of(endpoint, key) == bucket


def test_keys_spread_evenly_over_a_hundred_buckets() -> None:
    counts = Counter(bucket_of("flowers", f"user-{number}") for number in range(20_000))

    assert set(counts) == {f"{bucket:02d}" for bucket in range(100)}
    assert chisquare(list(counts.values())).pvalue > 1e-4
