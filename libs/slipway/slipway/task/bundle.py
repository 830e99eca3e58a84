"""The model bundle: a folder of files, each with its digest in `manifest.json`.

This is what leaves an attempt, crosses trust boundaries and is served. Nothing in it is a pickle.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from blake3 import blake3
from numpy.typing import NDArray
from safetensors.torch import save_file
from slipway.task.export import export_network, prove_parity
from slipway.task.network import Network
from slipway.task.profile import reference_profile

MAX_BATCH = 64
GOLDEN_COUNT = 16


def write_bundle(
    folder: Path,
    *,
    network: Network,
    images: NDArray[np.uint8],
    classes: Sequence[str],
    evaluation: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> str:
    """Write every file into an empty folder and return the bundle's digest.

    `images` (N, H, W, C) are those of the held-out split; `facts` go into the manifest as they are.

    Raises:
        ParityError: the exported graph answers other than the network.
    """
    folder.mkdir(parents=True)
    network = network.to("cpu").eval()
    probabilities, embedding = answers(network, images)
    engines = export_network(network, images[:2], folder)
    parity = prove_parity(network, images, folder, MAX_BATCH)
    _write_weights(network, folder / "weights.safetensors")
    _write_golden(images, probabilities, embedding, folder / "golden.npz")
    _write_json(folder / "signature.json", _signature(images, classes, embedding.shape[1]))
    profile = reference_profile(
        images=images,
        probabilities=probabilities,
        embedding=embedding,
        classes=classes,
        split=evaluation["split"],
    )
    _write_json(folder / "profile.json", profile)
    _write_json(folder / "evaluation.json", evaluation)
    proof = {"max_abs_diff": parity.max_abs_diff, "batches": list(parity.batches)}
    return write_manifest(folder, {**facts, "engines": list(engines), "parity": proof})


def answers(network: Network, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return probabilities (N, K) and embedding (N, D) of all images, in batches."""
    starts = range(0, len(images), 256)
    with torch.inference_mode():
        parts = [_numpy(network(torch.from_numpy(images[start : start + 256]))) for start in starts]
    probabilities, embedding = zip(*parts, strict=True)
    return np.concatenate(probabilities), np.concatenate(embedding)


def _numpy(outputs: tuple[torch.Tensor, torch.Tensor]) -> list[NDArray[np.float32]]:
    return [output.numpy() for output in outputs]


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> str:
    """Write `manifest.json` over the files that are there; return the bundle's digest."""
    files = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        files[path.name] = {"blake3": blake3(data).hexdigest(), "size": len(data)}
    _write_json(folder / "manifest.json", {"format": 1, "files": files, **facts})
    return bundle_digest(files)


def bundle_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the BLAKE3 of the canonical JSON (sorted keys, no spaces) of a manifest's `files`."""
    return blake3(json.dumps(files, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _write_weights(network: Network, path: Path) -> None:
    state = {name: tensor.detach().contiguous().clone() for name, tensor in network.state_dict().items()}
    save_file(state, path)


def _write_golden(
    images: NDArray[np.uint8], probabilities: NDArray[Any], embedding: NDArray[Any], path: Path
) -> None:
    arrays = {
        "in.image": images[:GOLDEN_COUNT],
        "out.probabilities": probabilities[:GOLDEN_COUNT],
        "out.embedding": embedding[:GOLDEN_COUNT],
    }
    np.savez(path, allow_pickle=False, **arrays)


def _signature(images: NDArray[np.uint8], classes: Sequence[str], embedding_size: int) -> dict[str, Any]:
    shape = [-1, *images.shape[1:]]
    return {
        "inputs": [{"name": "image", "dtype": "UINT8", "shape": shape, "media_type": "image/png"}],
        "outputs": [
            {"name": "probabilities", "dtype": "FP32", "shape": [-1, len(classes)]},
            {"name": "embedding", "dtype": "FP32", "shape": [-1, embedding_size]},
        ],
        "classes": list(classes),
        "max_batch": MAX_BATCH,
    }


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, sort_keys=True, indent=1) + "\n")
