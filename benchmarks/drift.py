"""Batch drift of 100,000 rows x 20 columns beside two peers (NannyML, Evidently), scipy and two floors.

16 columns are numbers (Kolmogorov-Smirnov), 4 are classes coded as numbers, pandas' `category` for the peers
(chi-squared); a window is compared with a reference of as many rows. Each contestant is a process of its own
with one thread; what counts is its CPU time, measured inside it, in turns (every second pass in reverse).
Imports, data and conversions are not counted. `with its reference` counts what is made of the reference, too.

* slipway: `slipway_monitoring.engine`, the code of the service: sketches, tests, PSI, Holm.
* scipy: `scipy.stats.ks_2samp` and `chi2_contingency` on each column, the reference sorted before.
* sort floor: bare numpy and scipy, no objects: one sort of each column and a lookup of 127 cuts, or one
  `bincount`.
* grid floor: the same, with a column's bins computed instead of sorted: what slipway does with many values.

    python benchmarks/drift.py [--peers PYTHON] [--rows 100000] [--passes 7] [--json FILE]

The peers live in an environment of their own, whose Python is named by `--peers`:

    python -m venv DIR && DIR/bin/pip install nannyml evidently 'pandas<3'
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()
NUMBERS, CLASSES, NAMES = 16, 4, tuple(f"class {i}" for i in range(10))
OURS, SCIPY, SORT, GRID = "slipway", "scipy", "sort floor", "grid floor"
NANNYML, EVIDENTLY = "NannyML", "Evidently"
PEERS = (NANNYML, EVIDENTLY)

Columns = Mapping[str, np.ndarray[Any, Any]]
Timed = Callable[[], tuple[float, float, int]]


def columns(rows: int, seed: int, moved: float) -> Columns:
    """Return the columns of a window, of which every fourth is moved."""
    random = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for index in range(NUMBERS):
        draw = random.normal(size=rows) if index % 2 else random.gamma(2.0, size=rows)
        made[f"number {index}"] = draw + (moved if index % 4 == 0 else 0)
    for index in range(CLASSES):
        weights = np.ones(len(NAMES)) / len(NAMES)
        weights[0] += moved if index == 0 else 0
        made[f"class {index}"] = random.choice(len(NAMES), rows, p=weights / weights.sum())
    return made


# Contestants: each returns a function that runs one pass: CPU of preparing, CPU of comparing, columns found


def slipway(reference: Columns, window: Columns) -> Timed:
    """Return the service's own code."""
    from slipway_monitoring.domain.drift import DriftSettings
    from slipway_monitoring.engine.histogram import Coded
    from slipway_monitoring.engine.reference import Reference
    from slipway_monitoring.engine.window import Window, compare

    def coded(data: Columns) -> dict[str, Any]:
        return {n: Coded(v, NAMES) if v.dtype.kind == "i" else v for n, v in data.items()}

    settings, first, second = DriftSettings(min_effect=0.0), coded(reference), coded(window)

    def run() -> tuple[float, float, int]:
        start = time.process_time()
        prepared = Reference.of(first)
        between = time.process_time()
        found = compare(Window.of(prepared, second), prepared, settings)
        end = time.process_time()
        return between - start, end - between, sum(test.drifted for test in found.tests)

    return run


def scipy_bare(reference: Columns, window: Columns) -> Timed:
    """Return scipy's own tests of two samples."""
    from scipy import stats

    def run() -> tuple[float, float, int]:
        start = time.process_time()
        ready = {n: np.sort(v) if v.dtype.kind == "f" else np.bincount(v) for n, v in reference.items()}
        between = time.process_time()
        found = 0
        for name, values in window.items():
            if values.dtype.kind == "f":
                p = stats.ks_2samp(values, ready[name], method="asymp").pvalue
            else:
                p = stats.chi2_contingency([np.bincount(values), ready[name]]).pvalue
            found += p < 0.01 / len(window)
        return between - start, time.process_time() - between, found

    return run


