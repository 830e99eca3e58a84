"""What arrived after a cursor, and how well versions do."""

from collections.abc import Sequence
from datetime import datetime

from slipway_runtime.db import Database, PageToken
from slipway_runtime.errors import InvalidArgument

from slipway_monitoring.domain.names import check_endpoint, endpoint_of_monitor
from slipway_monitoring.domain.outcomes import Arrived, merged
from slipway_monitoring.domain.quality import VersionQuality
from slipway_monitoring.store.outcomes import ENTRIES, OutcomeStore
from slipway_monitoring.store.sources import SourceStore
from slipway_monitoring.usecases.sources import monitored

DEFAULT_WINDOW_S = 3600
MAX_WINDOW_S = 31 * 86_400


class Outcomes:
    """The verbs over the log of what arrived."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def list(self, endpoint: str, cursor: str, start_time: datetime | None) -> Arrived:
        """Return what arrived after a cursor; without one, what arrived from a time on.

        Log entries are numbered under their endpoint's lock until the commit, so what a cursor has passed is
        complete: nothing that commits late is skipped, and nothing is counted twice. An endpoint without
        events has no cursor yet.

        Raises:
            InvalidArgument: The cursor is not one of this endpoint (INVALID_PAGE_TOKEN), or what follows
                it is forgotten.
        """
        check_endpoint("endpoint", endpoint)
        tokens = PageToken(("outcomes", endpoint), (int,))
        key = _decoded(tokens, cursor)
        with self._database.transaction() as connection:
            number, store = SourceStore(connection).endpoint(endpoint), OutcomeStore(connection)
            if number is None:
                return Arrived([], "", more=False, pair_count=0, disagreement_count=0)
            entry = store.entry_before(number, start_time) if key is None else key
            counts, last, pairs, more = store.after(number, entry, ENTRIES)
            forgotten = store.forgotten(number)
        if key is not None and key < forgotten:
            description = (
                "is older than what is kept, so what follows it is incomplete; begin with start_time"
            )
            raise InvalidArgument.field("cursor", description)
        return Arrived(merged(counts), tokens.encode(last), more, *pairs)

    def quality(self, name: str, window_s: int) -> Sequence[VersionQuality]:
        """Return how the live rows of the last seconds do, by version.

        Raises:
            NotFound: No event of the endpoint came (MONITOR_NOT_FOUND).
        """
        endpoint = endpoint_of_monitor(name)
        if not 0 <= window_s <= MAX_WINDOW_S:
            description = f"is {window_s}; give 1 to {MAX_WINDOW_S}, or 0 for {DEFAULT_WINDOW_S}"
            raise InvalidArgument.field("window_s", description)
        with self._database.transaction() as connection:
            number = monitored(connection, endpoint)
            return OutcomeStore(connection).quality(number, window_s or DEFAULT_WINDOW_S)


def _decoded(tokens: PageToken, cursor: str) -> int | None:
    try:
        key = tokens.decode(cursor)
    except InvalidArgument as error:
        description = "is not one of this endpoint; begin again with start_time"
        raise InvalidArgument.field("cursor", description, reason="INVALID_PAGE_TOKEN") from error
    return None if key is None else int(key[0])
