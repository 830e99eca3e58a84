"""What bytes are: an image that opens in full, or text; everything else is refused with a reason."""

import io
from dataclasses import dataclass

from PIL import Image

MAX_PIXELS = 64_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow refuses twice as many by itself, before it makes room for them
_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg"}
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Content:
    """What the bytes are; width and height are 0 for text."""

    media_type: str
    width: int = 0
    height: int = 0


class RefusalError(Exception):
    """Bytes that are not taken: a reason for programs, a sentence for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def inspect(key: str, data: bytes) -> Content:
    """Return what the bytes are.

    Raises:
        RefusalError: They are a damaged image, or neither an image nor text.
    """
    if not data:
        raise RefusalError("EMPTY", f"{key}: there are no bytes; send the file's content")
    if data.startswith(_MAGIC):
        return _image(key, data)
    text = _is_text(data)
    if not text or key.lower().endswith(_IMAGE_SUFFIXES):
        wanted = "PNG, JPEG or UTF-8 text"
        raise RefusalError("UNKNOWN_MEDIA_TYPE", f"{key}: the bytes are not {wanted}; convert the file")
    return Content("text/plain")


def _image(key: str, data: bytes) -> Content:
    """Decode every pixel: a file that is cut short has a good header."""
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_FORMATS)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _too_large(key)
            image.load()
            return Content(_FORMATS[str(image.format)], width, height)
    except RefusalError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(key) from error
    except Exception as error:  # Pillow raises many kinds for damaged files
        message = f"{key}: the image is damaged ({error}); replace the file"
        raise RefusalError("DAMAGED_IMAGE", message) from error


def _too_large(key: str) -> RefusalError:
    return RefusalError("IMAGE_TOO_LARGE", f"{key}: more than {MAX_PIXELS:,} pixels; make it smaller")


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False
