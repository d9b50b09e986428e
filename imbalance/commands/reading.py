"""Files to class counts: text, CSV, JSON and Parquet.

What a file is taken for is decided by its ending and its first lines, and always said. Where it
could mean two things, it is refused, with the option that decides.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from imbalance.commands.tables import (
    OF_COUNTS,
    OF_LABELS,
    Choice,
    ClassTable,
    Columns,
    Format,
    counted,
    is_number,
    of_columns,
    of_counts,
    of_labels,
)

ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
BINARY = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
BINARY |= {b"\x28\xb5\x2f\xfd": "zstandard", b"\x89HDF": "HDF5", b"\x93NUMPY": "NumPy"}
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
BEGINNING = 2**16  # letters of a text by which it is judged


def read_classes(path: Path, choice: Choice | None = None) -> ClassTable:
    """Classes and counts of a file.

    Args:
      path: File to read: CSV, JSON, Parquet or text.
      choice: What is known about it; None: nothing.

    Raises:
      ModuleNotFoundError: If it is a Parquet file and pyarrow is not installed.
      OSError: If it cannot be read.
      ValueError: If it is empty, damaged, of another kind, or may mean two things.
    """
    choice = choice or Choice()
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a file.")
    format = choice.format or ENDINGS.get(path.suffix.lower())
    if format == "parquet":
        table = of_columns(_parquet_columns(path), "Parquet", choice)
    else:
        _check_text(path)
        format = format or _kind_of_text(path)
        if format == "csv":
            table = of_columns(_csv_columns(path), "CSV", choice)
        elif format == "json":
            table = _of_json(_parsed_json(path), choice)
        else:
            table = _of_text(path, format, choice)
    if not table.counts.any():
        raise ValueError(f"{path} holds no example: {table.taken_as}.")
    return table


# Text -------------------------------------------------------------------------------------------


def _check_text(path: Path) -> None:
    with open(path, "rb") as file:
        start = file.read(BEGINNING)
    if not start.strip():
        raise ValueError(f"{path} is empty.")
    for magic, kind in BINARY.items():
        if start.startswith(magic):
            raise ValueError(f"{path} is a {kind} file; unpack or convert it to text first.")
    if b"\0" in start:
        raise ValueError(
            f"{path} has zero bytes, so it is no text in UTF-8; convert it (from UTF-16, say), or "
            "give --format parquet if it is a Parquet file."
        )


def _lines(path: Path) -> Iterator[str]:
    number = 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line in file:
                yield line
                number += 1
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: after line {number}, byte 0x{error.object[error.start]:02x} is not UTF-8; "
            "save the file as UTF-8."
        ) from None


def _kind_of_text(path: Path) -> Format:
    """A label a line where every line is a single word, else words."""
    beginning, size = [], 0
    for line in _lines(path):
        beginning.append(line.split())
        size += len(line)
        if size > BEGINNING:
            break
    said = [words for words in beginning if words]
    return "lines" if len(said) > 1 and all(len(words) == 1 for words in said) else "words"


def _of_text(path: Path, format: str, choice: Choice) -> ClassTable:
    if choice.column or choice.names or choice.holds == "counts":
        raise ValueError(
            f"{path} is taken for text, which has no columns and no counts; give --format csv or "
            "json if it is one of these."
        )
    found: Counter[str] = Counter()
    for line in _lines(path):
        if format == "words":
            found.update(WORD.findall(line.lower()))
        elif format == "tokens":
            found.update(line.split())
        elif label := line.strip():
            found[label] += 1
    words = {
        "words": "text, its words in lower case (--format tokens splits at white space only)",
        "tokens": "text, its tokens between white space",
        "lines": "labels, one a line (--format words counts words)",
    }
    return counted(found, words[format])


# Tables -----------------------------------------------------------------------------------------


def _csv_columns(path: Path) -> dict[str, list[str]]:
    text = "".join(_lines(path))
    first = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t|", key=first.count)  # where there is none of them, a single column
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise ValueError(f"{path}: {error}; give a table of rows and columns.") from None
    uneven = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if uneven is not None:
        raise ValueError(
            f"{path}: row {uneven + 1} has {len(rows[uneven])} cells and the first "
            f"{len(rows[0])}; give as many in each, or --format words for a text."
        )
    columns = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]
    if not _has_heading(columns):
        return {str(i): column for i, column in enumerate(columns, 1)}
    if len({column[0] for column in columns}) < len(columns):
        raise ValueError(f"{path}: two columns are called alike in its first row; rename one.")
    return {column[0]: column[1:] for column in columns}


def _has_heading(columns: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: it differs in kind, or is of no other row."""
    if any(is_number(column[0]) for column in columns) or len(columns[0]) == 1:
        return False
    if any(column[0].lower() in OF_COUNTS | OF_LABELS for column in columns):
        return True
    if any(all(map(is_number, column[1:])) for column in columns):
        return True
    return all(column[0] not in column[1:] for column in columns)


def _parquet_columns(path: Path) -> Columns:
    import pandas

    try:
        frame = pandas.read_parquet(path, dtype_backend="numpy_nullable")
    except ImportError as error:
        raise ModuleNotFoundError(str(error), name="pyarrow") from None
    except (OSError, ValueError) as error:
        if not path.exists():
            raise
        raise ValueError(f"{path} is no Parquet file or is damaged: {error}") from None
    cells = frame.astype(object).where(frame.notna(), None)
    return {str(name): cells[name].tolist() for name in frame}


# JSON -------------------------------------------------------------------------------------------


def _parsed_json(path: Path) -> Any:
    def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            name = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"{path}: {name!r} stands twice in an object; give each name once.")
        return found

    try:
        return json.loads("".join(_lines(path)), object_pairs_hook=without_repeats)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply; give counts, labels or a table.") from None


def _of_json(content: Any, choice: Choice) -> ClassTable:
    """Classes and counts of JSON: an object of counts, a list of labels, or a table of either."""
    if isinstance(content, dict) and content:
        values = list(content.values())
        if all(isinstance(value, list) for value in values):
            if len({len(value) for value in values}) == 1:
                return of_columns(content, "JSON", choice)
        elif not any(isinstance(value, dict | list) for value in values):
            if choice.holds == "labels":
                return of_labels(values, "JSON, the values of an object")
            return of_counts(list(content), values, "JSON, an object of counts", "")
    if isinstance(content, list) and content:
        if all(isinstance(item, dict) for item in content):
            keys = content[0].keys()
            if all(item.keys() == keys for item in content):
                columns = {key: [item[key] for item in content] for key in keys}
                return of_columns(columns, "JSON", choice)
        elif all(isinstance(item, list) and len(item) == 2 for item in content):
            columns = {"1": [item[0] for item in content], "2": [item[1] for item in content]}
            return of_columns(columns, "JSON", choice)
        elif not any(isinstance(item, dict | list) for item in content):
            return of_columns({"1": content}, "JSON", choice)
    raise ValueError(
        'the JSON is none of {"name": count, ..}, [label, ..], [[name, count], ..], '
        '[{"name": .., "count": ..}, ..] and {"name": [..], "count": [..]}; give one of these.'
    )
