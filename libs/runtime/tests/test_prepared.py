"""Transactions of prepared statements in one message, against a real PostgreSQL."""

import threading
from collections.abc import Iterator

import psycopg
import pytest
from slipway_runtime import deadline
from slipway_runtime.db import Database, Prepared
from slipway_runtime.db import database as module
from slipway_runtime.errors import DeadlineExceeded, Unavailable, Unstorable
from sqlalchemy import text

ADD = Prepared.of(
    "add", "INSERT INTO stock (name, n) VALUES (:name, :n) RETURNING name, n", name="text", n="int"
)
LOCK = Prepared.of("lock_row", "SELECT n FROM stock WHERE name = :name FOR UPDATE", name="text")
COUNT = Prepared.of("count_rows", "SELECT count(*) AS n, '::'::text AS colons FROM stock")
SLEEP = Prepared.of("sleep", "SELECT pg_sleep(:seconds)", seconds="float8")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=4)
    with database.transaction() as connection:
        connection.execute(text("CREATE TABLE stock (name text PRIMARY KEY, n int)"))
    yield database
    database.close()


def test_each_step_sees_what_the_one_before_did(database: Database) -> None:
    added, counted = database.at_once(ADD.values(name="rose's \\ % :n", n=-3), COUNT.values())

    assert [tuple(row) for row in added] == [("rose's \\ % :n", -3)]
    assert [tuple(row) for row in counted] == [(1, "::")]


def test_a_step_that_fails_undoes_all_and_the_next_transaction_is_whole(database: Database) -> None:
    database.at_once(ADD.values(name="rose", n=1))

    with pytest.raises(psycopg.errors.UniqueViolation):
        database.at_once(ADD.values(name="tulip", n=1), ADD.values(name="rose", n=1))

    with database.transaction() as connection:
        connection.execute(text("INSERT INTO stock VALUES ('lily', 1)"))
    [[counted]] = database.at_once(COUNT.values())
    assert counted.n == 2


def test_a_step_gets_no_more_time_than_the_call_has_left(database: Database) -> None:
    with deadline.within(0.3), pytest.raises(DeadlineExceeded):
        database.at_once(ADD.values(name="rose", n=1), SLEEP.values(seconds=60.0))

    [[counted]] = database.at_once(COUNT.values())
    assert counted.n == 0


def test_nothing_is_asked_after_the_deadline(database: Database) -> None:
    with deadline.within(0.0), pytest.raises(DeadlineExceeded):
        database.at_once(ADD.values(name="rose", n=1))

    [[counted]] = database.at_once(COUNT.values())
    assert counted.n == 0


@pytest.mark.parametrize("values", [{"name": "a\0b", "n": 1}, {"name": "a", "n": 2**40}])
def test_a_value_that_the_database_does_not_keep_is_the_callers_mistake(
    database: Database, values: dict[str, object]
) -> None:
    with pytest.raises(Unstorable):
        database.at_once(ADD.values(**values))


def test_statements_that_the_connection_has_lost_are_prepared_again(database: Database) -> None:
    database.at_once(COUNT.values())
    with database.transaction() as connection:  # of the same connection
        connection.execute(text("DEALLOCATE ALL"))

    [[counted]] = database.at_once(COUNT.values())

    assert counted.n == 0


def test_one_of_them_that_was_lost_is_prepared_again_beside_the_others(database: Database) -> None:
    steps = (ADD.values(name="rose", n=1), COUNT.values())
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.at_once(*steps, *steps)
    with database.transaction() as connection:
        connection.execute(text("DEALLOCATE count_rows"))

    _, [counted] = database.at_once(*steps)

    assert counted.n == 1


def test_a_rollback_that_makes_psycopg_drop_statements_is_survived(database: Database) -> None:
    for number in range(3):
        with database.engine.connect() as connection:
            for _ in range(8):  # often enough that psycopg prepares it, too
                connection.execute(text("SELECT count(*) FROM stock"))
            connection.execute(text("CREATE TEMPORARY TABLE passing (n int)"))
            connection.execute(text("DROP TABLE passing"))
            connection.rollback()
        [[counted]] = database.at_once(COUNT.values())
        database.at_once(ADD.values(name=str(number), n=1), COUNT.values())

        assert counted.n == number


def test_a_connection_that_died_is_unavailable_and_the_next_call_has_another(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FRESH_S", 3600.0)  # else one that rested is pinged first
    database.at_once(COUNT.values())
    with database.engine.connect() as one, database.engine.connect() as other:
        pid = one.execute(text("SELECT pg_backend_pid()")).scalar_one()
        one.close()
        other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

        with pytest.raises(Unavailable):
            database.at_once(COUNT.values())
        [[counted]] = database.at_once(COUNT.values())

    assert counted.n == 0


def test_a_step_after_a_lock_sees_what_was_committed_until_the_lock_was_had(database: Database) -> None:
    database.at_once(ADD.values(name="rose", n=1))
    found: list[int] = []

    def wait_and_count() -> None:
        found.append(database.at_once(LOCK.values(name="rose"), COUNT.values())[1][0].n)

    with database.transaction() as connection:
        connection.execute(text("SELECT FROM stock WHERE name = 'rose' FOR UPDATE"))
        waiter = threading.Thread(target=wait_and_count)
        waiter.start()
        waiter.join(0.3)
        connection.execute(text("INSERT INTO stock VALUES ('tulip', 1)"))
    waiter.join(60)

    assert found == [2]
