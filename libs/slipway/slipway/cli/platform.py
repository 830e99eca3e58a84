"""`slipway up | down | restart | status | logs | doctor`: the platform of this folder, or of one above it."""

import json
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from slipway.cli.output import console, errors_console
from slipway.client.places import state_folder

STATE = Path(".slipway")
NewStateOption = Annotated[Path, typer.Option("--state", help="Folder of the platform's state.")]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="Folder of the platform's state; default: .slipway here or above."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PortOption = Annotated[
    int | None,
    typer.Option("--port-base", min=1024, max=55_000, help="First port; default: as last time, or 8080."),
]
_MARKS = {
    "ready": "[green]ready[/green]",
    "done": "[green]done[/green]",
    "replaced": "[green]replaced[/green]",
    "backoff": "[red]backoff[/red]",
}


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    for command in (up, down, restart, status, logs, doctor):
        app.command()(command)


def process_names() -> list[str]:
    """Return the names of the platform's logs, for completion."""
    return sorted(path.stem for path in (_found(None) / "logs").glob("*.log"))


def running_names() -> list[str]:
    """Return the names of the platform's processes and model pods, for completion."""
    try:
        found = json.loads((_found(None) / "platform.json").read_text())
    except (OSError, ValueError):
        return []
    return [one["name"] for one in [*found.get("processes", []), *found.get("pods", [])]]


def up(
    port_base: PortOption = None,
    state: NewStateOption = STATE,
    only: Annotated[
        str, typer.Option(help="Only these programs and what they need, separated by commas.")
    ] = "",
    timeout: Annotated[float, typer.Option(help="Seconds until it must be ready.")] = 180.0,
    as_json: JsonOption = False,
) -> None:
    """Start the platform and wait until it is ready; running already is fine."""
    from slipway_local import platform
    from slipway_local.platform import layout_of

    progress = _Progress(errors_console(), quiet=as_json)
    layout = layout_of(state, port_base)
    names = [name.strip() for name in only.split(",") if name.strip()]
    try:
        started = platform.up(layout, only=names, within_s=timeout, report=progress.show)
    except platform.PlatformError as error:
        _fail(error, as_json, error.exit_code)
    except KeyboardInterrupt:
        _fail("no longer waiting; what was started goes on: `slipway status` or `slipway down`", as_json, 130)
    if as_json:
        extra = {"already": started.already, "seconds": round(started.seconds, 2), "ended": started.ended}
        extra["left_over"] = started.left_over
        _print_json(started.status | extra)
        return
    _say_ready(started)


