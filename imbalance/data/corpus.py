"""Token arrays of a text, computed once and cached in memory-mapped files."""

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from imbalance.data.text import Text, TextSplits, pieces
from imbalance.data.tokenizing import Encoder, Tokenizer

# Incremented when the same text and settings give other tokens or files than before.
_VERSION = 1
_BLOCK = 2**22


class TokenizedText(NamedTuple):
    """The splits of a text as memory-mapped tokens.

    Attributes:
      train: Training tokens, int32 ``[token]``.
      validation: Validation tokens, int32 ``[token]``, in the vocabulary of the training text.
      test: Test tokens, likewise, or None.
      num_classes: Size of the vocabulary, including classes that do not occur.
      strings: Spelling of each class, ``[class]``.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray | None
    num_classes: int
    strings: tuple[str, ...]


def default_folder() -> Path:
    """The folder of cached tokens: ``$IMBALANCE_CACHE``, else one in the user's cache."""
    own = os.environ.get("IMBALANCE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imbalance"


def tokenize(
    splits: TextSplits, tokenizer: Tokenizer, folder: str | PathLike | None = None
) -> TokenizedText:
    """Tokens of all splits; the vocabulary is learned from the training text alone.

    They are cached in ``folder`` under a name derived from the text, the settings of the tokeniser
    and the version of its library. A second call reads the cache; damaged files are replaced. The
    text is processed piece by piece, so memory does not grow with its length.

    Args:
      splits: Texts in memory or in files.
      tokenizer: `Words`, `BytePairs`, `BytePairFiles` or `Unigram`.
      folder: Folder of the cache; None: `default_folder`.

    Raises:
      ValueError: If a file is not UTF-8, a split has no token, or as the tokeniser's ``fit``.
      ImportError: If the tokeniser needs a library that is not installed.
      OSError: If the folder cannot be written to.
    """
    texts = {name: text for name, text in splits._asdict().items() if text is not None}
    made_of = {
        "version": _VERSION,
        "settings": dict(tokenizer.settings()),
        "text": {name: _digest(text) for name, text in texts.items()},
    }
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]
    folder = default_folder() if folder is None else Path(folder)
    place = folder / key
    if (found := _read(place)) is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=folder))
    except OSError as error:
        raise OSError(
            f"{folder}: tokens cannot be cached here ({error}); give another folder, or set "
            "IMBALANCE_CACHE to one."
        ) from error
    try:
        _write(work, texts, tokenizer.fit(pieces(splits.train)), made_of)
        _move(work, place)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    found = _read(place)
    if found is None:
        raise OSError(f"{place}: files just written there read back damaged; check the disk.")
    return found


def _digest(text: Text) -> str:
    digest = hashlib.sha256()
    for piece in pieces(text):
        # The tokeniser reports lone surrogates, which a str can hold and UTF-8 cannot.
        digest.update(piece.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _write(
    work: Path, texts: Mapping[str, Text], encoder: Encoder, made_of: Mapping[str, Any]
) -> None:
    strings = json.dumps(list(encoder.strings)).encode()
    (work / "strings.json").write_bytes(strings)
    for name, text in texts.items():
        with (work / f"{name}.npy").open("wb") as file:
            length = _write_tokens(file, encoder.encode(pieces(text)))
        if not length:
            raise ValueError(
                f"the {name} text has no token: it is empty or all white space; give some text."
            )
    checks = {path.name: _check(path) for path in sorted(work.iterdir())}
    (work / "checks.json").write_text(json.dumps({"made_of": made_of, "files": checks}, indent=1))


def _write_tokens(file: BinaryIO, arrays: Iterable[np.ndarray]) -> int:
    """Writes the arrays to one .npy file, whose length is known only at the end."""
    length, start = 0, 0
    for final in (False, True):
        file.seek(0)
        header = {"descr": "<i4", "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(file, header)  # leaves room for a longer length
        if final:
            assert file.tell() == start
            break
        start = file.tell()
        for array in arrays:
            file.write(array.astype("<i4", copy=False).tobytes())
            length += len(array)
    return length


def _check(path: Path) -> list[int]:
    """Size and checksum."""
    total = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total = zlib.crc32(block, total)
    return [path.stat().st_size, total]


def _read(place: Path) -> TokenizedText | None:
    """The tokens cached at ``place``; None if there are none, or they are damaged."""
    try:
        checks = json.loads((place / "checks.json").read_bytes())["files"]
        if any(_check(place / name) != check for name, check in checks.items()):
            return None
        strings = json.loads((place / "strings.json").read_bytes())
        arrays = {
            name: np.load(place / f"{name}.npy", mmap_mode="r")
            for name in TextSplits._fields
            if f"{name}.npy" in checks
        }
        return TokenizedText(
            arrays["train"], arrays["validation"], arrays.get("test"), len(strings), tuple(strings)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _move(work: Path, place: Path) -> None:
    """Renames the folder atomically; intact files that another process put there stay."""
    for _ in range(3):
        try:
            work.rename(place)
            return
        except OSError:
            if _read(place) is not None:
                return
            shutil.rmtree(place, ignore_errors=True)
    work.rename(place)
