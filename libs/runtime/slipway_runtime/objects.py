"""Objects in any S3: small verbs over minio-py, with the errors callers can act on."""

import io
from collections.abc import Iterable, Iterator
from datetime import timedelta

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from slipway_runtime.errors import NotFound, Unavailable
from slipway_runtime.settings import ObjectSettings

_MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchObject"}


class ObjectStore:
    """One bucket."""

    def __init__(self, client: Minio, bucket: str, public: Minio | None = None) -> None:
        self._client = client
        self._public = public or client
        self._bucket = bucket

    @classmethod
    def connect(cls, settings: ObjectSettings) -> "ObjectStore":
        """Return the service's bucket, made when absent.

        Raises:
            Unavailable: The S3 server does not answer.
        """
        client = _client(settings, settings.s3_endpoint)
        public = _client(settings, settings.s3_public_endpoint or settings.s3_endpoint)
        store = cls(client, settings.s3_bucket, public)
        store.make_bucket()
        return store

    def make_bucket(self) -> None:
        """Make the bucket unless it is there."""
        with _s3_errors(self._bucket):
            try:
                if not self._client.bucket_exists(bucket_name=self._bucket):
                    self._client.make_bucket(bucket_name=self._bucket)
            except S3Error as error:
                if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                    raise

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Store the bytes under the key; durable when this returns."""
        with _s3_errors(key):
            self._client.put_object(
                bucket_name=self._bucket,
                object_name=key,
                data=io.BytesIO(data),
                length=len(data),
                content_type=content_type,
            )

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Store the bytes unless the key is taken; say whether they were stored.

        For content-addressed keys, where what is there equals what would be written.
        """
        if self.exists(key):
            return False
        self.put(key, data)
        return True

    def put_stream(self, key: str, stream: io.BufferedIOBase, length: int) -> None:
        """Store `length` bytes of a stream (multipart above 5 MiB)."""
        with _s3_errors(key):
            self._client.put_object(
                bucket_name=self._bucket,
                object_name=key,
                data=stream,
                length=length,  # type: ignore[arg-type]
            )

    def get(self, key: str, offset: int = 0, length: int = 0) -> bytes:
        """Return the bytes of an object, or `length` of them from `offset`.

        Raises:
            NotFound: There is no such object (OBJECT_NOT_FOUND).
        """
        with _s3_errors(key):
            response = self._client.get_object(
                bucket_name=self._bucket, object_name=key, offset=offset, length=length
            )
            try:
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

    def stream(self, key: str, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """Yield the bytes of an object in pieces."""
        with _s3_errors(key):
            response = self._client.get_object(bucket_name=self._bucket, object_name=key)
            try:
                yield from response.stream(chunk_bytes)
            finally:
                response.close()
                response.release_conn()

    def exists(self, key: str) -> bool:
        """Say whether there is an object under the key."""
        try:
            with _s3_errors(key):
                self._client.stat_object(bucket_name=self._bucket, object_name=key)
        except NotFound:
            return False
        return True

    def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with the prefix, in order."""
        with _s3_errors(prefix):
            found = self._client.list_objects(bucket_name=self._bucket, prefix=prefix, recursive=True)
            return [str(entry.object_name) for entry in found]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete the objects; those that are not there are no error."""
        with _s3_errors("delete"):
            targets = [DeleteObject(key) for key in keys]
            for error in self._client.remove_objects(bucket_name=self._bucket, delete_object_list=targets):
                raise Unavailable(
                    "OBJECT_NOT_DELETED", f"object {error.name!r} was not deleted: {error.message}"
                )

    def presign_get(self, key: str, expires_s: int = 900) -> str:
        """Return a URL, signed for the public endpoint, that reads the object for a while."""
        with _s3_errors(key):
            return self._public.presigned_get_object(
                bucket_name=self._bucket, object_name=key, expires=timedelta(seconds=expires_s)
            )


def _client(settings: ObjectSettings, endpoint: str) -> Minio:
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=5, read=60),
        maxsize=16,
        retries=urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
    )
    return Minio(
        endpoint=endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        secure=settings.s3_secure,
        region="us-east-1",
        http_client=pool,
    )


class _s3_errors:
    """Turns the library's errors into ours."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, S3Error):
            if error.code in _MISSING:
                raise NotFound("OBJECT_NOT_FOUND", f"there is no object {self._key!r}") from error
            raise Unavailable(
                "OBJECT_STORE_FAILED",
                f"the object store refused {self._key!r}: {error.code}",
                retry_after_s=1.0,
            ) from error
        if isinstance(error, urllib3.exceptions.HTTPError):
            raise Unavailable(
                "OBJECT_STORE_UNREACHABLE",
                f"the object store did not answer for {self._key!r}",
                retry_after_s=1.0,
            ) from error
