"""What a packed task declares, read without running it."""

from collections.abc import Mapping
from typing import Any

from slipway.task.hyper import Hyper, HyperparameterError, declared, resolve
from slipway_runtime.archive import ArchiveRefusedError, Folder

__all__ = ["HyperparameterError", "hyperparameters", "resolved"]


def hyperparameters(folder: Folder, entry_point: str) -> dict[str, Hyper]:
    """Return the hyperparameters of the class that `file.py:ClassName` names.

    Raises:
        ArchiveRefusedError: there is no such file or class in the folder, or it is not Python.
    """
    file, _, class_name = entry_point.partition(":")
    if file not in folder.files:
        has = ", ".join(sorted(path for path in folder.files if path.endswith(".py"))) or "none"
        raise ArchiveRefusedError(f"entry_point: the archive has no file '{file}'; Python files: {has}")
    try:
        return declared(folder.files[file].decode(), class_name)
    except (SyntaxError, UnicodeDecodeError, RecursionError, MemoryError) as error:
        raise ArchiveRefusedError(f"entry_point: '{file}' is not Python: {error}") from error
    except LookupError as error:
        raise ArchiveRefusedError(f"entry_point: '{file}': {error.args[0]}") from error


def resolved(folder: Folder, entry_point: str, given: Mapping[str, object]) -> dict[str, Any]:
    """Return the values of all hyperparameters, checked, defaults too.

    Raises:
        ArchiveRefusedError: the entry point is not there.
        HyperparameterError: a value is refused.
    """
    return dict(resolve(hyperparameters(folder, entry_point), given))
