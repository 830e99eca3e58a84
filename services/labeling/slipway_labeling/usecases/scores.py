"""Active learning: scores, the order of the pool, suspect labels, and whether more labels are worth it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import Counter
from slipway_runtime.db import Database, PageToken, Repeat, page_size
from slipway_runtime.errors import InvalidArgument, NotFound
from sqlalchemy import Connection

from slipway_labeling.domain.names import project_of
from slipway_labeling.domain.projects import Project
from slipway_labeling.domain.quality import Estimate
from slipway_labeling.domain.scores import (
    LEAST_GAIN,
    MAX_EMBEDDING,
    MAX_KEY_LENGTH,
    CurveReport,
    CurveVerdict,
    LearningPoint,
    Ordered,
    OrderKind,
    OrderSpec,
    PackedScore,
    Score,
    ScoresHeader,
    ScoreVersion,
    Stored,
    Suspect,
    check_classes,
    check_order,
    check_points,
    check_version,
)
from slipway_labeling.engine import acquisition
from slipway_labeling.engine.label_errors import find_label_errors
from slipway_labeling.engine.learning_curve import Verdict, fit
from slipway_labeling.store.quality import QualityStore
from slipway_labeling.store.scores import PoolRow, ScoreStore
from slipway_labeling.usecases.access import JUDGE, MANAGE, allow
from slipway_labeling.usecases.projects import existing_project

_SUM_WITHIN = 1e-3
# Examples that k-center chooses when nothing is to be opened: its time grows with their number.
_SPREAD_AT_MOST = 1_000
_VERDICTS = {
    Verdict.WORTH: CurveVerdict.WORTH_IT,
    Verdict.NOT_WORTH: CurveVerdict.NOT_WORTH_IT,
    Verdict.CANNOT_SAY: CurveVerdict.CANNOT_SAY,
}
Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[Any]  # float32 in, float64 where the engine needs it

SCORES = Counter("slipway_labeling_scores_total", "Scores imported.")
OPENED = Counter("slipway_labeling_tasks_opened_total", "Held tasks opened by an order, by kind.", ["order"])


class Scores:
    """The verbs over scores."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def add(self, header: ScoresHeader, parts: Iterable[Sequence[Score]]) -> Stored:
        """Keep a version's scores, all or none; the last of a key counts.

        Raises:
            InvalidArgument: A score is none; the field names its index in the stream.
        """
        allow(MANAGE)
        version = check_version("header.model_version", header.version)
        with self._database.transaction() as connection:
            project, store = existing_project(connection, project_of(header.parent)), ScoreStore(connection)
            classes = check_classes(project.spec.schema, header.classes)
            store.begin()
            place, width = 0, None
            for part in parts:
                if part:
                    width = len(part[0].embedding) if width is None else width
                store.copy(place, packed(part, place, len(classes), width or 0))
                place += len(part)
            if not place:
                raise InvalidArgument.field("scores", "is empty; send at least one score after the header")
            kept = store.add_version(project.id, ScoreVersion(version, classes, width or 0))
            _check_same(kept, classes, width or 0)
            stored, tasks = store.keep(project.id, version)
        SCORES.inc(stored)
        return Stored(stored, tasks)

    def order(self, parent: str, spec: OrderSpec, repeat: Repeat) -> Ordered:
        """Order the held tasks and open the first ones, in one transaction.

        Raises:
            NotFound: There are no scores of that version (SCORES_NOT_FOUND).
            InvalidArgument: The order needs embeddings, and the version has none.
        """
        allow(MANAGE)
        check_order(spec)
        with self._database.transaction() as connection:
            project = existing_project(connection, project_of(parent))

            def effect() -> Ordered:
                return _order(connection, project, spec)

            ordered = repeat.once(connection, Ordered, effect)
        OPENED.labels(order=str(spec.kind)).inc(len(ordered.opened))
        return ordered

    def label_errors(
        self, parent: str, version: str, size: int, token: str
    ) -> tuple[Sequence[Suspect], str, int]:
        """Return a page of suspect labels by rank, the next token, and how many labels were judged."""
        allow(JUDGE)
        check_version("model_version", version)
        limit, tokens = page_size(size), PageToken(("label_errors", parent, version), (int,))
        begin = int((tokens.decode(token) or [0])[0])
        with self._database.transaction() as connection:
            project, store = existing_project(connection, project_of(parent)), ScoreStore(connection)
            scored = existing_scores(store, project, version)
            rows = store.judgeable(project.id, version)
        suspects, judged = _suspects(project.id, scored.classes, rows)
        end = max(begin, 0) + limit
        return suspects[end - limit : end], tokens.encode(end) if len(suspects) > end else "", judged

    def learning_curve(
        self, points: Sequence[LearningPoint], label_count: int, least_gain: float
    ) -> CurveReport:
        """Fit a learning curve to measured points and say whether more labels are worth it.

        Raises:
            InvalidArgument: There are too few points (TOO_FEW_ANSWERS), or one is none.
        """
        allow(MANAGE)
        check_points(points, label_count, least_gain)
        curve = fit(
            np.array([point.label_count for point in points], np.int64),
            np.array([point.accuracy for point in points], np.float64),
            np.array([point.example_count for point in points], np.int64),
        )
        count = sum(point.example_count for point in points)
        verdict = curve.worth(label_count, least_gain or LEAST_GAIN)
        return CurveReport(
            floor=float(curve.floor[0]),
            scale=float(curve.scale[0]),
            rate=float(curve.exponent[0]),
            accuracy=Estimate(*curve.accuracy(label_count), count),
            gain=Estimate(*curve.gain(label_count), count),
            verdict=_VERDICTS[verdict],
        )


