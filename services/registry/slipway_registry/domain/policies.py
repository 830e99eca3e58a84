"""Gate policies: what YAML may say, read strictly, all faults at once. docs/gates.md tells each key."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from slipway_runtime.errors import InvalidArgument, Violation, near

from slipway_registry.domain.evaluations import MAX_NAME, METRICS
from slipway_registry.domain.gates import CHAMPION

MAX_YAML = 20_000
SPLITS = ("train", "validation", "test", "")  # "" is all of them
_DATASET = re.compile(r"datasets/[a-z0-9-]{1,63}")
_ALIAS = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_TAG_ERRORS = (ValueError, KeyError, AttributeError, TypeError)  # PyYAML's, for `!!bool x` and the like
_HIGHEST = {"loss": 1e6, "brier": 2.0}  # the others are shares


@dataclass(frozen=True)
class EvaluationRule:
    """Which evaluation counts."""

    split: str = "test"
    dataset: str = ""
    minimum_examples: int = 100


@dataclass(frozen=True)
class Threshold:
    """Bounds of one metric over all examples."""

    metric: str
    min: float | None
    max: float | None


@dataclass(frozen=True)
class RegressionRule:
    """The paired test against the version that an alias names."""

    alias: str = CHAMPION
    alpha: float = 0.05
    by_label: bool = True
    attributes: tuple[str, ...] = ()
    minimum_slice: int = 20
    max_drop: float | None = None


@dataclass(frozen=True)
class Policy:
    """What a version must be to be approved; None where there is no such gate."""

    evaluation: EvaluationRule
    thresholds: tuple[Threshold, ...]
    regression: RegressionRule | None
    max_ece: float | None
    max_ratio: float | None
    max_bytes: int | None
    max_abs_diff: float | None

    @property
    def alias(self) -> str:
        """The alias that names the version to compare with."""
        return self.regression.alias if self.regression else CHAMPION


def parse(text: str) -> Policy:
    """Return the policy that a YAML text says.

    Raises:
        InvalidArgument: It is no YAML, or a key, metric, type or bound is wrong (POLICY_REFUSED); each fault
            is a violation of its own.
    """
    reader = _Reader()
    document = reader.load(text)
    policy = _policy(reader, document) if document is not None else None
    if reader.faults or policy is None:
        told = "; ".join(f"{fault.field}: {fault.description}" for fault in reader.faults)
        raise InvalidArgument("POLICY_REFUSED", told, violations=reader.faults)
    return policy


def _policy(reader: "_Reader", document: Any) -> Policy:
    sections = ("evaluation", "thresholds", "regression", "calibration", "latency", "size", "golden")
    top = reader.mapping("yaml", document, sections)
    return Policy(
        evaluation=_evaluation(reader, top),
        thresholds=_thresholds(reader, top),
        regression=_regression(reader, top),
        max_ece=reader.only(top, "calibration", "max_ece", 0.0, 1.0),
        max_ratio=reader.only(top, "latency", "max_ratio", 0.01, 1000.0),
        max_bytes=_whole(reader.only(top, "size", "max_bytes", 1, 2**53, whole=True)),
        max_abs_diff=reader.only(top, "golden", "max_abs_diff", 0.0, 1e6),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _evaluation(reader: "_Reader", top: Mapping[str, Any]) -> EvaluationRule:
    path, usual = "yaml.evaluation", EvaluationRule()
    given = reader.mapping(path, top.get("evaluation", {}), ("split", "dataset", "minimum_examples"))
    split = reader.text(f"{path}.split", given.get("split", usual.split))
    if split not in SPLITS:
        reader.fault(f"{path}.split", f"is {split!r}; write {', '.join(SPLITS[:-1])}, or '' for all examples")
    dataset = reader.text(f"{path}.dataset", given.get("dataset", ""))
    if dataset and not _DATASET.fullmatch(dataset):
        reader.fault(f"{path}.dataset", f"is {dataset!r}; write datasets/{{dataset}}")
    least = reader.number(
        f"{path}.minimum_examples", given.get("minimum_examples", 100), 1, 10**9, whole=True
    )
    return EvaluationRule(split, dataset, int(least))


def _thresholds(reader: "_Reader", top: Mapping[str, Any]) -> tuple[Threshold, ...]:
    path = "yaml.thresholds"
    if not top.get("thresholds"):
        reader.fault(path, f"is missing; give at least one metric of {', '.join(METRICS)}")
        return ()
    given = reader.mapping(path, top["thresholds"], METRICS, what="metric")
    return tuple(_threshold(reader, f"{path}.{metric}", metric, given[metric]) for metric in given)


def _threshold(reader: "_Reader", path: str, metric: str, value: Any) -> Threshold:
    bounds = reader.mapping(path, value, ("min", "max"))
    highest = _HIGHEST.get(metric, 1.0)
    read = {key: reader.number(f"{path}.{key}", bounds[key], 0.0, highest) for key in bounds}
    if isinstance(value, dict) and not value:
        reader.fault(path, "has no bound; give min, max or both")
    elif len(read) == 2 and read["min"] > read["max"]:
        reader.fault(path, f"has min {read['min']} above max {read['max']}; no version could pass")
    return Threshold(metric, read.get("min"), read.get("max"))


def _regression(reader: "_Reader", top: Mapping[str, Any]) -> RegressionRule | None:
    if "regression" not in top:
        return None
    path, usual = "yaml.regression", RegressionRule()
    known = ("alias", "alpha", "by_label", "attributes", "minimum_slice", "max_drop")
    given = reader.mapping(path, top["regression"] if top["regression"] is not None else {}, known)
    alias = reader.text(f"{path}.alias", given.get("alias", usual.alias))
    if not _ALIAS.fullmatch(alias):
        reader.fault(f"{path}.alias", f"is {alias!r}; use a-z, 0-9 and hyphens, 1 to 63 of them")
    drop = given.get("max_drop")
    return RegressionRule(
        alias=alias,
        alpha=reader.number(f"{path}.alpha", given.get("alpha", usual.alpha), 1e-6, 0.5),
        by_label=reader.flag(f"{path}.by_label", given.get("by_label", usual.by_label)),
        attributes=reader.names(f"{path}.attributes", given.get("attributes", [])),
        minimum_slice=int(
            reader.number(f"{path}.minimum_slice", given.get("minimum_slice", 20), 1, 10**9, whole=True)
        ),
        max_drop=None if "max_drop" not in given else reader.number(f"{path}.max_drop", drop, 1e-6, 1.0),
    )


class _Loader(yaml.SafeLoader):
    """Plain values alone, and no key twice: YAML's own loader would keep the last and say nothing."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"has the key {name!r} twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


