"""Important examples that a model must never get wrong, as a YAML file in the user's repository names them.

at: main                             # branch or commit of the keys; default: what the version was trained on
keys: {rose/0001.png: rose}          # a key of the data set: its label
files: {pictures/odd.png: tulip}     # a file beside this one: its label
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from slipway.client.errors import SlipwayError

_SECTIONS = ("at", "keys", "files")


@dataclass(frozen=True)
class Cases:
    """Examples with the labels that they must get.

    Args:
        keys: Label by key of the data set.
        files: Label by path.
        at: Branch or commit of the keys; empty for the version's own commit.
    """

    keys: dict[str, str] = field(default_factory=dict)
    files: dict[Path, str] = field(default_factory=dict)
    at: str = ""


def read_cases(path: Path) -> Cases:
    """Return what a YAML file names.

    Raises:
        SlipwayError: It is not there, is no YAML, or holds what it must not hold; the text names it.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(f"{path} cannot be read ({error}); name a YAML file") from error
    except yaml.YAMLError as error:
        raise _refused(f"{path} is no YAML: {error}") from error
    if not isinstance(document, dict) or not document:
        raise _refused(f"{path} names nothing; it has the sections {', '.join(_SECTIONS)}")
    unknown = [str(key) for key in document if key not in _SECTIONS]
    if unknown:
        raise _refused(f"{path}: unknown section {unknown[0]!r}; there are {', '.join(_SECTIONS)}")
    keys, files = (_labels(path, name, document.get(name)) for name in ("keys", "files"))
    found = {path.parent / name: label for name, label in files.items()}
    missing = [name for name in found if not name.is_file()]
    if missing:
        raise _refused(f"{path}: there is no file {missing[0]}; paths begin at {path.parent}/")
    return Cases(keys, found, str(document.get("at") or ""))


def _labels(path: Path, section: str, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _refused(f"{path}: {section!r} must map each example to its label, such as `rose/1.png: rose`")
    for key, label in value.items():
        # YAML 1.1 reads `no` as false and `07` as a number: such labels are written in quotes.
        if not isinstance(key, str) or not isinstance(label, str):
            raise _refused(f"{path}: {section}: {key!r}: {label!r} is no text; write it in quotes")
    return dict(value)


def _refused(text: str) -> SlipwayError:
    return SlipwayError("INVALID_ARGUMENT", "CASES_REFUSED", text)


__all__ = ["Cases", "read_cases"]
