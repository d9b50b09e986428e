"""Real text: local files, published corpora, Python's own docstrings; and its words."""

import ast
import codecs
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import NamedTuple

# Characters decoded and tokenised at once, which bounds the memory.
_PIECE = 2**20
# Longer runs without white space are cut: the time to merge a word's bytes is quadratic in it.
_LONGEST_WORD = 2**12

_NOT_DOCUMENTED = {
    "site-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "ensurepip",
    "encodings",
    "pydoc_data",
}

# File names of each published corpus: train, validation, test.
_PUBLISHED = {
    "WikiText": ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"),
    "raw WikiText": ("wiki.train.raw", "wiki.valid.raw", "wiki.test.raw"),
    "PTB": ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
    "plain files": ("train.txt", "valid.txt", "test.txt"),
}


@dataclass(frozen=True)
class TextFiles:
    """UTF-8 text files joined by line breaks, read block by block.

    Attributes:
      paths: Paths of the files, in order.
    """

    paths: tuple[Path, ...]

    def read(self) -> str:
        """The whole text.

        Raises:
          ValueError: If a file is not UTF-8, or there is no character.
        """
        text = "".join(self.blocks())
        if not text:
            raise ValueError(f"{self}: empty; give text of at least one character.")
        return text

    def blocks(self) -> Iterator[str]:
        """The text in blocks as they are read, cut anywhere.

        Raises:
          ValueError: If a file is not UTF-8; the message has the offset of the byte.
        """
        for number, path in enumerate(self.paths):
            if number:
                yield "\n"
            yield from _decoded(path)

    def __str__(self):
        rest = f" and {len(self.paths) - 1} more files" if len(self.paths) > 1 else ""
        return f"{self.paths[0]}{rest}" if self.paths else "no files"


Text = str | TextFiles


class TextSplits(NamedTuple):
    """A training text and texts to evaluate on, without overlap."""

    train: Text
    validation: Text
    test: Text | None = None


def text_files(path: str | PathLike, pattern: str = "**/*.txt") -> TextFiles:
    """A text file, or those of a folder in the order of their names.

    Args:
      path: Path of a file of any name, or of a folder.
      pattern: Glob pattern of the files in a folder.

    Raises:
      FileNotFoundError: If there is no such file or folder, or no file in it fits the pattern.
    """
    path = Path(path)
    if path.is_file():
        return TextFiles((path,))
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder.")
    found = [file for file in path.glob(pattern) if file.is_file()]
    if not found:
        raise FileNotFoundError(f"{path}: no file fits {pattern!r}; give another pattern.")
    return TextFiles(tuple(sorted(found, key=lambda file: file.relative_to(path).parts)))


def read_text(path: str | PathLike, pattern: str = "**/*.txt") -> str:
    """The whole text of a file or folder; `text_files` reads larger texts piece by piece.

    Raises:
      FileNotFoundError: As `text_files`.
      ValueError: If a file is not UTF-8 (the message has the offset of the byte), or all are empty.
    """
    return text_files(path, pattern).read()


def published_splits(folder: str | PathLike) -> TextSplits:
    """WikiText-2, WikiText-103, PTB, or any corpus with files for training and validation.

    The folder is an unpacked published archive, with ``wiki.train.tokens``, ``wiki.train.raw``,
    ``ptb.train.txt`` or ``train.txt``, and so on. The test file is optional.

    Raises:
      FileNotFoundError: If the folder has no training file together with its validation file.
    """
    folder = Path(folder)
    for names in _PUBLISHED.values():
        train, validation, test = (folder / name for name in names)
        if train.is_file() and validation.is_file():
            last = text_files(test) if test.is_file() else None
            return TextSplits(text_files(train), text_files(validation), last)
    wanted = "; ".join(f"{', '.join(names)} ({what})" for what, names in _PUBLISHED.items())
    raise FileNotFoundError(
        f"{folder}: no training and validation text; give a folder with the files {wanted}."
    )


def split_text(text: str, validation: float = 0.1) -> TextSplits:
    """A split of a text at white space; the last part is for validation.

    Args:
      text: Text to split.
      validation: Share of the characters for validation, between 0 and 1.

    Raises:
      ValueError: If the share is not between 0 and 1, or one of the parts would have no word.
    """
    if not 0 < validation < 1:
        raise ValueError(f"validation is {validation}; give a share between 0 and 1.")
    end = round(len(text) * (1 - validation))
    while end < len(text) and not text[end].isspace():
        end += 1
    if not text[:end].strip() or not text[end:].strip():
        raise ValueError(
            f"a text of {len(text)} characters has no white space that leaves words on both sides "
            f"of a validation share of {validation}; give a longer text or another share."
        )
    return TextSplits(text[:end], text[end:])


