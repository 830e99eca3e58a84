"""Times of a schedule. cronsim reads the expression as Debian's cron does, over summer time's changes too."""

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from slipway_runtime.errors import near

from slipway_pipelines.domain.definition import CatchUp, Schedule
from slipway_pipelines.domain.errors import definition_refused

MAX_CAUGHT_UP = 100


def checked(schedule: Schedule) -> Schedule:
    """Return the schedule.

    Raises:
        InvalidArgument: expression or time zone are refused (INVALID_DEFINITION).
    """
    if schedule.time_zone not in available_timezones():
        like = ", ".join(near(schedule.time_zone, available_timezones())) or "Europe/Zurich, UTC"
        message = f"time_zone is {schedule.time_zone!r}, which is no IANA name; near: {like}"
        raise definition_refused(message)
    try:
        next(times(schedule, datetime.now(UTC)))
    except (CronSimError, StopIteration) as error:
        why = str(error) or "it never comes"
        message = f"schedule is {schedule.cron!r} ({why}); send five fields such as '0 3 * * 1'"
        raise definition_refused(message) from error
    return schedule


def times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Yield the times of the schedule after a moment, in UTC, oldest first."""
    start = after.astimezone(ZoneInfo(schedule.time_zone))
    for time in CronSim(schedule.cron, start):
        yield time.astimezone(UTC)


def following(schedule: Schedule, after: datetime) -> datetime:
    """Return the next time after a moment."""
    return next(times(schedule, after))


def due(
    schedule: Schedule, next_time: datetime, now: datetime, grace_s: float
) -> tuple[list[datetime], datetime]:
    """Return the times that get a run now, and the next time after now.

    A time counts as missed when it lies further back than the grace.
    """
    passed = [next_time] if next_time <= now else []
    for time in times(schedule, next_time) if passed else ():
        if time > now:
            break
        passed = [*passed[-(MAX_CAUGHT_UP - 1) :], time]
    fresh = [time for time in passed if (now - time).total_seconds() <= grace_s]
    chosen = {CatchUp.NONE: fresh[-1:], CatchUp.LATEST: passed[-1:], CatchUp.ALL: passed}[schedule.catch_up]
    return chosen, following(schedule, max(now, next_time)) if passed else next_time
