"""Endpoints and versions by their numbers, remembered; what a version's classes are is asked for once."""

import logging
import threading

from slipway_runtime.db import Database
from slipway_runtime.errors import FailedPrecondition, NotFound
from sqlalchemy import Connection

from slipway_monitoring.clients import Registry
from slipway_monitoring.domain.answers import PROBABILITIES
from slipway_monitoring.store.sources import SourceStore, Version

log = logging.getLogger(__name__)


class Sources:
    """The endpoints and versions that events name.

    Args:
        database: The service's own.
        registry: Asked once for each version that is new.
    """

    def __init__(self, *, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._lock = threading.Lock()
        self._endpoints: dict[str, int] = {}
        self._versions: dict[str, Version] = {}

    def endpoint(self, name: str) -> int:
        """Return an endpoint's number, made when it is new."""
        with self._lock:
            known = self._endpoints.get(name)
        if known is None:
            with self._database.transaction() as connection:
                known = SourceStore(connection).endpoint_made(name)
            with self._lock:
                self._endpoints[name] = known
        return known

    def version(self, name: str) -> Version:
        """Return a version, made when it is new.

        Raises:
            Unavailable: It is new and the registry cannot be reached; its events wait in their spool.
        """
        with self._lock:
            known = self._versions.get(name)
        if known is None:
            with self._database.transaction() as connection:
                known = SourceStore(connection).version(name)
            known = known or self._asked(name)
            with self._lock:
                self._versions[name] = known
        return known

    def _asked(self, name: str) -> Version:
        try:
            profile = self._registry.profile(name)
            classes, scored = profile.classes, profile.scored
        except (NotFound, FailedPrecondition) as error:  # served from a folder, perhaps
            log.warning("the classes of %s are called by their index: %s", name, error)
            classes, scored = [], PROBABILITIES
        with self._database.transaction() as connection:
            return SourceStore(connection).version_made(name, classes, scored)


def monitored(connection: Connection, endpoint: str) -> int:
    """Return the number of an endpoint that events came from.

    Raises:
        NotFound: None did (MONITOR_NOT_FOUND).
    """
    store = SourceStore(connection)
    known = store.endpoint(endpoint)
    if known is None:
        id = endpoint.partition("/")[2]
        others = [name.partition("/")[2] for name in store.endpoints()]
        raise NotFound.of("MONITOR_NOT_FOUND", "monitor of an endpoint", id, others)
    return known
