"""Predicted inputs become examples, in one commit per import."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from slipway_runtime.db import Database, check_request_id, once
from slipway_runtime.errors import InvalidArgument
from sqlalchemy import Connection

from slipway_ingestion.domain import PredictionImport, check_text, name_part, prediction_key_trouble
from slipway_ingestion.store import PredictionStore, Store
from slipway_ingestion.usecases.commits import COMMITS, Commits, NewCommit
from slipway_ingestion.usecases.datasets import MAIN, branch_of
from slipway_ingestion.usecases.intake import Intake, Intakes, Item


@dataclass(frozen=True)
class ImportHeader:
    """Where predicted inputs go."""

    parent: str
    branch: str
    message: str
    request_id: str
    label_source: str


class Predictions:
    """The verb that makes examples of predictions."""

    def __init__(self, *, database: Database, intakes: Intakes, commits: Commits) -> None:
        self._database = database
        self._intakes = intakes
        self._commits = commits

    def receive(self, header: ImportHeader, items: Iterable[Item]) -> PredictionImport:
        """Take predicted inputs into a branch with one commit; the same request_id again changes nothing.

        Blobs are stored while items come in, so a repeat finds them; the commit, its index and the answer are
        one transaction.

        Raises:
            NotFound: There is no such data set or branch.
            InvalidArgument: The message or the request_id is missing.
            ResourceExhausted: There are too many items or bytes (UPLOAD_TOO_LARGE).
        """
        dataset, header = self._checked(header)
        intake = self._intakes.open(dataset, header.label_source, prediction_key_trouble)
        for item in items:
            intake.take(item)
        intake.flush()
        with self._database.transaction() as connection:
            Store(connection).share()
            return once(
                connection,
                request_id=header.request_id,
                method="ImportPredictions",
                request=intake.fingerprint(header.parent, header.branch, header.message, header.label_source),
                answer=PredictionImport,
                effect=lambda: self._commit(connection, header, intake),
            )

    def _checked(self, header: ImportHeader) -> tuple[str, ImportHeader]:
        (dataset,) = name_part(header.parent, "datasets", field_name="header.parent")
        check_text("header.message", header.message, needed=True)
        if not check_request_id(header.request_id):
            raise InvalidArgument.field("header.request_id", "is empty; send one, the same with every repeat")
        branch = header.branch or MAIN
        with self._database.transaction() as connection:
            branch_of(Store(connection), dataset, branch)
        return dataset, replace(header, branch=branch)

    def _commit(self, connection: Connection, header: ImportHeader, intake: Intake) -> PredictionImport:
        rows = intake.rows(connection)
        new = NewCommit(header.parent, header.branch, (), (), header.message, "")
        commit, added = self._commits.take_in(connection, new, rows)
        if added:
            PredictionStore(connection).add(commit, added)
            COMMITS.inc()
        intake.count()
        return PredictionImport(
            commit=commit.name,
            imported_count=len(added),
            repeated_count=len(rows) - len(added),
            refused=tuple(intake.refused),
            refused_count=intake.refused_count,
        )
