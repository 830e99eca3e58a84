"""The decorated functions of a file: what each declares, and what it takes."""

import ast
import difflib
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slipway_pipelines.domain import names
from slipway_pipelines.domain.definition import Kind
from slipway_pipelines.domain.errors import definition_refused

OPTIONS = {
    Kind.STEP: ("retries", "backoff_s", "timeout_s", "cache", "condition", "version"),
    Kind.SENSOR: ("poll_s", "timeout_s", "retries", "backoff_s", "condition"),
}
DAY_S = 86_400.0
_RECKONED: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv
}  # fmt: skip
UNREAD = ("condition",)  # a function of the user's: it runs with the step


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function that is a step.

    Attributes:
        takes: Its parameters but `context`, with whether each has a default.
    """

    name: str
    kind: Kind
    description: str
    takes: dict[str, bool]
    options: dict[str, Any]
    line: int


class Options:
    """The keyword arguments of a decorator, which are literals.

    Args:
        node: The decorator.
        of: Its name.
        known: What it takes.

    Raises:
        InvalidArgument: an argument is unknown or no literal.
    """

    def __init__(self, node: ast.expr, of: str, known: tuple[str, ...]) -> None:
        self.line = node.lineno
        self._of = of
        self.values: dict[str, Any] = {}
        if isinstance(node, ast.Call):
            if node.args:
                raise definition_refused(f"@{of} takes no argument without a name", node.lineno)
            for keyword in node.keywords:
                self._take(keyword, known)

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        value = self.values.get(name, default)
        if not isinstance(value, str):
            raise self._refused(name, value, "a text")
        return value

    def flag(self, name: str) -> bool:
        """Return True or False."""
        value = self.values.get(name, False)
        if not isinstance(value, bool):
            raise self._refused(name, value, "True or False")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a number between two bounds, inclusive."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self._refused(name, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def _take(self, keyword: ast.keyword, known: tuple[str, ...]) -> None:
        name = keyword.arg or "**"
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=2) or known)
            raise definition_refused(
                f"@{self._of} has no option '{name}'; near: {near}", keyword.value.lineno
            )
        if name in UNREAD:
            return
        try:
            self.values[name] = literal(keyword.value)
        except (ValueError, ArithmeticError) as error:
            message = f"@{self._of}: '{name}' is no literal; write the value itself"
            raise definition_refused(message, keyword.value.lineno) from error

    def _refused(self, name: str, value: object, remedy: str) -> Exception:
        return definition_refused(f"@{self._of}: '{name}' is {value!r}; write {remedy}", self.line)


def literal(node: ast.expr) -> Any:
    """Return a literal, or a number reckoned from some, such as `7 * 86_400`.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(node, ast.BinOp) and type(node.op) in _RECKONED:
        left, right = literal(node.left), literal(node.right)
        if isinstance(left, int | float) and isinstance(right, int | float):
            return _RECKONED[type(node.op)](left, right)
    return ast.literal_eval(node)


def decorator(node: ast.FunctionDef, *of: str) -> ast.expr | None:
    """Return the decorator of one of these names, called or not, from whatever module."""
    for found in node.decorator_list:
        target = found.func if isinstance(found, ast.Call) else found
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
        if name in of:
            return found
    return None


def declared_steps(tree: ast.Module) -> dict[str, Function]:
    """Return the steps and sensors of a file by name.

    Raises:
        InvalidArgument: what one declares is refused.
    """
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and (declared := decorator(node, "step", "sensor")) is not None:
            kind = Kind.SENSOR if decorator(node, "sensor") is declared else Kind.STEP
            found[node.name] = _function(node, kind, declared)
        elif isinstance(node, ast.AsyncFunctionDef):
            _require_plain(node)
    return found


def _require_plain(node: ast.AsyncFunctionDef) -> None:
    named = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node)}
    if {"step", "sensor"} & named:
        raise definition_refused(f"'{node.name}' is async; a step is a plain function", node.lineno)


def _function(node: ast.FunctionDef, kind: Kind, declared: ast.expr) -> Function:
    if not names.STEP_ID.fullmatch(node.name):
        message = f"a step is named '{node.name}'; use a-z, 0-9 and '_', at most 60"
        raise definition_refused(message, node.lineno)
    docstring = ast.get_docstring(node) or ""
    return Function(
        name=node.name,
        kind=kind,
        description=docstring.partition("\n")[0],
        takes=_takes(node),
        options=_options(Options(declared, kind.value.lower(), OPTIONS[kind]), kind),
        line=node.lineno,
    )


def _options(options: Options, kind: Kind) -> dict[str, Any]:
    sensor = kind is Kind.SENSOR
    return {
        "retries": int(options.number("retries", 5 if sensor else 0, 0, 100)),
        "backoff_s": options.number("backoff_s", 1.0, 0.0, DAY_S),
        "timeout_s": options.number("timeout_s", DAY_S if sensor else 3600.0, 0.1, 30 * DAY_S),
        "poll_s": options.number("poll_s", 5.0 if sensor else 0.0, 0.1 if sensor else 0.0, DAY_S),
        "cache": options.flag("cache"),
        "version": options.text("version"),
    }


def _takes(node: ast.FunctionDef) -> dict[str, bool]:
    arguments = node.args
    if arguments.vararg or arguments.kwarg or arguments.posonlyargs:
        raise definition_refused(f"step '{node.name}' takes any arguments; name its inputs", node.lineno)
    bare = len(arguments.args) - len(arguments.defaults)
    taken = {argument.arg: number >= bare for number, argument in enumerate(arguments.args)}
    defaults = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    taken |= {argument.arg: default is not None for argument, default in defaults}
    taken.pop("context", None)
    return taken
