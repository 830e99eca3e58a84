"""Which commit took a prediction in as an example."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from slipway_ingestion.domain import Commit


class PredictionStore:
    """The index from predictions to commits, on one connection, within the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, commit: Commit, predictions: Sequence[str]) -> None:
        """Say that a commit took predictions in."""
        self._connection.execute(
            text(
                "INSERT INTO prediction_examples (prediction, dataset, commit) "
                "SELECT p, :dataset, :commit FROM unnest(CAST(:predictions AS text[])) AS u(p) "
                "ON CONFLICT DO NOTHING"
            ),
            {"dataset": commit.dataset, "commit": commit.digest, "predictions": list(predictions)},
        )

    def commits_of(self, prediction: str, after: tuple[str, str], limit: int) -> list[tuple[str, str]]:
        """Return (data set, digest) of the commits that took a prediction in, past the pair `after`."""
        rows = self._connection.execute(
            text(
                "SELECT dataset, commit FROM prediction_examples WHERE prediction = :prediction "
                "AND (dataset, commit) > (:dataset, :commit) ORDER BY dataset, commit LIMIT :limit"
            ),
            {"prediction": prediction, "dataset": after[0], "commit": after[1], "limit": limit},
        )
        return [(row.dataset, row.commit) for row in rows]

    def of_commit(self, commit: Commit, after: str, limit: int) -> list[str]:
        """Return the predictions, past `after`, that a commit took in."""
        rows = self._connection.execute(
            text(
                "SELECT prediction FROM prediction_examples WHERE dataset = :dataset AND commit = :commit "
                "AND prediction > :after ORDER BY prediction LIMIT :limit"
            ),
            {"dataset": commit.dataset, "commit": commit.digest, "after": after, "limit": limit},
        )
        return [str(row.prediction) for row in rows]

    def forget(self, dataset: str, keys: Sequence[str]) -> None:
        """Drop what is known of erased examples."""
        self._connection.execute(
            text("DELETE FROM prediction_examples WHERE dataset = :dataset AND prediction = ANY(:keys)"),
            {"dataset": dataset, "keys": list(keys)},
        )
