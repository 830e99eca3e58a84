"""Rows of evaluations."""

from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row

from slipway_registry.domain.evaluations import Evaluation, EvaluationHeader, Report
from slipway_registry.store.tables import Tables

_HEADER, _REPORT = TypeAdapter(EvaluationHeader), TypeAdapter(Report)
_SHORT = "jsonb_build_object('curves', '[]'::jsonb, 'confusion_matrix', '[]'::jsonb)"


class EvaluationRows(Tables):
    """What versions said of labelled examples."""

    def add_evaluation(self, model: str, version: int, made: Evaluation) -> Evaluation | None:
        """Return the evaluation as kept, or None when the id is taken."""
        rows = self._rows(
            "INSERT INTO evaluations (model, version, id, digest, header, report, attributes, pictures, "
            "creator) VALUES (:model, :version, :id, :digest, :header, :report, :attributes, :pictures, "
            ":creator) ON CONFLICT DO NOTHING RETURNING *",
            "header",
            "report",
            model=model,
            version=version,
            id=made.header.evaluation_id,
            digest=made.digest,
            header=_HEADER.dump_python(made.header, mode="json"),
            report=_REPORT.dump_python(made.report, mode="json"),
            attributes=list(made.report.attributes),
            pictures=list(made.pictures),
            creator=made.creator,
        )
        return _evaluation(rows[0]) if rows else None

    def evaluation(self, model: str, version: int, id: str) -> Evaluation | None:
        """Return one evaluation, or None."""
        rows = self._rows(
            "SELECT * FROM evaluations WHERE model = :model AND version = :version AND id = :id",
            model=model,
            version=version,
            id=id,
        )
        return _evaluation(rows[0]) if rows else None

    def evaluations(
        self, model: str, version: int, before: int | None, limit: int
    ) -> list[tuple[int, Evaluation]]:
        """Return evaluations with their serial numbers, newest first, without curves and matrices."""
        rows = self._rows(
            f"SELECT number, header, report || {_SHORT} AS report, digest, pictures, create_time, creator "
            "FROM evaluations WHERE model = :model AND version = :version "
            "AND (CAST(:before AS bigint) IS NULL OR number < :before) ORDER BY number DESC LIMIT :limit",
            model=model,
            version=version,
            before=before,
            limit=limit,
        )
        return [(row.number, _evaluation(row)) for row in rows]

    def evaluated_attributes(self, model: str) -> list[str] | None:
        """Return the attributes that a model's evaluations have slices by; None when there is none."""
        rows = self._rows("SELECT attributes FROM evaluations WHERE model = :model", model=model)
        return sorted({name for row in rows for name in row.attributes}) if rows else None


def _evaluation(row: Row[Any]) -> Evaluation:
    return Evaluation(
        header=_HEADER.validate_python(row.header),
        digest=row.digest,
        report=_REPORT.validate_python(row.report),
        pictures=tuple(row.pictures),
        create_time=row.create_time,
        creator=row.creator,
    )
