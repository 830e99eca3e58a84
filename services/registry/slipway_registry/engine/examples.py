"""The examples of an evaluation: checked one by one, put in order, packed into one archive of arrays."""

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from slipway_registry.domain.evaluations import (
    MAX_ATTRIBUTES,
    MAX_EXAMPLES,
    MAX_VALUES,
    EvaluationHeader,
    Example,
    check_name,
    refused,
)

SUM_TOLERANCE = 1e-3  # float32 softmax over 1,000 classes stays below 1e-4
_BOUND_TOLERANCE = 1e-6
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rows:
    """Examples by key: what is computed and kept.

    `labels` are indices into the version's classes, (N,) int32; `probabilities` are (N, C) and
    `champion_probabilities` (N, D) float32, or None when no champion ran.
    """

    keys: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    probabilities: Floats
    champion_probabilities: Floats | None
    attributes: tuple[dict[str, str], ...]
    groups: tuple[str, ...]


def gather(header: EvaluationHeader, examples: Iterable[Example]) -> Rows:
    """Return the examples, checked, ordered by key.

    Raises:
        InvalidArgument: One is damaged; the field names its index and the first fault (EVALUATION_REFUSED).
    """
    kept: list[tuple[str, int, Floats, Floats | None, dict[str, str], str]] = []
    seen: dict[str, int] = {}
    number_of = {name: index for index, name in enumerate(header.classes)}
    most = min(MAX_EXAMPLES, MAX_VALUES // max(len(header.classes), len(header.champion_classes)))
    for index, example in enumerate(examples):
        field = f"examples[{index}]"
        if index >= most:
            raise refused("examples", f"are more than {most}; evaluate on a sample")
        _check_words(field, example, number_of)
        first = seen.setdefault(example.key, index)
        if first != index:
            raise refused(f"{field}.key", f"is {example.key!r} again, first at examples[{first}]; each once")
        mine = _row(f"{field}.probabilities", example.probabilities, len(header.classes))
        theirs = _champion(field, example, header)
        kept.append((example.key, number_of[example.label], mine, theirs, example.attributes, example.group))
    if not kept:
        raise refused("examples", "are none; send at least one")
    kept.sort(key=lambda entry: entry[0])
    keys, labels, mine_all, theirs_all, attributes, groups = zip(*kept, strict=True)
    champion = np.stack(theirs_all) if header.champion_version else None
    return Rows(keys, np.array(labels, np.int32), np.stack(mine_all), champion, attributes, groups)


def _check_words(field: str, example: Example, number_of: dict[str, int]) -> None:
    if not check_name(f"{field}.key", example.key):
        raise refused(f"{field}.key", "is empty; send the example's key")
    if example.label not in number_of:
        classes = ", ".join(list(number_of)[:20])
        raise refused(f"{field}.label", f"is {example.label!r}, which is none of header.classes: {classes}")
    check_name(f"{field}.group", example.group)
    if len(example.attributes) > MAX_ATTRIBUTES:
        raise refused(f"{field}.attributes", f"are {len(example.attributes)}; at most {MAX_ATTRIBUTES}")
    for name, value in example.attributes.items():
        if not check_name(f"{field}.attributes[{name!r}]", name) or "=" in name:
            raise refused(
                f"{field}.attributes[{name!r}]", "is empty or has '='; slices are written name=value"
            )
        check_name(f"{field}.attributes[{name!r}]", value)


def _champion(field: str, example: Example, header: EvaluationHeader) -> Floats | None:
    values = example.champion_probabilities
    if header.champion_version:
        return _row(f"{field}.champion_probabilities", values, len(header.champion_classes))
    if len(values):
        raise refused(f"{field}.champion_probabilities", "are there, yet header.champion_version is empty")
    return None


def _row(field: str, values: Iterable[float], count: int) -> Floats:
    row = np.fromiter(values, np.float32)
    if len(row) != count:
        raise refused(field, f"has {len(row)} values for {count} classes; send one per class")
    if not np.isfinite(row).all():
        raise refused(field, "has a NaN or an infinity; send finite probabilities")
    if row.min() < -_BOUND_TOLERANCE or row.max() > 1 + SUM_TOLERANCE:
        raise refused(field, f"goes from {row.min():.4g} to {row.max():.4g}; probabilities lie from 0 to 1")
    total = float(row.sum(dtype=np.float64))
    if abs(total - 1) > SUM_TOLERANCE:
        raise refused(field, f"sums to {total:.6g}; send probabilities that sum to 1, not logits")
    return row


def digest_of(header: EvaluationHeader, rows: Rows) -> str:
    """Return the BLAKE3 of an evaluation's content, whatever the order in which the examples came."""
    hasher = blake3(_text(asdict(header)))
    for part in _members(rows).values():
        hasher.update(str((part.dtype.str, part.shape)).encode())
        hasher.update(np.ascontiguousarray(part).tobytes())
    return hasher.hexdigest()


def pack(header: EvaluationHeader, rows: Rows) -> bytes:
    """Return the rows as .npz: numbers as arrays, texts as the UTF-8 of their JSON, nothing pickled."""
    buffer = io.BytesIO()
    members = {"header": _array(asdict(header)), **_members(rows)}
    np.savez_compressed(buffer, allow_pickle=False, **members)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(data: bytes) -> Rows:
    """Return the rows of an archive that `pack` made.

    Raises:
        ValueError: It is damaged, or holds what would have to be unpickled.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            words = {name: json.loads(archive[name].tobytes()) for name in ("keys", "attributes", "groups")}
            champion = archive.get("champion_probabilities")
            return Rows(
                tuple(words["keys"]),
                archive["labels"],
                archive["probabilities"],
                champion,
                tuple(words["attributes"]),
                tuple(words["groups"]),
            )
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"the archive of rows is damaged ({error})") from error


def _members(rows: Rows) -> dict[str, npt.NDArray[np.generic]]:
    members: dict[str, npt.NDArray[np.generic]] = {
        "keys": _array(rows.keys),
        "labels": rows.labels,
        "probabilities": rows.probabilities,
        "attributes": _array(rows.attributes),
        "groups": _array(rows.groups),
    }
    if rows.champion_probabilities is not None:
        members["champion_probabilities"] = rows.champion_probabilities
    return members


def _text(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _array(value: object) -> npt.NDArray[np.uint8]:
    return np.frombuffer(_text(value), np.uint8)
