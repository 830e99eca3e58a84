"""Path templates, on the examples of google/api/http.proto and of AIP-127."""

import pytest
from slipway_gateway.domain.template import PathTemplate


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("/v1/{name=messages/*}", "/v1/messages/123456", {"name": "messages/123456"}),
        ("/v1/messages/{message_id}", "/v1/messages/123456", {"message_id": "123456"}),
        ("/v1/users/{user}/messages/{id}", "/v1/users/me/messages/1", {"user": "me", "id": "1"}),
        ("/v1/{parent=publishers/*}/books", "/v1/publishers/7/books", {"parent": "publishers/7"}),
        (
            "/v1/{book.name=publishers/*/books/*}",
            "/v1/publishers/7/books/8",
            {"book.name": "publishers/7/books/8"},
        ),
        (
            "/v1/{name=publishers/*/books/*}:archive",
            "/v1/publishers/7/books/8:archive",
            {"name": "publishers/7/books/8"},
        ),
        ("/v1/{name=files/**}", "/v1/files/a/b/c", {"name": "files/a/b/c"}),
        ("/v1/messages/{message_id}", "/v1/messages/a%20b", {"message_id": "a b"}),
        ("/v1/traces:find", "/v1/traces:find", {}),
    ],
)
def test_a_path_of_the_template_gives_its_fields(template: str, path: str, expected: dict[str, str]) -> None:
    assert PathTemplate(template).match(path) == expected


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("/v1/{name=messages/*}", "/v1/messages"),
        ("/v1/{name=messages/*}", "/v1/messages/1/2"),
        ("/v1/{name=messages/*}", "/v1/messages/1:verb"),
        ("/v1/{name=messages/*}", "/v2/messages/1"),
        ("/v1/{name=messages/*}:archive", "/v1/messages/1:delete"),
        ("/v1/{name=a.b/*}", "/v1/aXb/1"),
    ],
)
def test_another_path_does_not_match(template: str, path: str) -> None:
    assert PathTemplate(template).match(path) is None


def test_expand_is_the_inverse_of_match() -> None:
    template, values = PathTemplate("/v1/{name=datasets/*/branches/*}"), {"name": "datasets/a b/branches/ü"}

    assert template.match(template.expand(values)) == values


def test_openapi_gets_one_plain_parameter_per_star() -> None:
    path, parameters = PathTemplate("/v1/{name=datasets/*/branches/*}:move").openapi()

    assert path == "/v1/datasets/{dataset}/branches/{branch}:move"
    assert parameters == {"dataset": "name", "branch": "name"}
