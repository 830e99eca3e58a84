"""The read side of a spool: what waits for delivery, and what leaves the disk once it is acknowledged."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway_inference.engine import ledger as ledgers
from slipway_inference.engine.ledger import Ledger, LedgerUnusable
from slipway_inference.engine.segments import SUFFIX, Record, Segments

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Events of a spool on their way to monitoring.

    From `first_sequence` on, whatever is missing among `records` is lost. `produced_sequence` is the highest
    given out; `closed` says that no other will be.
    """

    spool: str
    endpoint: str
    model_version: str
    first_sequence: int
    produced_sequence: int
    records: Sequence[Record]
    closed: bool = False


class Outbox:
    """One spool, as who delivers it sees it.

    Args:
        ledger: Its identity and counts.
        segments: Its records.
    """

    def __init__(self, ledger: Ledger, segments: Segments) -> None:
        self._ledger = ledger
        self.segments = segments
        self._passed = 0
        if segments.last > ledger.produced:  # the machine fell: records were durable and the count was not
            ledger.produced = segments.last
        segments.forget(ledger.acknowledged)

    @property
    def identity(self) -> str:
        """The spool's."""
        return self._ledger.identity

    @property
    def original(self) -> bool:
        """Whether it may be closed: a copy's original may still be written to."""
        return self._ledger.original

    @property
    def waiting(self) -> int:
        """Events given a sequence and not acknowledged, kept or not."""
        return self._ledger.produced - self._ledger.acknowledged

    def batch(self, most_bytes: int, most: int) -> Batch:
        """Return what is to be sent next; it may hold no event."""
        after = max(self._ledger.acknowledged, self._passed)
        return self._batch(self.segments.read(after, most_bytes, most))

    def closing_batch(self) -> Batch:
        """Give out no more sequences, and return what says so."""
        self._ledger.begin_closing()
        return self._batch((), closed=True)

    def _batch(self, records: Sequence[Record], closed: bool = False) -> Batch:
        return Batch(
            spool=self.identity,
            endpoint=self._ledger.endpoint,
            model_version=self._ledger.model_version,
            first_sequence=self._ledger.acknowledged + 1,
            produced_sequence=self._ledger.produced,
            records=records,
            closed=closed,
        )

    def pass_over(self, sequence: int) -> None:
        """Send nothing up to this sequence: it is refused for good. The next batch shows it as a gap."""
        self._passed = sequence

    def acknowledge(self, sequence: int) -> None:
        """Let go of all up to this sequence; more than was given out means that our count was not durable."""
        if sequence > self._ledger.produced:
            log.warning("spool %s goes on at sequence %d, which was taken before", self.identity, sequence)
            self._ledger.produced = sequence
        self._ledger.acknowledged = sequence
        self._ledger.sync()  # first: a sequence whose record is gone must not be given out again
        self.segments.forget(sequence)

    def close(self) -> None:
        """Let go of the files; they stay."""
        self._ledger.close()

    def remove(self) -> None:
        """Forget the spool: nothing of it is needed any more."""
        self.segments.forget(self._ledger.produced)
        self._ledger.remove()
        self._ledger.close()


def open_all(folder: Path, segment_bytes: int = 4 << 20) -> tuple[list[tuple[Ledger, Outbox]], list[str]]:
    """Return the spools in a folder that nobody else has open, and why others were left alone."""
    found, left = [], []
    for path in sorted(folder.glob(f"*{ledgers.SUFFIX}")):
        try:
            ledger = Ledger(path)
        except LedgerUnusable as error:
            left.append(str(error))
            continue
        found.append((ledger, Outbox(ledger, Segments(folder, ledger.identity, segment_bytes))))
    return found, left


def without_ledger(folder: Path) -> list[Path]:
    """Return segments whose ledger is lost: nobody can say whose events these are, or which came before."""
    known = {path.stem for path in folder.glob(f"*{ledgers.SUFFIX}")}
    return [path for path in folder.glob(f"*{SUFFIX}") if path.name.split(".")[0] not in known]
