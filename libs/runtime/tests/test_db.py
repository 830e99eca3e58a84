"""Transactions, idempotency, pages, leaders and migrations against a real PostgreSQL."""

import base64
import threading
from dataclasses import dataclass

import pytest
from google.protobuf import struct_pb2
from google.protobuf.struct_pb2 import Struct
from slipway_runtime import deadline
from slipway_runtime.db import Database, PageToken, idempotency_table, leader, once, page_of, page_size
from slipway_runtime.errors import DeadlineExceeded, InvalidArgument, Unavailable, Unstorable
from slipway_runtime.identity import Caller, acting_as
from sqlalchemy import MetaData, text


@dataclass(frozen=True)
class Answer:
    """What the effect gave."""

    number: int


@pytest.fixture
def database(database_url: str):
    database = Database(database_url, pool_size=4)
    metadata = MetaData()
    idempotency_table(metadata)
    with database.transaction() as connection:
        metadata.create_all(connection)
        connection.execute(text("CREATE TABLE counter (n int)"))
        connection.execute(text("INSERT INTO counter VALUES (0)"))
    yield database
    database.close()


def count_up(database: Database, request_id: str, content: str = "same") -> Answer:
    request = Struct()
    request["content"] = content
    with database.transaction() as connection:

        def effect() -> Answer:
            row = connection.execute(text("UPDATE counter SET n = n + 1 RETURNING n"))
            return Answer(row.scalar_one())

        return once(
            connection, request_id=request_id, method="Count", request=request, answer=Answer, effect=effect
        )


def test_a_repeat_returns_the_first_answer_and_does_nothing(database: Database) -> None:
    first = count_up(database, "a")
    count_up(database, "b")

    assert count_up(database, "a") == first == Answer(1)
    assert count_up(database, "c") == Answer(3)


def test_the_same_id_with_other_content_is_refused_by_reason(database: Database) -> None:
    count_up(database, "a")

    with pytest.raises(InvalidArgument) as refused:
        count_up(database, "a", content="other")

    assert refused.value.reason == "REQUEST_ID_REUSED"


def test_two_callers_may_use_the_same_id(database: Database) -> None:
    with acting_as(Caller("users/ann", frozenset())):
        first = count_up(database, "a")
    with acting_as(Caller("users/bob", frozenset())):
        second = count_up(database, "a", content="other")

    assert (first, second) == (Answer(1), Answer(2))


def test_equal_requests_at_once_have_one_effect(database: Database) -> None:
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(count_up(database, "a"))) for _ in range(6)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [Answer(1)] * 6


def test_an_effect_that_fails_leaves_the_id_free(database: Database) -> None:
    def fail() -> Answer:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), database.transaction() as connection:
        once(connection, request_id="a", method="Count", request=b"", answer=Answer, effect=fail)

    assert count_up(database, "a") == Answer(1)


def test_a_statement_gets_no_more_time_than_the_call_has_left(database: Database) -> None:
    with pytest.raises(DeadlineExceeded), deadline.within(0.3), database.transaction() as connection:
        connection.execute(text("SELECT pg_sleep(60)"))


def test_a_database_that_is_away_is_unavailable() -> None:
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")

    with pytest.raises(Unavailable), database.transaction():
        pass


def test_one_process_of_all_leads(database: Database) -> None:
    with leader(database, "sweep") as first, leader(database, "sweep") as second:
        pass
    with leader(database, "sweep") as third:
        pass

    assert (first, second, third) == (True, False, True)


def test_a_page_token_is_good_for_its_own_listing_alone() -> None:
    token = PageToken(("datasets", "red")).encode("key", 7)

    assert PageToken(("datasets", "red")).decode(token) == ["key", 7]
    for listing, bad in ((("datasets", "blue"), token), (("datasets", "red"), "nonsense"), (("x",), "e30")):
        with pytest.raises(InvalidArgument) as refused:
            PageToken(listing).decode(bad)
        assert refused.value.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize("key", [["7"], [True], [2**63], [{"a": 1}], [], [7, 7]])
def test_a_page_token_with_a_key_of_another_type_is_refused(key: list[object]) -> None:
    token = PageToken(("runs",)).encode(*key)

    with pytest.raises(InvalidArgument, match="page_token"):
        PageToken(("runs",), (int,)).decode(token)


def test_a_page_token_of_endless_brackets_is_refused() -> None:
    token = base64.urlsafe_b64encode(b"[" * 100_000).decode()

    with pytest.raises(InvalidArgument, match="page_token"):
        PageToken(("runs",)).decode(token)


def test_a_call_without_a_deadline_has_all_the_time_that_the_database_gives(database: Database) -> None:
    with deadline.within(1e12), database.transaction() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


@pytest.mark.parametrize("value", ["a\0b", 2**70])
def test_a_value_that_the_database_does_not_keep_is_the_callers_mistake(
    database: Database, value: object
) -> None:
    with pytest.raises(Unstorable), database.transaction() as connection:
        connection.execute(text("SELECT CAST(:value AS bigint)"), {"value": value})


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (1000, 1000), (5000, 1000)])
def test_page_sizes_have_a_default_and_a_ceiling(asked: int, given: int) -> None:
    assert page_size(asked) == given


def test_a_page_ends_early_when_its_rows_are_large_and_has_one_at_least() -> None:
    rows = [{"text": "x" * 1000} for _ in range(10)]

    assert len(page_of(rows, 10)) == 10
    assert len(page_of(rows, 10, max_bytes=3500)) == 3
    assert len(page_of(rows, 10, max_bytes=1)) == 1
    assert len(page_of(rows, 2, max_bytes=3500)) == 2
    assert page_of([], 10) == []


def test_a_row_is_never_measured_much_smaller_than_its_message() -> None:
    row = {"matrix": [[float(n % 3) for n in range(200)] for _ in range(200)], "name": "é" * 500}
    message = struct_pb2.Struct()
    message.update(row)

    assert len(page_of([row, row], 2, max_bytes=int(2 * message.ByteSize() * 0.9))) == 1


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="page_size"):
        page_size(-1)
