"""Decoding picture files of any size and format to the one shape that a network takes."""

import stat
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cnnlab.data.source import Shape
from cnnlab.machine import num_cores

Resize = Literal["crop", "stretch", "pad"]
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # no others: Pillow runs programs or reads other files for some
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST_BYTES = 256 << 20  # of a file; Pillow's largest picture takes as much without compression, 3 bytes a pixel
AT_ONCE = 256  # pictures that are decoded before the first of them is yielded
MODES = {1: "L", 3: "RGB"}  # Pillow's modes by number of channels


@dataclass(frozen=True)
class Unreadable:
    """Why a file cannot be read. passing: it may be readable later, since the file system failed, not the content."""

    cause: str
    passing: bool


def decode(file: Path | IO[bytes], shape: Shape, resize: Resize | None) -> NDArray[np.uint8] | Unreadable:
    """Decode a picture to uint8, C x H x W: the first frame, rotated as its EXIF data says, transparent parts over white.

    shape: C (1 is gray, 3 is RGB), H, W. resize: "crop" scales the picture to fill H x W and crops the center, "pad" scales it
    to fit inside and pads it with black, "stretch" changes the aspect ratio; all bilinear, with antialiasing. None keeps the
    picture's own H and W.
    """
    channels, height, width = shape
    try:
        if isinstance(file, Path):
            found = file.stat()
            if not stat.S_ISREG(found.st_mode):
                return Unreadable("not a regular file", False)  # reading a pipe would wait for a writer
            if found.st_size > MOST_BYTES:  # Pillow would search a GIF or JPEG for the next block byte by byte
                return Unreadable(f"larger than {MOST_BYTES >> 20} MiB", False)
        with Image.open(file, formats=FORMATS) as picture:
            if picture.mode == "F":  # in TIFF files
                return Unreadable("its pixels are floats, for which black and white are not defined", False)
            if resize:
                picture.draft(None, (2 * max(height, width),) * 2)  # JPEGs decode faster at 1/2, 1/4 or 1/8 size
            fitted = _plain(ImageOps.exif_transpose(picture), MODES[channels])
            if resize:
                fitted = _fitted(fitted, (width, height), resize)
    except MemoryError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Unreadable(f"more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels", False)
    except UnidentifiedImageError:
        return Unreadable("not a JPEG, PNG, WebP, BMP, GIF or TIFF file", False)
    except Exception as error:  # Pillow raises almost anything on damaged files
        system = error.strerror if isinstance(error, OSError) and error.errno is not None else None
        return Unreadable(system or f"damaged: {error or type(error).__name__}", system is not None)
    return np.ascontiguousarray(np.asarray(fitted).reshape(fitted.height, fitted.width, channels).transpose(2, 0, 1))


def decode_all(
    files: Sequence[Path | IO[bytes]], shape: Shape, resize: Resize | None
) -> Iterator[NDArray[np.uint8] | Unreadable]:
    """Yield `decode` of each file in turn, computed on all cores (Pillow releases the GIL)."""
    with ThreadPoolExecutor(num_cores()) as threads:
        for start in range(0, len(files), AT_ONCE):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about metadata, which is not used
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                decoded = list(threads.map(lambda file: decode(file, shape, resize), files[start : start + AT_ONCE]))
            yield from decoded


def _plain(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits per pixel, which Pillow would clip at 255
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        over = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return picture.convert(mode)


def _fitted(picture: Image.Image, size: tuple[int, int], resize: Resize) -> Image.Image:
    """Resize a picture to `size` (width, height)."""
    if resize == "crop":
        return ImageOps.fit(picture, size, Image.Resampling.BILINEAR)
    if resize == "stretch":
        return picture.resize(size, Image.Resampling.BILINEAR)
    scale = min(target / own for target, own in zip(size, picture.size, strict=True))
    inner = [max(1, round(own * scale)) for own in picture.size]
    canvas = Image.new(picture.mode, size)
    left, top = ((target - own) // 2 for target, own in zip(size, inner, strict=True))
    canvas.paste(picture.resize((inner[0], inner[1]), Image.Resampling.BILINEAR), (left, top))
    return canvas
