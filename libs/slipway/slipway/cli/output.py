"""How commands speak: tables for people, `--json` for programs, errors with a remedy and an exit code."""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Annotated, Any

import typer
from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from slipway.client.errors import SlipwayError
from typer.core import TyperGroup

# Exit codes: 2 is the shell's "wrong usage"; the others say what kind of refusal it was.
EXIT_CODES = {
    "NOT_FOUND": 3, "INVALID_ARGUMENT": 4, "FAILED_PRECONDITION": 4, "OUT_OF_RANGE": 4, "ALREADY_EXISTS": 5,
    "ABORTED": 5, "UNAUTHENTICATED": 6, "PERMISSION_DENIED": 6, "UNAVAILABLE": 7, "DEADLINE_EXCEEDED": 7,
    "RESOURCE_EXHAUSTED": 7,
}  # fmt: skip
_JSON_KEY = "slipway.json"
_PIPE_COLUMNS = 1000
_ID_LENGTH = 30
CLOSED_AT_THE_END: ContextVar[ExitStack] = ContextVar("slipway_closed_at_the_end")


def _remember(context: typer.Context, value: bool) -> bool:
    context.meta[_JSON_KEY] = context.meta.get(_JSON_KEY, False) or value
    return value


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.", is_eager=True, callback=_remember)]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Rows at most.")]


def console() -> Console:
    """Return the console of standard output; what goes to a file or a pipe is not cut into 80 columns."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=_PIPE_COLUMNS)


def errors_console() -> Console:
    """Return the console of standard error, as wide: errors and progress."""
    made = Console(stderr=True, highlight=False)
    return made if made.is_terminal else Console(stderr=True, highlight=False, width=_PIPE_COLUMNS)


def to_dict(message: Message) -> dict[str, Any]:
    """Return a message as JSON with the proto's names, zeros included."""
    return json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )


def print_json(value: Any) -> None:
    """Print a message, a list of them, or plain data as JSON."""
    if isinstance(value, Message):
        value = to_dict(value)
    elif isinstance(value, list):
        value = [to_dict(item) if isinstance(item, Message) else item for item in value]
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "nothing there"
) -> None:
    """Print rows under headings; numbers stand to the right, long ids stay whole where there is room."""
    listed = [list(row) for row in rows]
    if not listed:
        console().print(f"[dim]{escape(empty)}[/dim]")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        number = all(isinstance(row[index], (int, float)) for row in listed)
        ids = all(len(str(row[index])) >= _ID_LENGTH and " " not in str(row[index]) for row in listed)
        last = index == len(columns) - 1
        table.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=ids and last)
    for row in listed:
        table.add_row(*(escape(show(cell)) for cell in row))
    console().print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, what is empty left out; a long value is one line, to be copied."""
    told = [(name, show(value)) for name, value in facts if value not in ("", None)]
    width = max((len(name) for name, _ in told), default=0)
    for name, value in told:
        console().print(f"[dim]{escape(name.ljust(width))}[/dim]  {escape(value)}", soft_wrap=True)


def show(value: object) -> str:
    """Return a value as people read it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def when(timestamp: Any) -> str:
    """Return a protobuf timestamp in UTC, or nothing when it is not set."""
    if not timestamp.seconds:
        return ""
    return str(timestamp.ToDatetime().strftime("%Y-%m-%d %H:%M:%S"))


def short(name: str) -> str:
    """Return a resource name with a long digest cut to 12."""
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last[:12]}" if len(last) > 32 else name


def state_name(enum: Any, value: int) -> str:
    """Return an enum value's name in lower case."""
    return str(enum.Name(value)).lower()


class Group(TyperGroup):
    """The root command: shows refusals instead of tracebacks."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a refusal is printed, and its kind is the exit code."""
        with ExitStack() as stack:
            CLOSED_AT_THE_END.set(stack)
            return self._invoke(ctx)

    def _invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SlipwayError as error:
            _print_error(error, as_json=bool(ctx.meta.get(_JSON_KEY)))
            raise typer.Exit(EXIT_CODES.get(error.code, 1)) from None
        except KeyboardInterrupt:
            errors_console().print("stopped")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(0) from None


def _print_error(error: SlipwayError, *, as_json: bool) -> None:
    if as_json:
        document = {
            "code": error.code,
            "reason": error.reason,
            "message": error.message,
            "metadata": error.metadata,
            "violations": [{"field": v.field, "description": v.description} for v in error.violations],
        }
        typer.echo(json.dumps({"error": document}, indent=2), err=True)
        return
    screen = errors_console()
    screen.print(f"[red]error[/red] {escape(error.message)}")
    for violation in error.violations:
        line = f"{violation.field}: {violation.description}"
        if line not in error.message:
            screen.print(f"  {escape(line)}")
    screen.print(f"[dim]{escape(error.reason or error.code)}[/dim]")
