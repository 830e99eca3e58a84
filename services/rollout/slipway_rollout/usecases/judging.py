"""The loop that moves rollouts: look, decide, note the decision; then write the route, and note that.

The decision is committed before the route is touched, with the evidence that it rests on. A kill after that
commit leaves a rollout that is not settled: the next look writes its route, which is the same write however
often it is done. So each observation counts once and each step has one effect.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from prometheus_client import Counter, Gauge, Histogram
from slipway_runtime.db import Database
from slipway_runtime.errors import InvalidArgument, SlipwayError

from slipway_rollout import domain
from slipway_rollout.clients import Cluster, MeshCounters, Monitoring
from slipway_rollout.domain import (
    Arrivals,
    Counters,
    Decision,
    Endpoint,
    PausedBy,
    Reading,
    Rollout,
    RolloutState,
    RouteEdited,
    Rows,
    State,
    Verdict,
)
from slipway_rollout.engine import counting
from slipway_rollout.engine.evidence import Evidence
from slipway_rollout.engine.judging import judge
from slipway_rollout.engine.manifests import Placement
from slipway_rollout.store import Account, Store
from slipway_rollout.usecases.routing import Routing

log = logging.getLogger(__name__)

VERDICTS = Counter("slipway_rollout_verdicts", "Verdicts at looks by decision", ["decision"])
E_VALUES = Gauge("slipway_rollout_e_value", "E-value against the new version by gate", ["endpoint", "gate"])
WEIGHTS = Gauge("slipway_rollout_weight_percent", "Weight that a running rollout wants", ["endpoint"])
ENDED = Counter("slipway_rollout_ended", "Rollouts that ended by state", ["state"])
SETTLING = Histogram(
    "slipway_rollout_settling_seconds",
    "From a look's beginning to the route in force",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_SECOND = timedelta(seconds=1)  # outcomes come by the second: it belongs to the step in force at its end


class Judge:
    """Moves rollouts.

    Args:
        database: Of this service.
        cluster: Where routes are written.
        placement: Where and how model pods run.
        monitoring: Counts predicted rows and labels.
        counters: Of the mesh.
    """

    def __init__(
        self,
        *,
        database: Database,
        cluster: Cluster,
        placement: Placement,
        monitoring: Monitoring,
        counters: MeshCounters,
    ) -> None:
        self._database = database
        self._routing = Routing(cluster, placement)
        self._monitoring = monitoring
        self._counters = counters

    def sweep(self) -> None:
        """Look at every active rollout; trouble with one does not keep the others waiting."""
        with self._database.transaction() as connection:
            active = Store(connection).active()
        for id, number in active:
            try:
                self.look(id, number)
            except SlipwayError as error:
                log.warning("endpoints/%s/rollouts/%s waits: %s", id, number, error.message)
            except Exception:
                log.exception("endpoints/%s/rollouts/%s waits", id, number)

    def look(self, id: str, number: int) -> None:
        """Decide about one rollout, and do what was decided."""
        began = time.monotonic()
        with self._database.transaction() as connection:
            store = Store(connection)
            rollout, endpoint = store.rollout(id, number), store.get(id)
            account = store.account(rollout)
        if rollout.settled:
            rollout = self._decided(rollout, endpoint, account)
        if not rollout.settled:
            self._settle(id, number)
            SETTLING.observe(time.monotonic() - began)

    def _decided(self, rollout: Rollout, endpoint: Endpoint, account: Account) -> Rollout:
        if endpoint.foreign_route and rollout.paused_by is not PausedBy.EDIT:
            return self._noted(rollout, lambda now: domain.edited(now, endpoint.route_warning))
        if not rollout.step_times:
            return self._waiting(rollout, endpoint)
        arrivals = self._arrivals(rollout, account)
        counters = self._read(rollout)
        with self._database.transaction() as connection:
            store = Store(connection)
            now = store.rollout(rollout.endpoint, rollout.number, lock=True)
            if store.account(now).looks != account.looks or not now.settled or not now.active:
                return now  # somebody was faster: what was read here is read again
            evidence = account.evidence
            self._take(
                now, evidence, arrivals, counting.growth(account.counters, counters) if counters else {}
            )
            verdict = store.log(now, self._verdict(store, now, evidence, _pods(endpoint, now)))
            kept = replace(account, cursor=arrivals.cursor, counters=counters or account.counters)
            store.save_account(now, kept)
            now = replace(now, exposed=evidence.exposed)
            held_s = (store.now() - (now.since or now.step_times[-1])).total_seconds()
            after = replace(now, verdict=verdict) if _untouchable(now) else domain.moved(now, verdict, held_s)
            return store.save_rollout(after)

    def _waiting(self, rollout: Rollout, endpoint: Endpoint) -> Rollout:
        """Begin when the new version is ready, and fail when it never is."""
        if rollout.state is not RolloutState.PENDING:
            return rollout
        version = endpoint.version(rollout.subset)
        if version.state is State.READY and version.routed:
            return self._noted(rollout, domain.begun)
        why = f"it is {version.state}" + (f": {version.error}" if version.error else "")
        with self._database.transaction() as connection:
            store = Store(connection)
            now = store.rollout(rollout.endpoint, rollout.number, lock=True)
            waited_s = (store.now() - now.create_time).total_seconds() if now.create_time else 0.0
            if now.state is not RolloutState.PENDING:
                return now
            after = domain.never_ready(now, why) if waited_s > now.ready_timeout_s else now
            decision = Decision.FAIL if after is not now else Decision.HOLD
            reading = Reading("ready", decision, why)
            verdict = store.log(now, Verdict(decision, 0, 0, after.state_reason or why, (reading,)))
            VERDICTS.labels(decision.value).inc()
            return store.save_rollout(replace(after, verdict=verdict))

    def _noted(self, rollout: Rollout, change: Callable[[Rollout], Rollout]) -> Rollout:
        with self._database.transaction() as connection:
            store = Store(connection)
            now = store.rollout(rollout.endpoint, rollout.number, lock=True)
            if now.state is not rollout.state or not now.settled or not now.active:
                return now
            return store.save_rollout(change(now))

    def _arrivals(self, rollout: Rollout, account: Account) -> Arrivals:
        since = rollout.create_time or rollout.step_times[0]
        try:
            return self._monitoring.arrivals(f"endpoints/{rollout.endpoint}", account.cursor, since)
        except SlipwayError as error:
            log.warning("%s has no news of predictions: %s", rollout.name, error.message)
            return Arrivals(cursor=account.cursor)

    def _read(self, rollout: Rollout) -> Counters | None:
        try:
            return self._counters.read(rollout.endpoint, rollout.stable_subset, rollout.subset)
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s cannot read the mesh's counters now: %s", rollout.name, error)
            return None

    def _take(self, rollout: Rollout, evidence: Evidence, arrivals: Arrivals, grown: counting.Growth) -> None:
        arm = "new" if rollout.steps[rollout.step].weight else "shadow"
        stable, new = counting.traffic(grown, "stable"), counting.traffic(grown, arm)
        evidence.take_traffic(rollout.step, stable, new, rollout.gates)
        for step, rows in rows_by_step(rollout, arrivals).items():
            evidence.take_rows(step, rollout.steps[step].weight, *rows)
        evidence.take_pairs(arrivals.pairs, arrivals.disagreements)
        evidence.settle()

    def _verdict(self, store: Store, rollout: Rollout, evidence: Evidence, pods: Reading | None) -> Verdict:
        held_s = (store.now() - (rollout.since or rollout.step_times[-1])).total_seconds()
        verdict = judge(rollout, evidence, held_s, pods)
        VERDICTS.labels(verdict.decision.value).inc()
        WEIGHTS.labels(rollout.endpoint).set(rollout.weight)
        for reading in verdict.readings:
            E_VALUES.labels(rollout.endpoint, reading.gate).set(reading.e_value)
        return verdict

    def _settle(self, id: str, number: int) -> None:
        """Write the route as the row says, in one write, and note that it is in force."""
        with self._database.transaction() as connection:
            store = Store(connection)
            endpoint = store.get(id, lock=True)
            rollout = store.rollout(id, number, lock=True)
            if rollout.settled:
                return
            try:
                self._written(store, endpoint, rollout)
            except RouteEdited as edit:
                store.save_rollout(_overtaken(rollout, edit.metadata["differs"], store.now()))
                return
            except InvalidArgument as refused:  # the new version's pods are gone since it was decided
                log.warning("%s stays where it is: %s", rollout.name, refused.message)
                store.save_rollout(domain.withdrawn(rollout))
                return
            after = store.save_rollout(domain.in_force(rollout, store.now()))
        if not after.active:
            ENDED.labels(after.state.value).inc()
            _forget(after)
            log.info("%s is %s: %s", after.name, after.state, after.state_reason)

    def _written(self, store: Store, endpoint: Endpoint, rollout: Rollout) -> None:
        known = self._routing.adopted(endpoint, self._routing.read(endpoint))
        wanted = domain.placed(known, rollout)
        if wanted.weights == known.weights and wanted.shadow == known.shadow and not rollout.accepted_route:
            if known != endpoint:
                store.save(known, actor=rollout.name, reason=rollout.state_reason)
            return
        wanted = replace(wanted, revision=known.revision + 1)
        written = self._routing.write(wanted, known=known.weights, accepted=rollout.accepted_route)
        reason = rollout.state_reason or f"step {rollout.step}"
        store.save(written, actor=rollout.name, reason=f"{rollout.state}: {reason}")


def _forget(rollout: Rollout) -> None:
    """Take what is shown of a running rollout off the metrics."""
    with suppress(KeyError):
        WEIGHTS.remove(rollout.endpoint)
    for reading in rollout.verdict.readings if rollout.verdict else ():
        with suppress(KeyError):
            E_VALUES.remove(rollout.endpoint, reading.gate)


def _untouchable(rollout: Rollout) -> bool:
    return rollout.paused_by is PausedBy.EDIT


def _overtaken(rollout: Rollout, differs: str, now: datetime) -> Rollout:
    """Return the rollout after somebody else's edit was found in place of ours."""
    if rollout.state is RolloutState.ABORTED:  # a person ended it, and another has the route: both stand
        said = f"{rollout.state_reason}; the route stays as somebody else set it ({differs})"
        return replace(rollout, settled=True, end_time=now, state_reason=said)
    return domain.edited(rollout, differs)


