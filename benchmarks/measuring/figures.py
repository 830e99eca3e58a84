"""What passes say together: medians with their spread, and ratios taken pass by pass.

A ratio of two medians hides what the machine did meanwhile; a ratio within one pass does not.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median with its least and largest value: `2341 (2100–2500)`."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return ours / theirs, pass by pass."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def keep(path: Path | None, document: dict[str, Any]) -> None:
    """Write every pass as JSON when a file is named."""
    if path is not None:
        path.write_text(json.dumps(document, indent=1))
        print(f"every pass is in {path}")
