"""Bundles in and out: received into a folder, checked there, kept in the object store, then in a row.

A crash before the row leaves objects that nothing names; the next upload of the same bundle finds them. A row
is never there before all of its objects are.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from prometheus_client import Counter
from slipway_runtime.db import Database
from slipway_runtime.errors import InvalidArgument, NotFound, ResourceExhausted
from slipway_runtime.objects import ObjectStore

from slipway_registry.domain import Bundle, BundleFile, check_digest
from slipway_registry.engine import bundle as checks
from slipway_registry.store import Store

REFUSED = Counter("slipway_registry_bundles_refused_total", "Bundles that were refused.")
Part = BundleFile | bytes


class Bundles:
    """The verbs over bundles.

    Args:
        database: Of the registry.
        objects: Where files are kept.
        max_bytes: Of one bundle.
        staging: Folder for what arrives; empty: the temporary one.
        check_evaluation: Raises ValueError for an evaluation that the API cannot show.
    """

    def __init__(
        self,
        *,
        database: Database,
        objects: ObjectStore,
        max_bytes: int,
        staging: str,
        check_evaluation: Callable[[dict[str, Any]], None],
    ) -> None:
        self._check_evaluation = check_evaluation
        self._database = database
        self._objects = objects
        self._max_bytes = max_bytes
        self._staging = staging or None

    def receive(self, name: str, parts: Iterable[Part]) -> Bundle:
        """Take a bundle, check it, keep it; the same bundle again is the same answer.

        Args:
            name: `bundles/{digest}` that the sender computed.
            parts: For each file its start, then its bytes.

        Raises:
            InvalidArgument: The bundle is refused (BUNDLE_REFUSED); nothing of it ran or is kept.
            ResourceExhausted: It is larger than the limit.
        """
        digest = check_digest(name, "header.name")
        with tempfile.TemporaryDirectory(prefix="bundle-", dir=self._staging) as staging:
            folder = Path(staging)
            try:
                self._fill(folder, parts)
                read = checks.read(folder)
                if read.digest != digest:
                    raise checks.BundleError(f"its files give {read.digest}, not {digest}; send it again")
                self._check_shown(read.evaluation)
            except checks.BundleError as error:
                REFUSED.inc()
                raise InvalidArgument("BUNDLE_REFUSED", f"{name}: {error}") from error
            known = self._known(digest)
            if known is not None:  # the digest is over the files alone: another manifest replaces nothing
                return known
            files = self._keep(digest, folder, read.manifest)
        bundle = Bundle(digest, files, read.manifest, read.evaluation, datetime.now(UTC))
        with self._database.transaction() as connection:
            return Store(connection).add_bundle(bundle)

    def get(self, name: str) -> Bundle:
        """Return one bundle.

        Raises:
            NotFound: There is none of that digest.
        """
        found = self._known(check_digest(name))
        if found is None:
            raise NotFound.of("BUNDLE_NOT_FOUND", "bundle", name)
        return found

    def read(self, name: str, wanted: Iterable[str]) -> Iterator[Part]:
        """Yield each file's start, then its bytes."""
        bundle = self.get(name)
        names = set(wanted) or {file.name for file in bundle.files}
        unknown = names - {file.name for file in bundle.files}
        if unknown:
            raise InvalidArgument.field("files", f"names {sorted(unknown)}, which {name} does not hold")
        for file in bundle.files:
            if file.name in names:
                yield file
                yield from self._objects.stream(_key(bundle.digest, file.name))

    def _check_shown(self, evaluation: dict[str, Any]) -> None:
        try:
            self._check_evaluation(evaluation)
        except ValueError as error:
            raise checks.BundleError(f"file 'evaluation.json': {error}; export the bundle again") from error

    def _known(self, digest: str) -> Bundle | None:
        with self._database.transaction() as connection:
            return Store(connection).bundle(digest)

    def _fill(self, folder: Path, parts: Iterable[Part]) -> None:
        received = 0
        target: BinaryIO | None = None
        for part in parts:
            if isinstance(part, BundleFile):
                if target is not None:
                    target.close()
                target = self._begin(folder, part)
                continue
            if target is None:
                raise checks.BundleError("bytes came before a file was begun")
            received += len(part)
            if received > self._max_bytes:
                raise ResourceExhausted("BUNDLE_REFUSED", f"the bundle has more than {self._max_bytes} bytes")
            target.write(part)
        if target is not None:
            target.close()

    def _begin(self, folder: Path, file: BundleFile) -> BinaryIO:
        if file.size_bytes > self._max_bytes:
            raise ResourceExhausted(
                "BUNDLE_REFUSED", f"file {file.name!r} has {file.size_bytes} bytes; at most {self._max_bytes}"
            )
        path = folder / checks.check_name(file.name)
        if path.exists():
            raise checks.BundleError(f"file {file.name!r} was sent twice")
        return path.open("wb")

    def _keep(self, digest: str, folder: Path, manifest: dict[str, object]) -> tuple[BundleFile, ...]:
        listed = manifest["files"]
        assert isinstance(listed, dict)
        files = []
        for path in sorted(folder.iterdir()):
            size = path.stat().st_size
            with closing(path.open("rb")) as stream:
                self._objects.put_stream(_key(digest, path.name), stream, size)
            entry = listed.get(path.name) or {}
            files.append(BundleFile(path.name, size, str(entry.get("blake3", "")) or checks.digest_of(path)))
        return tuple(files)


def _key(digest: str, file: str) -> str:
    return f"bundles/{digest}/{file}"
