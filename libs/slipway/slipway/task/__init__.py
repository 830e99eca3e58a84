"""What a user writes to train a model: one `Task` in one file.

`Task` is imported when it is first asked for, so that the API server, which only reads what a task
declares, never loads torch.
"""

from typing import TYPE_CHECKING, Any

from slipway.task.hyper import Hyper, HyperparameterError, hyper

if TYPE_CHECKING:
    from slipway.task.task import DataShape, Task

__all__ = ["DataShape", "Hyper", "HyperparameterError", "Task", "hyper"]


def __getattr__(name: str) -> Any:
    """Import the parts that need torch when they are used (PEP 562)."""
    if name in {"Task", "DataShape"}:
        from slipway.task import task

        return getattr(task, name)
    raise AttributeError(f"module 'slipway.task' has no attribute '{name}'")
