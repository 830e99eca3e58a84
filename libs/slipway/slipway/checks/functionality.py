"""Does a version do what it says it does? Its bundle, run here, with no training and no endpoint."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from slipway.checks.budget import Step, run_steps
from slipway.checks.cases import Cases
from slipway.checks.engine import (
    TOLERANCE,
    Arrays,
    Engine,
    Signature,
    Tensor,
    read_golden,
    read_signature,
    relative_difference,
    shape_faults,
)
from slipway.checks.report import Check, Report, at_most, expected
from slipway.client import Client, SlipwayError
from slipway.client.prediction import DTYPES, decode_image
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.registry.v1 import registry_pb2 as reg

SUM_TOLERANCE = 1e-4
_KEYS_PER_READ = 1000


def functionality(
    client: Client,
    version: str,
    *,
    budget_s: float = 300.0,
    cases: Cases | None = None,
    began: Callable[[str], None] = lambda name: None,
) -> Report:
    """Test `models/{m}/versions/{n}`: digests, signature, golden answers, probabilities, batches, examples.

    Args:
        client: Of the platform that has the version.
        version: Its name; `…/versions/latest` for the newest.
        budget_s: Seconds it may take; what is longer is cut off and fails by name.
        cases: Important examples with the labels that they must get.
        began: Told each step's name as it begins.

    Raises:
        SlipwayError: There is no such version.
    """
    found: Any = client.registry.GetModelVersion(reg.GetModelVersionRequest(name=version))
    report = Report("functionality", found.name, budget_s)
    files: dict[str, bytes] = {}

    def download() -> Sequence[Check]:
        files.update(client.download_bundle(found.bundle))
        size = sum(len(data) for data in files.values())
        return [Check("bundle", "passed", f"{len(files)} files, {size:,} bytes", "every digest verified")]

    steps = [Step("bundle", download, needed=True), *bundle_steps(files)]
    if cases is not None:
        steps.append(Step("important examples", lambda: _important(client, found, files, cases)))
    return run_steps(report, steps, began=began)


def bundle_steps(files: Mapping[str, bytes]) -> list[Step]:
    """Return the steps that need a bundle's files alone; these may come later, with an earlier step."""
    loaded: list[Engine] = []

    def load() -> Sequence[Check]:
        loaded.append(Engine(files))
        names = {tensor.name for tensor in read_signature(files).inputs}
        return [expected("engine", _listed(loaded[0].inputs), _listed(names), "the graph has other inputs")]

    return [
        Step("engine", load, needed=True),
        Step("signature", lambda: _signature(files, loaded[0]), needed=True),
        Step("golden", lambda: _golden(files, loaded[0])),
        Step("probabilities", lambda: _probabilities(files, loaded[0])),
        Step("batch", lambda: _batch(files, loaded[0])),
    ]


def _signature(files: Mapping[str, bytes], engine: Engine) -> Sequence[Check]:
    signature = read_signature(files)
    inputs, _ = read_golden(files)
    faults = shape_faults(signature, inputs, engine(inputs))
    width = [tensor.shape[-1:] for tensor in signature.outputs if tensor.name == "probabilities"]
    if width != [(len(signature.classes),)]:
        faults.append(f"there are {len(signature.classes)} classes and probabilities of {width}")
    value = f"{len(faults)} faults"
    return [expected("signature", value, "0 faults", "; ".join(faults))]


def _golden(files: Mapping[str, bytes], engine: Engine) -> Sequence[Check]:
    inputs, outputs = read_golden(files)
    difference = relative_difference(engine(inputs), outputs)
    text = f"ONNX Runtime answers the golden examples otherwise, by {difference:.3g}: train again"
    return [at_most("golden", difference, TOLERANCE, text)]


def _probabilities(files: Mapping[str, bytes], engine: Engine) -> Sequence[Check]:
    """Golden examples, all zeros, and the largest values: whatever comes in, probabilities go out."""
    signature = read_signature(files)
    inputs, _ = read_golden(files)
    cases = {"golden": inputs, **_edges(signature)}
    checks = []
    for name, arrays in cases.items():
        fault = probability_fault(engine(arrays)["probabilities"])
        said = f"the probabilities of {name} inputs are none: {fault}"
        checks.append(
            expected(f"probabilities, {name} inputs", fault or "finite, sum to 1", "finite, sum to 1", said)
        )
    return checks


