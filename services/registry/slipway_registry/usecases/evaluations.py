"""Evaluations: what versions said of labelled examples, with what was computed from it.

Rows and pictures go to the object store first, under the digest of their content, then comes the row: a crash
between leaves objects that nothing names, and the next try finds them there. A row is never there before its
objects are.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from prometheus_client import Counter, Histogram
from slipway_runtime.db import Database, PageToken, page_of, page_size
from slipway_runtime.errors import AlreadyExists, InvalidArgument, NotFound
from slipway_runtime.identity import current_caller
from slipway_runtime.objects import ObjectStore

from slipway_registry.domain import Version, check_id, name_part
from slipway_registry.domain.evaluations import (
    PICTURES,
    Evaluation,
    EvaluationHeader,
    Example,
    check_header,
    refused,
)
from slipway_registry.engine.examples import Rows, digest_of, gather, pack, unpack
from slipway_registry.engine.pictures import MEDIA_TYPE, pictures
from slipway_registry.engine.slices import report
from slipway_registry.store import Store
from slipway_registry.usecases.models import version_named

RECORDED = Counter("slipway_registry_evaluations_total", "Evaluations recorded.")
REFUSED = Counter("slipway_registry_evaluations_refused_total", "Evaluations that were refused.")
SECONDS = Histogram(
    "slipway_registry_evaluation_seconds", "Time from an evaluation's last row to its answer."
)
MAX_PAGE = 100  # a thousand classes make a thousand slices: more would not fit a message
_KNOWN = 1000


class Evaluations:
    """The verbs over evaluations."""

    def __init__(self, *, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects
        self._computing = threading.Lock()  # one at a time: each needs memory for all of its rows

    def record(self, header: EvaluationHeader, examples: Iterable[Example]) -> Evaluation:
        """Take an evaluation, compute what it says, keep both; the same content again is the same answer.

        Raises:
            InvalidArgument: A part of it is damaged; the field says which (EVALUATION_REFUSED).
            NotFound: The version or the champion is not there.
            AlreadyExists: The id has other content.
        """
        check_id("header.evaluation_id", header.evaluation_id)
        try:
            version, header = self._fitting(check_header(header))
            rows = gather(header, examples)
        except InvalidArgument:
            REFUSED.inc()
            raise
        with SECONDS.time(), self._computing:
            return self._keep(version, header, rows)

    def get(self, name: str) -> Evaluation:
        """Return one evaluation with its curves.

        Raises:
            NotFound: The version has none of that id; near ones are named.
        """
        with self._database.transaction() as connection:
            return evaluation_named(Store(connection), name)

    def list(self, parent: str, size: int, token: str) -> tuple[Sequence[Evaluation], str]:
        """Return a page of a version's evaluations, newest first, without curves and matrices."""
        limit, tokens = min(page_size(size), MAX_PAGE), PageToken(("evaluations", parent), (int,))
        before = tokens.decode(token)
        with self._database.transaction() as connection:
            store = Store(connection)
            version = version_named(store, parent, "parent")
            serial = int(before[0]) if before else None
            rows = store.evaluations(version.model, version.number, serial, limit + 1)
        page = page_of(rows, limit)
        more = tokens.encode(page[-1][0]) if len(rows) > len(page) else ""
        return [evaluation for _, evaluation in page], more

    def picture(self, name: str, kind: str) -> bytes:
        """Return a picture as PNG.

        Raises:
            NotFound: The evaluation has no such picture (PICTURE_NOT_FOUND).
        """
        evaluation = self.get(name)
        if kind not in evaluation.pictures:
            there = ", ".join(evaluation.pictures)
            raise NotFound(
                "PICTURE_NOT_FOUND",
                f"{name} has no picture {kind!r}; its pictures: {there}",
                metadata={"name": kind, "near": there},
            )
        return self._objects.get(_picture_key(evaluation.digest, kind))

    def rows(self, name: str) -> Rows:
        """Return the examples that an evaluation was computed from."""
        return unpack(self._objects.get(_rows_key(self.get(name).digest)))

    def _fitting(self, header: EvaluationHeader) -> tuple[Version, EvaluationHeader]:
        """Return the version that was evaluated, and the header with full names, when both fit."""
        with self._database.transaction() as connection:
            store = Store(connection)
            version = version_named(store, header.parent, "header.parent")
            header = replace(header, parent=version.name)
            if header.champion_version:
                champion = version_named(store, header.champion_version, "header.champion_version")
                if champion.model != version.model:
                    text = f"is of another model than {header.parent}; compare versions of one model"
                    raise refused("header.champion_version", text)
                header = replace(header, champion_version=champion.name)
        known = version.evaluation.get("classes")
        if known and list(header.classes) != known:
            text = f"are not the version's, in its order: {', '.join(map(str, known[:20]))}"
            raise refused("header.classes", text)
        return version, header

    def _keep(self, version: Version, header: EvaluationHeader, rows: Rows) -> Evaluation:
        digest = digest_of(header, rows)
        known = self._known(version, header.evaluation_id)
        if known is None:
            made = self._computed(version, header, rows, digest)
            with self._database.transaction() as connection:
                known = Store(connection).add_evaluation(version.model, version.number, made)
            if known is not None:
                RECORDED.inc()
                return known
            known = self._known(version, header.evaluation_id)
        assert known is not None
        if known.digest != digest:
            raise AlreadyExists(
                "ALREADY_EXISTS", f"{known.name} is there already with other content; choose another id"
            )
        return known

    def _computed(self, version: Version, header: EvaluationHeader, rows: Rows, digest: str) -> Evaluation:
        found = report(header, rows)
        split = header.split or "all examples"
        drawn = pictures(found, header.classes, f"{version.model}, version {version.number}, {split}")
        self._objects.put(_rows_key(digest), pack(header, rows))
        for kind, data in drawn.items():
            self._objects.put(_picture_key(digest, kind), data, MEDIA_TYPE)
        there = tuple(kind for kind in PICTURES if kind in drawn)
        return Evaluation(header, digest, found, there, datetime.now(UTC), current_caller().subject)

    def _known(self, version: Version, id: str) -> Evaluation | None:
        with self._database.transaction() as connection:
            return Store(connection).evaluation(version.model, version.number, id)


def evaluation_named(store: Store, name: str, field_name: str = "name") -> Evaluation:
    """Return the evaluation of a resource name.

    Raises:
        NotFound: The version has none of that id; near ones are named.
    """
    model, number, id = name_part(name, "models", "versions", "evaluations", field_name=field_name)
    version = version_named(store, f"models/{model}/versions/{number}", field_name)
    found = store.evaluation(version.model, version.number, id)
    if found is None:
        known = [made.header.evaluation_id for _, made in store.evaluations(model, version.number, None, 50)]
        raise NotFound.of("EVALUATION_NOT_FOUND", "evaluation", id, known)
    return found


def _rows_key(digest: str) -> str:
    return f"evaluations/{digest}/rows.npz"


def _picture_key(digest: str, kind: str) -> str:
    return f"evaluations/{digest}/{kind}.png"
