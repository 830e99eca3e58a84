"""Labels in: joined to their rows, before or after the events; each counted once."""

from collections.abc import Sequence

from prometheus_client import Counter
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import InvalidArgument
from slipway_runtime.identity import current_caller
from sqlalchemy import Connection

from slipway_monitoring.domain.feedback import Label, Taken, labels_of
from slipway_monitoring.domain.names import prediction_name
from slipway_monitoring.domain.outcomes import Tally
from slipway_monitoring.store.events import EventStore
from slipway_monitoring.store.feedback import FeedbackStore, Standing
from slipway_monitoring.store.outcomes import OutcomeStore
from slipway_monitoring.store.sources import SourceStore

LABELS = Counter("slipway_monitoring_labels_total", "Labels taken.", ["kind"])
NAMED = 20  # unknown labels in an answer


class Feedback:
    """The verbs over labels."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def record(self, feedback: Sequence[tuple[str, str, str]], repeat: Repeat) -> Taken:
        """Take labels, given as prediction's name, label and source; all of them or none.

        A label that is no class of the model is kept, and counts as wrong. A changed label changes the
        quality; what cursors count is the first label of a row, since an observation cannot be taken back.

        Raises:
            InvalidArgument: A label is not allowed, or names a row that its prediction does not have.
        """
        labels, twice = labels_of(feedback)
        with self._database.transaction() as connection:
            taken = repeat.once(connection, Taken, lambda: _record(connection, labels, twice))
        for kind in ("recorded", "changed"):
            LABELS.labels(kind).inc(getattr(taken, f"{kind}_count"))
        return taken


def _record(connection: Connection, labels: Sequence[Label], twice: int) -> Taken:
    EventStore(connection).own_labels()
    store = FeedbackStore(connection)
    standings = store.standings(labels)
    _check_rows(labels, standings)
    store.put(labels, current_caller().subject)
    _log(connection, standings)
    pairs = list(zip(labels, standings, strict=True))
    return Taken(
        recorded_count=sum(standing.old_label is None for standing in standings),
        repeated_count=sum(standing.old_label == label.label for label, standing in pairs) + twice,
        changed_count=sum(standing.old_label not in (None, label.label) for label, standing in pairs),
        waiting_count=sum(standing.endpoint is None for standing in standings),
        unknown_labels=tuple(sorted({label.label for label, standing in pairs if standing.unknown}))[:NAMED],
    )


def _check_rows(labels: Sequence[Label], standings: Sequence[Standing]) -> None:
    """Refuse a row that its prediction does not have: all rows of a request come together."""
    for label, standing in zip(labels, standings, strict=True):
        if standing.sibling:
            name = prediction_name(label.prediction_id, label.row)
            description = f"names {name}, but that prediction has no row {label.row}; rows begin at 0"
            raise InvalidArgument.field("feedback.prediction", description)


def _log(connection: Connection, standings: Sequence[Standing]) -> None:
    """Append to the endpoints' logs the labels that are the first of rows that are there."""
    tallies: dict[int, Tally] = {}
    for standing in standings:
        if standing.endpoint is not None and standing.old_label is None:
            tally = tallies.setdefault(standing.endpoint, Tally())
            outcome = tally.of(standing.second, standing.version, standing.role)
            outcome.labelled_count += 1
            outcome.correct_count += standing.correct
    sources = SourceStore(connection)
    for endpoint in sorted(tallies):
        place, outcomes = sources.lock(endpoint), tallies[endpoint].outcomes()
        OutcomeStore(connection).add(place, outcomes, place.arrival)
        sources.advance(place, 0, len(outcomes))
