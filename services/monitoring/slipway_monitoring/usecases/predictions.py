"""Predicted rows and spools as they are kept: one, a page, coverage."""

from collections.abc import Sequence
from dataclasses import astuple

from slipway_runtime.db import Database, PageToken, page_of, page_size
from slipway_runtime.errors import InvalidArgument, NotFound

from slipway_monitoring.domain.events import SpoolCoverage
from slipway_monitoring.domain.names import check_endpoint, check_version, endpoint_of_monitor, prediction_row
from slipway_monitoring.domain.predictions import Prediction, Wanted
from slipway_monitoring.store.predictions import PredictionStore
from slipway_monitoring.store.spools import SpoolStore
from slipway_monitoring.usecases.sources import monitored


class Predictions:
    """The verbs that read predicted rows and what spools delivered."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> Prediction:
        """Return one predicted row.

        Raises:
            NotFound: Its event has not come, or is forgotten (PREDICTION_NOT_FOUND).
        """
        prediction_id, row = prediction_row(name)
        with self._database.transaction() as connection:
            found = PredictionStore(connection).get(prediction_id, row)
        if found is None:
            message = f"no event of {name!r} is kept: it has not come yet, or it is older than the retention"
            raise NotFound("PREDICTION_NOT_FOUND", message, metadata={"name": name})
        return found

    def list(self, wanted: Wanted, size: int, token: str) -> tuple[Sequence[Prediction], str]:
        """Return a page of predicted rows of an endpoint, the last to arrive first.

        Raises:
            NotFound: No event of the endpoint came (MONITOR_NOT_FOUND).
        """
        check_endpoint("endpoint", wanted.endpoint)
        if wanted.model_version:
            check_version("model_version", wanted.model_version)
        if not 0 <= wanted.max_confidence <= 1:
            raise InvalidArgument.field(
                "max_confidence", f"is {wanted.max_confidence}; give 0 to 1, 0 for all"
            )
        limit, tokens = page_size(size), PageToken(("predictions", *map(str, astuple(wanted))), (int,))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            endpoint = monitored(connection, wanted.endpoint)
            before = int(key[0]) if key else 2**62
            found = PredictionStore(connection).list(wanted, endpoint, before, limit + 1)
        page = page_of(found, limit)
        return page, tokens.encode(page[-1].arrival) if len(page) < len(found) else ""

    def coverage(self, name: str) -> tuple[Sequence[SpoolCoverage], tuple[int, int, int]]:
        """Return what each spool of an endpoint delivered, and the events received, lost and waiting of all.

        Raises:
            NotFound: No event of the endpoint came (MONITOR_NOT_FOUND).
        """
        endpoint = endpoint_of_monitor(name)
        with self._database.transaction() as connection:
            store, number = SpoolStore(connection), monitored(connection, endpoint)
            return store.coverage(number), store.totals(number)
