"""Restarting processes and pods of a running platform from outside: what `slipway restart` does.

A request is a file in a folder that the supervisor looks at; it removes the file once its status tells what
came of it. So a request needs no port, and none is lost between two that are made at once.
"""

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_local import logs, platform
from slipway_local.layout import Layout
from slipway_local.platform import NotReady, NotRunning, PlatformError, Report, UnknownProgram

_POLL_S = 0.05
_TAKEN_WITHIN_S = 10.0
_WELL = ("ready", "done", "replaced")


@dataclass(frozen=True)
class Restarted:
    """What came of it: the processes as they are now; a pod that was replaced is in state `replaced`."""

    processes: list[dict[str, Any]]
    seconds: float


def restart(
    layout: Layout, names: Sequence[str], *, within_s: float = 180.0, report: Report = print
) -> Restarted:
    """Restart processes, and replace pods; return when each is ready again.

    Args:
        layout: Of the platform.
        names: Of processes and pods. Of these, those that come after others stop before them.
        within_s: After that NotReady.
        report: Called with the status, of the processes that are on their way alone, whenever it changed.

    Raises:
        NotRunning: No supervisor lives here, or it was stopped meanwhile.
        UnknownProgram: There is no process of a name; nothing was restarted.
        NotReady: One does not become ready again; the supervisor goes on trying.
        PlatformError: The supervisor does not take the request.
    """
    began = time.monotonic()
    before = platform.status(layout)
    counts = {one["name"]: int(one.get("restarts_asked", 0)) for one in before["processes"]}
    known = [*counts, *(pod["name"] for pod in before.get("pods", []))]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UnknownProgram(f"there is no process {unknown[0]!r}; processes: {', '.join(known)}")
    requests = _ask(layout, names)
    seen: list[dict[str, Any]] = []
    while True:
        open_requests = [path for path in requests if path.exists()]  # before the status: it is written first
        found = platform.recorded(layout)
        if found.get("pid") != before["pid"] or not platform.supervisor_runs(layout):
            _withdraw(requests)
            raise NotRunning(f"the platform of {layout.state} was stopped meanwhile; look: `slipway status`")
        if not open_requests:
            now = _under_way(found, names, counts)
            if now != seen:
                seen = now
                report(found | {"processes": now})
            if {one["name"] for one in now if one["state"] in _WELL} == set(names):
                return Restarted(now, time.monotonic() - began)
        waited_s = time.monotonic() - began
        if open_requests and waited_s > min(within_s, _TAKEN_WITHIN_S):
            _withdraw(open_requests)
            raise PlatformError(
                f"the supervisor (process {before['pid']}) does not take the request; one that an older "
                "Slipway started cannot: `slipway down; slipway up`"
            )
        if waited_s > within_s:
            raise NotReady(_what_is_missing(layout, found, names, seen))
        time.sleep(_POLL_S)


def _ask(layout: Layout, names: Iterable[str]) -> list[Path]:
    layout.restarts.mkdir(mode=0o700, exist_ok=True)
    requests = [layout.restarts / f"{name}.{secrets.token_hex(4)}" for name in sorted(set(names))]
    for path in requests:
        path.touch()
    return requests


def _withdraw(requests: Iterable[Path]) -> None:
    for path in requests:
        path.unlink(missing_ok=True)


def _under_way(found: dict[str, Any], names: Sequence[str], counts: dict[str, int]) -> list[dict[str, Any]]:
    """Return those whose restart has begun, as they are now; a pod once another has taken its place."""
    leaving = {pod["name"] for pod in found.get("pods", []) if pod["replaced"]}
    begun = [
        one
        for one in found["processes"]
        if one["name"] in names and one.get("restarts_asked", 0) > counts[one["name"]]
    ]
    replaced = [name for name in dict.fromkeys(names) if name not in counts and name not in leaving]
    return begun + [{"name": name, "state": "replaced", "pid": 0, "trouble": ""} for name in replaced]


def _what_is_missing(
    layout: Layout, found: dict[str, Any], names: Sequence[str], seen: list[dict[str, Any]]
) -> str:
    well = {one["name"] for one in seen if one["state"] in _WELL}
    lines = []
    for one in [*found["processes"], *found.get("pods", [])]:
        if one["name"] not in names or one["name"] in well:
            continue
        if one.get("replaced"):
            lines.append(
                f"{one['name']} goes on: what is to take its place does not serve (`slipway status`)"
            )
            continue
        lines.append(f"{one['name']} is {one['state']} {one['trouble']}".rstrip())
        lines += [f"    {line}" for line in logs.tail(logs.path_of(layout.logs, one["name"]), 8)]
    return "\n".join(["not ready again:", *lines, "look with `slipway logs NAME`"])
