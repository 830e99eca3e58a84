"""Tasks whose examples are erased are closed: the list of erasures is read on and on.

All tasks of the erasure's data set are looked at, and the last number that was read moves when none is left:
a process that dies looks at them again, to the same end. Who makes tasks meanwhile sees that it moved.
"""

import logging
from collections.abc import Sequence

from prometheus_client import Counter
from slipway_runtime.db import Database
from slipway_runtime.errors import DeadlineExceeded, Unavailable

from slipway_labeling.clients import Ingestion
from slipway_labeling.domain.projects import Project
from slipway_labeling.engine.files.records import Refusals, TaskRecord
from slipway_labeling.store.erasures import ErasureStore

log = logging.getLogger(__name__)

CLOSED = Counter("slipway_labeling_erased_tasks_total", "Tasks closed because their example was erased.")
AT_A_TIME = 1000  # what CheckErased takes


class Erasures:
    """Reads what ingestion erased.

    Args:
        database: Of this service.
        ingestion: Who tells.
    """

    def __init__(self, *, database: Database, ingestion: Ingestion) -> None:
        self._database = database
        self._ingestion = ingestion

    def sweep(self) -> None:
        """Take in all erasures that ended since the last look; the sweeper calls it."""
        with self._database.transaction() as connection:
            last = ErasureStore(connection).read_to()
        try:
            while found := self._ingestion.erasures(last):
                for number, dataset in found:
                    self._take_in(number, dataset)
                    last = number
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("erasures are not read (%s); the next look comes", error)

    def _take_in(self, number: int, dataset: str) -> None:
        """Close what an erasure takes; no task may come in between the last look and the number's move."""
        after = 0
        while True:
            after = self._close_past(dataset, after)
            with self._database.transaction() as connection:
                store = ErasureStore(connection)
                before = store.read_to(lock="UPDATE")
                if not store.tasks(dataset, after, 1):
                    store.read_on(max(before, number))
                    return

    def _close_past(self, dataset: str, after: int) -> int:
        """Close the erased ones of the tasks past a serial; return the last serial looked at."""
        while True:
            with self._database.transaction() as connection:
                tasks = ErasureStore(connection).tasks(dataset, after, AT_A_TIME)
            if not tasks:
                return after
            erased = self._ingestion.erased(dataset, [(key, blob) for _, key, blob in tasks])
            if erased:
                with self._database.transaction() as connection:
                    CLOSED.inc(ErasureStore(connection).close([tasks[place][0] for place in erased]))
            after = tasks[-1][0]


def refuse_erased(
    database: Database, ingestion: Ingestion, project: Project, tasks: Sequence[TaskRecord]
) -> int:
    """Refuse a file with an erased example; return up to which erasure that was looked at.

    Later ones look at the tasks themselves, once these are written.

    Raises:
        InvalidArgument: Tasks of the file are of examples that were erased (FILE_REFUSED).
    """
    with database.transaction() as connection:
        number = ErasureStore(connection).read_to()
    if not number:  # nothing was ever erased
        return number
    refusals = Refusals()
    for place in ingestion.erased(project.spec.dataset, [(task.key, task.blob) for task in tasks]):
        refusals.add(tasks[place].where, "is of an example that was erased by request; leave the task out")
    refusals.raise_any()
    return number
