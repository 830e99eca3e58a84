"""The story of one model.

First act: from image files to a traced, split, batched prediction. Second act: labels that people give,
what is learnt from them, and gates that refuse with a reason. Third act: canaries that decide on evidence, a
world that changes, a platform that learns it, and the way back from one prediction to its annotators.

`slipway demo NAME` runs `examples/NAME/story.py`. Every step uses the public API as any user would, prints
one headline and keeps its figures. Nothing in the platform knows this file.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data import Picture, damaged, digits
from rich.console import Console
from slipway.client import Client, SlipwayError, pages
from slipway.ingestion.v1 import ingestion_pb2 as ing
from steps import Steps

HERE = Path(__file__).parent


@dataclass
class Plot:
    """Whom the story is about, and how long it may take.

    Attributes:
        name: Id of the data set, the experiment, the model and the endpoint.
        pictures: Labelled image files; three of them come damaged, too.
        task: Folder and entry point of the task.
        first: Hyperparameters of the first job; it is killed once in mid-training.
        second: Hyperparameters of the second job.
        few: Hyperparameters of jobs on few labels, in the second act.
        load_seconds: Length of each load.
        split_requests: Requests for the measurement of a split.
        rate: Requests per second of the third act's traffic.
    """

    name: str
    pictures: list[Picture]
    task: Path = HERE
    entry_point: str = "task.py:SmallImages"
    first: dict[str, Any] = field(default_factory=lambda: {"epochs": 25})
    second: dict[str, Any] = field(default_factory=lambda: {"epochs": 15, "width": 16, "lr": 0.005})
    few: dict[str, Any] = field(default_factory=lambda: {"epochs": 100, "width": 16, "lr": 0.005})
    load_seconds: float = 6.0
    split_requests: int = 2000
    rate: float = 100.0

    @property
    def classes(self) -> list[str]:
        """The labels that there are, in order."""
        return sorted({picture.label for picture in self.pictures})


@dataclass
class Story:
    """What one step leaves for the next."""

    plot: Plot
    steps: Steps
    port_base: int
    client: Client
    dataset: str = ""
    commits: list[str] = field(default_factory=list)
    versions: list[Any] = field(default_factory=list)
    endpoint: str = ""
    shown: dict[str, str] = field(default_factory=dict)  # `predictions/{id}.{row}` → what was on the image

    @property
    def subsets(self) -> list[str]:
        """The versions as routes name them, in the order in which they were trained."""
        return [f"v{version.name.rpartition('/')[2]}" for version in self.versions]

    def keys(self, split: str) -> set[str]:
        """Return the keys of a split of the newest commit of `main`."""
        request = ing.ListExamplesRequest(parent=self.commits[-1], split=split, page_size=1000)
        return {row.key for row in pages(self.client.ingestion.ListExamples, request, "examples")}


def slipway(*arguments: str) -> Any:
    """Run the command line as a user does; return what it prints with --json.

    Raises:
        SlipwayError: The command refused; the text is its own.
    """
    command = [sys.executable, "-m", "slipway.cli.main", *arguments, "--json"]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    answer = json.loads(result.stdout) if result.stdout.strip() else {}
    if result.returncode != 0:
        text = answer.get("error", f"slipway {' '.join(arguments)} ended with {result.returncode}")
        raise SlipwayError("FAILED_PRECONDITION", "PLATFORM_NOT_READY", text)
    return answer


def platform(steps: Steps, port_base: int) -> None:
    """(1) Start the platform, or find it running."""
    with steps.step("platform") as step:
        slipway("up", "--port-base", str(port_base))
        status = slipway("status")
        processes = status["processes"]
        memory = sum(process.get("rss_bytes") or 0 for process in processes)
        step.figures |= {"processes": len(processes), "rss_mb": round(memory / 2**20)}
        step.headline = f"{len(processes)} processes, {memory / 2**20:.0f} MB resident"


def run(
    console: Console,
    *,
    port_base: int = 8080,
    json_path: Path | None = None,
    plot: Plot | None = None,
) -> None:
    """Tell the story; write the figures also when a step fails."""
    import canary
    import fading
    import gates
    import labelling
    import learning
    import lookback
    import serving

    steps = Steps(console)
    plot = plot or Plot("digits", digits())
    try:
        platform(steps, port_base)
        with Client.local() as client:
            story = Story(plot, steps, port_base, client)
            learning.ingest(story, damaged(plot.pictures[0]))
            learning.change(story)
            learning.train_with_a_kill(story)
            learning.train_again(story)
            learning.bundles(story)
            serving.deploy(story)
            serving.batching(story)
            serving.split(story)
            serving.side_by_side(story)
            serving.trace(story)
            labels = labelling.forget(story)
            labelling.first_model(story, labels)
            labelling.choose(story, labels)
            labelling.annotate(story, labels)
            labelling.agree(story, labels)
            labelling.snapshot(story, labels)
            labelling.compare(story, labels)
            gates.no_policy(story, labels)
            gates.approve(story, labels)
            gates.refuse(story, labels)
            gates.noise(story, labels)
            gates.impact(story, labels)
            fading.prepare(story, labels)
            canary.rolled_out(story, labels)
            canary.rolled_back(story, labels)
            canary.held(story, labels)
            prediction = fading.fade(story, labels)
            fading.told(story)
            lookback.trace(story, prediction)
            lookback.impact(story)
            lookback.reproduce(story)
    finally:
        if json_path is not None:
            steps.write(json_path)
    farewell(console, port_base)


def farewell(console: Console, port_base: int) -> None:
    """Say what still runs and how to stop it."""
    console.print(
        f"\nStill running: REST http://127.0.0.1:{port_base} (docs at /docs), "
        f"gRPC 127.0.0.1:{port_base + 1}. Look: slipway status. Stop: slipway down."
    )
