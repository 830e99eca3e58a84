"""Which commits were made with examples that are erased, and how far the list of erasures is read."""

from collections.abc import Sequence

from slipway_registry.store.tables import Tables


class ErasureRows(Tables):
    """What ingestion said of erasures."""

    def erasures_read(self) -> int:
        """Return the number of the last erasure that was taken in; 0 before the first."""
        return int(self._rows("SELECT number FROM erasures_read")[0].number)

    def take_erasure(self, before: int, number: int, erasure: str, commits: Sequence[str]) -> bool:
        """Mark commits, and read on from `number`; False, and nothing done, when another process read on."""
        moved = self._rows(
            "UPDATE erasures_read SET number = :number WHERE number = :before RETURNING 1",
            number=number,
            before=before,
        )
        if not moved:
            return False
        self._rows(
            "INSERT INTO erased_commits (dataset_commit, erasure) SELECT c, :erasure "
            "FROM unnest(CAST(:commits AS text[])) AS u(c) ON CONFLICT DO NOTHING",
            erasure=erasure,
            commits=list(commits),
        )
        return True
