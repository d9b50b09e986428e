"""Tables of columns to class counts: which column holds what."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

Format = Literal["csv", "json", "parquet", "words", "tokens", "lines"]
Holds = Literal["counts", "labels"]
Columns = Mapping[str, Sequence[Any]]

# What columns are called.
OF_COUNTS = {"count", "counts", "examples", "freq", "frequency", "images", "n", "occurrences"}
OF_COUNTS |= {"image_count", "instance_count", "num_examples", "num_images", "total"}
OF_LABELS = {"category", "class", "label", "labels", "species", "target", "token", "tokens", "y"}
OF_LABELS |= {"category_id", "class_id", "input_ids", "label_id", "token_id"}
MOST = 2**62  # examples


class ClassTable(NamedTuple):
    """Classes and how many examples each has.

    Attributes:
      names: Name of each class.
      counts: Examples of each class, int64 ``[class]``.
      taken_as: What the file was taken for, in words.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    taken_as: str


@dataclass(frozen=True)
class Choice:
    """What is said about a file; None: it is found out.

    Attributes:
      format: Kind of the file.
      holds: Meaning of its numbers: how many examples a class has, or the class of one example.
      column: Name of the column that holds them, or its number, from 1.
      names: Name or number of the column with the names of the classes.
    """

    format: Format | None = None
    holds: Holds | None = None
    column: str | None = None
    names: str | None = None


def of_columns(columns: Columns, kind: str, choice: Choice) -> ClassTable:
    """Classes and counts of a table, from the column that was chosen or the only one that fits.

    Args:
      columns: Cells of each column, by its name; by its number where there is no heading.
      kind: Kind of the file, in words.
      choice: What was said about it.

    Raises:
      ValueError: If there is no such column, several fit, or one holds what it should not.
    """
    if not columns:
        raise ValueError("the table has no column.")
    chosen = _column(columns, choice.column) if choice.column else _likely(columns, choice.holds)
    named = _column(columns, choice.names) if choice.names else None
    holds = choice.holds or ("counts" if named else _holds(chosen, columns[chosen], columns))
    where = f"{kind}, column {chosen!r}"
    if holds == "labels":
        if named:
            raise ValueError("--names goes with counts; leave it out, or give --holds counts.")
        return of_labels(columns[chosen], where)
    named = named or _naming(columns, chosen)
    if named is None and len(columns) == 2:
        named = next(name for name in columns if name != chosen)  # some names come again
    names = columns[named] if named else range(len(columns[chosen]))
    return of_counts(names, columns[chosen], where, f"names in {named!r}" if named else "")


def _column(columns: Columns, said: str) -> str:
    if said in columns:
        return said
    if said.isdecimal() and 1 <= int(said) <= len(columns):
        return list(columns)[int(said) - 1]
    raise ValueError(f"there is no column {said!r}; there are {_listed(columns)}.")


def _likely(columns: Columns, holds: Holds | None) -> str:
    """The column that is called as columns of counts or labels are, or the only one."""
    by_name = [
        [name for name in columns if name.lower() in words] for words in (OF_COUNTS, OF_LABELS)
    ]
    counts, labels = by_name
    if len(columns) == 1:
        return next(iter(columns))
    if holds != "labels":
        if len(counts) == 1:
            return counts[0]
        whole = [name for name, cells in columns.items() if _whole(cells)]
        if len(whole) == 1 and (holds or _is_table_of_counts(columns, whole[0])):
            return whole[0]
    if holds != "counts" and len(labels) == 1 and not counts:
        return labels[0]
    raise ValueError(
        f"the table has columns {_listed(columns)}; say with --column which one to read, and with "
        "--holds whether it holds counts or labels."
    )


