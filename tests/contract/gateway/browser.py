"""An installed Chromium, headless, and the labelling page in it as a person has it: keys, what is shown."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Its own background traffic has no place in a test, and a sandbox of its own none where root runs it.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-quic", "--disable-dev-shm-usage",
]  # fmt: skip
NO_BROWSER = (
    "NO BROWSER: install Debian's chromium, or name one with SLIPWAY_BROWSER=/path; nothing is downloaded"
)
HOLD = 3  # tasks that the page holds at a time
NEXT = """() => {
  const stage = document.getElementById("stage"), before = stage.dataset.task, begin = performance.now();
  window.nextShown = new Promise((resolve) => {
    const look = () => stage.dataset.task && stage.dataset.task !== before
      ? requestAnimationFrame(() => resolve(performance.now() - begin)) : requestAnimationFrame(look);
    addEventListener("keydown", look, { once: true });
  });
}"""


def installed() -> str:
    """Return the path of a Chromium that is installed, or nothing."""
    named = os.environ.get("SLIPWAY_BROWSER", "")
    return named or next((path for name in NAMES if (path := shutil.which(name))), "")


@contextmanager
def headless() -> Iterator[Browser]:
    """Run a browser; without one, skip, or fail where one is demanded (SLIPWAY_BROWSER_REQUIRED)."""
    path = installed()
    if not path:
        if os.environ.get("SLIPWAY_BROWSER_REQUIRED"):
            pytest.fail(NO_BROWSER)
        pytest.skip(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS, headless=True)
        yield browser
        browser.close()


class LabelPage:
    """The labelling page in a tab of its own.

    Args:
        browser: Runs already.
        url: Of the gateway.
        options: Of the tab: viewport, color_scheme.
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.faults: list[str] = []
        self.foreign: list[str] = []
        self.answered: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._heard)
        self.page.on("request", self._asked)
        self.page.on("requestfinished", lambda request: self.answered.append(request.url.partition("?")[0]))

    def _heard(self, message: Any) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.faults.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:")):
            self.foreign.append(request.url)

    def open(self, project: str = "", token: str = "") -> "LabelPage":
        """Go to a project (or to the list) with a token in the fragment."""
        path = f"/label/{project.removeprefix('labelingProjects/')}" if project else "/label"
        self.page.goto(f"{self.url}{path}{f'#token={token}' if token else ''}")
        return self

    def open_at_rest(self, project: str, token: str) -> str:
        """Go to a project and wait until the page asks for nothing by itself; return the first example's key.

        Its tasks are fetched and their leases renewed, next in 200 s of the page's clock (see `later`).
        """
        self.page.clock.install()
        first = self.open(project, token).shown()
        self.wait("answered", "0")
        self.wait_answered(":media", HOLD)
        self.later(15)
        self.wait_answered(":renew", HOLD)
        return first

    def later(self, seconds: float) -> None:
        """Let time pass for the page; a timer that is due meanwhile goes off once."""
        self.page.clock.fast_forward(round(seconds * 1000))

    def wait_answered(self, ending: str, count: int) -> None:
        """Wait until so many requests to addresses that end so were answered."""
        stop_at = time.monotonic() + 60
        while sum(url.endswith(ending) for url in self.answered) < count:
            assert time.monotonic() < stop_at, self.answered
            self.page.wait_for_timeout(20)

    def key(self, *keys: str) -> None:
        """Press keys one after another."""
        for key in keys:
            self.page.keyboard.press(key)

    def shown(self, other_than: str = "") -> str:
        """Return the example's key on the stage, once one is there that is not `other_than`."""
        key = "document.getElementById('stage').dataset.key"
        script = f"(old) => {key} && {key} !== old && {key}"
        return str(self.page.wait_for_function(script, arg=other_than).json_value())

    def timed_key(self, key: str) -> float:
        """Press a key; return milliseconds until the next example is painted."""
        self.page.evaluate(NEXT)
        self.page.keyboard.press(key)
        return float(self.page.evaluate("window.nextShown"))

    def text(self, id: str) -> str:
        """Return what an element says."""
        return str(self.page.locator(f"#{id}").inner_text())

    def wait(self, id: str, text: str) -> None:
        """Wait until an element that is seen holds a text."""
        self.page.locator(f"#{id}", has_text=text).wait_for()

    def wait_sent(self) -> None:
        """Wait until everything that was answered is with the server."""
        self.page.locator("#unsent").wait_for(state="hidden")

    def close(self) -> None:
        """Close the tab; it must have had no fault and asked no other host."""
        self.context.close()
        assert self.faults == [], self.faults
        assert self.foreign == [], self.foreign
