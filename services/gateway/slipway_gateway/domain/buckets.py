"""Sticky assignment: a key becomes one of a hundred buckets, and the mesh gives each to a version."""

import hashlib

COUNT = 100


def bucket_of(endpoint: str, key: str) -> str:
    """Return the bucket, `00` to `99`, of a key at an endpoint.

    The first eight bytes of SHA-256 over `endpoint/key`, as a number, by 100. The endpoint goes in so that a
    key which is early at one endpoint is not early at all of them. `slipway.client.bucket_of` is the same.
    """
    digest = hashlib.sha256(f"{endpoint}/{key}".encode()).digest()
    return f"{int.from_bytes(digest[:8]) % COUNT:02d}"
