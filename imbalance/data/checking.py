"""What a folder of published data holds: which files are there, whole, and as published."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from imbalance.data.files import find_idx, read_idx
from imbalance.data.image_files import image_files
from imbalance.data.published import Published, TextCounts
from imbalance.data.text import published_splits

State = Literal["right", "wrong", "absent", "not checked"]
_BLOCK = 2**22


class Finding(NamedTuple):
    """What was found of one part of a data set.

    Attributes:
      part: Part, such as the training text.
      state: "right" if all that is known of it agrees; "wrong" if something does not, or it lacks
        in a folder that is there; "absent" if the whole folder lacks; "not checked" if nothing is
        known of it.
      words: What was counted, and what it should be.
    """

    part: str
    state: State
    words: str


class Compared(NamedTuple):
    """Something counted, and what it should be."""

    what: str
    found: int | str
    due: int | str


def examine(folder: Path, wanted: Published) -> list[Finding]:
    """Findings for each part of a data set.

    Args:
      folder: Folder of the data set, such as ``data/ptb``.
      wanted: How it should be.

    Raises:
      OSError: If a file that is there cannot be read.
    """
    if not folder.is_dir():
        return [Finding("folder", "absent", f"not there; {wanted.source}")]
    if wanted.text:
        return list(_of_text(folder, wanted))
    return list(_of_idx(folder, wanted) if wanted.side else _of_folders(folder, wanted))


def _of_text(folder: Path, wanted: Published) -> Iterator[Finding]:
    try:
        splits = published_splits(folder)
    except FileNotFoundError:
        yield Finding("files", "wrong", f"incomplete; it should hold {wanted.layout}")
        return
    for part, text in splits._asdict().items():
        if text is None:
            yield Finding(part, "wrong", f"no file; there should be {wanted.layout}")
            continue
        (path,) = text.paths
        yield _of_file(part, path, wanted)


def _of_file(part: str, path: Path, wanted: Published) -> Finding:
    if path.suffix == ".raw":
        words = f"{path.name}: raw text, whose counts are not known; the paper has {wanted.layout}"
        return Finding(part, "not checked", words)
    try:
        found, sha256 = _counted(path)
    except UnicodeDecodeError as error:
        return Finding(part, "wrong", f"{path.name}: not UTF-8, {error.reason}")
    right = wanted.text[part]
    pairs = [
        Compared(name, had, due)
        for name, had, due in zip(TextCounts._fields, found, right, strict=True)
        if had is not None and due is not None
    ]
    return _compared(part, path.name, pairs, sha256, wanted.sha256.get(path.name))


def _counted(path: Path) -> tuple[TextCounts, str]:
    """Counts and checksum of a file of text, read line by line."""
    lines, words, seen, digest = 0, 0, set(), hashlib.sha256()
    with path.open("rb") as file:
        for line in file:
            digest.update(line)
            found = line.decode().split()
            lines += line.endswith(b"\n")
            words += len(found)
            seen.update(found)
    return TextCounts(lines, words + lines, len(seen) + 1), digest.hexdigest()


def _of_idx(folder: Path, wanted: Published) -> Iterator[Finding]:
    for part, name in zip(wanted.images, ("train", "t10k"), strict=True):
        for content, kind in (("images", "idx3"), ("labels", "idx1")):
            what = f"{part} {content}"
            try:
                path = find_idx(folder, name, content, kind)
                found = read_idx(path)
            except (FileNotFoundError, ValueError) as error:
                yield Finding(what, "wrong", str(error))
                continue
            number = Compared("images", len(found), wanted.images[part])
            if content == "images":
                sides = "x".join(map(str, found.shape[1:]))
                more = Compared("pixels", sides, f"{wanted.side}x{wanted.side}")
            else:
                more = Compared("classes", len(np.unique(found)), wanted.classes)
            known = wanted.sha256.get(path.name)
            yield _compared(
                what, path.name, (number, more), _checksum(path) if known else "", known
            )


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _of_folders(folder: Path, wanted: Published) -> Iterator[Finding]:
    """Images by their names alone: whether they can be read is found when they are decoded."""
    classes: dict[str, tuple[str, ...]] = {}
    for part, number in wanted.images.items():
        try:
            found = image_files(folder / part)
        except FileNotFoundError:
            yield Finding(part, "wrong", f"no folder {part}/; there should be {wanted.layout}")
            continue
        except ValueError as error:
            yield Finding(part, "wrong", str(error))
            continue
        classes[part] = found.classes
        pairs = [
            Compared("images", len(found.names), number),
            Compared("classes", len(found.classes), wanted.classes),
        ]
        if part in wanted.per_class:
            due = "{} to {} in a class".format(*wanted.per_class[part])
            counts = np.bincount(found.label)
            pairs.append(Compared("", f"{counts.min()} to {counts.max()} in a class", due))
        yield _compared(part, f"{part}/", pairs, "", None)
    if len(set(classes.values())) > 1:
        apart = sorted(set.symmetric_difference(*map(set, classes.values())))
        words = f"{len(apart)} classes are in one part only, {apart[0]} for one"
        yield Finding("classes", "wrong", words)


def _compared(
    part: str, name: str, pairs: Sequence[Compared], sha256: str, known: str | None
) -> Finding:
    """A finding by counts, each with its name and what it should be, and by a known checksum."""
    told = [
        f"{_number(had)} {what}".strip() + ("" if had == due else f" and not {_number(due)}")
        for what, had, due in pairs
    ]
    right = all(had == due for _, had, due in pairs)
    if known is not None:
        told.append("checksum as published" if sha256 == known else "another checksum than known")
        right = right and sha256 == known
    return Finding(part, "right" if right else "wrong", f"{name}: {', '.join(told)}")


def _number(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
