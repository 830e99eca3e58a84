"""Ranges: the cost follows the change, and the content alone decides the digest."""

import random

import pytest
from slipway_ingestion.domain import Row
from slipway_ingestion.engine import ranges
from slipway_ingestion.engine.ranges import Metarange, RangeRef, overlay


class Kept:
    """Ranges in memory, with what was read and written."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.reads = 0

    def keep(self, ref: RangeRef, rows: list[Row]) -> None:
        self.rows[ref.digest] = ranges.decode(ranges.encode(rows))

    def read(self, ref: RangeRef) -> list[Row]:
        self.reads += 1
        return self.rows[ref.digest]


def rows(keys: list[str], label: str = "x") -> dict[str, Row | None]:
    return {key: Row(key, blob="ab", size=3, label=label, attributes=(("a", "1"),)) for key in keys}


def content(kept: Kept, metarange: Metarange) -> list[Row]:
    return [row for ref in metarange.ranges for row in kept.rows[ref.digest]]


@pytest.mark.parametrize("seed", range(25))
def test_any_history_ends_at_the_digest_of_its_content(seed: int) -> None:
    draw, kept = random.Random(seed), Kept()
    state: dict[str, Row | None] = {}
    current = Metarange(())

    for _ in range(6):
        pool = [f"k{draw.randrange(3000):05d}" for _ in range(draw.randrange(1, 900))]
        changes = rows(pool, label=str(draw.random()))
        changes |= dict.fromkeys(draw.sample(sorted(state), k=len(state) // 5))
        current = overlay(current, changes, kept.read, kept.keep)
        state |= changes
        state = {key: row for key, row in state.items() if row is not None}

    scratch = overlay(Metarange(()), state, kept.read, kept.keep)
    assert current.digest == scratch.digest
    assert [row.key for row in content(kept, current)] == sorted(state)


def test_only_ranges_that_a_change_touches_are_read() -> None:
    kept = Kept()
    base = overlay(Metarange(()), rows([f"k{n:05d}" for n in range(20_000)]), kept.read, kept.keep)

    changed = overlay(base, rows(["k10000"], label="y"), kept.read, kept.keep)

    assert kept.reads == 1
    assert len({r.digest for r in changed.ranges} - {r.digest for r in base.ranges}) == 1


def test_ranges_keep_their_bounds() -> None:
    kept = Kept()

    made = overlay(Metarange(()), rows([f"k{n:05d}" for n in range(20_000)]), kept.read, kept.keep)

    sizes = [ref.rows for ref in made.ranges]
    assert max(sizes) <= ranges.MAX_ROWS
    assert min(sizes[:-1]) >= ranges.MIN_ROWS
    assert 20_000 / len(sizes) == pytest.approx(ranges.MEAN_ROWS + ranges.MIN_ROWS, rel=0.35)


def test_a_metarange_is_read_back_as_it_was() -> None:
    made = overlay(Metarange(()), rows(["a", "b"]), Kept().read, Kept().keep)

    assert Metarange.decode(made.encode()) == made
