"""For all tests: a file stays on one worker, platforms begin; second tries and skips are said loudly."""

from typing import Any

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file on one worker, for they share servers; files that take long begin."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=_weight)


def _weight(item: pytest.Item) -> int:
    first = ("tests/e2e/", "tests/contract/", "services/")
    return next((place for place, folder in enumerate(first) if item.nodeid.startswith(folder)), len(first))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show why tests failed at their first try, and warn when those of pages did not run."""
    for one in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"FAILED AT ITS FIRST TRY: {one.nodeid}", sep="_", red=True)
        terminalreporter.write_line(one.longreprtext)
    skipped = [one for one in terminalreporter.stats.get("skipped", []) if "NO BROWSER" in str(one.longrepr)]
    if skipped:
        text = f"WARNING: {len(skipped)} tests of the labelling page did NOT run: no Chromium is installed"
        terminalreporter.write_line(text, red=True, bold=True)
