"""What the labelling page does when something is amiss: tokens, leases, pauses, a service that dies."""

from collections.abc import Callable

import pytest
from browser import HOLD, LabelPage
from studio import Studio, picture

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PICTURES = {f"i{number:02d}.png": picture(number) for number in range(6)}


def test_the_token_leaves_the_address_and_stays_in_the_tab(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(PICTURES)
    _, token = studio.person()
    page = tab().open(project, token)
    page.shown()

    page.page.reload()
    page.shown()

    assert page.page.url == f"{studio.gateway.url}/label/{project.split('/')[1]}"
    assert page.page.evaluate("sessionStorage.getItem('slipway.api-token')") == token
    assert page.page.evaluate("localStorage.length") == 0


def test_a_bad_token_is_told_with_a_remedy_and_a_good_one_goes_on(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(PICTURES)
    _, token = studio.person()
    page = tab().open(project)

    page.page.get_by_label("Your API token").fill("slp_wrong")
    page.key("Enter")
    page.wait("sign-in-trouble", "no such API token; make one with `slipway token create`")
    page.page.get_by_label("Your API token").fill("swordfish")
    page.key("Enter")
    page.wait("sign-in-trouble", "an API token (`slp_…`) is needed here")
    page.page.get_by_label("Your API token").fill(f" {token} ")
    page.key("Enter")

    assert page.shown() in PICTURES


def test_a_token_revoked_in_the_middle_asks_for_another_and_loses_no_answer(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(PICTURES)
    user, token = studio.person()
    page = tab()
    first = page.open_at_rest(project, token)
    (held,) = studio.call("GET", f"/v1/tokens?user=users/{user}")["tokens"]
    studio.call("POST", f"/v1/{held['name']}:revoke")
    page.later(60)  # the JWT that it gave runs out

    page.key("2")
    page.wait("sign-in-trouble", "was revoked")
    unsent = page.text("unsent")
    other = studio.call("POST", "/v1/tokens", {"user": f"users/{user}"})["secret"]
    page.page.get_by_label("Your API token").fill(str(other))
    page.key("Enter")
    page.wait_sent()

    assert unsent == "1 unsent"
    assert studio.answers(project) == {first: ["tulip"]}


def test_who_may_not_annotate_and_what_is_not_there_get_the_reason(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(PICTURES)
    _, reviewer = studio.person("reviewer")
    _, annotator = studio.person()

    refused = tab().open(project, reviewer)
    refused.wait("end-title", "This does not work")
    missing = tab().open("labelingProjects/p-away", annotator)
    missing.wait("end-title", "This does not work")

    assert "annotator" in refused.text("end-reason")
    assert "p-away" in missing.text("end-reason")


def test_leases_are_renewed_while_a_person_thinks(studio: Studio, tab: Callable[..., LabelPage]) -> None:
    project = studio.project(PICTURES, leaseS=600)
    _, token = studio.person()
    page = tab()
    first = page.open_at_rest(project, token)
    ends = [studio.lease_ends(project)]

    for times in (2, 3):
        page.later(210)
        page.wait_answered(":renew", times * HOLD)
        ends.append(studio.lease_ends(project))
    page.key("1")
    page.shown(other_than=first)
    page.wait_sent()

    assert [len(held) for held in ends] == [HOLD, HOLD, HOLD]
    assert all(one < two < three for one, two, three in zip(*ends, strict=True))
    assert page.text("notices") == ""
    assert studio.answers(project) == {first: ["rose"]}


def test_a_paused_annotator_reads_why_and_the_refused_answer_comes_back(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(PICTURES)
    user, token = studio.person()
    page = tab()
    first = page.open_at_rest(project, token)
    annotator = f"/v1/{project}/annotators/{user}"
    studio.call("POST", f"{annotator}:pause", {"reason": "tulips look like roses to you"})

    page.key("2")
    page.wait("end-title", "You are paused in this project")
    reason, notice = page.text("end-reason"), page.text("notices")
    studio.call("POST", f"{annotator}:resume", {})
    page.page.get_by_role("button", name="Try again").click()
    seen = page.shown()
    proposed = page.page.locator("#labels .proposed .name").all_inner_texts()
    page.key("Enter")
    page.shown(other_than=seen)
    page.wait_sent()

    assert reason == "tulips look like roses to you"
    assert f"Your answer “tulip” for {first} was refused" in notice
    assert (seen, proposed) == (first, ["tulip"])
    assert studio.answers(project) == {first: ["tulip"]}


def test_answers_typed_while_the_service_is_dead_are_sent_when_it_is_back(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(PICTURES)
    _, token = studio.person()
    page = tab().open(project, token)
    expected, seen = {}, ""
    for _ in range(2):
        seen = page.shown(other_than=seen)
        expected[seen] = ["rose"]
        page.key("1")
    page.wait_sent()
    page.wait_answered(":media", 2 + HOLD)  # two answered, three or more held ahead

    studio.labeling.kill()
    try:
        for _ in range(3):
            seen = page.shown(other_than=seen)
            expected[seen] = ["lily"]
            page.key("3")
        page.wait("unsent", "3 unsent")
        page.wait("trouble", "The server does not answer")
        asked = reloading(page)
        page.wait("unsent", "3 unsent")
    finally:
        studio.labeling.start()
    page.wait_sent()
    last = page.shown()

    assert asked == "beforeunload"
    assert studio.answers(project) == expected
    assert len(studio.annotations(project)) == 5
    assert last not in expected
    page.wait("answered", "5")


def reloading(page: LabelPage) -> str:
    """Reload; return the kind of question that the browser puts before, which is answered with yes."""
    asked: list[str] = []

    def accept(dialog: object) -> None:
        asked.append(dialog.type)  # type: ignore[attr-defined]
        dialog.accept()  # type: ignore[attr-defined]

    page.page.on("dialog", accept)
    page.page.reload()
    return "".join(asked)


def test_an_answer_that_was_reviewed_stays_and_the_page_says_why(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(PICTURES)
    _, token = studio.person()
    page = tab().open(project, token)
    first = page.shown()
    page.key("1")
    second = page.shown(other_than=first)
    page.wait_sent()
    (made,) = studio.annotations(project)
    corrected = {"verdict": "CORRECT", "answer": {"choice": {"labels": ["lily"]}}}
    studio.call("POST", f"/v1/{made['task']}:review", corrected)

    page.key("u")
    page.wait("notices", f"Taking back {first} was refused")
    shown = page.shown()

    assert shown == second
    page.wait("answered", "1")


def test_what_one_person_left_unsent_never_goes_out_as_anothers(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(PICTURES)
    user, token = studio.person()
    _, others = studio.person()
    page = tab()
    first = page.open_at_rest(project, token)
    (held,) = studio.call("GET", f"/v1/tokens?user=users/{user}")["tokens"]
    studio.call("POST", f"/v1/{held['name']}:revoke")
    page.later(60)  # the JWT that it gave runs out
    page.key("2")
    page.wait("sign-in-trouble", "was revoked")

    page.page.on("dialog", lambda dialog: dialog.accept())
    page.page.get_by_label("Your API token").fill(others)
    with page.page.expect_navigation():
        page.key("Enter")
    page.shown()
    unsent, answers = page.page.locator("#unsent").is_visible(), studio.answers(project)
    fresh = studio.call("POST", "/v1/tokens", {"user": f"users/{user}"})["secret"]
    page.open(project, str(fresh))
    page.wait("answered", "1")
    page.wait_sent()

    assert not unsent
    assert answers == {}
    assert studio.answers(project) == {first: ["tulip"]}
    assert [one["annotator"] for one in studio.annotations(project)] == [f"annotators/{user}"]
