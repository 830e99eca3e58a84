"""A registry's database and bucket, real and fresh, and this folder's helper modules on the path."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway_registry.api import check_evaluation
from slipway_registry.usecases.bundles import Bundles
from slipway_registry.usecases.evaluations import Evaluations
from slipway_registry.usecases.models import Models
from slipway_registry.usecases.runs import Runs
from slipway_runtime.db import Database, migrate
from slipway_runtime.objects import ObjectStore
from slipway_runtime.settings import ObjectSettings
from sqlalchemy import text

TABLES = (
    "experiments, runs, points, models, bundles, versions, policies, evaluations, verdicts, aliases, "
    "idempotency"
)
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def _migrated(postgres: Any) -> Iterator[Database]:
    url = postgres.fresh_database()
    migrate(url, "slipway_registry")
    opened = Database(url)
    yield opened
    opened.close()
    postgres.drop(url)


@pytest.fixture
def database(_migrated: Database) -> Database:
    """Return a registry's empty database."""
    with _migrated.transaction() as connection:
        connection.execute(text(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE"))
    return _migrated


@pytest.fixture
def runs(database: Database) -> Runs:
    return Runs(database=database)


@pytest.fixture
def models(database: Database) -> Models:
    return Models(database=database)


@pytest.fixture
def objects(s3: Any) -> ObjectStore:
    settings = ObjectSettings(
        s3_endpoint=s3.endpoint,
        s3_access_key=s3.access_key,
        s3_secret_key=s3.secret_key,
        s3_bucket=s3.fresh_bucket(),
    )
    return ObjectStore.connect(settings)


@pytest.fixture
def bundles(database: Database, objects: ObjectStore, tmp_path: Path) -> Bundles:
    (tmp_path / "staging").mkdir()
    return Bundles(
        database=database,
        objects=objects,
        max_bytes=1 << 20,
        staging=str(tmp_path / "staging"),
        check_evaluation=check_evaluation,
    )


@pytest.fixture
def evaluations(database: Database, objects: ObjectStore) -> Evaluations:
    return Evaluations(database=database, objects=objects)
