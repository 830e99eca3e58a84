"""The calls in a pipeline's function: which step takes what."""

import ast
import difflib
import json
from collections.abc import Iterator, Sequence

from slipway_pipelines.domain.definition import MAX_STEPS, Input, Step, in_order
from slipway_pipelines.domain.errors import definition_refused
from slipway_pipelines.engine.functions import Function

WORDS = ("when", "after")  # of a call; no step's input has these names


def graph_of(
    node: ast.FunctionDef, functions: dict[str, Function], parameters: Sequence[str]
) -> dict[str, Step]:
    """Return the steps that a pipeline's function calls, in its order.

    Raises:
        InvalidArgument: a step, input or name is unknown or missing, or the body does something else.
    """
    return _Body(node, functions, parameters).steps()


class _Body:
    def __init__(
        self, node: ast.FunctionDef, functions: dict[str, Function], parameters: Sequence[str]
    ) -> None:
        self._node = node
        self._functions = functions
        self._parameters = parameters
        self._variables: dict[str, str] = {}  # name in the body → step
        self._lines: dict[str, int] = {}
        self._steps: dict[str, Step] = {}

    def steps(self) -> dict[str, Step]:
        calls = list(self._calls())
        for name, call in calls:
            step = self._function(call).name
            if name:
                self._require_new(name, call.lineno)
                self._variables[name] = step
                self._lines[name] = call.lineno
        for _, call in calls:
            self._add(call)
        if not self._steps:
            raise definition_refused(f"'{self._node.name}' calls no step", self._node.lineno)
        self._require_order(calls)
        return self._steps

    def _calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Yield every statement's variable and call."""
        for line in self._node.body:
            value = getattr(line, "value", None)
            if isinstance(line, ast.Expr) and isinstance(value, ast.Constant):
                continue  # the docstring
            target = line.targets[0] if isinstance(line, ast.Assign) and len(line.targets) == 1 else None
            assigned = isinstance(target, ast.Name)
            if not isinstance(value, ast.Call) or not (isinstance(line, ast.Expr) or assigned):
                message = (
                    f"a pipeline's function calls steps and nothing else; move `{ast.unparse(line)[:60]}` "
                    "into a step (.map runs one over a list, when= makes it depend on another)"
                )
                raise definition_refused(message, line.lineno)
            yield (target.id if isinstance(target, ast.Name) else ""), value

    def _function(self, call: ast.Call) -> Function:
        target = call.func
        if isinstance(target, ast.Attribute) and target.attr == "map":
            target = target.value
        name = target.id if isinstance(target, ast.Name) else ast.unparse(target)
        if name not in self._functions:
            near = (
                ", ".join(difflib.get_close_matches(name, self._functions, n=3) or self._functions) or "none"
            )
            message = f"'{name}' is no step of this file; decorate it with @step; near: {near}"
            raise definition_refused(message, call.lineno)
        return self._functions[name]

    def _add(self, call: ast.Call) -> str:
        """Add the call's step, and those called inside its arguments; return its name."""
        function = self._function(call)
        if function.name in self._steps:
            message = f"step '{function.name}' is called twice; call it with .map, or write a second step"
            raise definition_refused(message, call.lineno)
        if len(self._steps) == MAX_STEPS:
            raise definition_refused(f"there are more than {MAX_STEPS} steps; use .map", call.lineno)
        words = {k.arg: k.value for k in call.keywords if k.arg in WORDS}
        mapped = isinstance(call.func, ast.Attribute)
        step = Step(
            name=function.name,
            kind=function.kind,
            description=function.description,
            inputs=self._inputs(function, call, mapped),
            after=tuple(self._after(words["after"])) if "after" in words else (),
            when=self._given("when", words["when"]) if "when" in words else None,
            line=function.line,
            **function.options,
        )
        self._steps[step.name] = step
        return step.name

    def _inputs(self, function: Function, call: ast.Call, mapped: bool) -> tuple[Input, ...]:
        given = dict(self._arguments(function, call, mapped))
        missing = [name for name, default in function.takes.items() if not default and name not in given]
        if missing:
            message = f"step '{function.name}' needs '{missing[0]}', which the call does not give"
            raise definition_refused(message, call.lineno)
        first = next(iter(given), "")
        return tuple(
            self._given(name, value, mapped=mapped and name == first) for name, value in given.items()
        )

    def _arguments(self, function: Function, call: ast.Call, mapped: bool) -> Iterator[tuple[str, ast.expr]]:
        names = list(function.takes)
        if mapped and len(call.args) != 1:
            message = f"{function.name}.map takes one list without a name; give the other inputs by name"
            raise definition_refused(message, call.lineno)
        if len(call.args) > len(names):
            message = f"step '{function.name}' takes {len(names)} inputs, the call gives {len(call.args)}"
            raise definition_refused(message, call.lineno)
        placed = list(zip(names, call.args, strict=False))
        named = [
            (keyword.arg or "**", keyword.value) for keyword in call.keywords if keyword.arg not in WORDS
        ]
        for name, value in placed + named:
            if name not in names or ((name, value) in named and name in dict(placed)):
                near = ", ".join(difflib.get_close_matches(name, names, n=2) or names) or "none"
                problem = "is given twice" if name in names else f"is no input of it; near: {near}"
                raise definition_refused(f"step '{function.name}': '{name}' {problem}", value.lineno)
            yield name, value

    def _given(self, name: str, value: ast.expr, *, mapped: bool = False) -> Input:
        if isinstance(value, ast.Call):
            return Input(name=name, step=self._add(value), mapped=mapped)
        if isinstance(value, ast.Name):
            if value.id in self._variables:
                return Input(name=name, step=self._variables[value.id], mapped=mapped)
            if value.id in self._parameters:
                return Input(name=name, parameter=value.id, mapped=mapped)
            raise self._unknown(name, value)
        try:
            constant = ast.literal_eval(value)
            json.dumps(constant, allow_nan=False)
        except (ValueError, TypeError) as error:
            remedy = "give a step's output, a parameter or a literal"
            message = f"'{name}' is given `{ast.unparse(value)[:60]}`; {remedy}"
            raise definition_refused(message, value.lineno) from error
        return Input(name=name, constant=constant, mapped=mapped)

    def _after(self, value: ast.expr) -> Iterator[str]:
        for part in value.elts if isinstance(value, ast.Tuple | ast.List) else [value]:
            given = self._given("after", part)
            if not given.step:
                raise definition_refused(f"after= takes steps, `{ast.unparse(part)}` is none", part.lineno)
            yield given.step

    def _unknown(self, name: str, value: ast.Name) -> Exception:
        known = [*self._variables, *self._parameters]
        near = ", ".join(difflib.get_close_matches(value.id, known, n=3) or known) or "none"
        message = f"'{name}' is given '{value.id}', which is no output and no parameter; near: {near}"
        return definition_refused(message, value.lineno)

    def _require_new(self, name: str, line: int) -> None:
        if name in self._variables or name in self._parameters:
            raise definition_refused(f"'{name}' is assigned twice; use another name", line)

    def _require_order(self, calls: list[tuple[str, ast.Call]]) -> None:
        """Python would read a name before it is there; a ring of steps is told by `in_order`."""
        in_order(self._steps)
        for _, call in calls:
            for part in ast.walk(call):
                made = self._lines.get(part.id, 0) if isinstance(part, ast.Name) else 0
                if made > call.lineno:
                    message = f"'{part.id}' is used before line {made} makes it; move that line up"  # type: ignore[attr-defined]
                    raise definition_refused(message, call.lineno)