def down(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Stop the platform; its data stay. Nothing running is fine."""
    from slipway_local import platform
    from slipway_local.platform import layout_of

    began, folder = time.monotonic(), _found(state)
    try:
        killed = platform.down(layout_of(folder)) if folder.exists() else []
    except platform.PlatformError as error:
        _fail(error, as_json, error.exit_code)
    if as_json:
        _print_json({"phase": "stopped", "killed": killed, "seconds": round(time.monotonic() - began, 2)})
        return
    console().print("stopped" + (f"; {len(killed)} left-over processes were killed" if killed else ""))


def restart(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Processes or pods.", autocompletion=running_names)
    ],
    state: StateOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds until they must be ready again.")] = 180.0,
    as_json: JsonOption = False,
) -> None:
    """Restart processes of the running platform, each in order, and wait until they are ready again.

    A model pod is replaced: it goes once another serves in its place, as after `kubectl rollout restart`.
    """
    from slipway_local import platform
    from slipway_local.platform import layout_of
    from slipway_local.restarts import restart as ask

    progress = _Progress(errors_console(), quiet=as_json)
    try:
        done = ask(layout_of(_found(state)), names, within_s=timeout, report=progress.show)
    except platform.PlatformError as error:
        _fail(error, as_json, error.exit_code)
    except KeyboardInterrupt:
        _fail("no longer waiting; what was asked for goes on: `slipway status`", as_json, 130)
    if as_json:
        _print_json({"processes": done.processes, "seconds": round(done.seconds, 2)})
        return
    told = ", ".join(f"{one['name']} is {one['state']}" for one in done.processes)
    console().print(f"{told} after {done.seconds:.1f} s", highlight=False)


def status(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Show every process: state, id, ports, restarts, memory."""
    from slipway_local import platform
    from slipway_local.platform import layout_of

    try:
        found = platform.status(layout_of(_found(state)))
    except platform.PlatformError as error:
        _fail(error, as_json, error.exit_code)
    if as_json:
        _print_json(found)
        return
    console().print(_table(found))
    console().print(_footer(found))


def logs(
    name: Annotated[
        str, typer.Argument(help="Whose log; without it their names.", autocompletion=process_names)
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the log of a process."""
    from slipway_local import logs as files

    folder = _found(state) / "logs"
    known = sorted(path.stem for path in folder.glob("*.log"))
    if name not in known:
        if not name and not as_json:
            console().print("\n".join(known) or f"there are no logs in {folder}")
            return
        if not name:
            _print_json({"names": known})
            return
        _fail(f"no process {name!r} has a log; names: {', '.join(known) or 'none'}", as_json, 2)
    path = files.path_of(folder, name)
    found = files.tail(path, lines)
    if as_json:
        _print_json({"name": name, "path": str(path), "lines": found})
        return
    for line in found:
        typer.echo(line)
    if follow:
        try:
            for line in files.follow(path):
                typer.echo(line)
        except KeyboardInterrupt:
            return


def doctor(
    port_base: PortOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for what keeps the platform from working, and say what helps."""
    from slipway_local.doctor import examine
    from slipway_local.platform import layout_of

    findings = examine(layout_of(_found(state), port_base))
    healthy = all(finding.ok for finding in findings)
    if as_json:
        _print_json({"ok": healthy, "findings": [finding.as_dict() for finding in findings]})
    else:
        screen = console()
        for finding in findings:
            mark = "[green]ok[/green]  " if finding.ok else "[red]bad[/red] "
            remedy = "" if finding.ok else f"\n     → {escape(finding.remedy)}"
            screen.print(f"{mark} {finding.name}: {escape(finding.says)}{remedy}", highlight=False)
    if not healthy:
        raise typer.Exit(1)


def _found(state: Path | None) -> Path:
    """Return the folder that was named, else the one that the client would take, else the one here."""
    return state or state_folder(Path.cwd()) or STATE


class _Progress:
    """Prints each process once it is ready, and what troubles one."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._began = time.monotonic()
        self._shown: set[tuple[str, str, str]] = set()

    def show(self, found: dict[str, Any]) -> None:
        """Print what is new in the status."""
        if self._quiet:
            return
        for process in found.get("processes", []):
            key = (process["name"], process["state"], process["trouble"])
            if process["state"] not in _MARKS or key in self._shown:
                continue
            self._shown.add(key)
            after_s = time.monotonic() - self._began
            trouble = f" {escape(process['trouble'])}" if process["trouble"] else ""
            self._console.print(
                f"{after_s:5.1f} s  {process['name']:<24} {_MARKS[process['state']]}{trouble}",
                highlight=False,
            )


def _say_ready(started: Any) -> None:
    screen = console()
    addresses = started.status["addresses"]
    how = "runs already" if started.already else f"is ready after {started.seconds:.1f} s"
    screen.print(f"the platform {how}: REST http://{addresses['rest']}, gRPC {addresses['grpc']}")
    for told in started.left_over:
        screen.print(told, highlight=False, markup=False, soft_wrap=True)
    screen.print("look: slipway status   stop: slipway down", highlight=False)


def _table(found: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title, right in (("process", 0), ("state", 0), ("pid", 1), ("port", 1), ("restarts", 1), ("MB", 1)):
        table.add_column(title, justify="right" if right else "left")
    table.add_column("trouble")
    for process in [*found["processes"], *found.get("pods", [])]:
        table.add_row(
            process["name"],
            _MARKS.get(process["state"], process["state"]),
            str(process["pid"] or "–"),
            str(process["ports"][0]) if process["ports"] else "–",
            str(process["restarts"]),
            f"{process['rss_bytes'] / 2**20:.0f}",
            escape(process["trouble"]),
        )
    return table


def _footer(found: dict[str, Any]) -> str:
    everyone = [*found["processes"], *found.get("pods", []), found["supervisor"]]
    total = sum(process["rss_bytes"] for process in everyone)
    spooled = sum(spool["bytes"] for spool in found["spools"])
    gone, addresses = found["removed_spools"], found["addresses"]
    return (
        f"{found['phase']}; supervisor {found['pid']}; {total / 2**20:.0f} MB in all; "
        f"REST http://{addresses['rest']}, gRPC {addresses['grpc']}"
        + (f"; {spooled} bytes of events wait in {len(found['spools'])} spools" if spooled else "")
        + (f"; events of {gone['spools']} pods were removed, {gone['bytes']} bytes" if gone["spools"] else "")
    )


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1))


def _fail(error: object, as_json: bool, code: int) -> NoReturn:
    if as_json:
        _print_json({"error": str(error), "exit_code": code})
    else:
        errors_console().print(f"[red]{escape(str(error))}[/red]", highlight=False)
    raise typer.Exit(code)
