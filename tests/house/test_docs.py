"""Documentation is tested: links lead somewhere, and every service says what it owns and promises."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("services/*/README.md"),
    *ROOT.glob("deploy/**/*.md"),
]
PAGES = [page for page in PAGES if page.name != "PLAN.md"]
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    "service", sorted(path.name for path in (ROOT / "services").iterdir() if path.is_dir())
)
def test_every_service_says_what_it_owns_and_promises(service: str) -> None:
    text = (ROOT / "services" / service / "README.md").read_text().lower()

    assert [word for word in ("owns", "promises", "depends on") if word not in text] == []


def test_the_commands_of_the_readme_are_targets_and_verbs() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()

    targets = re.findall(r"^    make (\w+)", readme, re.MULTILINE)

    assert targets
    assert [target for target in targets if f"\n{target}:" not in makefile] == []
