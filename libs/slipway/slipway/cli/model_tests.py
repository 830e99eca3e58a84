"""`slipway test …`: the tests of a trained model, for a terminal and for CI."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from slipway.checks import Report, functionality, read_cases, training_system, validation, write_junit
from slipway.checks.training_system import TOLERANCE
from slipway.cli.accounts import parse_duration
from slipway.cli.evaluations import Against, find_champion, whole_or
from slipway.cli.output import AsJson, console, errors_console, print_json, print_table
from slipway.cli.platform_client import connect
from slipway.cli.scoring import Commit, Version, find_commit, find_version

app = typer.Typer(no_args_is_help=True, help="Tests of a trained model; each ends with 0 or 1.")
Junit = Annotated[Path | None, typer.Option("--junit", help="Also write the checks as JUnit XML.")]
CASES = Path("tests/functionality.yaml")


Budget = Annotated[str, typer.Option("--budget", help="Time it may take: 90s, 5m, 1h or 1d.")]


@app.command("functionality")
def functionality_command(
    version: Version,
    cases: Annotated[
        Path | None, typer.Option(help=f"YAML of important examples; default: {CASES}, where it is.")
    ] = None,
    budget: Budget = "5m",
    junit: Junit = None,
    as_json: AsJson = False,
) -> None:
    """Test what a version does: digests, signature, golden answers, probabilities, batches, examples."""
    client = connect()
    file = cases or (CASES if CASES.exists() else None)
    report = functionality(
        client,
        find_version(client, version).name,
        budget_s=parse_duration(budget),
        cases=read_cases(file) if file else None,
        began=_tell(as_json),
    )
    if file is None and not as_json:
        errors_console().print(f"[dim]no important examples: {CASES} is not there[/dim]")
    _finish(report, junit, as_json=as_json)


@app.command("validation")
def validation_command(
    version: Version,
    commit: Commit = "",
    split: Annotated[
        str, typer.Option(help="Split of the commit, `all` for every example; default: the policy's.")
    ] = "",
    against: Against = "",
    budget: Budget = "1h",
    junit: Junit = None,
    as_json: AsJson = False,
) -> None:
    """Test whether a version is good enough: evaluate it, then judge it; passes when APPROVED."""
    client = connect()
    found = find_version(client, version)
    report = validation(
        client,
        found.name,
        budget_s=parse_duration(budget),
        commit=find_commit(client, found, commit),
        split=whole_or(split) if split else None,
        champion=find_champion(client, found.name, against) if against else None,
        began=_tell(as_json),
    )
    _finish(report, junit, as_json=as_json)


@app.command("training-system")
def training_system_command(
    version: Version,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Largest difference of a metric.")] = TOLERANCE,
    into: Annotated[
        str, typer.Option(help="Model that gets the version made; default: MODEL-training-test.")
    ] = "",
    budget: Budget = "1d",
    junit: Junit = None,
    as_json: AsJson = False,
) -> None:
    """Test whether training still gives what it gave: train again from raw data, and compare."""
    client = connect()
    report = training_system(
        client,
        find_version(client, version).name,
        budget_s=parse_duration(budget),
        tolerance=tolerance,
        model=into,
        began=_tell(as_json),
    )
    _finish(report, junit, as_json=as_json)


def _tell(as_json: bool) -> Callable[[str], None]:
    screen = errors_console()
    return lambda name: None if as_json else screen.print(f"[dim]{escape(name)} …[/dim]")


def _finish(report: Report, junit: Path | None, *, as_json: bool) -> None:
    """Print and write a report; exit with 1 when it did not pass."""
    if junit is not None:
        write_junit(report, junit)
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    if not report.passed:
        raise typer.Exit(1)


def _print(report: Report) -> None:
    rows = [
        (check.name, check.outcome, check.value, check.bound, f"{check.seconds:.2f}")
        for check in report.checks
    ]
    print_table(["check", "outcome", "value", "bound", "s"], rows)
    for check in report.failures:
        console().print(f"[red]failed[/red] {escape(check.name)}: {escape(check.message)}", soft_wrap=True)
    passed = "[green]passed[/green]" if report.passed else "[red]failed[/red]"
    spent = f"{report.seconds:.1f} s of {report.budget_s:g} s"
    console().print(f"{report.test} of {escape(report.subject)} {passed}, {spent}", soft_wrap=True)
