"""Tests of two samples, both of them finite: Kolmogorov-Smirnov and chi-squared on counts, and the PSI.

Sources: N. Smirnov (1948) with the exact one-sample distribution at the effective size n m / (n + m), as
scipy's `ks_2samp` takes it; K. Pearson's chi-squared of a 2 x K table, cells pooled by W. Cochran's rule
(1954).
"""

import numpy as np
from scipy import special, stats

from slipway_monitoring.domain.drift import DriftTest
from slipway_monitoring.engine.histogram import Classes, Floats, Histogram

MIN_EXPECTED = 5.0
MAX_SHOWN = 50
_PSI_BINS = 10


def kolmogorov_smirnov(subject: str, window: Histogram, reference: Histogram) -> DriftTest:
    """Compare two histograms of the same cuts.

    The distance is looked for at the cuts alone, so it is never above that of the values themselves: the
    p-value errs on the safe side.
    """
    n, m = window.total, reference.total
    distance = float(np.abs(window.below() - reference.below()).max(initial=0.0))
    return DriftTest(
        subject=subject,
        method="ks",
        statistic=distance,
        p_value=kolmogorov_p_value(distance, n, m),
        effect=distance,
        psi=_psi_of_bins(window, reference),
        row_count=n,
        reference_count=m,
        observed=window.quantiles(),
        expected=reference.quantiles(),
    )


def kolmogorov_p_value(distance: float, n: int, m: int) -> float:
    """Return the probability of this distance or more between samples of n and m of one distribution."""
    effective = n * m / max(n + m, 1)
    if distance <= 0 or effective < 1:
        return 1.0
    if effective > 2000:  # the limit is as good then, and much faster
        return float(special.kolmogorov(np.sqrt(effective) * distance))
    return float(np.clip(stats.kstwo.sf(distance, round(effective)), 0.0, 1.0))


def chi_squared(subject: str, window: Classes, reference: Classes) -> DriftTest | None:
    """Compare how often classes came; None when there is but one class, or nothing.

    Classes of which fewer than five are expected on either side are pooled, the rarest first. Where even two
    cells are too small for chi-squared, the p-value is R. Fisher's exact one.
    """
    labels = sorted(set(window.counts) | set(reference.counts))
    table = np.array([[side.counts.get(label, 0) for label in labels] for side in (window, reference)], float)
    cells = _pooled(table[:, table.any(axis=0)])
    sizes = cells.sum(axis=1)
    if cells.shape[1] < 2 or not sizes.all():
        return None
    expected = np.outer(sizes, cells.sum(axis=0)) / sizes.sum()
    statistic = float(((cells - expected) ** 2 / expected).sum())
    if expected.min() < MIN_EXPECTED:
        p_value = float(stats.fisher_exact(cells.astype(np.int64)).pvalue)
    else:
        p_value = float(special.chdtrc(cells.shape[1] - 1, statistic))
    return DriftTest(
        subject=subject,
        method="chi2",
        statistic=statistic,
        p_value=p_value,
        effect=float(np.abs(table[0] / sizes[0] - table[1] / sizes[1]).sum() / 2),
        psi=psi(cells[0], cells[1]),
        row_count=int(sizes[0]),
        reference_count=int(sizes[1]),
        observed=_most(window),
        expected=_most(reference),
    )


def _pooled(table: Floats) -> Floats:
    """Return the table with its rarest columns as one, so that each expects `MIN_EXPECTED` on both sides.

    Two columns stay as they are, whatever they expect.
    """
    totals = np.sort(table.sum(axis=0))
    ordered = table[:, np.argsort(table.sum(axis=0), kind="stable")]
    sizes = table.sum(axis=1)
    needed = MIN_EXPECTED * sizes.sum() / max(sizes.min(), 1)  # of both rows together
    rare = int((totals < needed).sum())
    while 0 < rare < len(totals) - 1 and totals[:rare].sum() < needed:
        rare += 1
    rare = min(rare, len(totals) - 1)
    if rare < 2:
        return ordered
    return np.column_stack([ordered[:, :rare].sum(axis=1), ordered[:, rare:]])


def psi(window: Floats, reference: Floats) -> float:
    """Return the population stability index of two rows of counts; half a count stands for none."""
    p = np.maximum(window, 0.5) / max(window.sum(), 1.0)
    q = np.maximum(reference, 0.5) / max(reference.sum(), 1.0)
    return float(((p - q) * np.log(p / q)).sum())


def _psi_of_bins(window: Histogram, reference: Histogram) -> float:
    """By about ten bins of equal share in the reference, as it is usually taken."""
    groups = np.minimum(
        (np.cumsum(reference.counts) - reference.counts) * _PSI_BINS // max(reference.total, 1), _PSI_BINS - 1
    )
    grouped = [np.bincount(groups, side.counts, _PSI_BINS) for side in (window, reference)]
    return psi(grouped[0].astype(np.float64), grouped[1].astype(np.float64))


def _most(classes: Classes) -> dict[str, float]:
    shares = sorted(classes.shares().items(), key=lambda item: (-item[1], item[0]))
    return dict(sorted(shares[:MAX_SHOWN]))
