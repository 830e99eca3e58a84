"""Tasks whose examples are erased, and how far the list of erasures is read."""

from collections.abc import Sequence

from slipway_labeling.store.rows import Rows

_OF = "FROM tasks t JOIN projects p ON p.id = t.project WHERE p.dataset = :dataset AND t.state <> 'ERASED'"


class ErasureStore(Rows):
    """What erasures change in the tables of labelling."""

    def read_to(self, *, lock: str = "") -> int:
        """Return the number of the last erasure that was taken in.

        Args:
            lock: `SHARE` keeps it from moving until the transaction ends, `UPDATE` keeps others out.
        """
        return int(self._rows(f"SELECT number FROM erasures_read{f' FOR {lock}' if lock else ''}")[0].number)

    def read_on(self, number: int) -> None:
        """Note that all up to an erasure are taken in."""
        self._rows("UPDATE erasures_read SET number = :number", number=number)

    def tasks(self, dataset: str, after: int, limit: int) -> list[tuple[int, str, str]]:
        """Return (serial, key, blob) of tasks of a data set's examples, past a serial."""
        rows = self._rows(
            f"SELECT t.serial, t.key, t.blob {_OF} AND t.serial > :after ORDER BY t.serial LIMIT :limit",
            dataset=dataset,
            after=after,
            limit=limit,
        )
        return [(row.serial, row.key, row.blob) for row in rows]

    def close(self, tasks: Sequence[int]) -> int:
        """Close tasks for good: their leases end, and nothing in clear is kept; return how many were open.

        Leases are locked before tasks, and both in order, as an answer and the end of many leases do.
        """
        serials = list(tasks)
        self._rows(
            "SELECT FROM assignments WHERE task = ANY(:serials) AND state = 'LEASED' "
            "ORDER BY task, number FOR UPDATE",
            serials=serials,
        )
        self._rows(
            "SELECT FROM tasks WHERE serial = ANY(:serials) ORDER BY serial FOR UPDATE", serials=serials
        )
        self._rows(
            "DELETE FROM scores s USING tasks t WHERE t.serial = ANY(:serials) AND s.project = t.project "
            "AND s.key = t.key",
            serials=serials,
        )
        self._rows(
            "UPDATE snapshot_labels SET key = 'erased/' || task, blob = '' WHERE task = ANY(:serials)",
            serials=serials,
        )
        closed = self._rows(
            "WITH ended AS (UPDATE assignments SET state = 'EXPIRED' WHERE task = ANY(:serials) "
            "AND state = 'LEASED' RETURNING task), counted AS (SELECT task, count(*) AS n FROM ended "
            "GROUP BY task) UPDATE tasks t SET state = 'ERASED', key = 'erased/' || t.serial, blob = '', "
            "gold = NULL, prelabel = NULL, taken = t.taken - coalesce(c.n, 0), "
            "overlap = greatest(t.overlap, t.taken), review_comment = '' "
            "FROM (SELECT unnest(CAST(:serials AS bigint[])) AS serial) AS w "
            "LEFT JOIN counted c ON c.task = w.serial "
            "WHERE t.serial = w.serial AND t.state <> 'ERASED' RETURNING t.serial",
            serials=serials,
        )
        return len(closed)