def pieces(text: Text) -> Iterator[str]:
    """The text in pieces of bounded size that give the same tokens as the whole.

    A piece ends where a word ends, and the next begins with white space. This cuts neither words
    nor the units in which byte-level tokenisers merge bytes. Only runs of more than 4,096
    characters without white space, which no language has, are cut into runs of that length, so that
    one endless line takes no more memory or time than other text.

    Raises:
      ValueError: If a file is not UTF-8; the message has the offset of the byte.
    """
    if isinstance(text, str):
        blocks: Iterable[str] = (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
    else:
        blocks = text.blocks()
    rest = ""
    for block in blocks:
        rest += block
        while len(rest) > _PIECE:
            words = rest[:_PIECE].rsplit(maxsplit=1)
            end = len(words[0]) if len(words) == 2 else _PIECE
            yield from _cut_runs(rest[:end])
            rest = rest[end:]
    yield from _cut_runs(rest)


def _cut_runs(piece: str) -> Iterator[str]:
    start = 0
    if max(map(len, piece.split()), default=0) > _LONGEST_WORD:
        for run in re.finditer(rf"\S{{{_LONGEST_WORD}}}(?=\S)", piece):
            yield piece[start : run.end()]
            start = run.end()
    if piece[start:]:
        yield piece[start:]


def basic_english(text: str) -> list[str]:
    """Words and punctuation in lower case, by the rules of torchtext's ``basic_english``.

    Each of ``' . , ( ) ! ?`` is a token. Double quotes are deleted, which joins the text on both
    sides. ``;``, ``:`` and ``<br />`` are white space, which separates words. Everything else
    belongs to words: ``@-@``, ``<unk>``, hyphens.
    """
    text = text.lower().replace('"', "")
    for mark in "'.,()!?":
        text = text.replace(mark, f" {mark} ")
    for space in (";", ":", "<br />"):
        text = text.replace(space, " ")
    return text.split()


@lru_cache(maxsize=1)
def standard_library_docstrings() -> str:
    """The docstrings of the Python standard library: English text without files or network.

    About 1.6 million characters, 320,000 tokens of `basic_english`, in the order of file names and
    lines. Tests, generated tables and parts that other projects maintain are left out. The text is
    that of the running Python; versions differ by a few per cent.

    Raises:
      FileNotFoundError: If this Python's library is not available as source files.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [
        path
        for path in library.rglob("*.py")
        if not _NOT_DOCUMENTED.intersection(path.relative_to(library).parts)
    ]
    found = []
    for path in sorted(files, key=lambda path: path.relative_to(library).parts):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of escapes in the library's source
            warnings.simplefilter("ignore", DeprecationWarning)
            found.extend(_docstrings(ast.parse(path.read_bytes())))
    if not found:
        raise FileNotFoundError(
            f"{library}: no source file of the standard library has a docstring; give a text of "
            "your own, as by read_text(path)."
        )
    return "\n\n".join(found) + "\n"


def _docstrings(node: ast.AST) -> Iterator[str]:
    """Docstrings of a module and of its classes and functions, in the order of the source."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        docstring = ast.get_docstring(node)
        if docstring:
            yield docstring
    # Statements only: expressions, most of the tree, hold no definitions.
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        statements = getattr(node, block, None)
        if isinstance(statements, list):
            for statement in statements:
                yield from _docstrings(statement)


def _decoded(path: Path) -> Iterator[str]:
    """Blocks of one file, without a byte order mark."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    done, first = 0, True
    with path.open("rb") as file:
        while True:
            data = file.read(_PIECE)
            done += len(data)
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                # The decoder's input is this block, after what it kept of the one before.
                byte = done - len(error.object) + error.start
                raise ValueError(
                    f"{path}: byte {byte} (0x{error.object[error.start]:02x}) is not UTF-8: "
                    f"{error.reason}. Convert the file to UTF-8."
                ) from None
            if first and text:
                text, first = text.removeprefix("\ufeff"), False
            if text:
                yield text
            if not data:
                return
