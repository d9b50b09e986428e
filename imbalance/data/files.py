"""Images from files: the IDX format of MNIST and its relatives, and a checksummed download."""

import gzip
import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from imbalance.data.images import Images, Split, images_from_arrays

# Types by the third byte of an IDX file; numbers are big-endian.
_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_MAX_DIMENSIONS = 8
_READ = 2**20

# Checksums of MNIST as first published.
MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def read_idx(path: str | Path, max_bytes: int = 2**31) -> np.ndarray:
    """The array of an IDX file, plain or gzip (recognised by its first bytes, not by its name).

    Memory grows with the contents of the file, not with the size that its header promises. A
    compressed file is expanded to at most one byte beyond that size.

    Args:
      path: Path of the file.
      max_bytes: Largest size that the header may promise.

    Returns:
      An array of the file's shape and type, in native byte order.

    Raises:
      OSError: If the file cannot be opened.
      ValueError: If it is not an IDX file, is damaged, or holds less or more than its header says.
    """
    path = Path(path)
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            if zipped:
                with gzip.GzipFile(fileobj=file) as unzipped:
                    return _read_array(unzipped, path, max_bytes)
            return _read_array(file, path, max_bytes)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is a damaged gzip file ({error}); get it again.") from error


def mnist_from_folder(folder: str | Path) -> Split:
    """MNIST, or a data set with the same file names; its test images are ``val``.

    Names are ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``, and likewise with ``t10k``
    and ``labels-idx1``, each plain or with ``.gz``; a plain file is preferred.

    Raises:
      FileNotFoundError: If a file is missing.
      ValueError: If a file is damaged, or images and labels do not match.
    """
    return Split(_images_of(Path(folder), "train"), _images_of(Path(folder), "t10k"))


def download_mnist(
    folder: str | Path,
    mirrors: Sequence[str] = MNIST_MIRRORS,
    sha256: dict[str, str] | None = None,
    downloader: Callable[..., Any] | None = None,
) -> Path:
    """Download the files that the folder lacks, and verify the SHA-256 of each.

    Args:
      folder: Folder of the files, created if it does not exist.
      mirrors: Addresses of folders, tried in turn for each file.
      sha256: Checksum of each file name; None: those of MNIST.
      downloader: Downloader for pooch, for example with a proxy; None: chosen by the address.

    Returns:
      The folder, for `mnist_from_folder`.

    Raises:
      ImportError: If pooch is not installed.
      ValueError: If no mirror is given.
      OSError: If no mirror provides a file with the right checksum.
    """
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            "downloads need pooch: pip install 'imbalance[images]', or put the files into a "
            "folder yourself and give that."
        ) from error
    if isinstance(mirrors, str) or not mirrors:
        raise ValueError(f"mirrors is {mirrors!r}; give a list of one address or more.")
    folder = Path(folder)
    for name, known in (MNIST_SHA256 if sha256 is None else sha256).items():
        failures = []
        for mirror in mirrors:
            url = f"{mirror.rstrip('/')}/{name}"
            try:
                pooch.retrieve(url, f"sha256:{known}", name, folder, downloader=downloader)
                break
            except (OSError, ValueError) as error:  # unreachable, or another file
                failures.append(f"{url}: {error}")
        else:
            raise OSError(f"no mirror gave {name}:\n  " + "\n  ".join(failures))
    return folder


def _read_array(file: BinaryIO | gzip.GzipFile, path: Path, max_bytes: int) -> np.ndarray:
    start = _read_up_to(file, 4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES:
        raise ValueError(
            f"{path} starts with {start.hex(' ') or 'nothing'}, not as an IDX file: 00 00, a type "
            f"in {', '.join(f'{code:02x}' for code in _TYPES)}, the number of dimensions."
        )
    dtype, num_dimensions = np.dtype(_TYPES[start[2]]), start[3]
    if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
        raise ValueError(
            f"{path} has {num_dimensions} dimensions; 1 to {_MAX_DIMENSIONS} are read."
        )
    sizes = _read_up_to(file, 4 * num_dimensions)
    if len(sizes) < 4 * num_dimensions:
        raise ValueError(f"{path} ends inside its header; get it again.")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    # Python integers: the product of the sizes may exceed 64 bits.
    promised = math.prod(shape) * dtype.itemsize
    if not 1 <= promised <= max_bytes:
        raise ValueError(
            f"{path} promises {shape} items, {promised} bytes; 1 to max_bytes={max_bytes} are read."
        )
    data = _read_up_to(file, promised + 1)
    if len(data) != promised:
        held = f"only {len(data)}" if len(data) < promised else "more"
        raise ValueError(f"{path} promises {promised} bytes and holds {held}; get it again.")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_up_to(file: BinaryIO | gzip.GzipFile, size: int) -> bytearray:
    # In pieces: read(size) may allocate all of size before it reads the file.
    data = bytearray()
    while len(data) < size and (piece := file.read(min(size - len(data), _READ))):
        data += piece
    return data


def _images_of(folder: Path, part: str) -> Images:
    image_path = find_idx(folder, part, "images", "idx3")
    label_path = find_idx(folder, part, "labels", "idx1")
    try:
        return images_from_arrays(read_idx(image_path), read_idx(label_path))
    except TypeError as error:
        raise ValueError(f"{image_path} and {label_path} do not match: {error}") from error


def find_idx(folder: Path, part: str, content: str, kind: str) -> Path:
    """A file of MNIST by any of its names, see `mnist_from_folder`.

    Args:
      folder: Folder of the files.
      part: Part of the data set, "train" or "t10k".
      content: Content of the file, "images" or "labels".
      kind: Kind of the file, "idx3" for images and "idx1" for labels.

    Raises:
      FileNotFoundError: If there is none.
    """
    names = [
        f"{part}-{content}{mark}{kind}-ubyte{suffix}" for suffix in ("", ".gz") for mark in "-."
    ]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder} has no {part} {content}; give a folder with one of {', '.join(names)}."
    )
