"""Monitoring's database, real and empty, and this folder's helper modules on the path."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway_monitoring.usecases.events import Events
from slipway_monitoring.usecases.feedback import Feedback
from slipway_monitoring.usecases.outcomes import Outcomes
from slipway_monitoring.usecases.predictions import Predictions
from slipway_monitoring.usecases.sources import Sources
from slipway_monitoring.usecases.traces import Traces
from slipway_runtime.db import Database, migrate
from slipway_runtime.identity import Caller, acting_as
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parent))

from event_maker import FakeRegistry


@pytest.fixture(scope="module")
def _migrated(postgres: Any) -> Iterator[Database]:
    url = postgres.fresh_database()
    migrate(url, "slipway_monitoring")
    opened = Database(url, pool_size=32)  # as many threads as a test has find a connection at once
    yield opened
    opened.close()
    postgres.drop(url)


@pytest.fixture
def database(_migrated: Database) -> Database:
    """Return monitoring's empty database."""
    with _migrated.transaction() as connection:
        tables = "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"
        names = connection.execute(text(tables)).scalar_one()
        connection.execute(text(f"TRUNCATE {names}"))
    return _migrated


@pytest.fixture
def traces(database: Database) -> Traces:
    return Traces(database=database)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def as_front() -> Iterator[Caller]:
    """Act as an inference front."""
    caller = Caller("services/inference.slipway-models", frozenset({"service"}))
    with acting_as(caller):
        yield caller


@pytest.fixture
def events(database: Database, registry: Any, as_front: Caller) -> Events:
    return Events(database=database, sources=Sources(database=database, registry=registry))


@pytest.fixture
def feedback(database: Database) -> Feedback:
    return Feedback(database=database)


@pytest.fixture
def predictions(database: Database) -> Predictions:
    return Predictions(database=database)


@pytest.fixture
def outcomes(database: Database) -> Outcomes:
    return Outcomes(database=database)
