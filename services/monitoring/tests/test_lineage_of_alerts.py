"""Lineage of alerts and imports: what an alert is about, what an import made."""

from collections.abc import Iterator

import pytest
from slipway_monitoring.domain.alerts import Finding
from slipway_monitoring.store.alerts import AlertStore
from slipway_monitoring.usecases.alerts import Alerts
from slipway_monitoring.usecases.lineage import Lineage
from slipway_runtime.db import Database
from slipway_runtime.errors import InvalidArgument, NotFound
from slipway_runtime.identity import Caller, acting_as
from sqlalchemy import text

VERSION, ENDPOINT = "models/flowers/versions/1", "endpoints/flowers"
IMPORT, COMMIT = "captureImports/" + "a" * 32, "datasets/flowers/commits/" + "b" * 64


@pytest.fixture(autouse=True)
def as_engineer() -> Iterator[None]:
    with acting_as(Caller("users/ann", frozenset({"engineer"}))):
        yield


def raised(database: Database, **fields: str) -> str:
    """Raise an alert; return its name."""
    with database.transaction() as connection:
        AlertStore(connection).settle(Finding(endpoint="flowers", rule="input-drift", holds=True, **fields))
    (alert,), _ = Alerts(database=database).list("", "", 1, "")
    return alert.name


def test_an_alert_leads_to_the_version_and_the_endpoint_that_it_is_about(database: Database) -> None:
    lineage, name = Lineage(database=database), raised(database, model_version=VERSION)

    first, token = lineage.parents(name, 1, "")
    rest, end = lineage.parents(name, 1, token)

    assert ([*first, *rest], end) == ([VERSION, ENDPOINT], "")


def test_an_alert_of_a_whole_endpoint_leads_to_that_alone(database: Database) -> None:
    name = raised(database)

    assert Lineage(database=database).parents(name, 0, "") == ([ENDPOINT], "")


def test_an_import_leads_to_its_commit_and_back_to_its_endpoint(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO capture_imports (id, endpoint, dataset, branch, max_confidence, max_count, "
                "attributes, state, commit, creator) VALUES (:id, :endpoint, 'datasets/flowers', 'main', 0, "
                "1, '{}', 'SUCCEEDED', :commit, 'users/ann')"
            ),
            {"id": "a" * 32, "endpoint": ENDPOINT, "commit": COMMIT},
        )
    lineage = Lineage(database=database)

    assert lineage.children(IMPORT, 0, "") == ([COMMIT], "")
    assert lineage.parents(IMPORT, 0, "") == ([ENDPOINT], "")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("alerts/" + "0" * 32, "ALERT_NOT_FOUND"),
        ("captureImports/" + "0" * 32, "CAPTURE_IMPORT_NOT_FOUND"),
        ("predictions/0192-a.0", "PREDICTION_NOT_FOUND"),
    ],
)
def test_what_is_not_there_has_no_parents_and_the_reason_says_so(
    database: Database, name: str, reason: str
) -> None:
    with pytest.raises(NotFound) as refused:
        Lineage(database=database).parents(name, 0, "")

    assert refused.value.reason == reason


def test_a_name_of_another_service_is_refused_with_the_forms(database: Database) -> None:
    with pytest.raises(InvalidArgument, match=r"predictions/\*, alerts/\*, captureImports/\*"):
        Lineage(database=database).parents(VERSION, 0, "")
