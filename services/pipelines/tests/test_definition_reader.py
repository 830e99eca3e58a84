"""What is read out of a definition's source, and what is refused by name and line."""

import textwrap
from datetime import UTC, datetime

import pytest
from slipway_pipelines.domain import schedule
from slipway_pipelines.domain.definition import CatchUp, Definition, Kind, Schedule, resolved
from slipway_pipelines.engine import reader
from slipway_runtime.archive import Folder
from slipway_runtime.errors import InvalidArgument

STEPS = """
from slipway.pipeline import Context, pipeline, sensor, step


@step(retries=2, backoff_s=5, timeout_s=60, cache=True, version="2")
def made(context: Context, seed: int, commit: str = "main") -> str:
    '''Makes one.

    And more.
    '''


@sensor(poll_s=3)
def there(job: str):
    pass


@step
def chosen(versions: list, limit: float = 0.5):
    pass


@step
def other(x: int = 0):
    pass

"""


def read(flow: str, steps: str = STEPS) -> Definition:
    """Return the definition of a file of these steps and this pipeline."""
    text = steps + textwrap.dedent(flow)
    return reader.read(Folder({"flow.py": text.encode()}), "flow.py:flow")


def refusal(flow: str, steps: str = STEPS) -> str:
    with pytest.raises(InvalidArgument) as caught:
        read(flow, steps)
    assert caught.value.reason == "INVALID_DEFINITION"
    return caught.value.message


def test_a_graph_is_read_with_options_inputs_parameters_and_schedule() -> None:
    found = read(
        """
        @pipeline(name="train-flowers", schedule="0 3 * * 1", time_zone="Europe/Zurich", catch_up="latest")
        def flow(seeds: list = [1, 2], *, commit: str = "main"):
            '''Trains.'''
            jobs = made.map(seeds, commit=commit)
            best = chosen(there.map(jobs), limit=0.7)
            other(when=best, after=[jobs])
        """
    )

    steps = {step.name: step for step in found.steps}
    assert list(steps) == ["made", "there", "chosen", "other"]
    assert (found.pipeline, found.description) == ("train-flowers", "Trains.")
    assert found.schedule == Schedule(cron="0 3 * * 1", time_zone="Europe/Zurich", catch_up=CatchUp.LATEST)
    assert {p.name: p.default for p in found.parameters} == {"seeds": [1, 2], "commit": "main"}
    made = steps["made"]
    assert (made.retries, made.backoff_s, made.timeout_s, made.cache, made.version) == (2, 5, 60, True, "2")
    assert (made.description, made.line) == ("Makes one.", 6)
    assert made.mapped is not None
    assert made.mapped.parameter == "seeds"
    assert (steps["there"].kind, steps["there"].poll_s, steps["there"].upstream) == (
        Kind.SENSOR,
        3,
        ("made",),
    )
    assert [given.constant for given in steps["chosen"].inputs] == [None, 0.7]
    assert steps["other"].upstream == ("chosen", "made")
    assert steps["other"].needed == ("chosen",)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("one = chosen(two)\n    two = made(one)", "ring: chosen → made → chosen"),
        ("one = chosen(one)", "ring: chosen → chosen"),
        ("chosen(two)\n    two = made(1)", "'two' is used before line 30 makes it"),
        (
            "chosen(versionz)",
            "'versions' is given 'versionz', which is no output and no parameter; near: versions",
        ),
        ("chozen(versions)", "'chozen' is no step of this file; decorate it with @step; near: chosen"),
        ("chosen()", "step 'chosen' needs 'versions'"),
        ("chosen(versions, limmit=1)", "'limmit' is no input of it; near: limit"),
        ("chosen(versions, 1, 2)", "takes 2 inputs, the call gives 3"),
        ("chosen(versions, versions=1)", "'versions' is given twice"),
        ("made(1, context=2)", "'context' is no input of it"),
        ("other()\n    other()", "step 'other' is called twice"),
        ("made.map(seed=versions)", "made.map takes one list without a name"),
        ("if versions: other()", "calls steps and nothing else; move `if versions:"),
        ("a, b = other()", "calls steps and nothing else"),
        ("other(len(versions))", "'len' is no step of this file"),
        ("other(versions[0])", "give a step's output, a parameter or a literal"),
        ("other(after=versions)", "after= takes steps"),
        ("versions = other()", "'versions' is assigned twice"),
        ("pass", "calls steps and nothing else"),
        ("'''Nothing.'''", "'flow' calls no step"),
    ],
)
def test_what_cannot_run_is_refused_by_name(body: str, said: str) -> None:
    message = refusal(f"@pipeline()\ndef flow(versions: list = []):\n    {body}\n")

    assert said in message
    assert message.startswith("line ")


