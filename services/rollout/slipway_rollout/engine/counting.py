"""From counters that only grow to what happened between two looks."""

from slipway_rollout.domain import Counters, Traffic

OK, CANCELLED = 0, 1
# UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
SERVER_ERRORS = frozenset((2, 4, 8, 12, 13, 14, 15))
_SAME_START_S = 3.0  # a start is known to a second
Growth = dict[str, float]


def growth(before: Counters | None, now: Counters) -> Growth:
    """Return by how much each series grew; nothing without a look before.

    A counter that is smaller than before, or whose process started since, began again at 0: what it says now
    is its growth. What it counted between the look before and its end is not known and not counted.
    """
    if before is None:
        return {}
    again = now.started > before.started + _SAME_START_S
    grown = {}
    for key, value in now.values.items():
        known = 0.0 if again else before.values.get(key, 0.0)
        grown[key] = value - known if value >= known else value
    return grown


def traffic(grown: Growth, arm: str) -> Traffic:
    """Return what one version answered, from the growth of its series.

    Args:
        grown: As of `growth`.
        arm: `stable`, `new` or `shadow`.
    """
    by_status: dict[int, int] = {}
    up_to: dict[float, int] = {}
    for key, value in grown.items():
        owner, kind, _ = key.split(" ", 2)
        if owner != arm:
            continue
        what, _, which = kind.partition("-")
        if what == "grpc":
            by_status[int(which)] = by_status.get(int(which), 0) + round(value)
        else:
            up_to[float(which)] = up_to.get(float(which), 0) + round(value)
    return Traffic(
        count=sum(by_status.values()),
        errors=sum(n for status, n in by_status.items() if status not in (OK, CANCELLED)),
        server_errors=sum(n for status, n in by_status.items() if status in SERVER_ERRORS),
        by_latency=_alone(up_to),
    )


def _alone(up_to: dict[float, int]) -> dict[float, int]:
    """Return the count of each bucket from cumulative ones."""
    alone, below = {}, 0
    for upper in sorted(up_to):
        if up_to[upper] > below:
            alone[upper] = up_to[upper] - below
        below = max(below, up_to[upper])
    return alone
