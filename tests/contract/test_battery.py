"""One battery over all resources: what a caller may rely on, whatever the noun."""

import base64
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
import psycopg
import pytest
from battery import RESOURCES, Resource, fresh
from running import Keys
from slipway_runtime.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SlipwayError,
    Unauthenticated,
)
from slipway_runtime.rpc import from_rpc_error

pytestmark = pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)


@pytest.fixture
def stub_for(request: pytest.FixtureRequest, resource: Resource) -> Any:
    """Return a function that gives the resource's stub as the owner of a token."""
    service = request.getfixturevalue(resource.service)
    opened: list[grpc.Channel] = []

    def make(token: str) -> Any:
        opened.append(service.channel(token))
        return resource.stub(opened[-1], request.getfixturevalue)

    yield make
    for channel in opened:
        channel.close()


@pytest.fixture
def stub(stub_for: Callable[[str], Any], keys: Keys) -> Any:
    return stub_for(keys.user())


def refused(call: Callable[[], Any]) -> SlipwayError:
    """Return the error that the call was answered with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


def test_an_unknown_name_is_not_found_with_reason_and_near_matches(resource: Resource, stub: Any) -> None:
    with suppress(grpc.RpcError):  # an earlier test may have made it
        resource.create(stub, resource.neighbour, "", "")

    error = refused(lambda: resource.get(stub, resource.missing))

    assert isinstance(error, NotFound)
    assert error.reason == resource.reason
    assert not resource.named or resource.neighbour in error.metadata["near"]


def test_pages_cover_all_once_and_end(resource: Resource, stub: Any) -> None:
    made = {resource.create(stub, fresh(), "", "").name for _ in range(5)}

    seen: list[str] = []
    token = ""
    while True:
        names, token = resource.list(stub, 2, token)
        assert len(names) <= 2
        seen += names
        if not token:
            break

    assert len(seen) == len(set(seen))
    assert made <= set(seen)


def test_a_negative_page_size_is_refused_by_field(resource: Resource, stub: Any) -> None:
    error = refused(lambda: resource.list(stub, -1, ""))

    assert isinstance(error, InvalidArgument)
    assert [violation.field for violation in error.violations] == ["page_size"]


def test_a_foreign_page_token_is_refused_by_reason(resource: Resource, stub: Any) -> None:
    resource.create(stub, fresh(), "", "text")

    error = refused(lambda: resource.list(stub, 2, "bm90IG91cnM"))

    assert error.reason == "INVALID_PAGE_TOKEN"


def test_a_page_may_be_asked_larger_than_the_ceiling(resource: Resource, stub: Any) -> None:
    resource.create(stub, fresh(), "", "text")

    names, _ = resource.list(stub, 10**6, "")

    assert 1 <= len(names) <= 1000


def test_a_repeat_of_a_request_id_returns_the_first_answer(resource: Resource, stub: Any) -> None:
    id, request_id = fresh(), fresh()

    first = resource.create(stub, id, request_id, "text")

    assert resource.create(stub, id, request_id, "text") == first


def test_a_request_id_with_other_content_is_refused(resource: Resource, stub: Any) -> None:
    id, request_id = fresh(), fresh()
    resource.create(stub, id, request_id, "text")

    error = refused(lambda: resource.create(stub, id, request_id, "other text"))

    assert isinstance(error, InvalidArgument)
    assert error.reason == "REQUEST_ID_REUSED"


def test_a_name_is_given_once(resource: Resource, stub: Any) -> None:
    if not resource.named:
        pytest.skip(f"the service names a {resource.kind} itself")
    id = fresh()
    resource.create(stub, id, "", "")

    assert isinstance(refused(lambda: resource.create(stub, id, "", "")), AlreadyExists)


@pytest.mark.parametrize("id", ["", "UPPER", "../up", "a/b", "x" * 64, "nul\0"])
def test_an_id_that_is_no_name_is_refused_by_field(resource: Resource, stub: Any, id: str) -> None:
    if not resource.named:
        pytest.skip(f"the service names a {resource.kind} itself")
    if resource.kind == "run" and not id:
        pytest.skip("the service names a run whose caller does not")
    error = refused(lambda: resource.create(stub, id, "", ""))

    assert isinstance(error, InvalidArgument)
    assert error.violations


def test_a_nul_in_a_request_id_is_refused_by_field(resource: Resource, stub: Any) -> None:
    error = refused(lambda: resource.create(stub, fresh(), "a\0b", ""))

    assert isinstance(error, InvalidArgument)
    assert [violation.field for violation in error.violations] == ["request_id"]


def test_a_call_without_a_deadline_is_answered(
    resource: Resource, stub: Any, request: pytest.FixtureRequest, keys: Keys
) -> None:
    resource.create(stub, fresh(), "", "text")
    service = request.getfixturevalue(resource.service)

    with grpc.insecure_channel(service.address) as plain:
        bearer = ("authorization", f"Bearer {keys.user()}")
        bare = grpc.intercept_channel(plain, Bearer(bearer))
        names, _ = resource.list(resource.stub(bare, request.getfixturevalue), 1, "")

    assert len(names) <= 1


class Bearer(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Adds a token and nothing else: what a client does that does not know our conventions."""

    def __init__(self, *headers: tuple[str, str]) -> None:
        self._headers = headers

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details._replace(metadata=self._headers), request)


