"""One attempt at a step in its own process: `python -I -m slipway.pipeline.attempt <pipe> <spec.json>`.

The environment is cleared; the spec says which function of which file, with which inputs. What comes of it is
one JSON line on the pipe. What the function prints goes to the attempt's log.
"""

import contextlib
import ctypes
import importlib.util
import json
import os
import signal
import sys
import traceback
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from slipway.pipeline.context import Context
from slipway.pipeline.declarations import Declared, Failed, Skipped

PR_SET_PDEATHSIG = 1
MAX_OUTPUT_BYTES = 64 << 10


def main() -> None:
    """Make one attempt; whatever ends it is told on the pipe."""
    spec = json.loads(Path(sys.argv[2]).read_text())
    die_with(spec["parent_pid"])
    answer = attempt(spec)
    sys.stdout.flush()
    data = memoryview(json.dumps(answer).encode() + b"\n")
    while data:
        data = data[os.write(int(sys.argv[1]), data) :]


def attempt(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what came of it: `output`, or `skipped`, `failed` (`final`: for good) or `waits`, with why."""
    code = Path(spec["code"])
    try:
        declared = load(code, spec["file"], spec["step"])
        output = declared.run(_context(spec), spec["inputs"])
        if output is None and spec["sensor"]:
            return {"kind": "waits"}
        return {"kind": "output", "output": _json(output)}
    except Skipped as reason:
        return {"kind": "skipped", "why": str(reason)}
    except BaseException as error:
        traceback.print_exc()
        return {"kind": "failed", "why": _why(error, code), "final": isinstance(error, Failed)}


def load(folder: Path, file: str, name: str) -> Declared:
    """Return the step of that name in a file; its folder goes on the path."""
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location(Path(file).stem, folder / file)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found = getattr(module, name)
    if not isinstance(found, Declared):
        raise TypeError(f"'{name}' is no step when {file} runs: something took its name")
    return found


def die_with(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent dies; end now if it has died already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def _context(spec: dict[str, Any]) -> Context:
    told = {**spec["context"]}
    time = told.pop("schedule_time", None)
    return Context(**told, schedule_time=datetime.fromisoformat(time) if time else None)


def _json(output: object) -> str:
    try:
        text = json.dumps(output, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the output is no JSON ({error}); return names, numbers, lists or dicts") from error
    size = len(text.encode())
    if size > MAX_OUTPUT_BYTES:
        limit = f"at most {MAX_OUTPUT_BYTES} are kept; return names of things"
        raise ValueError(f"the output has {size} bytes, {limit}")
    return text


def _why(error: BaseException, code: Path) -> str:
    """Name the error and the last line of the user's own code that it passed through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(code)]
    where = f" (at {Path(frames[-1].filename).relative_to(code)}:{frames[-1].lineno})" if frames else ""
    with contextlib.suppress(Exception):
        return f"{type(error).__name__}: {error}{where}"
    return f"{type(error).__name__}{where}"


if __name__ == "__main__":
    main()
