"""Quality: consensus, who is careless, agreement, and the influence of pre-labels."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from prometheus_client import Counter, Histogram
from slipway_runtime.db import Database
from sqlalchemy import Connection

from slipway_labeling.domain.names import project_of
from slipway_labeling.domain.projects import SEPARATOR, ConsensusMethod, PauseRule, Project
from slipway_labeling.domain.quality import (
    MAX_ANNOTATORS,
    MAX_CLASSES,
    MAX_CONFUSIONS,
    MAX_PAIRS,
    Computed,
    Decided,
    Estimate,
    Figures,
    PairAgreement,
    QualityReport,
    Shown,
)
from slipway_labeling.domain.tasks import Annotator
from slipway_labeling.engine import agreement, consensus
from slipway_labeling.engine.annotators import careless, judge
from slipway_labeling.engine.answers import Answers
from slipway_labeling.engine.proportions import difference
from slipway_labeling.engine.standing import Labelled, Method, Schema, Standing, labelled, standing
from slipway_labeling.store.annotators import AnnotatorStore
from slipway_labeling.store.quality import QualityStore
from slipway_labeling.store.work import WorkStore
from slipway_labeling.usecases.access import JUDGE, allow
from slipway_labeling.usecases.projects import existing_project

METHODS: dict[ConsensusMethod, Method] = {
    ConsensusMethod.MAJORITY: consensus.majority,
    ConsensusMethod.WEIGHTED: consensus.weighted,
    ConsensusMethod.DAWID_SKENE: consensus.dawid_skene,
}
_PROJECTS_A_SWEEP = 10
# A project rests ten times as long as its judgement took, so judging takes a tenth of one core at most.
_REST = 10
_REST_AFTER_ERROR_S = 60.0

PAUSED = Counter("slipway_labeling_annotators_paused_total", "Annotators that the pause rule paused.")
JUDGED = Histogram("slipway_labeling_judgement_seconds", "Seconds that one judgement of a project took.")


class Quality:
    """The verbs over the quality of answers."""

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._resting: dict[str, float] = {}  # until when the sweep leaves a project alone

    def compute(self, parent: str, method: ConsensusMethod | None, exclude_paused: bool) -> Computed:
        """Compute and keep the consensus and each annotator's figures; pause who is careless.

        All in one transaction: a computation at the same time comes before or after, and an answer that
        comes meanwhile is in the next.
        """
        allow(JUDGE)
        with JUDGED.time(), self._database.transaction() as connection:
            project, store = existing_project(connection, project_of(parent)), QualityStore(connection)
            found, paused = _judge(connection, project)
            left_out = store.paused(project.id) if exclude_paused else []
            chosen = method or project.spec.consensus_method
            one = labelled(found, METHODS[chosen], left_out)
            decided = _decided(found, one)
            store.set_consensus(project.id, decided)
            annotators = AnnotatorStore(connection).page(project.id, "", MAX_ANNOTATORS)
        PAUSED.inc(len(paused))
        confidences = [task.confidence for task in decided]
        return Computed(
            method=chosen,
            task_count=len(decided),
            tie_count=int(one.tied.sum()),
            answer_count=one.answer_count,
            mean_confidence=sum(confidences) / max(len(confidences), 1),
            annotators=_bounded(annotators),
            paused=tuple(f"{project.name}/annotators/{id}" for id in paused),
        )

    def report(self, parent: str) -> QualityReport:
        """Return agreement, annotators and the influence of pre-labels; it changes nothing."""
        allow(JUDGE)
        with self._database.transaction() as connection:
            project, store = existing_project(connection, project_of(parent)), QualityStore(connection)
            found = _standing(project, store)
            shown = store.shown(project.id)
            annotators = AnnotatorStore(connection).page(project.id, "", MAX_ANNOTATORS)
        return QualityReport(
            percent_agreement=_estimate(agreement.percent(found.answers)),
            fleiss_kappa=_estimate(agreement.fleiss(found.answers)),
            krippendorff_alpha=_estimate(agreement.krippendorff(found.answers)),
            pairs=_pairs(found),
            annotators=_bounded(annotators),
            prelabel_bias=prelabel_bias(shown),
        )

    def sweep(self) -> None:
        """Judge projects with answers since their last judgement; the sweeper calls it."""
        now = time.monotonic()
        self._resting = {id: until for id, until in self._resting.items() if until > now}
        with self._database.transaction() as connection:
            due = QualityStore(connection).unjudged(list(self._resting), _PROJECTS_A_SWEEP)
        for id in due:
            begun = time.monotonic()
            self._resting[id] = begun + _REST_AFTER_ERROR_S
            with JUDGED.time(), self._database.transaction() as connection:
                _, paused = _judge(connection, existing_project(connection, id))
            PAUSED.inc(len(paused))
            ended = time.monotonic()
            self._resting[id] = ended + _REST * (ended - begun)


def _judge(connection: Connection, project: Project) -> tuple[Standing, list[str]]:
    """Judge every annotator, keep the figures, pause who is careless; return the answers and who was paused.

    Claims of the project wait from here to the end of the transaction.
    """
    store = QualityStore(connection)
    store.lock(project.id)
    newest = store.newest(project.id)
    found = _standing(project, store)
    figures = figures_of(found, project.spec.pause_rule)
    store.stop_claims(project.id)
    store.set_figures(project.id, figures)
    store.set_judged(project.id, newest)
    paused = _pause(connection, project, figures)
    return found, paused


def _pause(connection: Connection, project: Project, figures: Sequence[Figures]) -> list[str]:
    rule, store = project.spec.pause_rule, QualityStore(connection)
    found = {one.id: one for one in figures if one.careless}
    if rule.report_only or not found:
        return []
    ids = store.may_pause(project.id, list(found), rule.min_answers)
    store.pause(project.id, [(id, _reason(found[id], rule)) for id in ids])
    WorkStore(connection).end_leases(project.id, *ids)
    return ids


def _reason(one: Figures, rule: PauseRule) -> str:
    return (
        f"wrong in {one.error_rate:.1%} of {one.judged_count} judged answers "
        f"({one.error_rate_low:.1%} to {one.error_rate_high:.1%} with 95 %): above the tolerated "
        f"{rule.max_error_rate:.1%} with probability {one.probability:.3f}, "
        f"and {rule.confidence:g} is enough"
    )


def _standing(project: Project, store: QualityStore) -> Standing:
    schema = Schema(project.spec.schema.labels, project.spec.schema.multiple, SEPARATOR)
    return standing(schema, store.answers(project.id))


def figures_of(found: Standing, rule: PauseRule) -> list[Figures]:
    """Return what the answers say of each annotator, by the project's rule."""
    judged = judge(found.answers, found.known)
    bad = careless(judged, tolerance=rule.max_error_rate, confidence=rule.confidence, least=rule.min_answers)
    probability, classes = judged.probability_above(rule.max_error_rate), len(found.words)
    kept = classes <= MAX_CLASSES
    figures = []
    for place, id in enumerate(found.annotators):
        known = bool(judged.judged[place])
        matrix = judged.confusion[place, :classes, :classes].ravel().tolist() if kept and known else ()
        figures.append(
            Figures(
                id=id,
                judged_count=int(judged.judged[place]),
                error_rate=float(judged.error_rate[place]) if known else -1.0,
                error_rate_low=float(judged.lower[place]) if known else -1.0,
                error_rate_high=float(judged.upper[place]) if known else -1.0,
                probability=float(probability[place]),
                careless=bool(bad[place]),
                labels=found.words if kept and known else (),
                confusion=tuple(matrix),
            )
        )
    return figures


