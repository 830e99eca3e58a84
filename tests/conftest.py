"""For all of these tests: says loudly, at the end, what did not run for want of a browser."""

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Add a warning when tests of pages were skipped because no browser is installed."""
    skipped = [one for one in terminalreporter.stats.get("skipped", []) if "NO BROWSER" in str(one.longrepr)]
    if skipped:
        text = f"WARNING: {len(skipped)} tests of the labelling page did NOT run: no Chromium is installed"
        terminalreporter.write_line(text, red=True, bold=True)