def existing_scores(store: ScoreStore, project: Project, version: str) -> ScoreVersion:
    """Return whose scores they are.

    Raises:
        NotFound: None of that version were imported; near versions are named (SCORES_NOT_FOUND).
    """
    found = store.version(project.id, version)
    if found is None:
        kind = f"score in {project.name} of"
        raise NotFound.of("SCORES_NOT_FOUND", kind, version, store.versions(project.id))
    return found


def packed(scores: Sequence[Score], first: int, classes: int, width: int) -> Iterator[PackedScore]:
    """Return checked scores as they are kept; `first` is the place of the first in the stream."""
    for place, one in enumerate(scores, first):
        field = f"scores[{place}]"
        if not one.key or len(one.key) > MAX_KEY_LENGTH or "\0" in one.key:
            rule = f"give 1 to {MAX_KEY_LENGTH} characters, no NUL"
            raise InvalidArgument.field(f"{field}.key", f"has {len(one.key)} characters; {rule}")
        yield PackedScore(
            one.key,
            _distribution(f"{field}.probabilities", one.probabilities, classes).tobytes(),
            _embedding(f"{field}.embedding", one.embedding, width).tobytes(),
            one.in_training,
        )


def _distribution(field: str, values: Sequence[float], classes: int) -> Floats:
    if len(values) != classes:
        raise InvalidArgument.field(field, f"has {len(values)} values; give one per class, {classes}")
    row = np.array(values, "<f4")
    total = float(row.sum(dtype=np.float64))
    if not np.isfinite(row).all() or (row < 0).any() or abs(total - 1) >= _SUM_WITHIN:
        raise InvalidArgument.field(
            field, f"sums to {total:.4g}, the least is {row.min():.4g}; give softmax outputs"
        )
    return row


def _embedding(field: str, values: Sequence[float], width: int) -> Floats:
    if len(values) != width or width > MAX_EMBEDDING:
        rule = f"give {width} as the first, at most {MAX_EMBEDDING}"
        raise InvalidArgument.field(field, f"has {len(values)} values; {rule}")
    row = np.array(values, "<f4")
    if not np.isfinite(row).all():
        raise InvalidArgument.field(field, "has a value that is not finite; score the example again")
    return row


def _check_same(kept: ScoreVersion, classes: tuple[str, ...], width: int) -> None:
    if kept.classes != classes:
        description = f"differ from {', '.join(kept.classes)} of the scores that are there; send the same"
        raise InvalidArgument.field("header.classes", description)
    if kept.embedding_width != width:
        description = f"has {width} values, those that are there {kept.embedding_width}; send as many"
        raise InvalidArgument.field("scores[0].embedding", description)