def test_a_token_made_up_for_a_page_is_refused(resource: Resource, stub: Any) -> None:
    resource.create(stub, fresh(), "", "")
    resource.create(stub, fresh(), "", "")
    _, token = resource.list(stub, 1, "")
    listing, *_ = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    made_up = base64.urlsafe_b64encode(json.dumps([listing, {"a": 1}]).encode()).decode()

    assert refused(lambda: resource.list(stub, 1, made_up)).reason == "INVALID_PAGE_TOKEN"


def test_bad_tokens_are_unauthenticated(resource: Resource, stub_for: Any, keys: Keys) -> None:
    for token in ("", "nonsense", keys.user(expires_in_s=-60)):
        assert isinstance(refused(lambda t=token: resource.list(stub_for(t), 1, "")), Unauthenticated)


def test_a_role_that_may_not_is_denied(resource: Resource, stub_for: Any, keys: Keys) -> None:
    error = refused(lambda: resource.list(stub_for(keys.user("eve", resource.denied)), 1, ""))

    assert isinstance(error, PermissionDenied)


def test_a_stale_etag_is_aborted(resource: Resource, stub: Any) -> None:
    if resource.update is None:
        pytest.skip(f"a {resource.kind} is not updated")
    first = resource.create(stub, fresh(), "", "one")
    second = resource.update(stub, first, "two")

    error = refused(lambda: resource.update(stub, first, "three"))

    assert second.etag != first.etag
    assert isinstance(error, Aborted)
    assert error.reason == "ETAG_MISMATCH"


def test_a_text_without_end_is_refused_by_field(resource: Resource, stub: Any) -> None:
    if resource.kind == "branch":
        pytest.skip("a branch has no text")

    error = refused(lambda: resource.create(stub, fresh(), "", "x" * 5000))

    assert isinstance(error, InvalidArgument)
    assert error.violations


def waiting(watcher: psycopg.Connection) -> set[tuple[Any, ...]]:
    """Return the statements that wait for a lock in the connection's database: process and begin."""
    question = """
        SELECT pid, query_start FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    return set(watcher.execute(question).fetchall())


def test_a_listing_that_outlasts_its_deadline_is_ended_by_the_service_with_its_statement(
    resource: Resource, stub: Any, request: pytest.FixtureRequest, keys: Keys
) -> None:
    resource.create(stub, fresh(), "", "text")
    service = request.getfixturevalue(resource.service)
    at = service.settings["database_url"].replace("postgresql+psycopg", "postgresql")

    # the client has no deadline of its own: only the service can end the call
    with grpc.insecure_channel(service.address) as plain, psycopg.connect(at) as locking:
        lock_all_tables(locking)
        for milliseconds in (1500, 6000, 24_000):  # as many as it takes until the statement has begun
            headers = ("authorization", f"Bearer {keys.user()}"), ("grpc-timeout", f"{milliseconds}m")
            bare = resource.stub(grpc.intercept_channel(plain, Bearer(*headers)), request.getfixturevalue)
            seen: set[tuple[Any, ...]] = set()
            with ThreadPoolExecutor(1) as pool, psycopg.connect(at, autocommit=True) as watcher:
                call = pool.submit(resource.list, bare, 1, "")
                while not call.done():
                    seen |= waiting(watcher)
                error = refused(call.result)
                # those of sweepers have no deadline, and wait on
                ended = until(lambda seen=seen, watcher=watcher: bool(seen - waiting(watcher)))
            if ended:
                break
        locking.rollback()

    assert isinstance(error, DeadlineExceeded)
    assert ended


def lock_all_tables(connection: psycopg.Connection) -> None:
    """Keep everybody else from the tables; a sweeper may hold some of them and want others."""
    tables = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
    names = ", ".join(name for (name,) in connection.execute(tables))
    while True:
        try:
            connection.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE".encode())
            return
        except psycopg.errors.DeadlockDetected:
            connection.rollback()


def until(true: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Say whether it came true in time."""
    stop_at = time.monotonic() + within_s
    while not true():
        if time.monotonic() > stop_at:
            return False
        time.sleep(0.02)
    return True
