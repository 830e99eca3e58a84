"""The engine `torch`: a torch.export archive. Needs the extra `slipway-inference[torch]`.

torch may fall back to pickle when it loads one (pytorch/pytorch `torch/export/pt2_archive`), so every
member is looked at first and the fallback is switched off for the process, which runs nothing else.
"""

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slipway_inference.domain import BundleRefused, Signature

FILES = ("model.pt2",)
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_SUFFIXES = (".pkl", ".pickle")


def check_archive(path: Path) -> None:
    """Let an archive pass whose members are plain or load with `weights_only=True`.

    Raises:
        BundleRefused: A member leaves the folder, is code, or is a pickle that holds more than tensors.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                data = archive.read(member)
                _check_name(path, member.filename)
                if _is_pickled(member.filename, data):
                    torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except BundleRefused:
        raise
    except Exception as error:  # whatever does not pass is refused; the reason is in the text
        raise BundleRefused(f"{path.name} holds what must not be loaded: {error}") from error


def _check_name(path: Path, name: str) -> None:
    if name.startswith("/") or ".." in name.split("/") or name.endswith((".py", ".so", ".dll")):
        raise BundleRefused(f"{path.name} holds the member {name!r}; archives have plain members only")


def _is_pickled(name: str, data: bytes) -> bool:
    if not data:  # torch's place for example inputs when there are none
        return False
    return name.endswith((*_SUFFIXES, ".pt")) or data.startswith(_PICKLES)


class TorchEngine:
    """Runs model.pt2 on the GPU when there is one, otherwise on the CPU.

    Raises:
        BundleRefused: torch is not installed, or the archive does not pass.
    """

    def __init__(self, folder: Path, signature: Signature, threads: int) -> None:
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
        try:
            import torch
        except ImportError as error:
            raise BundleRefused("this image has no torch; install slipway-inference[torch]") from error
        torch.set_num_threads(threads)
        path = folder / "model.pt2"
        check_archive(path)
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._names = [spec.name for spec in signature.inputs]
        self._count = len(signature.outputs)
        try:
            self._model = torch.export.load(path).module().to(self._device)
        except Exception as error:  # torch.export's errors share no class
            raise BundleRefused(f"model.pt2 does not load: {error}") from error

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """Return the outputs in the signature's order for inputs of (n, …)."""
        torch = self._torch
        with torch.inference_mode():
            tensors = [torch.from_numpy(inputs[name]).to(self._device) for name in self._names]
            results = self._model(*tensors)
            results = (results,) if isinstance(results, torch.Tensor) else tuple(results)
            if len(results) != self._count:
                raise BundleRefused(
                    f"model.pt2 gives {len(results)} outputs, signature.json has {self._count}"
                )
            return [result.cpu().numpy() for result in results]