def sort_floor(reference: Columns, window: Columns) -> Timed:
    """Return what bare numpy and scipy do by one sort of each column."""

    def prepare(values: Any) -> Any:
        ordered = np.sort(values)
        cuts = ordered[np.linspace(0, len(ordered) - 1, 129).astype(int)[1:-1]]
        return cuts, np.searchsorted(ordered, cuts) / len(ordered)

    def distance(values: Any, ready: Any) -> float:
        cuts, below = ready
        return float(np.abs(np.searchsorted(np.sort(values), cuts) / len(values) - below).max())

    return _bare(reference, window, prepare, distance)


def grid_floor(reference: Columns, window: Columns) -> Timed:
    """Return what bare numpy and scipy do by computing each value's bin."""
    cells = 4096

    def below(values: Any, low: float, width: float) -> Any:
        place = (values - low) * (1 / width)
        np.fmin(place, cells, out=place)
        np.fmax(place, -1, out=place)
        place += 1
        counts = np.bincount(place.astype(np.intp), minlength=cells + 2)
        return np.cumsum(counts[:-1]) / len(values)

    def prepare(values: Any) -> Any:
        low, high = np.quantile(values, [0.001, 0.999])
        return low, (high - low) / cells, below(values, low, (high - low) / cells)

    def distance(values: Any, ready: Any) -> float:
        low, width, known = ready
        return float(np.abs(below(values, low, width) - known).max())

    return _bare(reference, window, prepare, distance)


def _bare(
    reference: Columns, window: Columns, prepare: Callable[[Any], Any], distance: Callable[[Any, Any], float]
) -> Timed:
    from scipy import special

    def p_value(name: str, values: Any, ready: Any) -> float:
        n, m = len(values), len(reference[name])
        if values.dtype.kind == "f":
            return float(special.kolmogorov(np.sqrt(n * m / (n + m)) * distance(values, ready)))
        table = np.array([np.bincount(values, minlength=len(NAMES)), ready])
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
        return float(special.chdtrc(len(NAMES) - 1, ((table - expected) ** 2 / expected).sum()))

    def run() -> tuple[float, float, int]:
        start = time.process_time()
        ready = {n: prepare(v) if v.dtype.kind == "f" else np.bincount(v) for n, v in reference.items()}
        between = time.process_time()
        found = sum(p_value(name, v, ready[name]) < 0.01 / len(window) for name, v in window.items())
        return between - start, time.process_time() - between, found

    return run


def _frame(data: Columns) -> Any:
    import pandas as pd

    made = {n: v if v.dtype.kind == "f" else pd.Categorical.from_codes(v, NAMES) for n, v in data.items()}
    return pd.DataFrame(made)


def nannyml(reference: Columns, window: Columns) -> Timed:
    """Return NannyML's univariate drift of one chunk."""
    import nannyml as nml

    first, second = _frame(reference), _frame(window)

    def run() -> tuple[float, float, int]:
        start = time.process_time()
        calculator = nml.UnivariateDriftCalculator(
            column_names=list(first.columns),
            continuous_methods=["kolmogorov_smirnov"],
            categorical_methods=["chi2"],
            chunk_size=len(second),
        ).fit(first)
        between = time.process_time()
        result = calculator.calculate(second)
        end = time.process_time()
        values = result.filter(period="analysis").to_df()
        return between - start, end - between, len(values.columns.get_level_values(0).unique()) - 1

    return run


