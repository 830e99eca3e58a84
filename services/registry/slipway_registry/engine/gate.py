"""Judges a version by a policy: every check with what it measured, its bound, and one sentence for people."""

from collections.abc import Iterator
from dataclasses import dataclass

from slipway_runtime.errors import near

from slipway_registry.domain import Version
from slipway_registry.domain.evaluations import BY_ATTRIBUTE, BY_LABEL, Evaluation, Slice
from slipway_registry.domain.gates import Finding, Outcome
from slipway_registry.domain.policies import Policy, RegressionRule, Threshold
from slipway_registry.engine import paired

MIN_PASSES = 5  # fewer could all be slower by chance: 1 of 16 of an equal version
LATENCY_ALPHA = 0.05
PASSED, FAILED, UNDECIDED = Outcome.PASSED, Outcome.FAILED, Outcome.UNDECIDED
_ALL = "all examples"


@dataclass(frozen=True)
class Case:
    """What is known when a version is judged.

    `champion` is the version that the policy's alias names now, empty for none; `approved` says whether the
    model has another version that is approved.
    """

    version: Version
    policy: Policy
    evaluation: Evaluation
    champion: str
    approved: bool

    @property
    def first(self) -> bool:
        """Whether there is nothing yet to compare with."""
        return not self.champion and not self.approved

    @property
    def itself(self) -> bool:
        """Whether the alias names the version that is judged."""
        return self.champion == self.version.name


def findings(case: Case) -> list[Finding]:
    """Return every check of the policy, as it ended."""
    return [*_evaluation(case), *_thresholds(case), *_beside(case), *_bounds(case)]


def _split(name: str) -> str:
    return f"split {name!r}" if name else "all splits together"


def _evaluation(case: Case) -> Iterator[Finding]:
    """Check that the evaluation is one that the policy asks for, and that it is large enough."""
    rule, header = case.policy.evaluation, case.evaluation.header
    count = case.evaluation.report.example_count
    if header.split != rule.split:
        yield _unfit(
            f"{case.evaluation.name} is of {_split(header.split)}, the policy asks for "
            f"{_split(rule.split)}; evaluate on that",
        )
    if rule.dataset and not header.dataset_commit.startswith(f"{rule.dataset}/commits/"):
        yield _unfit(
            f"{case.evaluation.name} is of {header.dataset_commit}, the policy asks for {rule.dataset}; "
            "evaluate on a commit of it",
        )
    missing = rule.minimum_examples - count
    outcome = UNDECIDED if missing > 0 else PASSED
    more = f"; {missing} more are needed" if missing > 0 else ""
    message = f"the evaluation has {count} examples, the policy asks for {rule.minimum_examples}{more}"
    yield Finding(
        "evaluation", outcome, message, value=count, bound=rule.minimum_examples, example_count=count
    )


def _unfit(message: str, metric: str = "", slice: str = "") -> Finding:
    return Finding("evaluation", FAILED, message, metric=metric, slice=slice)


def _thresholds(case: Case) -> Iterator[Finding]:
    for threshold in case.policy.thresholds:
        yield from _threshold(case, threshold)


def _threshold(case: Case, threshold: Threshold) -> Iterator[Finding]:
    report = case.evaluation.report
    value = report.metrics.get(threshold.metric)
    if value is None:
        text = (
            f"the examples allow no {threshold.metric}; evaluate on at least two classes, or drop the bound"
        )
        yield _unfit(text, threshold.metric)
        return
    for word, bound in (("at least", threshold.min), ("at most", threshold.max)):
        if bound is None:
            continue
        holds = value >= bound if word == "at least" else value <= bound
        yield _bounded("threshold", threshold.metric, value, word, bound, holds, report.example_count)


def _bounded(
    gate: str, metric: str, value: float, word: str, bound: float, holds: bool, count: int, on: str = ""
) -> Finding:
    verb = "is" if holds else "is not"
    message = f"{metric} on {on or _ALL} is {value:.6g} (n = {count}); it {verb} {word} {bound:g}"
    outcome = PASSED if holds else FAILED
    return Finding(gate, outcome, message, metric=metric, value=value, bound=bound, example_count=count)


