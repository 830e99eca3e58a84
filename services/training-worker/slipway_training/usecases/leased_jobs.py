"""What callers may do with jobs of any noun: queue, read, list, watch, cancel."""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

from opentelemetry import propagate
from slipway_runtime.db import Database, PageToken, once, page_of, page_size
from slipway_runtime.identity import current_caller

from slipway_training import domain
from slipway_training.domain import LeasedJob, State
from slipway_training.store.leases import LeasedRows

J = TypeVar("J", bound=LeasedJob)


class LeasedJobs(Generic[J]):
    """The verbs that all jobs have. A noun names its rows, its job, its task and its two methods.

    Args:
        database: The service's own.
        enqueue: Sends a task with a job's id, after the commit; may fail silently (the sweeper).
        watch_interval_s: Between two looks of `watch`.
    """

    rows: ClassVar[type[LeasedRows[Any]]]
    job: ClassVar[type[Any]]
    task: ClassVar[str]
    noun: ClassVar[str]

    def __init__(
        self, *, database: Database, enqueue: Callable[[str, str], None], watch_interval_s: float
    ) -> None:
        self._database = database
        self._enqueue = enqueue
        self._watch_interval_s = watch_interval_s

    def get(self, name: str) -> J:
        """Return a job."""
        with self._database.transaction() as connection:
            found: J = self.rows(connection).get(domain.id_of(name, self.job.collection))
        return found

    def watch(self, name: str, active: Callable[[], bool]) -> Iterator[J]:
        """Yield the job now and whenever it changes, until it ends or the caller has gone."""
        job = self.get(name)
        yield job
        while not job.state.ended and active():
            time.sleep(self._watch_interval_s)
            with self._database.transaction() as connection:
                changed = self.rows(connection).revision(job.id) != job.revision
            if changed:
                job = self.get(name)
                yield job

    def cancel(self, name: str, request_id: str, content: bytes) -> J:
        """Cancel a waiting job, or ask the running attempt to stop.

        Raises:
            FailedPrecondition: the job has ended.
        """
        id = domain.id_of(name, self.job.collection)
        with self._database.transaction() as connection:
            return once(
                connection,
                request_id=request_id,
                method=f"Cancel{self.noun}",
                request=content,
                answer=self.job,
                effect=lambda: _cancel(self.rows(connection), id),
            )

    def _queue(self, request_id: str, content: bytes, **fields: Any) -> J:
        """Commit a job of these fields PENDING, then send its task; a repeat returns the first answer."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        traceparent = carrier.get("traceparent", "")
        new = self.job(
            id=uuid.uuid4().hex, creator=current_caller().subject, traceparent=traceparent, **fields
        )
        with self._database.transaction() as connection:
            made = once(
                connection,
                request_id=request_id,
                method=f"Create{self.noun}",
                request=content,
                answer=self.job,
                effect=lambda: self.rows(connection).add(new),
            )
        if made.id == new.id:
            self._enqueue(self.task, made.id)
        return made

    def _page(self, size: int, token: str, **equal: str) -> tuple[list[J], str]:
        """Return a page of jobs, newest first, and the token of the next; `equal` names columns."""
        limit = page_size(size)
        tokens = PageToken((self.job.collection, *equal.values()), (int,))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            before = None if key is None else int(key[0])
            found = self.rows(connection).page(before=before, limit=limit + 1, **equal)
        page = page_of(found, limit)
        return [job for _, job in page], tokens.encode(page[-1][0]) if len(found) > len(page) else ""


def _cancel(rows: LeasedRows[Any], id: str) -> Any:
    job = rows.get(id, lock=True)
    if job.state.ended:
        raise job.ended_error()
    if job.state is State.PENDING:
        rows.end(id, State.CANCELLED)
    else:
        rows.request_cancel(id)
    return rows.get(id)
