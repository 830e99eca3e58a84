"""The labelling page's files over HTTP: types, caching, and a policy that lets nothing else in."""

import httpx
import pytest


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/label", "text/html; charset=utf-8"),
        ("/label/", "text/html; charset=utf-8"),
        ("/label/any-project", "text/html; charset=utf-8"),
        ("/label/files/label.js", "text/javascript; charset=utf-8"),
        ("/label/files/label.css", "text/css; charset=utf-8"),
        ("/label/files/icon.svg", "image/svg+xml"),
    ],
)
def test_each_file_has_its_type_and_the_policy(rest: httpx.Client, path: str, media_type: str) -> None:
    answer = rest.get(path, headers={"Authorization": ""})

    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_a_file_that_the_browser_has_is_not_sent_again(rest: httpx.Client) -> None:
    first = rest.get("/label/files/label.js")

    same = rest.get("/label/files/label.js", headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'})
    other = rest.get("/label/files/label.js", headers={"If-None-Match": '"x"'})
    head = rest.head("/label/files/label.js")

    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == first.headers["etag"]
    assert other.content == first.content
    assert (head.status_code, head.content) == (200, b"")


def test_the_page_names_no_other_host_and_has_no_script_or_style_in_it(rest: httpx.Client) -> None:
    html = rest.get("/label").text

    assert "http:" not in html
    assert "https:" not in html
    assert " style=" not in html
    assert " onclick=" not in html
    assert html.count("<script") == html.count('<script type="module" src="/label/files/')


def test_a_file_that_is_not_there_is_refused_with_those_that_are(rest: httpx.Client) -> None:
    answer = rest.get("/label/files/lable.js")

    assert answer.status_code == 404
    assert answer.json()["error"]["details"][0]["reason"] == "PATH_NOT_FOUND"
    assert "GET /label/files/label.js" in answer.json()["error"]["message"]
