"""Events in: each counted once, however often its batch comes."""

from collections.abc import Sequence
from itertools import chain

from prometheus_client import Counter
from slipway_runtime.db import Database
from sqlalchemy import Connection

from slipway_monitoring.domain.answers import Answers, answers_of
from slipway_monitoring.domain.events import Batch, Event, Role, check_batch
from slipway_monitoring.domain.outcomes import Tally
from slipway_monitoring.store.events import EventStore
from slipway_monitoring.store.outcomes import OutcomeStore
from slipway_monitoring.store.sources import SourceStore, Version
from slipway_monitoring.store.spools import SpoolStore
from slipway_monitoring.usecases.access import front
from slipway_monitoring.usecases.sources import Sources

EVENTS = Counter("slipway_monitoring_events_total", "Prediction events taken.", ["role"])
ROWS = Counter("slipway_monitoring_rows_total", "Predicted rows taken.")
LOST = Counter("slipway_monitoring_events_lost_total", "Prediction events that are lost for good.")


class Events:
    """The verbs over prediction events.

    Args:
        database: The service's own.
        sources: Numbers of endpoints and versions.
    """

    def __init__(self, *, database: Database, sources: Sources) -> None:
        self._database = database
        self._sources = sources

    def report(self, batch: Batch) -> int:
        """Take a batch; return up to which sequence the spool may forget.

        Rows, their labels and counts, and how far the spool is are written in one transaction: a batch that
        comes again, whole or in part, changes nothing.

        Raises:
            FailedPrecondition: The batch does not follow what is known of its spool (SEQUENCE_GAP).
            InvalidArgument: A field is not allowed.
            PermissionDenied: The caller is no inference front.
        """
        front()
        check_batch(batch)
        endpoint, version = self._sources.endpoint(batch.endpoint), self._sources.version(batch.model_version)
        groups = self._groups(batch.events)
        with self._database.transaction() as connection:
            spools = SpoolStore(connection)
            spool, new = spools.begin(batch.spool, endpoint, version.id).take(batch)
            if new:
                self._add(connection, groups, after=batch.events[-len(new)].sequence - 1)
            lost = spools.note(spool, closed=batch.closed)
        LOST.inc(max(lost, 0))
        _count(new)
        return spool.acknowledged

    def give_up(self, silent_s: float) -> None:
        """Give up spools that were silent for so long: what they still owe is lost."""
        with self._database.transaction() as connection:
            LOST.inc(SpoolStore(connection).give_up(silent_s))

    def _groups(self, events: Sequence[Event]) -> list[tuple[int, list["_Read"]]]:
        """Return the events by the number of their endpoint, the smallest first, as locks are taken."""
        groups: dict[int, list[_Read]] = {}
        for read in self._read(events):
            groups.setdefault(self._sources.endpoint(read.event.endpoint), []).append(read)
        return sorted(groups.items(), key=lambda group: group[0])

    def _read(self, events: Sequence[Event]) -> list["_Read"]:
        """Return events in order with what their rows were answered, read a version at a time."""
        by_version: dict[str, list[Event]] = {}
        for event in events:
            by_version.setdefault(event.model_version, []).append(event)
        found = []
        for name, same in by_version.items():
            version = self._sources.version(name)
            answers = answers_of([row for event in same for row in event.rows], version.scored)
            start = 0
            for event in same:
                found.append(_Read(event, version, answers, start))
                start += len(event.rows)
        return sorted(found, key=lambda read: read.event.sequence)

    def _add(self, connection: Connection, groups: Sequence[tuple[int, list["_Read"]]], after: int) -> None:
        store = EventStore(connection)
        store.share_labels()
        for endpoint, reads in groups:
            new = [read for read in reads if read.event.sequence > after]
            if new:
                _add_to_endpoint(connection, store, endpoint, new)


class _Read:
    """An event with its version and what its rows were answered: those from `start` on of `answers`."""

    __slots__ = ("answers", "event", "start", "version")

    def __init__(self, event: Event, version: Version, answers: Answers, start: int) -> None:
        self.event = event
        self.version = version
        self.answers = answers
        self.start = start

    def tally(self, tally: Tally) -> None:
        """Count the rows."""
        event, size = self.event, len(self.event.rows)
        outcome = tally.of(event.time_us // 1_000_000, self.version.id, event.role)
        outcome.row_count += size
        for index in range(self.start, self.start + size):
            outcome.class_counts[self.answers.classes[index]] += 1
            outcome.confidence_sum += self.answers.confidences[index]
        for row in event.rows:
            if row.inputs:
                outcome.captured_bytes += sum(len(tensor.data) for tensor in row.inputs.values())


def _add_to_endpoint(
    connection: Connection, store: EventStore, endpoint: int, reads: Sequence[_Read]
) -> None:
    """Insert rows under the endpoint's lock, and append to its log what they and their labels count."""
    sources = SourceStore(connection)
    place = sources.lock(endpoint)
    known = store.known([read.event.prediction_id for read in reads])
    reads = [read for read in reads if read.event.prediction_id not in known]
    if not reads:
        return
    tally = Tally()
    for read in reads:
        read.tally(tally)
    events = [read.event for read in reads]
    last = place.arrival + sum(len(event.rows) for event in events)
    shadows = any(event.role == Role.SHADOW for event in events)
    store.add(place, events, [read.version.id for read in reads], _joined(reads))
    store.join_labels(place, last, tally)
    pairs = store.pairs(place, last) if shadows or place.shadowed else (0, 0)
    outcomes = tally.outcomes()
    OutcomeStore(connection).add(place, outcomes, last, pairs)
    sources.advance(place, last - place.arrival, len(outcomes), shadows=shadows)


def _joined(reads: Sequence[_Read]) -> Answers:
    """Return the answers of the rows of events, in order."""
    spans = [(read.answers, read.start, read.start + len(read.event.rows)) for read in reads]
    return Answers(
        list(chain.from_iterable(answers.classes[start:stop] for answers, start, stop in spans)),
        list(chain.from_iterable(answers.confidences[start:stop] for answers, start, stop in spans)),
        list(chain.from_iterable(answers.probabilities[start:stop] for answers, start, stop in spans)),
        list(chain.from_iterable(answers.embeddings[start:stop] for answers, start, stop in spans)),
    )


def _count(events: Sequence[Event]) -> None:
    for event in events:
        EVENTS.labels(Role(event.role).name).inc()
    ROWS.inc(sum(len(event.rows) for event in events))