def probability_fault(probabilities: np.ndarray) -> str:
    """Return why rows (N, K) are no probabilities; empty when they are."""
    if not np.isfinite(probabilities).all():
        return f"{int((~np.isfinite(probabilities)).sum())} values are not finite"
    low, high = float(probabilities.min(initial=0.0)), float(probabilities.max(initial=0.0))
    if low < -SUM_TOLERANCE or high > 1.0 + SUM_TOLERANCE:
        return f"values from {low:.4g} to {high:.4g}"
    off = float(np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1.0).max(initial=0.0))
    return f"a row sums to 1 ± {off:.4g}" if off > SUM_TOLERANCE else ""


def _edges(signature: Signature) -> dict[str, Arrays]:
    """Return inputs of zeros, and of the largest integer; floats have no largest value that makes sense."""
    edges = {"zero": {tensor.name: _full(tensor, 0) for tensor in signature.inputs}}
    kinds = {tensor.name: np.dtype(DTYPES[tensor.dtype]) for tensor in signature.inputs}
    if all(kind.kind == "u" for kind in kinds.values()):
        edges["largest"] = {t.name: _full(t, np.iinfo(kinds[t.name]).max) for t in signature.inputs}
    return edges


def _full(tensor: Tensor, value: int) -> np.ndarray:
    shape = (1, *(max(size, 1) for size in tensor.shape))
    return np.full(shape, value, np.dtype(DTYPES[tensor.dtype]))


def _batch(files: Mapping[str, bytes], engine: Engine) -> Sequence[Check]:
    """A row alone is answered as in a batch, up to the largest one that the bundle allows."""
    signature = read_signature(files)
    inputs, _ = read_golden(files)
    rows = len(next(iter(inputs.values())))
    alone = [engine({name: array[i : i + 1] for name, array in inputs.items()}) for i in range(rows)]
    single = {name: np.concatenate([answer[name] for answer in alone]) for name in alone[0]}
    checks = []
    for size in sorted({rows, signature.max_batch}):
        taken = np.arange(size) % rows
        together = engine({name: array[taken] for name, array in inputs.items()})
        difference = relative_difference(together, {name: array[taken] for name, array in single.items()})
        text = f"a row alone is answered otherwise than in a batch of {size}, by {difference:.3g}"
        checks.append(at_most(f"batch of 1 as in {size}", difference, TOLERANCE, text))
    return checks


def _important(client: Client, version: Any, files: Mapping[str, bytes], cases: Cases) -> Sequence[Check]:
    """One check for each example that must get its label."""
    engine, signature = Engine(files), read_signature(files)
    examples = {str(path): (path.read_bytes(), label) for path, label in cases.files.items()}
    examples |= _read_keys(client, version, cases)
    return [
        _label_check(engine, signature, name, data, label) for name, (data, label) in sorted(examples.items())
    ]


def _label_check(engine: Engine, signature: Signature, name: str, data: bytes, label: str) -> Check:
    if label not in signature.classes:
        text = f"{name}: the model knows no label {label!r}; it has {', '.join(signature.classes)}"
        return Check(f"example {name}", "failed", "", label, text)
    (tensor,) = signature.inputs
    pixels = decode_image(data, list(tensor.shape), name=name)
    probabilities = engine({tensor.name: pixels[np.newaxis]})["probabilities"][0]
    top = int(probabilities.argmax())
    got = signature.classes[top]
    text = f"{name} is {label!r}, and the model says {got!r} with {probabilities[top]:.3f}"
    return expected(f"example {name}", got, label, text)


def _read_keys(client: Client, version: Any, cases: Cases) -> dict[str, tuple[bytes, str]]:
    """Return bytes and label of each key.

    Raises:
        SlipwayError: The commit lacks one of the keys.
    """
    dataset = version.dataset_commit.partition("/commits/")[0]
    commit = client.resolve_commit(dataset, cases.at) if cases.at else version.dataset_commit
    wanted = list(cases.keys)
    found: dict[str, tuple[bytes, str]] = {}
    for start in range(0, len(wanted), _KEYS_PER_READ):
        request = ing.ReadExamplesRequest(commit=commit, keys=wanted[start : start + _KEYS_PER_READ])
        for part in client.ingestion.ReadExamples(request):
            found |= {one.example.key: (one.data, cases.keys[one.example.key]) for one in part.examples}
    missing = sorted(cases.keys.keys() - found.keys())
    if missing:
        text = f"{commit} has no example {missing[0]!r}; `slipway dataset examples` lists its keys"
        raise SlipwayError("NOT_FOUND", "EXAMPLE_NOT_FOUND", text)
    return found


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))


__all__ = ["bundle_steps", "functionality", "probability_fault"]
