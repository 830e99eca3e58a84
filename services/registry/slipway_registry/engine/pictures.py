"""Pictures of a report as PNG: confusion, ROC, precision-recall, calibration.

matplotlib is imported when the first picture is drawn, and by its objects alone: pyplot keeps figures in a
global list. Its fonts are shared by all threads, so one picture is drawn at a time.
"""

import io
import threading
from typing import Any

import numpy as np

from slipway_registry.domain.evaluations import Curve, Report

MEDIA_TYPE = "image/png"
_DPI = 120
_INK, _GRID, _BLUE = "#1f2933", "#d9dee3", "#1f6fb4"
_NAMED = 8  # curves with a colour and a name of their own; the others are grey
_COUNTED = 25  # classes up to which each cell shows its count
_TICKED = 60
_drawing = threading.Lock()


def pictures(report: Report, classes: tuple[str, ...], title: str) -> dict[str, bytes]:
    """Return the pictures that a report has, by kind; a report without curves has no picture of them.

    Args:
        report: What to draw.
        classes: In the order of the confusion matrix.
        title: What stands above each picture.
    """
    with _drawing:
        found = {"confusion": _confusion(report, classes, title)}
        for kind, names in _AXES.items():
            curves = [curve for curve in report.curves if curve.kind == kind]
            if curves:
                found[kind] = _curves(kind, names, curves, title, report)
        calibration = [curve for curve in report.curves if curve.kind == "calibration"]
        if calibration:
            found["calibration"] = _calibration(calibration[0], title, report)
    return found


_AXES = {
    "roc": ("false-positive rate", "true-positive rate", "auroc"),
    "precision_recall": ("recall", "precision", "average_precision"),
}


_TITLES = {"roc": "area under the ROC curve", "precision_recall": "average precision"}


def _figure(width: float, height: float, title: str, subtitle: str) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    size = max(10.0, 1.1 * height)
    axes.set_title(f"{title}\n{subtitle}", loc="left", fontsize=size, color=_INK, parse_math=False)
    axes.tick_params(colors=_INK, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color(_GRID)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _short(name: str, length: int = 22) -> str:
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return plain if len(plain) <= length else plain[: length - 1] + "…"


def _confusion(report: Report, classes: tuple[str, ...], title: str) -> bytes:
    count = len(classes)
    matrix = np.array(report.confusion_matrix).reshape(count, count)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(2.6 + 0.42 * count, 4.6, 13.0))
    subtitle = f"accuracy {report.metrics['accuracy']:.4f} on {report.example_count:,} examples"
    figure, axes = _figure(side + 0.9, side, title, subtitle)
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the true class", fontsize=8, color=_INK)
    bar.ax.tick_params(labelsize=7, colors=_INK)
    bar.outline.set_edgecolor(_GRID)
    axes.set_xlabel("predicted", fontsize=9, color=_INK)
    axes.set_ylabel("true", fontsize=9, color=_INK)
    _name_classes(axes, classes)
    if count <= _COUNTED:
        _count_cells(axes, matrix, shares)
    return _png(figure)


def _name_classes(axes: Any, classes: tuple[str, ...]) -> None:
    places = np.arange(len(classes))
    if len(classes) > _TICKED:
        places = places[:: -(-len(classes) // _TICKED)]
    labels = [_short(classes[place]) for place in places]
    upright = max(map(len, labels)) > 3
    turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if upright else {}
    size = 8 if len(classes) <= _COUNTED else 6
    for axis, style in ((axes.xaxis, turned), (axes.yaxis, {})):
        axis.set_ticks(places)
        for text in axis.set_ticklabels(labels, fontsize=size, **style):
            text.set_parse_math(False)


def _count_cells(axes: Any, matrix: Any, shares: Any) -> None:
    size = 8 if len(matrix) <= 12 else 6
    for (row, column), number in np.ndenumerate(matrix):
        if number:
            color = "white" if shares[row, column] > 0.55 else _INK
            axes.text(column, row, f"{number:,}", ha="center", va="center", fontsize=size, color=color)


def _curves(kind: str, names: tuple[str, str, str], curves: list[Curve], title: str, report: Report) -> bytes:
    from matplotlib import colormaps

    value = report.metrics.get(names[2], 0.0)
    subtitle = f"{_TITLES[kind]} {value:.4f}, mean over classes, on {report.example_count:,} examples"
    figure, axes = _figure(5.8, 5.2, title, subtitle)
    single = sorted((curve for curve in curves if curve.label), key=_area)
    palette = colormaps["tab10"](range(10))
    for curve in single[_NAMED:]:
        _line(axes, curve, color="#c3cad1", linewidth=0.7, zorder=2)
    for place, curve in reversed(list(enumerate(single[:_NAMED]))):
        name = f"{_short(curve.label)}  {_area(curve):.3f}"
        color = palette[(place + 1) % len(palette)]
        _line(axes, curve, color=color, linewidth=1.2, zorder=3, label=name)
    for curve in curves:
        if not curve.label:
            _line(axes, curve, color=_INK, linewidth=2.2, zorder=4, label=f"all classes  {value:.3f}")
    if kind == "roc":
        axes.plot([0, 1], [0, 1], color=_GRID, linewidth=1, linestyle="--", zorder=1)
    _unit_square(axes, names[0], names[1])
    heading = "area; the lowest first" if len(single) > _NAMED else "area"
    _legend(axes, "lower right" if kind == "roc" else "lower left", heading)
    return _png(figure)


def _line(axes: Any, curve: Curve, **style: Any) -> None:
    stepped = {"drawstyle": "steps-pre"} if curve.kind == "precision_recall" and curve.label else {}
    axes.plot(curve.x, curve.y, solid_capstyle="round", clip_on=False, **stepped, **style)


def _area(curve: Curve) -> float:
    if curve.kind == "precision_recall" and curve.label:
        return float(np.sum(np.diff(curve.x) * np.array(curve.y)[1:]))
    return float(np.trapezoid(curve.y, curve.x))


def _legend(axes: Any, place: str, heading: str) -> None:
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.legend(
        handles[::-1], labels[::-1], loc=place, fontsize=8, title=heading, title_fontsize=8, framealpha=0.92
    )
    legend.get_frame().set_edgecolor(_GRID)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _unit_square(axes: Any, x: str, y: str) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_aspect("equal")
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(x, fontsize=9, color=_INK)
    axes.set_ylabel(y, fontsize=9, color=_INK)


def _calibration(curve: Curve, title: str, report: Report) -> bytes:
    count = f"{report.example_count:,} examples"
    subtitle = f"ECE {report.metrics['ece']:.4f}, {len(curve.x)} bins of equal mass, {count}"
    figure, axes = _figure(5.8, 5.4, title, subtitle)
    x, y = np.array(curve.x), np.array(curve.y)
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle="--", zorder=2, label="calibrated")
    axes.vlines(x, np.minimum(x, y), np.maximum(x, y), color="#e08e45", linewidth=3, zorder=3, label="gap")
    spread = 1.96 * np.sqrt(np.maximum(y * (1 - y), 1e-9) / np.array(curve.counts))
    axes.errorbar(
        x, y, yerr=[np.minimum(spread, y), np.minimum(spread, 1 - y)], color=_BLUE, ecolor="#9dbfdd",
        marker="o", markersize=5, linewidth=1.4, elinewidth=1, capsize=2, zorder=4, label="bins, with 95 %",
    )  # fmt: skip
    _unit_square(axes, "mean confidence", "accuracy")
    _legend(axes, "upper left", "")
    return _png(figure)
