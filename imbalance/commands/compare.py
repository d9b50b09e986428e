"""``imbalance compare``: two recorded runs side by side."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.printing import aligned, with_error
from imbalance.commands.output import write_json

if TYPE_CHECKING:
    import xarray as xr


def compare(
    one: Path,
    other: Path,
    /,
    num_buckets: int = 10,
    fraction: float = 0.5,
    json: str | None = None,
) -> None:
    """Two recorded runs side by side: how fast each bucket of classes is learnt, and how far.

    Buckets have about equal mass by the examples of both records, and are the same for both.

    Args:
      one: Record of a run, a file that imbalance.Record wrote.
      other: Record of another run on the same classes.
      num_buckets: Number of buckets.
      fraction: Share of the first loss; the table says at which step each run is there.
      json: File for the table as JSON; - prints that alone.
    """
    from imbalance.analysis import comparison

    runs = load_alike(one, other, num_buckets)
    table = comparison.compare(*runs, fraction)
    if json != "-":
        print(as_text(table, (str(one), str(other))))
    if json:
        write_json(as_data(table), json)


def load_alike(one: Path, other: Path, num_buckets: int = 10) -> "tuple[xr.Dataset, xr.Dataset]":
    """Two records in the same buckets, which have equal mass by the examples of both.

    Args:
      one: Record.
      other: Record on the same classes.
      num_buckets: Number of buckets; those that hold no class are left out.

    Raises:
      OSError: If a record cannot be read.
      ValueError: If one is damaged, or they have different numbers of classes.
    """
    from imbalance.storage.record_dataset import load_record

    with warnings.catch_warnings():  # they come again below
        warnings.simplefilter("ignore")
        first, second = (load_record(path)["class_count"].values for path in (one, other))
    if len(first) != len(second):
        raise ValueError(
            f"{one} has {len(first)} classes and {other} {len(second)}; give two records of the "
            "same classes."
        )
    buckets = FrequencyBuckets.from_counts(first + second, num_buckets).without_empty()
    return load_record(one, buckets), load_record(other, buckets)


def as_text(table: "xr.Dataset", paths: tuple[str, str]) -> str:
    """A comparison to be read.

    Args:
      table: What `imbalance.compare` returns.
      paths: Files of the two runs.
    """
    says = table.attrs
    rows = as_data(table)["buckets"]
    columns = {
        "bucket": [str(row["bucket"]) for row in rows],
        "classes": [f"{row['bucket_classes']:.0f}" for row in rows],
        "examples": [f"{row['bucket_mass']:.1%}" for row in rows],
        "step, one": [with_error(row["time_one"]) for row in rows],
        "step, other": [with_error(row["time_other"]) for row in rows],
        "ratio": [with_error(row["time_ratio"]) for row in rows],
        "one - other": [
            with_error(row["final_difference"], row.get("final_difference_error")) for row in rows
        ],
    }
    return "\n".join(
        [
            f"one:   {says['one']} ({paths[0]})",
            f"other: {says['other']} ({paths[1]})",
            "",
            aligned(columns),
            "",
            f"step: where the loss is first at {says['fraction']:g} of its first value, - if "
            "never; a ratio above 1 means that other is faster.",
            f"one - other: difference of the losses in nats at step {says['final_step']:g}, the "
            f"last that both reached; losses are {says['interpolation']}.",
        ]
    )


def as_data(table: "xr.Dataset") -> dict[str, Any]:
    """A comparison as built-in types: its attributes, and a row for each bucket."""
    names = [str(name) for name, values in table.data_vars.items() if values.dims == ("bucket",)]
    rows = [
        {"bucket": b} | {name: float(table[name].values[b]) for name in names}
        for b in range(table.sizes["bucket"])
    ]
    return {**table.attrs, "buckets": rows}