class _Reader:
    """Takes values out of a document and gathers what is wrong with them."""

    def __init__(self) -> None:
        self.faults: list[Violation] = []

    def fault(self, path: str, description: str) -> None:
        """Note what is wrong at a place."""
        self.faults.append(Violation(path, description))

    def load(self, text: str) -> Any:
        """Return the document, or None after a fault."""
        if len(text) > MAX_YAML or "\0" in text:
            self.fault("yaml", f"has {len(text)} characters; at most {MAX_YAML}, no NUL")
            return None
        try:
            document = yaml.load(text, Loader=_Loader)  # a SafeLoader
        except (yaml.YAMLError, *_TAG_ERRORS, RecursionError) as error:
            self.fault("yaml", f"is no YAML that can be read ({' '.join(str(error).split())}); correct it")
            return None
        if document is None:
            self.fault("yaml", "is empty; docs/gates.md has an example")
        return document

    def mapping(self, path: str, value: Any, known: Iterable[str], what: str = "key") -> dict[str, Any]:
        """Return the known part of a mapping; the rest is a fault each."""
        names = tuple(known)
        if not isinstance(value, dict):
            self.fault(path, f"is {_told(value)}; write a mapping with {', '.join(names)}")
            return {}
        for key in value:
            if key not in names:
                matches = near(str(key), names)
                hint = f"did you mean {matches[0]!r}" if matches else f"use one of {', '.join(names)}"
                self.fault(f"{path}.{str(key)[:100]}", f"is no {what} that there is; {hint}")
        return {key: value[key] for key in value if key in names}

    def only(
        self, top: Mapping[str, Any], section: str, key: str, low: float, high: float, *, whole: bool = False
    ) -> float | None:
        """Return the one bound of a section, or None when the section is not there."""
        if section not in top:
            return None
        path = f"yaml.{section}"
        given = self.mapping(path, top[section], (key,))
        if isinstance(top[section], dict) and key not in given:
            self.fault(path, f"has no bound; give {key}")
        return self.number(f"{path}.{key}", given[key], low, high, whole=whole) if key in given else None

    def number(self, path: str, value: Any, low: float, high: float, *, whole: bool = False) -> float:
        """Return a number within its range; the lower end after a fault."""
        kind = "a whole number" if whole else "a number"
        right = isinstance(value, int) or (isinstance(value, float) and not whole)
        if isinstance(value, bool) or not right:
            self.fault(path, f"is {_told(value)}; write {kind} from {low:g} to {high:g}")
            return low
        if not low <= value <= high or (isinstance(value, float) and math.isnan(value)):
            self.fault(path, f"is {_told(value)}; write {kind} from {low:g} to {high:g}")
            return low
        return float(value)

    def text(self, path: str, value: Any) -> str:
        """Return a text; nothing after a fault."""
        if not isinstance(value, str) or len(value) > MAX_NAME:
            self.fault(path, f"is {_told(value)}; write a text of at most {MAX_NAME} characters")
            return ""
        return value

    def flag(self, path: str, value: Any) -> bool:
        """Return true or false."""
        if not isinstance(value, bool):
            self.fault(path, f"is {_told(value)}; write true or false")
        return value is True

    def names(self, path: str, value: Any) -> tuple[str, ...]:
        """Return names of attributes, each once."""
        if not isinstance(value, list):
            self.fault(path, f"is {_told(value)}; write a list of attributes, such as [scanner]")
            return ()
        for index, name in enumerate(value):
            if not isinstance(name, str) or not name or "=" in name or len(name) > MAX_NAME:
                self.fault(f"{path}[{index}]", f"is {_told(name)}; write the attribute's name, without '='")
            elif name in value[:index]:
                self.fault(f"{path}[{index}]", f"is {name!r} again; name it once")
        return tuple(name for name in value if isinstance(name, str))


def _told(value: Any) -> str:
    if isinstance(value, str):
        shown = repr(value if len(value) <= 60 else value[:59] + "…")
        return f"the text {shown}"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) or abs(value) < 10**15 else "too large a number"
    return {dict: "a mapping", list: "a list", type(None): "empty"}.get(
        type(value), f"a {type(value).__name__}"
    )
