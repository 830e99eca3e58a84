"""From evidence to a verdict: what each gate says, and what follows from all of them.

Each gate fails at an e-value of 1 / its share of alpha. By Ville's inequality a gate whose question has the
answer "no worse" ever comes there with at most that share as probability, so all together with at most alpha.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from slipway_rollout.domain import Decision, Gate, Reading, Rollout, Verdict
from slipway_rollout.engine.comparison import Comparison
from slipway_rollout.engine.evidence import P99, Evidence

PASS_ALPHA = 0.05
DOUBT = math.sqrt(10)  # "substantial" evidence (Jeffreys 1961): no PASS while a gate has that much against it
_SHARES = {"quality": 2.0}
_MAX_LOG = 700.0


def judge(rollout: Rollout, evidence: Evidence, held_s: float, pods: Reading | None = None) -> Verdict:
    """Return the verdict on the step that is in force.

    Args:
        rollout: At a step.
        evidence: Of the whole rollout.
        held_s: Seconds that the step has been in force.
        pods: What the new version's pods say, when they do not all serve.
    """
    readings = (*([pods] if pods else []), *_readings(rollout, evidence))
    step = rollout.steps[rollout.step]

    def verdict(decision: Decision, reason: str) -> Verdict:
        return Verdict(decision, rollout.step, step.weight, reason, readings)

    against = [f"{r.gate}: {r.reason}" for r in readings if r.decision is Decision.FAIL]
    if against:
        return verdict(Decision.FAIL, "; ".join(against))
    answered = max(evidence.requests.get(rollout.step, 0), evidence.rows.get(rollout.step, 0))
    waits = [f"{r.gate}: {r.reason}" for r in readings if r.decision is Decision.HOLD]
    if answered < step.min_count:
        waits.insert(0, f"{answered} of {step.min_count} requests at this step")
    if held_s < step.min_duration_s:
        waits.insert(0, f"{held_s:.1f} of {step.min_duration_s:g} s at this step")
    if waits:
        return verdict(Decision.HOLD, "; ".join(waits))
    return verdict(Decision.PASS, f"{answered} requests at {step.weight} % and no evidence against it")


def fail_at(rollout: Rollout, gate: str) -> float:
    """Return the e-value at which a gate fails: the gates that are on share alpha, quality has two shares."""
    on = list(_on(rollout))
    total = sum(_SHARES.get(name, 1.0) for name in on)
    return total / (_SHARES.get(gate, 1.0) * rollout.alpha)


def _on(rollout: Rollout) -> Iterator[str]:
    gates = rollout.gates
    for name in ("errors", "latency", "shift", "quality"):
        if not getattr(gates, name).off:
            yield name
    if gates.max_error_rate < 1:
        yield "max_error_rate"
    if gates.max_p99_ms:
        yield "max_p99"
    if gates.min_accuracy:
        yield "min_accuracy"


def _readings(rollout: Rollout, evidence: Evidence) -> Iterator[Reading]:
    gates, weight = rollout.gates, rollout.steps[rollout.step].weight
    if evidence.errors:
        yield _compared(rollout, "errors", gates.errors, evidence.errors, evidence)
    if evidence.latency:
        slow = evidence.latency
        found = slow.comparison
        said = f"slower than {slow.bound:g} ms" if slow.bound else "no block of latencies yet"
        seen = (found.difference, found.count, found.stable_count)
        yield _decided(rollout, "latency", slow.bets.log_e, gates.latency, *seen, said)
    if evidence.shift:
        name, largest = evidence.shift.largest
        stable_count, count = evidence.shift.counts
        said = f"class {name!r}" if name else "no class yet"
        yield _decided(
            rollout, "shift", evidence.shift.log_e, gates.shift, largest, count, stable_count, said
        )
    if evidence.quality:
        yield _compared(rollout, "quality", gates.quality, evidence.quality, evidence, labels=weight > 0)
    yield from _guardrails(rollout, evidence)
    if not gates.disagreement.off and evidence.pairs:
        share = evidence.disagreements / evidence.pairs
        said = (
            f"{evidence.disagreements} of {evidence.pairs} mirrored requests got another class: informs only"
        )
        yield Reading("disagreement", Decision.PASS, said, share, count=evidence.pairs)


def _compared(
    rollout: Rollout, name: str, gate: Gate, found: Comparison, evidence: Evidence, *, labels: bool = True
) -> Reading:
    """Return what a comparison of two rates says; without `labels` no observation is needed at this step."""
    reading = _decided(
        rollout, name, found.fail.log_e, gate, found.difference, found.count, found.stable_count, "",
        needed=gate.min_count if labels else 0,
    )  # fmt: skip
    if not gate.tolerance:
        return reading
    peak = evidence.pass_peaks.get(name, 1.0)
    reading = replace(reading, pass_e_value=peak)
    if reading.decision is Decision.PASS and _needs_evidence(rollout, gate) and peak < 1 / PASS_ALPHA:
        said = (
            f"a loss above {gate.tolerance:g} is not excluded yet (e-value {peak:.3g} of {1 / PASS_ALPHA:g})"
        )
        return replace(reading, decision=Decision.HOLD, reason=said)
    return reading


def _needs_evidence(rollout: Rollout, gate: Gate) -> bool:
    """Return whether this step asks for it: from a weight on, and where the last chance to compare is."""
    weight = rollout.steps[rollout.step].weight
    last = rollout.step + 1 < len(rollout.steps) and rollout.steps[rollout.step + 1].weight == 100
    return 0 < weight < 100 and (weight >= gate.evidence_weight or last)


def _decided(
    rollout: Rollout,
    name: str,
    log_e: float,
    gate: Gate,
    value: float,
    count: int,
    stable_count: int,
    said: str,
    needed: int | None = None,
) -> Reading:
    e_value, limit = math.exp(min(log_e, _MAX_LOG)), fail_at(rollout, name)
    needed = gate.min_count if needed is None else needed
    about = f" ({said})" if said else ""
    if e_value >= limit:
        reason = f"{value:+.3f} against the stable version, more than {gate.margin:g}{about}"
        decision = Decision.FAIL
    elif e_value >= DOUBT:
        reason = f"e-value {e_value:.3g} speaks against it{about}"
        decision = Decision.HOLD
    elif count < needed:
        reason = f"{count} of {needed} observations"
        decision = Decision.HOLD
    else:
        reason, decision = f"no evidence against it{about}", Decision.PASS
    return Reading(name, decision, reason, value, gate.margin, count, stable_count, e_value, limit)


def _guardrails(rollout: Rollout, evidence: Evidence) -> Iterator[Reading]:
    gates = rollout.gates
    if evidence.error_rate:
        count = sum(evidence.requests.values())
        share = evidence.server_errors / count if count else 0.0
        yield _guard(rollout, "max_error_rate", evidence.error_rate.log_e, share, gates.max_error_rate, count)
    if evidence.slow_rate:
        slow = evidence.slow
        share = slow.hits / slow.count if slow.count else 0.0
        yield _guard(rollout, "max_p99", evidence.slow_rate.log_e, share, P99, slow.count)
    if evidence.wrong_rate:
        seen = evidence.labelled
        share = seen.hits / seen.count if seen.count else 0.0
        most = 1 - gates.min_accuracy
        yield _guard(rollout, "min_accuracy", evidence.wrong_rate.log_e, share, most, seen.count)


def _guard(rollout: Rollout, name: str, log_e: float, value: float, bound: float, count: int) -> Reading:
    e_value, limit = math.exp(min(log_e, _MAX_LOG)), fail_at(rollout, name)
    failed = e_value >= limit
    reason = f"share {value:.3f} is above {bound:g}" if failed else "within the guardrail"
    decision = Decision.FAIL if failed else Decision.PASS
    return Reading(name, decision, reason, value, bound, count, 0, e_value, limit)
