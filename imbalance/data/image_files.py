"""Images in folders by class, and one of them read safely, whatever the file holds.

An image is read as the loader of the paper's authors does: as RGB, whatever it was (CMYK and gray
as well; the orientation that EXIF tells is not applied), its shorter side resized and its middle
cut out.
"""

import hashlib
import io
import os
import stat
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

ENDINGS = (".jpeg", ".jpg", ".png")
"""Endings of the names of images, in any case; other files are left alone."""

MAX_BYTES = 2**26
"""Largest file that is read, 64 MiB."""

MAX_PIXELS = 2**26
"""Most pixels of an image, as it is and resized; at most 7 bytes each are in memory."""

_LISTED = 5  # names in a message


class Unreadable(ValueError):
    """A file is no image that can be used; the message says why, in a few words."""


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Files of labelled images.

    Attributes:
      folder: Folder that the names begin from.
      names: Names of the files, such as ``n01440764/1.JPEG``, ``[example]``.
      label: Labels, int32 ``[example]``: the place of the file's folder among the classes.
      classes: Names of the classes' folders, in alphabetical order, ``[class]``.
    """

    folder: Path
    names: tuple[str, ...]
    label: np.ndarray
    classes: tuple[str, ...]

    def take(self, index: np.ndarray) -> "ImageFiles":
        """The files at the indices; classes stay as they are."""
        names = tuple(self.names[i] for i in index)
        return ImageFiles(self.folder, names, self.label[index], self.classes)


def image_files(folder: str | PathLike) -> ImageFiles:
    """The images of a folder that has a folder for each class, in the order of their names.

    Names that begin with a dot, and files that do not end as images do, are left alone.

    Raises:
      FileNotFoundError: If there is no such folder.
      ValueError: If it has no folder of a class, or a class has no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder; give one that holds a folder of images for each class."
        )
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir())
    classes = tuple(name for name in inside if not name.startswith("."))
    if not classes:
        loose = len(_images_in(folder))
        raise ValueError(
            f"{folder} holds {loose:,} images and no folder; move them into a folder for each "
            "class, as n01440764/1.JPEG."
        )
    found = [_images_in(folder / name) for name in classes]
    if empty := [name for name, images in zip(classes, found, strict=True) if not images]:
        raise ValueError(
            f"{folder}: {_some(empty)} of {len(classes)} classes have no image that ends in "
            f"{', '.join(ENDINGS)}; give the folder of one part, such as train/, with images in "
            "every class."
        )
    names = tuple(
        f"{c}/{name}" for c, images in zip(classes, found, strict=True) for name in images
    )
    label = np.repeat(np.arange(len(classes), dtype=np.int32), [len(images) for images in found])
    return ImageFiles(folder, names, label, classes)


def content(path: Path) -> bytes:
    """The bytes of a file that may be an image.

    Raises:
      Unreadable: If it is not there, is no file, or is too large.
      OSError: If it cannot be opened.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise Unreadable("not there any more, or a link to nothing") from None
    if not stat.S_ISREG(found.st_mode):
        raise Unreadable("not a file")  # a pipe would be waited for
    if found.st_size > MAX_BYTES:
        raise Unreadable(f"{found.st_size:,} bytes; at most {MAX_BYTES:,} are read")
    with path.open("rb") as file:
        return file.read(MAX_BYTES)


def checksum(data: bytes) -> bytes:
    """16 bytes of BLAKE2."""
    return hashlib.blake2b(data, digest_size=16).digest()


def decoded(data: bytes, size: int) -> np.ndarray:
    """The image that the bytes of a file hold, at the given size.

    The shorter side is resized to ``256 size / 224``, rounded, the other in proportion, and the
    middle is cut out: for 224 pixels what torchvision's ``Resize(256)`` and ``CenterCrop(224)`` do.

    Args:
      data: Bytes of a JPEG or PNG file, recognised by the first of them.
      size: Pixels along a side.

    Returns:
      uint8 ``[size, size, channel]`` with the channels red, green and blue.

    Raises:
      Unreadable: If this is no such image, is damaged, or has too many pixels.
      ImportError: If Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("images need Pillow: pip install 'imbalance[images]'.") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata, and of sizes that are refused below
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
                _check_size(*image.size, size)
                return _resized(image.convert("RGB"), size)
        except (Unreadable, MemoryError):
            raise
        except UnidentifiedImageError:
            raise Unreadable("neither JPEG nor PNG") from None
        except Image.DecompressionBombError:
            raise Unreadable(f"far more than {MAX_PIXELS:,} pixels") from None
        except Exception as error:  # decoders raise what they like on damaged bytes
            raise Unreadable(f"damaged: {error or type(error).__name__}") from None


def _images_in(folder: Path) -> list[str]:
    # Names alone: a Path for each of a million files takes longer than to list them.
    names = os.listdir(folder)
    return sorted(n for n in names if n.lower().endswith(ENDINGS) and not n.startswith("."))


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{rest}"


def _shorter(size: int) -> int:
    return round(256 * size / 224)


def _check_size(width: int, height: int, size: int) -> None:
    short, long = sorted((width, height))
    resized = _shorter(size) * (_shorter(size) * long // short)
    if max(width * height, resized) > MAX_PIXELS:
        raise Unreadable(f"{width} x {height} pixels; at most {MAX_PIXELS:,}, also when resized")


def _resized(image: Any, size: int) -> np.ndarray:
    """An image of Pillow in RGB, resized and cut, uint8 ``[size, size, channel]``."""
    from PIL import Image

    width, height = image.size
    shorter = _shorter(size)
    if width <= height:
        width, height = shorter, int(shorter * height / width)
    else:
        width, height = int(shorter * width / height), shorter
    left, top = round((width - size) / 2), round((height - size) / 2)
    whole = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(whole.crop((left, top, left + size, top + size)))
