"""Captured images as files that people and data sets read."""

import io

from PIL import Image

from slipway_monitoring.domain.events import Tensor


def png(image: Tensor) -> bytes:
    """Return a captured image (H, W, C) of bytes as a PNG: grey, RGB or RGBA; equal images give equal bytes.

    Raises:
        ValueError: It has another number of channels, or other bytes than its shape says.
    """
    height, width, channels = image.shape
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels)
    if mode is None:
        raise ValueError(f"an image has 1, 3 or 4 channels, not {channels}")
    buffer = io.BytesIO()
    Image.frombytes(mode, (width, height), image.data).save(buffer, "PNG")
    return buffer.getvalue()
