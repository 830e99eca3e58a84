"""How large batches may be: the cost line, the steps up and down, what is taken from the queue."""

import pytest
from slipway_inference.domain import BatchLimit, BatchReason, CostModel


def limit(max_rows: int = 64, objective_ms: float = 100.0, *costs: tuple[int, float]) -> BatchLimit:
    cost = CostModel()
    for rows, compute_ms in costs:
        cost.observe(rows, compute_ms)
    return BatchLimit(max_rows=max_rows, objective_ms=objective_ms, cost=cost)


def test_the_cost_line_is_found_from_two_sizes() -> None:
    cost = CostModel()

    for rows in (1, 8, 1, 8):
        cost.observe(rows, 3.0 + 0.5 * rows)

    assert cost.line() == pytest.approx((3.0, 0.5))
    assert cost.predicted_ms(32) == pytest.approx(19.0)


def test_nothing_seen_foretells_nothing_and_one_size_foretells_no_slope() -> None:
    cost = CostModel()
    assert cost.line() == (0.0, 0.0)

    cost.observe(4, 6.0)

    assert cost.line() == pytest.approx((6.0, 0.0))


def test_batches_that_get_cheaper_with_size_have_no_negative_cost() -> None:
    cost = CostModel()

    cost.observe(1, 50.0)
    cost.observe(64, 2.0)

    fixed_ms, per_row_ms = cost.line()
    assert (per_row_ms, fixed_ms >= 0.0) == (0.0, True)


def test_a_machine_that_became_slower_is_noticed() -> None:
    cost = CostModel()
    for _ in range(300):
        cost.observe(1, 1.0)
        cost.observe(8, 8.0)

    for _ in range(300):
        cost.observe(1, 4.0)
        cost.observe(8, 32.0)

    assert cost.predicted_ms(8) == pytest.approx(32.0, rel=0.01)


def test_the_first_limit_is_what_half_of_the_objective_allows() -> None:
    assert limit(64, 100.0, (1, 3.0), (8, 10.0)).rows == 48  # 2 ms + 1 ms a row within 50 ms
    assert limit(16, 100.0, (1, 3.0), (8, 10.0)).rows == 16
    assert limit(64, 100.0, (1, 80.0), (8, 150.0)).rows == 1
    assert limit(64, 100.0).rows == 64


def test_a_batch_over_half_of_the_objective_lowers_the_limit_by_a_tenth() -> None:
    subject = limit(64, 100.0)

    subject.observe(64, 50.1)
    once = subject.rows
    subject.observe(once, 60.0)

    assert (once, subject.rows) == (57, 51)


def test_the_limit_never_falls_below_one_row() -> None:
    subject = limit(4, 100.0)

    for _ in range(20):
        subject.observe(subject.rows, 1000.0)

    assert subject.rows == 1


def test_a_full_batch_in_time_raises_the_limit_by_one_row_up_to_the_bound() -> None:
    subject = limit(64, 100.0)
    for _ in range(4):
        subject.observe(subject.rows, 51.0)
    low = subject.rows

    steps = []
    for _ in range(100):
        subject.observe(subject.rows, 1.0)
        steps.append(subject.rows)

    assert steps[:3] == [low + 1, low + 2, low + 3]
    assert steps[-1] == 64


def test_a_batch_that_was_not_full_proves_nothing_and_raises_nothing() -> None:
    subject = limit(64, 100.0)
    subject.observe(64, 51.0)
    low = subject.rows

    subject.observe(low - 1, 1.0)

    assert subject.rows == low


def test_the_limit_is_not_raised_into_a_miss_that_the_model_foretells() -> None:
    subject = limit(64, 100.0, (1, 3.0), (8, 10.0))

    for _ in range(10):
        subject.observe(subject.rows, 2.0 + subject.rows)

    assert subject.rows == 48


def test_one_request_larger_than_the_limit_does_not_lower_it() -> None:
    subject = limit(64, 100.0, (1, 11.0), (2, 21.0))
    low = subject.rows

    subject.observe(32, 321.0)

    assert subject.rows == low == 4


@pytest.mark.parametrize(
    ("max_rows", "rows", "waiting", "taken"),
    [
        (8, 8, [], (0, 0, BatchReason.QUEUE_EMPTY)),
        (8, 8, [1, 2, 3], (3, 6, BatchReason.QUEUE_EMPTY)),
        (8, 8, [4, 4], (2, 8, BatchReason.QUEUE_EMPTY)),
        (8, 8, [4, 4, 1], (2, 8, BatchReason.BATCH_FULL)),
        (8, 4, [2, 2, 1], (2, 4, BatchReason.LATENCY_OBJECTIVE)),
        (8, 8, [5, 5, 1], (1, 5, BatchReason.NEXT_TOO_LARGE)),
        (8, 2, [5, 1], (1, 5, BatchReason.LATENCY_OBJECTIVE)),
    ],
)
def test_what_is_taken_is_the_oldest_that_fit(
    max_rows: int, rows: int, waiting: list[int], taken: tuple[int, int, BatchReason]
) -> None:
    subject = limit(max_rows)
    subject.rows = rows

    assert subject.take(iter(waiting)) == taken


def test_one_slow_row_says_little_about_a_batch_of_64() -> None:
    subject = limit(64, 100.0)

    subject.observe(1, 60.0)

    assert subject.rows == 57
