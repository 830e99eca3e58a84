"""The paired test against enumeration and scipy; its bound against its own level."""

import itertools

import numpy as np
import pytest
from scipy import stats
from slipway_registry.engine import paired


def pairs_of(lost: int, won: int, ties: int) -> paired.Pairs:
    champion = np.r_[np.ones(lost, bool), np.zeros(won, bool), np.ones(ties, bool)]
    mine = np.r_[np.zeros(lost, bool), np.ones(won, bool), np.ones(ties, bool)]
    return paired.pair(mine, champion, np.arange(len(mine)))


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (8, 0), (20, 5), (5, 20), (300, 260)])
def test_without_groups_it_is_mcnemars_exact_test(lost: int, won: int) -> None:
    pairs = pairs_of(lost, won, 100)

    exact = stats.binomtest(lost, lost + won, alternative="greater").pvalue if lost + won else 1.0

    assert paired.p_value(pairs) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_with_groups_it_is_the_enumeration_of_all_turns(seed: int) -> None:
    source = np.random.default_rng(seed)
    groups = source.integers(0, 10, 40)
    mine, champion = source.random(40) < 0.6, source.random(40) < 0.8
    d = np.bincount(groups, weights=champion.astype(int) - mine.astype(int), minlength=10)
    turns = np.array(list(itertools.product((-1, 1), repeat=10)))
    enumerated = float(np.mean(turns @ np.abs(d) >= d.sum() - 1e-9))

    found = paired.p_value(paired.pair(mine, champion, groups))

    assert found == pytest.approx(enumerated, abs=1e-12)


def test_copies_of_a_row_in_one_group_are_no_evidence() -> None:
    mine, champion = np.repeat([False, True], [3, 20]), np.ones(23, bool)
    copied = [np.repeat(values, 10) for values in (mine, champion, np.arange(23))]

    alone = paired.p_value(paired.pair(mine, champion, np.arange(23)))
    grouped = paired.p_value(paired.pair(*copied))
    counted = paired.p_value(paired.pair(copied[0], copied[1], np.arange(230)))

    assert grouped == pytest.approx(alone)
    assert counted < 1e-6 < alone


def test_holms_correction_is_the_step_down_one() -> None:
    assert paired.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert paired.holm([]) == []


def test_the_bound_of_the_drop_solves_tangos_equation_and_is_open_where_nothing_differs() -> None:
    z = stats.norm.isf(0.05)

    nothing = paired.drop_bound(pairs_of(0, 0, 100), 100, 0.05)

    assert nothing == pytest.approx(z**2 / (100 + z**2))  # the score bound of no event in a hundred
    assert paired.drop_bound(pairs_of(30, 0, 0), 30, 0.05) == 1.0
    many = pairs_of(100, 100, 9800)
    assert paired.drop_bound(many, 10_000, 0.05) == pytest.approx(z * np.sqrt(200) / 10_000, rel=0.01)


@pytest.mark.parametrize(("size", "groups"), [(120, 120), (300, 60)])
def test_the_bound_of_the_drop_keeps_its_level(size: int, groups: int) -> None:
    source, missed, rounds = np.random.default_rng(7), 0, 1500
    number = np.arange(size) % groups
    for _ in range(rounds):
        hard = source.random(groups)[number]  # rows of a group are as hard as each other
        champion, mine = source.random(size) > 0.2 * hard, source.random(size) > 0.3 * hard
        bound = paired.drop_bound(paired.pair(mine, champion, number), size, 0.05)
        missed += bound < 0.05

    assert missed / rounds <= 0.065  # 0.05 and two standard errors of 1,500 rounds
