"""Labelled images of a checkout as uint8 arrays, decoded with Pillow."""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

GREY_MODES = {"1", "L", "I", "I;16", "F"}
KEEP_DECODED_BYTES = 1 << 30


class DataError(ValueError):
    """The data cannot be trained on; the text says what is wrong and what to do."""


@dataclass(frozen=True)
class LabelledImage:
    """One row: where its bytes are, what it shows, and the split it is in."""

    key: str
    label: str
    split: str
    read: Callable[[], bytes]


class Images:
    """The labelled images of a data set; `batch` gives uint8 (B, H, W, C).

    Classes are the labels in sorted order, over all splits. Images are grey (C = 1) when all are,
    else RGB (C = 3). Decoded pixels are kept up to 1 GiB; beyond that a batch is decoded when asked for.
    """

    def __init__(self, rows: Iterable[LabelledImage]) -> None:
        """Read every image's header.

        Raises:
            DataError: no labels, fewer than two classes, no train split, what is no image, or images of
                several sizes.
        """
        self.rows = [row for row in rows if row.label]
        if not self.rows:
            raise DataError("no example of the commit has a label; label some, or choose another commit")
        self.classes = tuple(sorted({row.label for row in self.rows}))
        if len(self.classes) < 2:
            raise DataError(f"the commit has {len(self.classes)} labels; a classifier needs at least two")
        number = {label: index for index, label in enumerate(self.classes)}
        self.targets: NDArray[np.int64] = np.array([number[row.label] for row in self.rows], dtype=np.int64)
        self.height, self.width, self.channels = _common_shape(self.rows)
        size = len(self.rows) * self.height * self.width * self.channels
        self._keep = size <= KEEP_DECODED_BYTES
        self._decoded: NDArray[np.uint8] | None = None
        if len(self.split("train")) == 0:
            raise DataError("the commit has no labelled example in the split 'train'; add examples to it")

    def split(self, name: str) -> NDArray[np.int64]:
        """Return the row numbers of a split, in key order."""
        return np.array([i for i, row in enumerate(self.rows) if row.split == name], dtype=np.int64)

    def held_out(self) -> str:
        """Return the split to judge by: `test`, or `validation` when there is no test example.

        Raises:
            DataError: both are empty.
        """
        for name in ("test", "validation"):
            if len(self.split(name)):
                return name
        raise DataError("the commit has no labelled example in 'test' or 'validation'; add some to judge by")

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return these rows' pixels: uint8 (B, H, W, C)."""
        if not self._keep:
            return np.stack([self._decode(self.rows[i]) for i in indices])
        if self._decoded is None:
            self._decoded = np.stack([self._decode(row) for row in self.rows])
        return self._decoded[np.asarray(indices)]

    def _decode(self, row: LabelledImage) -> NDArray[np.uint8]:
        return pixels(row, self.height, self.width, self.channels)


def pixels(row: LabelledImage, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Return an image as a model takes it: uint8 (H, W, C), grey when C is 1, else RGB.

    Raises:
        DataError: it is no image, is damaged, or has another size.
    """
    with _opened(row) as image:
        if image.size != (width, height):
            size = f"{image.size[0]}x{image.size[1]}"
            message = f"image '{row.key}' is {size}, the model takes {width}x{height}; bring it to that size"
            raise DataError(message)
        try:
            array = np.asarray(image.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
        except OSError as error:  # it is in memory: what fails is its decoding
            raise DataError(f"image '{row.key}' is damaged ({error}); upload it again") from error
    return array.reshape(height, width, channels)


def _opened(row: LabelledImage) -> Image.Image:
    try:
        return Image.open(io.BytesIO(row.read()))
    except UnidentifiedImageError as error:
        message = f"example '{row.key}' is not an image; take it out with `slipway dataset remove`"
        raise DataError(message) from error


def _common_shape(rows: Sequence[LabelledImage]) -> tuple[int, int, int]:
    size, grey, first = None, True, rows[0].key
    for row in rows:
        with _opened(row) as image:
            if size is None:
                size = image.size
            if image.size != size:
                ours, theirs = f"{image.size[0]}x{image.size[1]}", f"{size[0]}x{size[1]}"
                message = f"image '{row.key}' is {ours}, '{first}' is {theirs}; bring all images to one size"
                raise DataError(message)
            grey = grey and image.mode in GREY_MODES
    assert size is not None
    return size[1], size[0], 1 if grey else 3
