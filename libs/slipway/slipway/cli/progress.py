"""A bar on standard error while something goes on."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from slipway.cli.output import errors_console, to_dict

Show = Callable[[str, int, int], None]


@contextmanager
def bar(*, quiet: bool) -> Iterator[Show]:
    """Show a bar; the function given takes what is done now, how far it is, and all (0: not known yet)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    screen = errors_console()
    quiet = quiet or not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(
            task, description=what, completed=done, total=total or None
        )


def follow(states: Iterator[Any], told: Callable[[Any], tuple[str, int, int]], *, as_json: bool) -> Any:
    """Show a bar while states come, with --json a line for each; return the last one.

    `told` gives what is done now, how far it is, and all.
    """
    last = None
    with bar(quiet=as_json) as show:
        for last in states:
            show(*told(last))
            if as_json:
                typer.echo(json.dumps(to_dict(last)))
    return last
