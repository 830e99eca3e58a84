"""Reads a definition out of a packed folder without running it, and refuses by name what cannot run.

The file's decorated functions are its steps (`engine/functions.py`); the pipeline's function calls them
(`engine/calls.py`), and says nothing else.
"""

import ast
import json
from typing import Any

from slipway_runtime.archive import Folder

from slipway_pipelines.domain import definition, names, schedule
from slipway_pipelines.domain.definition import CatchUp, Definition, Parameter, Schedule
from slipway_pipelines.domain.errors import code_refused, definition_refused
from slipway_pipelines.engine.calls import graph_of
from slipway_pipelines.engine.functions import Function, Options, declared_steps, decorator


def read(folder: Folder, entry_point: str) -> Definition:
    """Return what `file.py:function` in the folder defines.

    Raises:
        InvalidArgument: there is no such file or function, or the definition is refused.
    """
    if not names.ENTRY_POINT.fullmatch(entry_point):
        raise code_refused(f"entry_point is {entry_point!r}; send file.py:function")
    file, _, name = entry_point.partition(":")
    tree = _parsed(folder, file)
    pipelines = {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and decorator(node, "pipeline") is not None
    }
    if name not in pipelines:
        has = ", ".join(pipelines) or "none; decorate one with @pipeline"
        raise code_refused(f"entry_point: '{file}' has no pipeline '{name}'; pipelines: {has}")
    try:
        return _definition(pipelines[name], declared_steps(tree))
    except (RecursionError, MemoryError) as error:
        raise code_refused(f"entry_point: '{file}' is nested too deeply; write it flatter") from error


def _parsed(folder: Folder, file: str) -> ast.Module:
    if file not in folder.files:
        has = ", ".join(sorted(path for path in folder.files if path.endswith(".py"))) or "none"
        raise code_refused(f"entry_point: the archive has no file '{file}'; Python files: {has}")
    try:
        return ast.parse(folder.files[file].decode())
    except (SyntaxError, UnicodeDecodeError, RecursionError, MemoryError, ValueError) as error:
        raise code_refused(f"entry_point: '{file}' is not Python: {error}") from error


def _definition(node: ast.FunctionDef, functions: dict[str, Function]) -> Definition:
    found = decorator(node, "pipeline")
    assert found is not None
    options = Options(found, "pipeline", ("name", "schedule", "time_zone", "catch_up"))
    parameters = _parameters(node)
    times = _schedule(options)
    if times is not None:
        _require_defaults(parameters, node.lineno)
    return Definition(
        pipeline=_pipeline_id(options, node),
        description=ast.get_docstring(node) or "",
        steps=definition.in_order(graph_of(node, functions, [parameter.name for parameter in parameters])),
        parameters=parameters,
        schedule=times,
    )


def _pipeline_id(options: Options, node: ast.FunctionDef) -> str:
    id = options.text("name") or node.name.replace("_", "-")
    if not names.PIPELINE_ID.fullmatch(id):
        message = f"the pipeline is named {id!r}; use a-z, 0-9 and '-', at most 63"
        raise definition_refused(message, node.lineno)
    return id


def _schedule(options: Options) -> Schedule | None:
    cron = options.text("schedule")
    if not cron:
        return None
    catch_up = options.text("catch_up", "none")
    allowed = [one.value.lower() for one in CatchUp]
    if catch_up not in allowed:
        message = f"catch_up is {catch_up!r}; use one of {', '.join(allowed)}"
        raise definition_refused(message, options.line)
    zone = options.text("time_zone", "UTC")
    return schedule.checked(Schedule(cron=cron, time_zone=zone, catch_up=CatchUp(catch_up.upper())))


def _parameters(node: ast.FunctionDef) -> tuple[Parameter, ...]:
    arguments = node.args
    if arguments.vararg or arguments.kwarg or arguments.posonlyargs:
        raise definition_refused(f"'{node.name}' takes any arguments; name its parameters", node.lineno)
    plain: list[Any] = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    pairs = list(zip(arguments.args, plain, strict=True))
    pairs += list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    return tuple(_parameter(argument.arg, default) for argument, default in pairs)


def _parameter(name: str, default: ast.expr | None) -> Parameter:
    if default is None:
        return Parameter(name=name, required=True)
    try:
        value = ast.literal_eval(default)
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError) as error:
        message = f"the default of parameter '{name}' is no JSON literal; write a text, number, list or dict"
        raise definition_refused(message, default.lineno) from error
    return Parameter(name=name, required=False, default=value)


def _require_defaults(parameters: tuple[Parameter, ...], line: int) -> None:
    bare = [parameter.name for parameter in parameters if parameter.required]
    if bare:
        message = f"parameter '{bare[0]}' has no default, and a schedule gives none; write a default"
        raise definition_refused(message, line)