def evidently(reference: Columns, window: Columns) -> Timed:
    """Return Evidently's preset with the same two tests; it has no step that prepares the reference."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [name for name, values in reference.items() if values.dtype.kind == "f"]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[name for name in reference if name not in numbers]
    )
    first, second = (
        Dataset.from_pandas(_frame(data), data_definition=definition) for data in (reference, window)
    )

    def run() -> tuple[float, float, int]:
        start = time.process_time()
        report = Report([DataDriftPreset(num_method="ks", cat_method="chisquare")]).run(second, first)
        end = time.process_time()
        return 0.0, end - start, len(report.dict()["metrics"]) - 1

    return run


CONTESTANTS = {
    OURS: slipway,
    SCIPY: scipy_bare,
    SORT: sort_floor,
    GRID: grid_floor,
    NANNYML: nannyml,
    EVIDENTLY: evidently,
}


def contest(name: str, rows: int) -> None:
    """Be a contestant: one pass for each line that comes in, told as JSON."""
    run = CONTESTANTS[name](columns(rows, 1, 0.0), columns(rows, 2, 0.02))
    run()  # what is loaded late is not counted
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps([float(figure) for figure in run()]), flush=True)


class Contestant:
    """A process that runs one pass when asked to."""

    def __init__(self, name: str, python: str, rows: int) -> None:
        self.name = name
        single = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
        quiet = {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [python, str(HERE), "--contestant", name, "--rows", str(rows)],
            env={**os.environ, **single, **quiet},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ready(self) -> bool:
        """Wait until it can begin; say whether it can."""
        return self._said("ready") == "ready"

    def _said(self, wanted: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # libraries may print, too
            if line.startswith(wanted):
                return line.strip()
        return ""

    def run(self) -> dict[str, float]:
        """Return CPU seconds of one pass, and how many columns it found."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        prepare_s, compare_s, found = json.loads(self._said("["))
        return {"compare": compare_s, "whole": prepare_s + compare_s, "found": found}

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Measure, and print figures and ratios."""
    options = _options()
    if options.contestant:
        contest(options.contestant, options.rows)
        return
    pythons = dict.fromkeys((OURS, SCIPY, SORT, GRID), sys.executable)
    if options.peers:
        pythons |= dict.fromkeys(PEERS, options.peers)
    else:
        print(f"{' and '.join(PEERS)} are left out: name their Python with --peers; to make it:")
        print("    python -m venv DIR && DIR/bin/pip install nannyml evidently 'pandas<3'")
    contestants = [Contestant(name, python, options.rows) for name, python in pythons.items()]
    try:
        passes = _measured([one for one in contestants if _is_ready(one)], options.passes)
    finally:
        for one in contestants:
            one.stop()
    print(f"\n{options.rows} rows x {NUMBERS + CLASSES} columns, {options.passes} passes\n")
    _print(passes)
    if options.json:
        options.json.write_text(json.dumps(passes, indent=1))


def _print(passes: Mapping[str, list[dict[str, float]]]) -> None:
    from measuring.figures import ratios, spread, table

    def series(name: str, what: str) -> list[float]:
        return [one[what] for one in passes[name]]

    both = ("compare", "whole")
    figures = [[n, *(spread([s * 1e3 for s in series(n, w)], 1) for w in both)] for n in passes]
    print(table(["", "compare, CPU ms", "with its reference, CPU ms"], figures))
    shares = [
        [name, *(spread(ratios(series(name, what), series(OURS, what)), 2) for what in both)]
        for name in passes
        if name != OURS
    ]
    print("\n" + table(["it / slipway", "compare", "with its reference"], shares))


def _is_ready(one: Contestant) -> bool:
    ready = one.ready()
    if not ready:
        print(f"{one.name} could not begin, and is left out")
    return ready


def _measured(contestants: list[Contestant], passes: int) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {one.name: [] for one in contestants}
    for number in range(passes):
        for one in contestants if number % 2 == 0 else contestants[::-1]:
            found[one.name].append(one.run())
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Batch drift beside its peers and floors.")
    parser.add_argument(
        "--peers", default=os.environ.get("SLIPWAY_DRIFT_PEERS", ""), help="Python with the peers"
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--passes", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--contestant", default="", choices=["", *CONTESTANTS], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
