"""Why one optimizer beats another on heavy-tailed classes, and what happens to the rare ones.

The analyzers need NumPy only and are there at once. The rest comes on first use: what reads and
compares runs needs the extra `analysis`, what makes them needs `lab` and loads JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

from imbalance.analysis import (
    FrequencyBuckets,
    HeadGradient,
    LossByBucket,
    LossByClass,
    bucket_table,
    class_counts,
    difference,
    head_gradient_norms,
    loss_by_bucket,
    loss_by_class,
    next_token_labels,
    rank_frequency,
    tail_mass,
    zipf_fit,
)

if TYPE_CHECKING:
    from imbalance import problems
    from imbalance.analysis.comparison import compare
    from imbalance.analysis.seeds import over_seeds, paired_over_seeds
    from imbalance.analysis.selection import at_best, at_fixed
    from imbalance.problems.problem import Problem
    from imbalance.storage.datasets import load
    from imbalance.storage.joining import join
    from imbalance.storage.record_dataset import load_record
    from imbalance.storage.records import Record, salvage
    from imbalance.training.optimizers import OPTIMIZERS, Optimizer
    from imbalance.training.running import run
    from imbalance.training.sweep import Confirm, Sweep, half_decades, quarter_decades

__version__ = "0.2.0"

_ON_FIRST_USE = {
    "Confirm": "imbalance.training.sweep",
    "OPTIMIZERS": "imbalance.training.optimizers",
    "Optimizer": "imbalance.training.optimizers",
    "Problem": "imbalance.problems.problem",
    "Record": "imbalance.storage.records",
    "Sweep": "imbalance.training.sweep",
    "at_best": "imbalance.analysis.selection",
    "at_fixed": "imbalance.analysis.selection",
    "compare": "imbalance.analysis.comparison",
    "half_decades": "imbalance.training.sweep",
    "join": "imbalance.storage.joining",
    "load": "imbalance.storage.datasets",
    "load_record": "imbalance.storage.record_dataset",
    "over_seeds": "imbalance.analysis.seeds",
    "paired_over_seeds": "imbalance.analysis.seeds",
    "problems": "imbalance.problems",
    "quarter_decades": "imbalance.training.sweep",
    "run": "imbalance.training.running",
    "salvage": "imbalance.storage.records",
}

__all__ = [
    "OPTIMIZERS",
    "Confirm",
    "FrequencyBuckets",
    "HeadGradient",
    "LossByBucket",
    "LossByClass",
    "Optimizer",
    "Problem",
    "Record",
    "Sweep",
    "__version__",
    "at_best",
    "at_fixed",
    "bucket_table",
    "class_counts",
    "compare",
    "difference",
    "half_decades",
    "head_gradient_norms",
    "join",
    "load",
    "load_record",
    "loss_by_bucket",
    "loss_by_class",
    "next_token_labels",
    "over_seeds",
    "paired_over_seeds",
    "problems",
    "quarter_decades",
    "rank_frequency",
    "run",
    "salvage",
    "tail_mass",
    "zipf_fit",
]


_READS_AND_DRAWS = ("imbalance.analysis", "imbalance.storage")  # what the extra `analysis` is for


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'imbalance' has no attribute {name!r}")
    place = _ON_FIRST_USE[name]
    try:
        module = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("imbalance"):
            raise
        extra = "analysis" if place.startswith(_READS_AND_DRAWS) else "lab"
        raise ModuleNotFoundError(
            f"imbalance.{name} needs {error.name}: pip install 'imbalance[{extra}]'",
            name=error.name,
        ) from None
    return module if name == "problems" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
