"""``imbalance counts``: how heavy the tail of a file of counts, labels or text is."""

import sys
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import Any, Literal, NamedTuple

import numpy as np

from imbalance.analysis.buckets import FrequencyBuckets, bucket_table
from imbalance.analysis.frequency import ZipfFit, rank_frequency, tail_mass, zipf_fit
from imbalance.analysis.printing import aligned, shown
from imbalance.commands.output import write_json
from imbalance.commands.reading import read_classes
from imbalance.commands.tables import Choice, ClassTable, Format, Holds

WIDTH = 100  # letters in a line
LONGEST = 30  # letters of a name that are printed
MANY = 100_000  # classes whose fit takes a second or more


class Description(NamedTuple):
    """What is said about the classes of a file.

    Attributes:
      table: Names and counts, and what the file was taken for.
      fit: Zipf fit, or None where a single class occurs.
      buckets: Classes in buckets of about equal mass; none is empty.
      shots: Classes in three groups, by a convention of the literature; one may be empty.
    """

    table: ClassTable
    fit: ZipfFit | None
    buckets: FrequencyBuckets
    shots: FrequencyBuckets


def counts(
    file: Path,
    /,
    format: Format | None = None,
    holds: Holds | None = None,
    column: str | None = None,
    names: str | None = None,
    ranks: tuple[int, int] | None = None,
    num_buckets: int = 10,
    shots: Literal["oltr", "classifier-balancing", "lvis"] = "oltr",
    figure: Path | None = None,
    json: str | None = None,
) -> None:
    """How heavy the tail of a file is: Zipf fit, tail mass, buckets, many, medium and few shots.

    Args:
      file: File of counts (a table of names and numbers), of labels, or of text.
      format: Kind of the file, where its ending and first lines do not say it.
      holds: Whether a column holds counts of examples, or the labels of single ones.
      column: Name of the column to read, or its number, from 1.
      names: Name or number of the column with the names of the classes.
      ranks: First and last rank of the Zipf fit, 1 being the most frequent class.
      num_buckets: Number of buckets of about equal mass.
      shots: Convention for many, medium and few shots.
      figure: PNG, PDF or SVG file for the rank-frequency picture.
      json: File for all of it as JSON; - prints that alone.
    """
    if figure:
        from imbalance.commands.pictures import draw_counts  # now, and not after a long fit
    table = read_classes(file, Choice(format, holds, column, names))
    if len(table.counts) > MANY:
        print(f"fitting {len(table.counts)} classes ...", file=sys.stderr, flush=True)
    found = describe(table, ranks, num_buckets, shots)
    if json != "-":
        print(f"{file}: taken as {table.taken_as}.\n\n{as_text(found)}")
    if json:
        write_json({"file": str(file), **as_data(found)}, json)
    if figure:
        draw_counts(found.table.counts, found.fit, found.buckets, file.name, figure)
        print(f"drew {figure}", file=sys.stderr)


def describe(
    table: ClassTable,
    ranks: tuple[int, int] | None = None,
    num_buckets: int = 10,
    shots: str = "oltr",
) -> Description:
    """The fit and the groups of a table of classes.

    Args:
      table: Names and counts.
      ranks: First and last rank of the fit; None: all.
      num_buckets: Number of buckets of about equal mass; empty ones are left out.
      shots: Convention of `FrequencyBuckets.shots`.

    Raises:
      ValueError: As `zipf_fit` and `FrequencyBuckets.from_counts`.
    """
    several = np.count_nonzero(table.counts) > 1
    return Description(
        table,
        zipf_fit(table.counts, ranks=ranks) if several else None,
        FrequencyBuckets.from_counts(table.counts, num_buckets).without_empty(),
        FrequencyBuckets.shots(table.counts, shots),
    )


def as_text(found: Description) -> str:
    """A description to be read."""
    table, counted = found.table, rank_frequency(found.table.counts)
    occurring, total = len(counted.rank), int(table.counts.sum())
    absent = len(table.counts) - occurring
    head = f"{occurring} classes, {total} examples"
    if absent:
        head += f"; {absent} more classes have none, and are in the fit but in no bucket"
    frequent = slice(0, 5)
    most = aligned(
        {
            "rank": [str(rank) for rank in counted.rank[frequent]],
            "class": [_short(table.names[k]) for k in counted.class_index[frequent]],
            "examples": [str(count) for count in counted.count[frequent]],
            "share": [f"{share:.1%}" for share in counted.share[frequent]],
        },
        left=("class",),
    )
    half, rarer, few, single = tail(table.counts).values()
    return "\n\n".join(
        [
            head,
            most,
            fill(f"Zipf: {found.fit or 'a single class has no exponent'}.", WIDTH),
            fill(
                f"Tail: {half} classes have half of the examples; the rarer half of the classes "
                f"has {rarer:.2%} of them, classes of fewer than 20 examples {few:.2%}, classes of "
                f"a single example {single:.2%}.",
                WIDTH,
            ),
            f"Buckets of about equal mass:\n{bucket_table(found.buckets)}",
            f"Shots, by the number of examples:\n{bucket_table(found.shots)}",
        ]
    )


def tail(counts: np.ndarray) -> dict[str, Any]:
    """How few classes have half of the examples, and what the rare ones have.

    Args:
      counts: Examples of each class ``[class]``.
    """
    cumulative = rank_frequency(counts).cumulative_share
    return {
        "classes_with_half": int(np.searchsorted(cumulative, 0.5)) + 1,
        "share_of_rarer_half": tail_mass(counts, 0.5),
        "share_below_20": tail_mass(counts, below=20),
        "share_of_single": tail_mass(counts, below=2),
    }


def as_data(found: Description) -> dict[str, Any]:
    """A description as built-in types, for JSON."""
    table, counted = found.table, rank_frequency(found.table.counts)
    fit = None if found.fit is None else asdict(found.fit)
    if found.fit is not None and fit is not None:
        fit |= {"is_power_law": found.fit.is_power_law, "says": str(found.fit)}
    return {
        "taken_as": table.taken_as,
        "num_classes": len(counted.rank),
        "num_absent": len(table.counts) - len(counted.rank),
        "num_examples": int(table.counts.sum()),
        "classes": [
            {"name": table.names[k], "count": int(table.counts[k])} for k in counted.class_index
        ],
        "zipf": fit,
        "tail": tail(table.counts),
        "buckets": _rows(found.buckets),
        "shots": _rows(found.shots),
    }


def _rows(buckets: FrequencyBuckets) -> list[dict[str, Any]]:
    total = int(buckets.counts.sum())
    return [
        {
            "bucket": b,
            "name": None if buckets.names is None else buckets.names[b],
            "classes": int(buckets.num_classes[b]),
            "examples": int(buckets.num_examples[b]),
            "share": int(buckets.num_examples[b]) / total,
            "least_count": int(buckets.count_range[0, b]),
            "most_count": int(buckets.count_range[1, b]),
            "unigram_loss": float(buckets.unigram_loss[b]),
        }
        for b in range(buckets.num_buckets)
    ]


def _short(name: str) -> str:
    return shown(name if len(name) <= LONGEST else name[: LONGEST - 2] + "..")
