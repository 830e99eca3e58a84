"""What the story prints and keeps: one headline and a set of figures per step."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

Figure = float | int | bool


@dataclass
class Step:
    """One step: numbers only, no prose, so that scripts can compare runs."""

    name: str
    ok: bool = False
    seconds: float = 0.0
    figures: dict[str, Figure] = field(default_factory=dict)
    headline: str = field(default="", repr=False)


class Steps:
    """Runs steps in order and records them; a step that raises is kept as not ok."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.done: list[Step] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time what is inside, print its headline, keep its figures."""
        step = Step(name)
        self.done.append(step)
        begin = time.monotonic()
        try:
            yield step
            step.ok = True
        finally:
            step.seconds = round(time.monotonic() - begin, 3)
            mark = "[green]✓[/green]" if step.ok else "[red]✗[/red]"
            number = len(self.done)
            self.console.print(
                f"{mark} [bold]{number:2d} {name}[/bold] ({step.seconds:.1f} s)  {step.headline}"
            )

    def write(self, path: Path) -> None:
        """Write the steps as a JSON list of name, ok, seconds, figures."""
        rows = [{k: v for k, v in asdict(step).items() if k != "headline"} for step in self.done]
        path.write_text(json.dumps(rows, indent=2) + "\n")