def _holds(name: str, cells: Sequence[Any], columns: Columns) -> Holds:
    """Whether a column holds counts or labels, by its name, by what it is, or by its neighbour."""
    if name.lower() in OF_COUNTS:
        return "counts"
    if name.lower() in OF_LABELS or not _whole(cells):
        return "labels"
    if _is_table_of_counts(columns, name):
        return "counts"
    raise ValueError(
        f"column {name!r} holds whole numbers: counts of examples, or labels of single ones? "
        "Say --holds counts or --holds labels."
    )


def _is_table_of_counts(columns: Columns, counts: str) -> bool:
    """Whether there are two columns without a heading, and the other names each row."""
    return len(columns) == 2 and all(map(str.isdecimal, columns)) and bool(_naming(columns, counts))


def _naming(columns: Columns, counts: str) -> str | None:
    """Another column whose cells are all different, rather one of text than one of numbers."""
    different = [
        name
        for name, cells in columns.items()
        if name != counts and len(set(map(str, cells))) == len(cells)
    ]
    return min(different, key=lambda name: _whole(columns[name]), default=None)


def of_labels(cells: Iterable[Any], where: str) -> ClassTable:
    """Classes and counts of the labels of single examples, or of lists of them.

    Args:
      cells: Label or list of labels of each row; empty ones are left out.
      where: File and column, in words.
    """
    found: Counter[str] = Counter()
    missing = 0
    for cell in cells:
        for label in cell if isinstance(cell, list | np.ndarray) else (cell,):
            if label is None or label == "" or label != label:
                missing += 1
            else:
                found[str(label)] += 1
    left_out = f"; {missing} empty cells are left out" if missing else ""
    return counted(found, f"{where}, labels of single examples{left_out}")


def of_counts(names: Iterable[Any], cells: Sequence[Any], where: str, more: str) -> ClassTable:
    """Classes and their counts, where there is a count in each row.

    Args:
      names: Name of the class of each row.
      cells: Count of each row.
      where: File and column, in words.
      more: Words on where the names are from.

    Raises:
      ValueError: If a cell is no count.
    """
    found: Counter[str] = Counter()
    for name, cell in zip(names, cells, strict=True):
        number = _as_count(cell)
        if number is None:
            raise ValueError(
                f"{where}: class {str(name)[:40]!r} has count {str(cell)[:40]!r}; counts are whole "
                "numbers, 0 or more. Say --holds labels if these are labels, or --column for "
                "another column."
            )
        found[str(name)] += number
    repeated = len(cells) - len(found)
    added = f"; {repeated} names that come again have their counts added" if repeated else ""
    return counted(found, ", ".join(filter(None, (f"{where}, counts", more))) + added)


def counted(found: Counter[str], taken_as: str) -> ClassTable:
    """The classes that were counted, in the order in which they came.

    Args:
      found: Examples of each class.
      taken_as: What the file was taken for, in words.

    Raises:
      ValueError: If there are too many examples for 64 bits.
    """
    total = sum(found.values())
    if total > MOST:
        raise ValueError(f"the counts sum to {total}; give at most 2^62 = {MOST} examples.")
    counts = np.fromiter(found.values(), np.int64, len(found))
    return ClassTable(tuple(found), counts, taken_as)


def _as_count(cell: Any) -> int | None:
    """A cell as a whole number, 0 or more, also where it is written as 12.0; else None."""
    if isinstance(cell, str):
        try:
            cell = int(cell)
        except ValueError:
            cell = float(cell) if is_number(cell) else None
    if isinstance(cell, float | np.floating):
        cell = int(cell) if float(cell).is_integer() else None
    whole = isinstance(cell, int | np.integer) and not isinstance(cell, bool)
    return int(cell) if whole and cell >= 0 else None


def is_number(cell: Any) -> bool:
    """Whether a cell is a number, or the text of one."""
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _whole(cells: Sequence[Any]) -> bool:
    return len(cells) > 0 and all(_as_count(cell) is not None for cell in cells)


def _listed(columns: Columns) -> str:
    names = [repr(name) for name in columns]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
