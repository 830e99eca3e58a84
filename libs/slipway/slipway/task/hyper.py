"""Hyperparameters: declared on a task's class, checked against type, range and choices.

Needs neither torch nor the task's code: `declared` reads the declarations out of the source text, so
that a job can be refused before anything of it runs.
"""

import ast
import difflib
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Value = bool | int | float | str

KINDS: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}


class HyperparameterError(ValueError):
    """A hyperparameter is unknown, of another type, or out of its range.

    Attributes:
        field: Its name.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, kw_only=True)
class Hyper:
    """One hyperparameter: `kind` is `bool`, `int`, `float` or `str`, bounds are inclusive."""

    default: Value | None
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()
    kind: str = ""

    def check(self, name: str, value: object) -> Value:
        """Return `value` in the declared type (JSON knows only one kind of number).

        Raises:
            HyperparameterError: it has another type, or is outside range or choices.
        """
        typed = self._typed(name, value)
        if self.choices and typed not in self.choices:
            allowed = ", ".join(repr(choice) for choice in self.choices)
            raise HyperparameterError(name, f"hyperparameter '{name}' is {typed!r}; choose one of {allowed}")
        if isinstance(typed, int | float) and not isinstance(typed, bool):
            low = -math.inf if self.low is None else self.low
            high = math.inf if self.high is None else self.high
            if not low <= typed <= high:
                asked = f"choose a value from {low:g} to {high:g}"
                raise HyperparameterError(
                    name, f"hyperparameter '{name}' is {typed!r}, out of range; {asked}"
                )
        return typed

    def _typed(self, name: str, value: object) -> Value:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.kind == "bool" and isinstance(value, bool):
            return value
        if self.kind == "str" and isinstance(value, str):
            return value
        if self.kind == "float" and number and math.isfinite(value):  # type: ignore[arg-type]
            return float(value)  # type: ignore[arg-type]
        if self.kind == "int" and number and math.isfinite(value) and int(value) == value:  # type: ignore[call-overload, arg-type]
            return int(value)  # type: ignore[call-overload, no-any-return]
        message = f"hyperparameter '{name}' is {value!r}, which is no {self.kind}; send a {self.kind}"
        raise HyperparameterError(name, message)


def hyper(
    default: Any, *, low: float | None = None, high: float | None = None, choices: Sequence[Value] = ()
) -> Any:
    """Declare a hyperparameter on a task's class: `lr: float = hyper(1e-3, low=1e-5, high=1)`.

    The annotation gives the type. Returns a `Hyper`, typed `Any` so that the annotation is the value's.
    """
    return Hyper(default=default, low=low, high=high, choices=tuple(choices))


def resolve(declared: Mapping[str, Hyper], given: Mapping[str, object]) -> dict[str, Value]:
    """Return the value of every declared hyperparameter: the given one, else the default.

    Raises:
        HyperparameterError: a name is not declared, or a value is refused.
    """
    for name in given:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=3) or sorted(declared)
            message = f"the task declares no hyperparameter '{name}'; near: {', '.join(near)}"
            raise HyperparameterError(name, message)
    values: dict[str, Value] = {}
    for name, field in declared.items():
        if name in given:
            values[name] = field.check(name, given[name])
        elif field.default is not None:
            values[name] = field.check(name, field.default)
    return values


def declared(source: str, class_name: str) -> dict[str, Hyper]:
    """Read the hyperparameters of a task class out of its source, without running it.

    Follows base classes within the file; those of `slipway.task.Task` come first.

    Raises:
        LookupError: the file has no such class; the message names those it has.
        SyntaxError: the file is not Python.
    """
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    if class_name not in classes:
        has = ", ".join(classes) or "none"
        raise LookupError(f"the file has no class '{class_name}'; classes: {has}")
    return _of_class(classes, class_name, seen=frozenset())


def _of_class(classes: Mapping[str, ast.ClassDef], name: str, *, seen: frozenset[str]) -> dict[str, Hyper]:
    found: dict[str, Hyper] = {}
    for parent in classes[name].bases:
        parent_name = parent.attr if isinstance(parent, ast.Attribute) else getattr(parent, "id", "")
        if parent_name in classes and parent_name not in seen:
            found |= _of_class(classes, parent_name, seen=seen | {name})
        elif parent_name == "Task":
            found |= _own(_task_class())
    return found | _own(classes[name])


def _task_class() -> ast.ClassDef:
    spec = importlib.util.find_spec("slipway.task.task")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Task")


def _own(node: ast.ClassDef) -> dict[str, Hyper]:
    found = {}
    for line in node.body:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        call = line.value
        if isinstance(call, ast.Call) and getattr(call.func, "attr", getattr(call.func, "id", "")) == "hyper":
            found[line.target.id] = _declaration(call, ast.unparse(line.annotation))
    return found


def _declaration(call: ast.Call, kind: str) -> Hyper:
    """A bound that is not written as a literal is left open here; the attempt knows it."""
    given = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
    default = _literal(call.args[0]) if call.args else given.get("default")
    choices = tuple(given.get("choices") or ())
    return Hyper(default=default, low=given.get("low"), high=given.get("high"), choices=choices, kind=kind)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
