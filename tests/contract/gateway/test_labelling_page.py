"""The labelling page in a real browser, before the real gateway, labeling and ingestion: keyboard first."""

import statistics
from collections.abc import Callable

import pytest
from browser import LabelPage
from studio import Studio, picture

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

TASKS = 20
PICTURES = {f"i{number:02d}.png": picture(number) for number in range(TASKS)}
FEW = dict(list(PICTURES.items())[:6])


def test_twenty_tasks_by_keys_alone_take_milliseconds_each(
    studio: Studio, tab: Callable[..., LabelPage], capsys: pytest.CaptureFixture[str]
) -> None:
    project = studio.project(PICTURES)
    _, token = studio.person()
    page = tab().open(project, token)
    expected, times = {}, []

    for number in range(TASKS):
        key = page.shown()
        expected[key] = [("rose", "tulip", "lily")[number % 3]]
        if number < TASKS - 1:
            times.append(page.timed_key(str(1 + number % 3)))
        else:
            page.key(str(1 + number % 3))
    page.wait("end-title", "Nothing is left for you here")
    page.wait_sent()

    with capsys.disabled():
        print(f"\n  key to next image: median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms")
    assert studio.answers(project) == expected
    assert page.text("answered") == str(TASKS)
    assert statistics.median(times) < 1000
    assert all(one["leadMs"] != "0" for one in studio.annotations(project))
    claimed = studio.call("GET", f"/v1/{project}")["taskCounts"]
    assert claimed["ANSWERED"] == str(TASKS)


