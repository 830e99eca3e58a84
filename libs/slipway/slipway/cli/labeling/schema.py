"""A project's settings from the command line and from YAML files."""

from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from slipway.client import SlipwayError
from slipway.labeling.v1 import labeling_pb2 as lab

_KEYS = ("labels", "multiple", "instructions")


def read_schema(
    labels: str, file: Path | None, *, multiple: bool, instructions: str
) -> lab.LabelSchema | None:
    """Return the schema of `--labels a,b,c` or of a YAML file; None when neither is said.

    Raises:
        SlipwayError: Both are said, or the file is not a schema.
    """
    if labels and file:
        raise refused("--labels and --schema both name the labels; say one of them")
    if file:
        return schema_of(file)
    if not labels:
        return None
    names = [one.strip() for one in labels.split(",")]
    kind = lab.Classification(labels=names, multiple=multiple)
    return lab.LabelSchema(classification=kind, instructions=instructions)


def schema_of(file: Path) -> lab.LabelSchema:
    """Return the schema in a YAML file: `labels`, and if you like `multiple` and `instructions`.

    Raises:
        SlipwayError: It cannot be read, or holds something else; the text names it.
    """
    document = read_yaml(file)
    unknown = [str(key) for key in document if key not in _KEYS]
    if unknown:
        raise refused(f"{file}: unknown key {unknown[0]!r}; a schema has {', '.join(_KEYS)}")
    labels, multiple = document.get("labels"), document.get("multiple", False)
    if not isinstance(labels, list) or not all(isinstance(one, str) for one in labels):
        raise refused(f"{file}: `labels` must be a list of texts; write `no` and `07` in quotes")
    if not isinstance(multiple, bool):
        raise refused(f"{file}: `multiple` is {multiple!r}; say true or false")
    kind = lab.Classification(labels=labels, multiple=multiple)
    return lab.LabelSchema(classification=kind, instructions=str(document.get("instructions") or ""))


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        SlipwayError: It cannot be read or is no mapping.
    """
    try:
        document = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise refused(f"{file} cannot be read ({error}); name a YAML file") from error
    except yaml.YAMLError as error:
        raise refused(f"{file} is no YAML: {error}") from error
    if not isinstance(document, dict):
        raise refused(f"{file} is no YAML mapping; see `slipway label project create --help`")
    return document


def pause_rule(text: str) -> lab.PauseRule:
    """Return the rule of `error=0.1,confidence=0.95,answers=20` or of `off`: judge, but pause nobody.

    Raises:
        SlipwayError: It is written otherwise.
    """
    if text == "off":
        return lab.PauseRule(report_only=True)
    fields = {"error": "max_error_rate", "confidence": "confidence", "answers": "min_answers"}
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or name.strip() not in fields:
            said = f"--pause {part!r}: write `off`, or such as error=0.1,confidence=0.95,answers=20"
            raise refused(said)
        values[fields[name.strip()]] = _number(part, value)
    try:
        return json_format.ParseDict(values, lab.PauseRule())
    except json_format.ParseError as error:
        raise refused(f"--pause {text!r}: {error}") from error


def _number(part: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise refused(f"--pause {part!r}: {value!r} is no number") from None


def refused(text: str) -> SlipwayError:
    """Return the refusal of what was typed."""
    return SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", text)
