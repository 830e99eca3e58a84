"""Commits of small grey images: a bright left or a bright right half."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from slipway.ingestion.v1 import ingestion_pb2 as ing

LABELS = ("left", "right")


def items(count: int) -> Iterator[ing.UploadItem]:
    """Yield labelled images, the same for the same count."""
    random = np.random.default_rng(0)
    for index in range(count):
        pixels = random.integers(0, 90, (6, 6), dtype=np.uint8)
        side = index % 2
        pixels[:, 3 * side : 3 * side + 3] += 120
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        yield ing.UploadItem(key=f"{index:04d}", data=data.getvalue(), label=LABELS[side])


def commit_of(stub: Any, dataset: str, uploaded: Iterator[ing.UploadItem]) -> str:
    """Upload the items and commit them; return the commit's name."""

    def requests() -> Iterator[ing.UploadExamplesRequest]:
        header = ing.UploadHeader(parent=dataset, label_source="imports/test")
        yield ing.UploadExamplesRequest(header=header)
        for item in uploaded:
            yield ing.UploadExamplesRequest(item=item)

    upload = stub.UploadExamples(requests())
    request = ing.CreateCommitRequest(parent=dataset, uploads=[upload.name], message="halves")
    return str(stub.CreateCommit(request).name)