def _pods(endpoint: Endpoint, rollout: Rollout) -> Reading | None:
    version = endpoint.version(rollout.subset)
    if version.state is State.READY:
        return None
    decision = Decision.FAIL if version.state is State.FAILED else Decision.HOLD
    said = f"{version.model_version} is {version.state}" + (f": {version.error}" if version.error else "")
    return Reading("ready", decision, said)


def rows_by_step(rollout: Rollout, arrivals: Arrivals) -> dict[int, tuple[Rows, Rows]]:
    """Return rows of the stable and of the new version by the step in whose time they were predicted."""
    found: dict[int, list[Rows]] = defaultdict(lambda: [Rows(), Rows()])
    for outcome in arrivals.outcomes:
        ended = outcome.moment + _SECOND
        step, is_new = rollout.step_at(ended), outcome.model_version == rollout.model_version
        if outcome.shadow:  # a mirrored answer may come a moment after the mirror has ended
            step = 0 if rollout.steps[0].weight == 0 else None
        elif step is None and is_new and rollout.create_time and ended > rollout.create_time:
            step = 0  # answered after the first route was written and before that was noted
        if step is None or not (is_new or outcome.model_version == rollout.stable_version):
            continue
        if is_new and not outcome.shadow and rollout.steps[step].weight == 0:
            step = min(step + 1, len(rollout.step_times) - 1)  # answered by a clock that is a little behind
        position = int(is_new)
        found[step][position] = found[step][position].with_more(outcome.rows)
    return {step: (stable, new) for step, (stable, new) in found.items()}