def _decided(found: Standing, one: Labelled) -> list[Decided]:
    rows = zip(found.tasks.tolist(), one.label, one.confidence.tolist(), strict=True)
    return [Decided(task, label, confidence) for task, label, confidence in rows if label is not None]


def _bounded(annotators: Sequence[Annotator]) -> tuple[Annotator, ...]:
    """Leave the confusion matrices out where all together would be too many."""
    if sum(len(one.confusion) for one in annotators) <= MAX_CONFUSIONS:
        return tuple(annotators)
    return tuple(replace(one, labels=(), confusion=()) for one in annotators)


def _pairs(found: Standing) -> tuple[PairAgreement, ...]:
    """Return Cohen's kappa of the pairs with the most tasks in common, by name."""
    pairs = common_pairs(found.answers, MAX_PAIRS)
    resampling = agreement.Resampling(samples=200)
    names = [f"annotators/{id}" for id in found.annotators]
    return tuple(
        PairAgreement(names[a], names[b], _estimate(agreement.cohen(found.answers, a, b, resampling)))
        for a, b in pairs
    )


def common_pairs(answers: Answers, limit: int) -> list[tuple[int, int]]:
    """Return at most `limit` pairs of annotators, those with the most tasks in common, in order."""
    answered = np.zeros((answers.annotators, answers.tasks), np.float32)
    answered[answers.annotator, answers.task] = 1
    first, second = np.triu_indices(answers.annotators, 1)
    shared = (answered @ answered.T)[first, second]
    most = np.argsort(-shared, kind="stable")[:limit]
    return sorted((int(first[p]), int(second[p])) for p in most if shared[p])


def _estimate(found: agreement.Agreement) -> Estimate:
    return Estimate(found.value, found.lower, found.upper, found.tasks, found.reason)


def prelabel_bias(counts: Shown) -> Estimate:
    """Return how much more often an answer equals the model's when it was shown.

    The interval takes answers as independent; it is Newcombe's.
    """
    total, nan = counts.shown + counts.hidden, float("nan")
    reasons = {
        "no task that was answered has a pre-label": not total,
        "every answer saw its pre-label; lower prelabel_percent, so that some measure its influence": (
            not counts.hidden
        ),
        "no answer saw its pre-label; raise prelabel_percent": not counts.shown,
    }
    for reason, holds in reasons.items():
        if holds:
            return Estimate(nan, nan, nan, total, reason)
    found = difference((counts.shown_equal, counts.shown), (counts.hidden_equal, counts.hidden))
    return Estimate(found.value, found.lower, found.upper, total)
