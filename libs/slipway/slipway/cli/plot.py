"""A series as text, for a terminal: braille dots, two by four in a character."""

from collections.abc import Sequence

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def plot(xs: Sequence[float], ys: Sequence[float], *, width: int = 60, height: int = 12) -> list[str]:
    """Return lines that show ys over xs, with the bounds at the left and below.

    Points that are not finite are left out.
    """
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if abs(y) < float("inf")]
    if not points:
        return ["(no finite point)"]
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = min(y for _, y in points), max(y for _, y in points)
    cells = [[0] * width for _ in range(height)]
    for x, y in points:
        column = _place(x, low_x, high_x, 2 * width)
        row = 4 * height - 1 - _place(y, low_y, high_y, 4 * height)
        cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    return _framed(cells, (low_x, high_x), (low_y, high_y))


def _place(value: float, low: float, high: float, size: int) -> int:
    share = (value - low) / (high - low) if high > low else 0.5
    return min(int(share * size), size - 1)


def _framed(cells: list[list[int]], across: tuple[float, float], up: tuple[float, float]) -> list[str]:
    labels = {0: f"{up[1]:.4g}", len(cells) - 1: f"{up[0]:.4g}"}
    margin = max(map(len, labels.values()))
    lines = [
        f"{labels.get(i, ''):>{margin}} ┤{''.join(chr(0x2800 + cell) for cell in row)}"
        for i, row in enumerate(cells)
    ]
    left, right = f"{across[0]:g}", f"{across[1]:g}"
    space = len(cells[0]) - len(left) - len(right)
    return [*lines, f"{'':>{margin}}  {left}{' ' * max(1, space)}{right}"]