def _beside(case: Case) -> Iterator[Finding]:
    """Check what takes a champion: the paired test and the latency."""
    gates = [
        name
        for name, rule in (("regression", case.policy.regression), ("latency", case.policy.max_ratio))
        if rule
    ]
    if not gates:
        return
    alias, seen = case.policy.alias, case.evaluation.header.champion_version
    if case.first or case.itself:
        why = (
            f"is the version that alias {alias!r} names: it is not compared with itself"
            if case.itself
            else f"is the first: alias {alias!r} is not set and no other version is approved"
        )
        for gate in gates:
            yield Finding(gate, PASSED, f"{case.version.name} {why}")
    elif not case.champion:
        text = f"alias {alias!r} is not set, yet other versions are approved; set it, then evaluate beside it"
        for gate in gates:
            yield Finding(gate, FAILED, text)
    elif seen != case.champion:
        text = (
            f"{case.evaluation.name} ran beside {seen or 'no version'}, alias {alias!r} names "
            f"{case.champion} now; evaluate again beside that"
        )
        yield _unfit(text)
    else:
        if case.policy.regression:
            yield from _regression(case, case.policy.regression)
        if case.policy.max_ratio is not None:
            yield _latency(case, case.policy.max_ratio)


def _regression(case: Case, rule: RegressionRule) -> Iterator[Finding]:
    """Test all examples and each slice, corrected together by Holm's method.

    Which slices are tested depends on their size alone, never on their outcome.
    """
    report = case.evaluation.report
    parts = [report.overall]
    if rule.by_label:
        parts += [part for part in report.slices if part.name.startswith(f"{BY_LABEL}=")]
    for attribute in rule.attributes:
        found = [part for part in report.slices if part.name.startswith(f"{BY_ATTRIBUTE}{attribute}=")]
        parts += found
        if not found:
            yield _no_attribute(case, attribute)
    tested = [part for part in parts if _independent(part) >= rule.minimum_slice]
    yield from (_too_small(part, rule) for part in parts if _independent(part) < rule.minimum_slice)
    corrected = paired.holm([paired.p_value(part.pairs) for part in tested if part.pairs])
    for part, p_value in zip(tested, corrected, strict=True):
        yield _compared(part, rule, p_value, len(tested))


def _independent(part: Slice) -> int:
    return part.pairs.groups if part.pairs else 0


def _no_attribute(case: Case, attribute: str) -> Finding:
    known = case.evaluation.report.attributes
    matches = near(attribute, known)
    there = f"did you mean {matches[0]!r}? " if matches else f"it has {', '.join(known) or 'none'}. "
    text = (
        f"{case.evaluation.name} has no slices by attribute {attribute!r}; {there}Evaluate examples that "
        "carry it with at most 100 values, or take it out of the policy"
    )
    return _unfit(text, "accuracy", f"{BY_ATTRIBUTE}{attribute}")


def _too_small(part: Slice, rule: RegressionRule) -> Finding:
    count = _independent(part)
    text = (
        f"accuracy on {part.name or _ALL} rests on {count} independent examples (a group counts once), the "
        f"policy asks for {rule.minimum_slice}; {rule.minimum_slice - count} more are needed"
    )
    return Finding(
        "regression", UNDECIDED, text, metric="accuracy", slice=part.name, value=count,
        bound=rule.minimum_slice, example_count=part.example_count,
    )  # fmt: skip


