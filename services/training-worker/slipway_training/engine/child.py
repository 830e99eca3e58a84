"""The training process: `python -I -m slipway_training.engine.child <pipe> <spec.json>`.

It has no token and calls nobody: it reads a checkout, writes files, and tells its parent on a pipe.
"""

import ctypes
import importlib.util
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from slipway_training.engine.events import Done, Event, Failed, Stage, encode
from slipway_training.engine.spec import Spec, Told

PR_SET_PDEATHSIG = 1
Emit = Callable[[Event], None]
RECORDED = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "pillow", "slipway")


def main() -> None:
    """Run one attempt; whatever ends it is told on the pipe."""
    spec = Spec.read(Path(sys.argv[2]))
    obey(spec, lambda emit: run(spec, emit), lambda error: _why(error, Path(spec.code)))


def obey(told: Told, work: Callable[[Emit], None], why: Callable[[Exception], str]) -> None:
    """Do the work of a process that dies with its parent; whatever ends it is told on the pipe."""
    pipe = int(sys.argv[1])
    die_with(told.parent_pid)

    def emit(event: Event) -> None:
        data = memoryview(encode(event))
        while data:
            data = data[os.write(pipe, data) :]

    try:
        work(emit)
    except (MemoryError, OSError) as error:
        traceback.print_exc()
        emit(Failed(f"{type(error).__name__}: {error}", retry=True))
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        emit(Failed(why(error)))
        sys.exit(1)


def run(spec: Spec, emit: Emit) -> None:
    """Load data and task, train, and write the bundle."""
    import torch
    from slipway.task import DataShape
    from slipway.task.bundle import write_bundle
    from slipway.task.images import Images

    from slipway_training.engine.data import labelled_images
    from slipway_training.engine.loop import Loop

    torch.set_num_threads(spec.threads)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    images = Images(labelled_images(Path(spec.checkout)))
    images.held_out()  # nothing to judge by is said before the training, not after it
    shape = DataShape(
        classes=images.classes, height=images.height, width=images.width, channels=images.channels
    )
    task = load_task(Path(spec.code), spec.entry_point)(shape, spec.hyperparameters)
    folder = Path(spec.folder)
    trained = Loop(
        task=task,
        images=images,
        seed=spec.seed,
        folder=folder,
        config=spec.config_digest(),
        checkpoint_s=spec.checkpoint_s,
        emit=emit,
    ).run()
    emit(Stage("export"))
    held_out = images.batch(images.split(trained.evaluation["split"]))
    digest = write_bundle(
        folder / "bundle",
        network=trained.network,
        images=held_out,
        classes=images.classes,
        evaluation=trained.evaluation,
        facts={
            **spec.facts,
            "hyperparameters": task.hyperparameters,
            "environment": environment(),
            "computed_on": {
                "threads": spec.threads,
                "device": "cuda" if torch.cuda.is_available() else "cpu",
                "instructions": torch.backends.cpu.get_cpu_capability(),
            },
        },
    )
    emit(Done(str(folder / "bundle"), digest))


def load_task(folder: Path, entry_point: str) -> Any:
    """Return the task class that `file.py:ClassName` names in a folder, which goes on the path."""
    file, _, class_name = entry_point.partition(":")
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location(Path(file).stem, folder / file)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, class_name)


def environment() -> dict[str, str]:
    """Return the versions that the figures depend on."""
    versions = {name: metadata.version(name) for name in RECORDED if _installed(name)}
    return {"python": platform.python_version(), "platform": platform.platform(), **versions}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def die_with(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent dies; end now if it has died already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def _why(error: Exception, code: Path) -> str:
    """Name the error and the last line of the user's own code that it passed through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(code)]
    where = f" (at {Path(frames[-1].filename).relative_to(code)}:{frames[-1].lineno})" if frames else ""
    kind = "" if type(error).__name__ in {"TrainingError", "DataError"} else f"{type(error).__name__}: "
    return f"{kind}{error}{where}"


if __name__ == "__main__":
    main()