@pytest.mark.parametrize(
    ("decorator", "said"),
    [
        ("@step(retrys=1)", "@step has no option 'retrys'; near: retries"),
        ("@step(retries=-1)", "'retries' is -1; write a number from 0 to 100"),
        ("@step(retries=N)", "'retries' is no literal"),
        ("@step(cache=1)", "'cache' is 1; write True or False"),
        ("@step(3)", "@step takes no argument without a name"),
        ("@sensor(poll_s=0)", "'poll_s' is 0; write a number from 0.1"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(decorator: str, said: str) -> None:
    text = f"N = 1\n{decorator}\ndef one():\n    pass\n\n@pipeline()\ndef flow():\n    one()\n"

    assert said in refusal(text, steps="")


@pytest.mark.parametrize(
    ("options", "parameters", "said"),
    [
        ('schedule="0 3 * * 1"', "seed", "parameter 'seed' has no default, and a schedule gives none"),
        ('schedule="0 25 * * 1"', "seed=1", "schedule is '0 25 * * 1'"),
        ('schedule="0 3 30 2 *"', "seed=1", "schedule is '0 3 30 2 *'"),
        ('schedule="0 3 * * 1", time_zone="Europe/Zurych"', "seed=1", "near: Europe/Zurich"),
        ('schedule="0 3 * * 1", catch_up="some"', "seed=1", "use one of none, latest, all"),
        ('name="Flowers"', "seed=1", "the pipeline is named 'Flowers'"),
        ("", "seed=made", "the default of parameter 'seed' is no JSON literal"),
        ("", "*seeds", "takes any arguments"),
    ],
)
def test_a_pipeline_that_could_not_start_is_refused(options: str, parameters: str, said: str) -> None:
    assert said in refusal(f"@pipeline({options})\ndef flow({parameters}):\n    other()\n")


def test_an_entry_point_that_is_not_there_is_refused_with_those_that_are() -> None:
    folder = Folder({"flow.py": (STEPS + "@pipeline()\ndef flows():\n    other()\n").encode(), "a.txt": b""})

    for entry_point, said in [
        ("flow.py:flow", "pipelines: flows"),
        ("flaw.py:flow", "Python files: flow.py"),
        ("flow", "send file.py:function"),
    ]:
        with pytest.raises(InvalidArgument, match=said) as caught:
            reader.read(folder, entry_point)
        assert caught.value.reason == "PIPELINE_CODE_REFUSED"


def test_parameters_are_resolved_by_name() -> None:
    found = read("@pipeline()\ndef flow(seed: int, commit='main'):\n    made(seed)\n")

    assert resolved(found, {"seed": 3}, strict=True) == {"seed": 3, "commit": "main"}
    assert resolved(found, {"seed": 3, "alert": "x"}, strict=False) == {"seed": 3, "commit": "main"}
    with pytest.raises(InvalidArgument, match="no such parameter; near: seed"):
        resolved(found, {"sead": 3}, strict=True)
    with pytest.raises(InvalidArgument, match="has no default for it"):
        resolved(found, {}, strict=True)


def test_times_follow_the_wall_clock_over_the_change_of_summer_time() -> None:
    declared = Schedule(cron="30 2 * * *", time_zone="Europe/Zurich")
    before = datetime(2026, 3, 28, 12, tzinfo=UTC)
    times = schedule.times(declared, before)

    assert [next(times) for _ in range(2)] == [
        datetime(2026, 3, 29, 1, 0, tzinfo=UTC),  # 2:30 does not exist that night: right after the change
        datetime(2026, 3, 30, 0, 30, tzinfo=UTC),
    ]


@pytest.mark.parametrize(
    ("catch_up", "hours"), [(CatchUp.NONE, []), (CatchUp.LATEST, [9]), (CatchUp.ALL, [6, 7, 8, 9])]
)
def test_missed_times_start_what_the_definition_says(catch_up: CatchUp, hours: list[int]) -> None:
    declared = Schedule(cron="0 * * * *", catch_up=catch_up)
    first, now = datetime(2026, 5, 1, 6, tzinfo=UTC), datetime(2026, 5, 1, 9, 30, tzinfo=UTC)

    times, following = schedule.due(declared, first, now, grace_s=60)

    assert [time.hour for time in times] == hours
    assert following == datetime(2026, 5, 1, 10, tzinfo=UTC)


def test_a_time_that_is_a_little_late_is_not_missed() -> None:
    declared = Schedule(cron="0 * * * *")
    first, now = datetime(2026, 5, 1, 6, tzinfo=UTC), datetime(2026, 5, 1, 6, 0, 30, tzinfo=UTC)

    assert schedule.due(declared, first, now, grace_s=60)[0] == [first]