def test_undo_brings_the_last_answer_back_to_be_given_anew(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(FEW)
    _, token = studio.person()
    page = tab().open(project, token)
    first = page.shown()
    page.key("1")
    second = page.shown(other_than=first)
    page.key("2")
    third = page.shown(other_than=second)
    page.wait_sent()

    page.key("u")
    back = page.shown(other_than=third)
    hint = page.text("hint")
    page.key("3")
    page.shown(other_than=second)
    page.wait_sent()

    assert back == second
    assert "You answered this before" in hint
    assert studio.answers(project) == {first: ["rose"], second: ["lily"]}
    assert [one["withdrawn"] for one in studio.annotations(project)] == [False, False, True, False]
    page.wait("answered", "2")


def test_an_answer_of_before_a_reload_is_counted_and_can_be_taken_back(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(FEW)
    _, token = studio.person()
    page = tab().open(project, token)
    first = page.shown()
    page.key("1")
    page.shown(other_than=first)
    page.wait_sent()

    page.page.reload()
    page.wait("answered", "1")
    now = page.shown()
    page.key("u")
    back = page.shown(other_than=now)
    page.key("Enter")
    page.shown(other_than=back)
    page.wait_sent()

    assert back == first
    assert studio.answers(project) == {first: ["rose"]}
    assert len(studio.annotations(project)) == 3


def test_skipped_and_flagged_tasks_go_away_with_the_comment(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(dict(list(FEW.items())[:3]))
    _, token = studio.person()
    page = tab().open(project, token)

    skipped = page.shown()
    page.key("s")
    flagged = page.shown(other_than=skipped)
    page.key("f")
    page.page.keyboard.type("no flower 1 at all")
    page.key("Enter")
    answered = page.shown(other_than=flagged)
    page.key("1")
    page.wait("end-title", "Nothing is left for you here")
    page.wait_sent()

    tasks = {one["key"]: one for one in studio.call("GET", f"/v1/{project}/tasks")["tasks"]}
    assert studio.answers(project) == {answered: ["rose"]}
    assert {key: task["flagCount"] for key, task in tasks.items()} == {skipped: 0, flagged: 1, answered: 0}


def test_keys_toggle_several_labels_and_enter_submits_them(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(FEW, multiple=True)
    _, token = studio.person()
    page = tab().open(project, token)

    first = page.shown()
    page.key("3", "2", "1", "2")
    submit = page.text("submit")
    pressed = page.page.locator("#labels [aria-pressed=true] .name").all_inner_texts()
    page.key("Enter")
    second = page.shown(other_than=first)
    page.key("Enter")
    page.shown(other_than=second)
    page.wait_sent()

    assert submit == "Enter Submit 2 labels"
    assert pressed == ["rose", "lily"]
    assert studio.answers(project) == {first: ["rose", "lily"], second: []}


def test_the_eleventh_label_has_the_key_a_and_actions_keep_theirs(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(FEW, *(f"kind {number}" for number in range(1, 36)))
    _, token = studio.person()
    page = tab().open(project, token)

    first = page.shown()
    keys = page.page.locator("#labels kbd").all_text_contents()
    page.key("0")
    second = page.shown(other_than=first)
    page.key("A")
    page.shown(other_than=second)
    page.wait_sent()

    assert keys == [*"1234567890abcdeghijklmnopqrtvwxyz", "", ""]
    assert studio.answers(project) == {first: ["kind 10"], second: ["kind 11"]}


def test_a_text_is_shown_as_text_and_never_as_html(studio: Studio, tab: Callable[..., LabelPage]) -> None:
    text = "<img src=x onerror=\"document.title='hit'\"><b>rose</b>\n& tulip"
    project = studio.project({"note.txt": text.encode()}, instructions="<script>1</script> Which one?")
    _, token = studio.person()
    page = tab().open(project, token)

    page.shown()

    assert page.page.locator("#stage pre").inner_text() == text
    assert page.text("instructions") == "<script>1</script> Which one?"
    assert "hit" not in page.page.title()


def test_a_small_image_is_enlarged_by_whole_pixels(studio: Studio, tab: Callable[..., LabelPage]) -> None:
    project = studio.project({"small.png": picture(1, 28)})
    _, token = studio.person()
    page = tab().open(project, token)

    page.shown()
    image = page.page.locator("#stage img")
    box = image.bounding_box()

    assert box is not None
    assert box["width"] >= 20 * 28
    assert box["width"] % 28 == 0
    assert image.evaluate("one => getComputedStyle(one).imageRendering") == "pixelated"


def test_what_cannot_be_shown_is_said_and_cannot_be_answered(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project({"sound.txt": b"la la la"})
    _, token = studio.person()
    page = tab()
    sound = {"mediaType": "audio/wav", "data": "bGEgbGEgbGE="}  # ingestion takes none yet
    page.page.route("**/*:media", lambda route: route.fulfill(json=sound))
    page.open(project, token)

    page.shown()
    page.key("1")
    said = page.text("stage")
    disabled = page.page.locator("#labels button").first.is_disabled()
    page.key("s")
    page.wait("end-title", "Nothing is left for you here")

    assert said == "sound.txt: this page cannot show audio/wav."
    assert disabled
    assert studio.answers(project) == {}


def test_enter_accepts_the_models_answer_and_another_key_does_not(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(FEW, prelabelPercent=100)
    studio.prelabel(project, "tulip")
    _, token = studio.person()
    page = tab().open(project, token)

    first = page.shown()
    marks = page.page.locator("#labels .mark").all_inner_texts()
    page.key("Enter")
    second = page.shown(other_than=first)
    page.key("1")
    page.shown(other_than=second)
    page.wait_sent()

    assert marks == ["", "model", ""]
    assert studio.answers(project) == {first: ["tulip"], second: ["rose"]}
    assert all(one["prelabelShown"] for one in studio.annotations(project))


def test_a_person_finds_a_project_in_the_list_and_the_keys_in_the_help(
    studio: Studio, tab: Callable[..., LabelPage]
) -> None:
    project = studio.project(FEW, displayName="Flowers of May", instructions="Name the flower.")
    _, token = studio.person()
    page = tab().open(token=token)

    page.page.get_by_role("link", name="Flowers of May").click()
    page.shown()
    page.key("?")
    page.wait("help", "take my last answer back")
    page.key("Escape")

    assert page.page.url == f"{studio.gateway.url}/label/{project.split('/')[1]}"
    assert page.text("title") == "Flowers of May"
    assert page.text("instructions") == "Name the flower."


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_width_of_400_pixels_in_light_and_dark(
    studio: Studio, tab: Callable[..., LabelPage], scheme: str
) -> None:
    project = studio.project(FEW, displayName="Flowers of May", instructions="Name the flower.")
    _, token = studio.person()
    page = tab(viewport={"width": 400, "height": 800}, color_scheme=scheme).open(project, token)

    page.shown()
    overflow = page.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    last = page.page.locator("#flag").bounding_box()
    ground, ink = page.page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        ".map((text) => text.match(/[0-9]+/g).slice(0, 3).reduce((sum, one) => sum + Number(one), 0))"
    )

    assert overflow <= 0
    assert last is not None
    assert last["x"] + last["width"] <= 400
    assert (ground > ink) == (scheme == "light")
