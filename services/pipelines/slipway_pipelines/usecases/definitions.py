"""What callers may do with definitions: upload, read, list; stop and start their schedules."""

from collections.abc import Iterator

from blake3 import blake3
from slipway_runtime import archive
from slipway_runtime.db import Database, PageToken, once, page_of, page_size
from slipway_runtime.identity import current_caller
from slipway_runtime.objects import ObjectStore

from slipway_pipelines.domain import errors, names, schedule
from slipway_pipelines.domain.definition import Version
from slipway_pipelines.engine import reader
from slipway_pipelines.store import Definitions
from slipway_pipelines.store.definitions import Pipeline


class Library:
    """The verbs over definitions.

    Args:
        database: The service's own.
        objects: Where packed folders are kept.
    """

    def __init__(self, *, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    def upload(
        self, size_bytes: int, entry_point: str, request_id: str, content: bytes, chunks: Iterator[bytes]
    ) -> Version:
        """Keep a packed folder as the newest version of the pipeline that it defines.

        Raises:
            InvalidArgument: archive or definition are refused.
        """
        try:
            folder = archive.read_gzip(_received(size_bytes, chunks))
        except archive.ArchiveRefusedError as error:
            raise errors.code_refused(str(error)) from error
        read = reader.read(folder, entry_point)
        packed, code_digest = folder.pack(), folder.digest()
        version = Version(
            digest=blake3(f"{code_digest} {entry_point}".encode()).hexdigest(),
            code_digest=code_digest,
            entry_point=entry_point,
            size_bytes=len(packed),
            files=tuple(sorted(folder.files)),
            definition=read,
            creator=current_caller().subject,
        )
        self._objects.put_if_absent(code_key(code_digest), packed)
        with self._database.transaction() as connection:
            return once(
                connection,
                request_id=request_id,
                method="UploadPipeline",
                request=content + version.digest.encode(),
                answer=Version,
                effect=lambda: _add(Definitions(connection), version),
            )

    def get(self, name: str) -> Pipeline:
        """Return a pipeline."""
        with self._database.transaction() as connection:
            return Definitions(connection).get(names.pipeline_id(name))

    def page(self, size: int, token: str) -> tuple[list[Pipeline], str]:
        """Return a page of pipelines by name, and the token of the next."""
        limit = page_size(size)
        tokens = PageToken(("pipelines",), (str,))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            found = Definitions(connection).page(after="" if key is None else str(key[0]), limit=limit + 1)
        page = page_of(found, limit)
        return page, tokens.encode(page[-1].id) if len(found) > len(page) else ""

    def version(self, name: str) -> Version:
        """Return a version."""
        pipeline, digest = names.version_id(name)
        with self._database.transaction() as connection:
            return Definitions(connection).version(pipeline, digest)

    def versions(self, parent: str, size: int, token: str) -> tuple[list[Version], str]:
        """Return a page of a pipeline's versions, newest first, and the token of the next."""
        id = names.pipeline_id(parent, "parent")
        limit = page_size(size)
        tokens = PageToken(("versions", id), (int,))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            definitions = Definitions(connection)
            definitions.get(id)
            before = None if key is None else int(key[0])
            found = definitions.version_page(id, before=before, limit=limit + 1)
        page = page_of(found, limit)
        return [one for _, one in page], tokens.encode(page[-1][0]) if len(found) > len(page) else ""

    def pause(self, name: str, request_id: str, content: bytes) -> Pipeline:
        """Stop a schedule.

        Raises:
            FailedPrecondition: the pipeline declares none (NO_SCHEDULE).
        """
        return self._turn("PauseSchedule", name, request_id, content, paused=True)

    def resume(self, name: str, request_id: str, content: bytes) -> Pipeline:
        """Start a schedule again, with the next time that comes.

        Raises:
            FailedPrecondition: the pipeline declares none (NO_SCHEDULE).
        """
        return self._turn("ResumeSchedule", name, request_id, content, paused=False)

    def _turn(self, method: str, name: str, request_id: str, content: bytes, *, paused: bool) -> Pipeline:
        id = names.pipeline_id(name)

        def effect(definitions: Definitions) -> Pipeline:
            found = definitions.get(id, lock=True)
            if found.schedule is None:
                raise errors.no_schedule(found.name)
            if found.paused != paused:
                following = schedule.following(found.schedule, definitions.now())
                definitions.move(id, next_time=None if paused else following, paused=paused)
            return definitions.get(id)

        with self._database.transaction() as connection:
            return once(
                connection,
                request_id=request_id,
                method=method,
                request=content,
                answer=Pipeline,
                effect=lambda: effect(Definitions(connection)),
            )


def _add(definitions: Definitions, version: Version) -> Version:
    declared = version.definition.schedule
    return definitions.add(
        version, None if declared is None else schedule.following(declared, definitions.now())
    )


def code_key(digest: str) -> str:
    """Return the object key of a packed folder."""
    return f"pipelines/code/{digest}.tar"


def _received(size_bytes: int, chunks: Iterator[bytes]) -> bytes:
    if not 0 < size_bytes <= archive.MAX_ARCHIVE_BYTES:
        message = f"header.size_bytes is {size_bytes}; send 1 to {archive.MAX_ARCHIVE_BYTES} bytes"
        raise errors.code_refused(message)
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > size_bytes:
            raise errors.code_refused(f"more bytes came than header.size_bytes ({size_bytes}) says")
    if len(data) != size_bytes:
        raise errors.code_refused(
            f"header.size_bytes says {size_bytes}, {len(data)} bytes came; send it whole"
        )
    return bytes(data)
