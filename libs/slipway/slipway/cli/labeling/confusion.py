"""A confusion matrix in the terminal: darker cells hold a larger share of their row."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

MOST_LABELS = 20
_SHADES = " ░▒▓█"


def confusion_table(labels: Sequence[str], matrix: Sequence[float], title: str) -> Table:
    """Return a table, true label by answered label, of expected counts.

    Args:
        labels: In the order of the matrix; of more than 20 the first 20 are shown.
        matrix: Row-major; len = labels².
        title: What stands above it.
    """
    size, shown = len(labels), labels[:MOST_LABELS]
    more = f", the first {MOST_LABELS} of {size} labels" if size > MOST_LABELS else ""
    table = Table(box=None, pad_edge=False, title=f"{title}{more}", title_justify="left", title_style="bold")
    table.add_column("true \\ answered", style="dim")
    for label in shown:
        table.add_column(label, justify="right", header_style="dim")
    for row, label in enumerate(shown):
        counts = matrix[row * size : (row + 1) * size]
        total = sum(counts)
        table.add_row(label, *(_cell(counts[column], total, row == column) for column in range(len(shown))))
    return table


def _cell(count: float, total: float, right: bool) -> Text:
    share = count / total if total else 0.0
    if round(count, 1) == 0:
        return Text("·", style="dim")
    return Text(f"{count:.1f} {shade(share)}", style="green" if right else "red")


def shade(share: float) -> str:
    """Return a block that is as dark as a share, 0 to 1, is large."""
    return _SHADES[min(int(share * len(_SHADES)), len(_SHADES) - 1)]
