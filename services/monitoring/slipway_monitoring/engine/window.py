"""A window of rows as sketches, and its comparison with the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from slipway_monitoring.domain.drift import Comparison, DriftSettings, DriftTest, judge, too_few
from slipway_monitoring.engine.discrepancy import discrepancy
from slipway_monitoring.engine.histogram import Classes, Coded, Histogram
from slipway_monitoring.engine.reference import Reference
from slipway_monitoring.engine.sample import VectorSample
from slipway_monitoring.engine.two_samples import chi_squared, kolmogorov_smirnov


@dataclass(frozen=True)
class Window:
    """Rows counted between the reference's cuts; windows of one reference can be merged."""

    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    classes: Mapping[str, Classes] = field(default_factory=dict)
    embedding: VectorSample | None = None

    @classmethod
    def of(
        cls,
        reference: Reference,
        columns: Mapping[str, NDArray[Any] | Coded],
        embedding: NDArray[Any] | None = None,
        keys: Sequence[str] = (),
    ) -> "Window":
        """Return the window of columns (N,), and of vectors (M, D) with their rows' keys.

        A column that the reference lacks is left out.
        """
        histograms, classes = {}, {}
        for name, values in columns.items():
            if name in reference.classes:
                classes[name] = Classes.of(values)
            elif name in reference.histograms and not isinstance(values, Coded):
                histograms[name] = reference.histograms[name].counted(values)
        taken = VectorSample.of(embedding, keys) if embedding is not None and len(embedding) else None
        return cls(histograms, classes, taken)

    def merged(self, other: "Window") -> "Window":
        """Return the window of both."""
        histograms = {
            name: _merged(self.histograms.get(name), other.histograms.get(name))
            for name in {*self.histograms, *other.histograms}
        }
        classes = {
            name: _merged(self.classes.get(name), other.classes.get(name))
            for name in {*self.classes, *other.classes}
        }
        return Window(histograms, classes, _merged(self.embedding, other.embedding))


def _merged(one: Any, other: Any) -> Any:
    return one.merged(other) if one is not None and other is not None else one or other


def compare(window: Window, reference: Reference, settings: DriftSettings) -> Comparison:
    """Compare all that both have and of which the window has `min_rows`."""
    tests = _tests(window, reference, settings.min_rows)
    if tests:
        return judge(tests, settings)
    counted = [histogram.total for histogram in window.histograms.values()]
    counted += [labels.total for labels in window.classes.values()]
    return too_few(max(counted, default=0), settings)


def _tests(window: Window, reference: Reference, min_rows: int) -> list[DriftTest]:
    tests: list[DriftTest | None] = [
        kolmogorov_smirnov(name, counted, reference.histograms[name])
        for name, counted in sorted(window.histograms.items())
        if counted.total >= min_rows
    ]
    tests += [
        chi_squared(name, labels, reference.classes[name])
        for name, labels in sorted(window.classes.items())
        if labels.total >= min_rows
    ]
    tests.append(_embedding_test(window.embedding, reference.embedding, min_rows))
    return [test for test in tests if test is not None]


def _embedding_test(
    window: VectorSample | None, reference: VectorSample | None, min_rows: int
) -> DriftTest | None:
    if window is None or reference is None or window.vectors.shape[1] != reference.vectors.shape[1]:
        return None
    enough = window.seen >= min_rows and min(len(window.vectors), len(reference.vectors)) > 1
    return discrepancy(window, reference) if enough else None