def _compared(part: Slice, rule: RegressionRule, p_value: float, tests: int) -> Finding:
    pairs = part.pairs
    assert pairs is not None
    drop = part.champion_accuracy - part.accuracy
    upper = paired.drop_bound(pairs, part.example_count, rule.alpha)
    told = (
        f"accuracy on {part.name or _ALL} is {part.accuracy:.4f}, the champion's "
        f"{part.champion_accuracy:.4f} (n = {part.example_count}, lost {pairs.lost}, won {pairs.won}, "
        f"p = {p_value:.2g} after correction for {tests} tests, alpha = {rule.alpha:g})"
    )
    outcome, rest = PASSED, "not worse beyond chance"
    if p_value <= rule.alpha:
        outcome, rest = (
            FAILED,
            f"worse beyond chance; look at what is lost on {part.name or _ALL} and train again",
        )
    elif rule.max_drop is not None and upper > rule.max_drop:
        outcome = UNDECIDED
        rest = (
            f"not worse beyond chance, yet a drop up to {upper:.4f} is not ruled out and at most "
            f"{rule.max_drop:g} is allowed; {_needed(part.example_count, drop, upper, rule.max_drop)}"
        )
    return Finding(
        "regression", outcome, f"{told}: {rest}", metric="accuracy", slice=part.name, value=drop,
        bound=rule.max_drop or 0.0, example_count=part.example_count, p_value=p_value,
    )  # fmt: skip


def _needed(count: int, drop: float, upper: float, allowed: float) -> str:
    """Say how many examples would decide: the bound's distance shrinks with the root of their number."""
    if drop >= allowed:
        return "more examples will rather refuse it"
    wanted = int(count * ((upper - drop) / (allowed - drop)) ** 2) + 1
    return f"about {wanted} examples in place of {count} would decide"


def _latency(case: Case, bound: float) -> Finding:
    """Test that the median ratio is above the bound: the sign test over the passes, exact and one-sided."""
    passes = len(case.evaluation.header.champion_latency_ms)
    ratio = case.evaluation.latency_ratio
    if not passes:
        return _unfit(
            f"{case.evaluation.name} has no latency beside the champion; measure both in turns", "latency"
        )
    slower = sum(one > bound for one in case.evaluation.latency_ratios)
    p_value = paired.sign_test(slower, passes)
    told = (
        f"latency is {ratio.median:.3f} times the champion's (median of {passes} passes, {ratio.low:.3f} to "
        f"{ratio.high:.3f}); at most {bound:g} is allowed"
    )
    if passes < MIN_PASSES:
        outcome, rest = UNDECIDED, f"{MIN_PASSES - passes} more passes are needed"
    elif ratio.median <= bound:
        outcome, rest = PASSED, f"{slower} passes were slower"
    elif p_value <= LATENCY_ALPHA:
        outcome, rest = FAILED, f"{slower} passes were slower (p = {p_value:.2g}); make it faster"
    else:
        outcome, rest = (
            UNDECIDED,
            f"{slower} passes were slower, which may be chance (p = {p_value:.2g}); evaluate again while the "
            "machine is quieter",
        )
    return Finding(
        "latency", outcome, f"{told}; {rest}", metric="latency", value=ratio.median, bound=bound,
        example_count=passes, p_value=p_value,
    )  # fmt: skip


def _bounds(case: Case) -> Iterator[Finding]:
    """Check calibration, size and golden answers."""
    policy, report = case.policy, case.evaluation.report
    if policy.max_ece is not None:
        ece, count = report.metrics["ece"], report.example_count
        yield _bounded("calibration", "ece", ece, "at most", policy.max_ece, ece <= policy.max_ece, count)
    if policy.max_bytes is not None:
        size = case.version.size_bytes
        message = f"the bundle has {size} bytes, at most {policy.max_bytes} are allowed"
        outcome = PASSED if size <= policy.max_bytes else FAILED
        yield Finding("size", outcome, message, metric="bytes", value=size, bound=policy.max_bytes)
    if policy.max_abs_diff is not None:
        yield _golden(case.evaluation, policy.max_abs_diff)


def _golden(evaluation: Evaluation, bound: float) -> Finding:
    count, value = evaluation.header.golden_count, evaluation.header.golden_max_abs_diff
    if not count:
        return _unfit(f"{evaluation.name} compared no golden examples; evaluate with the bundle's", "golden")
    message = f"golden answers differ by {value:.3g} at most (n = {count}), {bound:g} is allowed"
    outcome = PASSED if value <= bound else FAILED
    return Finding(
        "golden", outcome, message, metric="max_abs_diff", value=value, bound=bound, example_count=count
    )