def _order(connection: Connection, project: Project, spec: OrderSpec) -> Ordered:
    QualityStore(connection).lock(project.id)
    store = ScoreStore(connection)
    version = existing_scores(store, project, spec.version) if spec.version else None
    if spec.kind.spreads and version is not None and not version.embedding_width:
        description = f"{spec.kind} needs embeddings, the scores of {spec.version} have none; send them"
        raise InvalidArgument.field("order", description)
    rows = store.pool(project.id, spec.version)
    scored = [row for row in rows if row[1] is not None]
    if rows and not scored and version is not None:
        message = f"{spec.version} has no score of the {len(rows)} held tasks of {project.name}; import them"
        raise NotFound("SCORES_NOT_FOUND", message, metadata={"name": spec.version, "near": ""})
    classes = version.classes if version else ()
    ranked = ranking(rows, spec, len(classes), _centres(store, project, spec))
    prelabels = _prelabels(rows, classes) if spec.prelabel else {}
    tasks = [rows[place][0] for place in ranked]
    opened = tasks[: spec.open_count]
    store.order(tasks, [prelabels.get(task) for task in tasks], spec.version, len(opened))
    if spec.open_count:
        store.open_gold(project.id)
    names = tuple(f"{project.name}/tasks/{task}" for task in opened)
    return Ordered(len(tasks), names, len(rows) - len(scored) if version else 0)


def ranking(rows: Sequence[PoolRow], spec: OrderSpec, classes: int, centres: Matrix | None) -> list[int]:
    """Return places in the pool, the first to be labelled first; tasks without a score come last.

    Equal scores go by a draw of the seed.
    """
    if spec.kind is OrderKind.RANDOM:
        return [int(place) for place in acquisition.random(len(rows), seed=spec.seed).example]
    have = np.array([place for place, row in enumerate(rows) if row[1] is not None], np.int64)
    pool = np.random.default_rng(spec.seed).permutation(have)
    rest = [place for place, row in enumerate(rows) if row[1] is None]
    if not pool.size:
        return rest
    scores = matrix([rows[place][1] for place in pool], classes)
    probabilities = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float64)
    if spec.kind is OrderKind.ENTROPY:
        order = acquisition.entropy(probabilities).example
    else:
        order = acquisition.margin(probabilities).example
    if spec.kind.spreads:
        vectors = [rows[place][2] for place in pool]
        embeddings = matrix(vectors, len(vectors[0] or b"") // 4)
        budget = spec.open_count or min(len(pool), _SPREAD_AT_MOST)
        if spec.kind is OrderKind.HYBRID:
            first = acquisition.hybrid(probabilities, embeddings, budget, centres).example
        else:
            first = acquisition.k_center(embeddings, budget, centres).example
        order = np.concatenate([first, order[~np.isin(order, first)]])
    return [*pool[order].tolist(), *rest]


def matrix(rows: Sequence[bytes | None], width: int) -> Matrix:
    """Return rows of float32 as they are kept as one array, (N, width)."""
    return np.frombuffer(b"".join(row or b"" for row in rows), "<f4").reshape(len(rows), width)


def _centres(store: ScoreStore, project: Project, spec: OrderSpec) -> Matrix | None:
    rows = store.centres(project.id, spec.version) if spec.kind.spreads else []
    return matrix(rows, len(rows[0]) // 4) if rows else None


def _prelabels(rows: Sequence[PoolRow], classes: Sequence[str]) -> dict[int, str]:
    scored = [(task, probabilities) for task, probabilities, _ in rows if probabilities is not None]
    best = matrix([one[1] for one in scored], len(classes)).argmax(axis=1) if scored else ()
    return {task: classes[place] for (task, _), place in zip(scored, best, strict=True)}


def _suspects(
    project: str, classes: Sequence[str], rows: Sequence[tuple[int, str, str, bytes]]
) -> tuple[list[Suspect], int]:
    places = {label: place for place, label in enumerate(classes)}
    rows = [row for row in rows if row[2] in places]
    if not rows:
        return [], 0
    scores = matrix([row[3] for row in rows], len(classes)).astype(np.float64)
    labels = np.array([places[row[2]] for row in rows], np.int64)
    found = find_label_errors(labels, scores / scores.sum(axis=1, keepdims=True))
    suspects = []
    for row, suggested in zip(found.example.tolist(), found.suggested.tolist(), strict=True):
        task, key, label, _ = rows[row]
        own = float(scores[row, labels[row]])
        suspects.append(Suspect(project, task, key, label, classes[suggested], own))
    return suspects, len(rows)
