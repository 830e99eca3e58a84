"""Real images as PNG files with known labels: the digits of scikit-learn, 1,797 pictures of 8 by 8 pixels."""

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


@dataclass(frozen=True)
class Picture:
    """One labelled image file."""

    key: str
    png: bytes
    label: str


def digits() -> list[Picture]:
    """Return the UCI handwritten digits that scikit-learn carries (Alpaydin and Kaynak, 1998)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255.0 / 16.0)).astype(np.uint8)  # (1797, 8, 8)
    return pictures(grey, [str(target) for target in bunch.target])


def pictures(grey: np.ndarray, labels: list[str]) -> list[Picture]:
    """Return images (N, H, W) uint8 with their labels as PNG files under numbered keys."""
    return [
        Picture(f"{label}/{number:05d}.png", _png(Image.fromarray(image)), label)
        for number, (image, label) in enumerate(zip(grey, labels, strict=True))
    ]


def damaged(good: Picture) -> list[Picture]:
    """Return three files as they come from broken disks: cut short, overwritten, and not an image."""
    return [
        replace(good, key="damaged/cut-short.png", png=good.png[: len(good.png) // 2]),
        replace(good, key="damaged/overwritten.png", png=good.png[:40] + bytes(60) + good.png[100:]),
        replace(good, key="damaged/not-an-image.png", png=b"\x00\x01 this is no image \xff"),
    ]


def rescanned(picture: Picture) -> Picture:
    """Return the picture as a second scan gives it: a little lighter, same content."""
    image = Image.open(io.BytesIO(picture.png)).convert("L")
    lighter = ImageOps.autocontrast(image.point(lambda value: min(int(value * 0.9) + 12, 255)))
    return replace(picture, png=_png(lighter))


def faded(picture: Picture, light: float) -> Picture:
    """Return the picture as a scanner sees it whose lamp gives that share of its light (0 to 1)."""
    image = Image.open(io.BytesIO(picture.png)).convert("L")
    return replace(picture, png=_png(image.point(lambda value: round(value * light))))


def write_inputs(pictures: Sequence[Picture], classes: Sequence[str]) -> Path:
    """Write what a process that calls an endpoint needs, to a file in a folder of its own.

    `images` (N, 1, H, W, 1) uint8, `labels` (N,) and `classes` (K,) text.
    """
    path = Path(tempfile.mkdtemp(prefix="slipway-inputs-")) / "inputs.npz"
    images = np.stack([tensor(picture) for picture in pictures])
    np.savez(path, images=images, labels=[picture.label for picture in pictures], classes=classes)
    return path


def tensor(picture: Picture) -> np.ndarray:
    """Return the pixels as the endpoint takes them: (1, H, W, 1) uint8."""
    return np.asarray(Image.open(io.BytesIO(picture.png)).convert("L"))[None, :, :, None]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
