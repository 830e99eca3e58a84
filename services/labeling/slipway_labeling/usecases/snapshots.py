"""Snapshots: asked for, read, watched."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence

from opentelemetry import propagate
from slipway_runtime.db import Database, PageToken, Repeat, page_size
from sqlalchemy import Connection

from slipway_labeling.domain.names import name_part, project_of
from slipway_labeling.domain.snapshots import (
    Snapshot,
    SnapshotSpec,
    check_spec,
    nothing_to_take,
    snapshot_not_found,
)
from slipway_labeling.store.snapshots import SnapshotStore
from slipway_labeling.usecases.access import JUDGE, MANAGE, allow
from slipway_labeling.usecases.projects import existing_project


class Snapshots:
    """The verbs over snapshots.

    Args:
        database: The service's own.
        wake: Called after a snapshot is kept, so that it is made at once; may do nothing.
        watch_interval_s: Between two looks of `watch`.
    """

    def __init__(self, *, database: Database, wake: Callable[[], None], watch_interval_s: float) -> None:
        self._database = database
        self._wake = wake
        self._watch_interval_s = watch_interval_s

    def create(self, parent: str, asked: SnapshotSpec, repeat: Repeat) -> Snapshot:
        """Keep a snapshot with the labels that it takes, PENDING; from here on it cannot be lost.

        Raises:
            FailedPrecondition: There is no label to take (TOO_FEW_ANSWERS).
        """
        creator = allow(MANAGE).subject
        project, spec = project_of(parent), check_spec(asked)
        with self._database.transaction() as connection:

            def effect() -> Snapshot:
                return _add(connection, project, spec, creator)

            made = repeat.once(connection, Snapshot, effect)
        self._wake()
        return made

    def get(self, name: str) -> Snapshot:
        """Return one snapshot."""
        allow(JUDGE)
        project, id = name_part(name, "labelingProjects", "snapshots")
        with self._database.transaction() as connection:
            found = SnapshotStore(connection).get(project, id)
            if found is None:
                existing_project(connection, project)
                raise snapshot_not_found(name)
            return found

    def list(self, parent: str, size: int, token: str) -> tuple[Sequence[Snapshot], str]:
        """Return a page of snapshots, newest first."""
        allow(JUDGE)
        project = project_of(parent)
        limit, tokens = page_size(size), PageToken(("snapshots", parent))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            existing_project(connection, project)
            rows = SnapshotStore(connection).page(project, int(key[0]) if key else None, limit + 1)
        return rows[:limit], tokens.encode(rows[limit - 1].serial) if len(rows) > limit else ""

    def watch(self, name: str, active: Callable[[], bool]) -> Iterator[Snapshot]:
        """Yield the snapshot now and whenever it changes, until it ends or the caller has gone."""
        snapshot = self.get(name)
        yield snapshot
        while not snapshot.state.ended and active():
            time.sleep(self._watch_interval_s)
            with self._database.transaction() as connection:
                changed = SnapshotStore(connection).revision(snapshot.id) != snapshot.revision
            if changed:
                snapshot = self.get(name)
                yield snapshot


def _add(connection: Connection, project: str, spec: SnapshotSpec, creator: str) -> Snapshot:
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    made = SnapshotStore(connection).add(
        id=uuid.uuid4().hex,
        project=project,
        dataset=existing_project(connection, project).spec.dataset,
        spec=spec,
        creator=creator,
        traceparent=carrier.get("traceparent", ""),
    )
    if not made.label_count:
        raise nothing_to_take(project, made.left_out_count)
    return made
