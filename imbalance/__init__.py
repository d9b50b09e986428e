"""Why one optimizer beats another on heavy-tailed classes, and what happens to the rare ones.

The analyzers need NumPy only and are there at once. What runs sweeps needs JAX, which takes a
second to load: it comes on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from imbalance.analysis import (
    FrequencyBuckets,
    LossByClass,
    bucket_table,
    class_counts,
    loss_by_bucket,
    loss_by_class,
    next_token_labels,
    rank_frequency,
    tail_mass,
    zipf_fit,
)

if TYPE_CHECKING:
    from imbalance import problems
    from imbalance.analysis.labelled import at_best, at_fixed, compare
    from imbalance.problems.problem import Problem
    from imbalance.storage.datasets import join, load
    from imbalance.storage.records import Record, load_record
    from imbalance.training.optimizers import OPTIMIZERS, Optimizer
    from imbalance.training.running import run
    from imbalance.training.sweep import Confirm, Sweep, half_decades

__version__ = "0.2.0"

_ON_FIRST_USE = {
    "Confirm": "imbalance.training.sweep",
    "OPTIMIZERS": "imbalance.training.optimizers",
    "Optimizer": "imbalance.training.optimizers",
    "Problem": "imbalance.problems.problem",
    "Record": "imbalance.storage.records",
    "Sweep": "imbalance.training.sweep",
    "at_best": "imbalance.analysis.labelled",
    "at_fixed": "imbalance.analysis.labelled",
    "compare": "imbalance.analysis.labelled",
    "half_decades": "imbalance.training.sweep",
    "join": "imbalance.storage.datasets",
    "load": "imbalance.storage.datasets",
    "load_record": "imbalance.storage.records",
    "problems": "imbalance.problems",
    "run": "imbalance.training.running",
}

__all__ = [
    "OPTIMIZERS",
    "Confirm",
    "FrequencyBuckets",
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
    "half_decades",
    "join",
    "load",
    "load_record",
    "loss_by_bucket",
    "loss_by_class",
    "next_token_labels",
    "problems",
    "rank_frequency",
    "run",
    "tail_mass",
    "zipf_fit",
]


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'imbalance' has no attribute {name!r}")
    module = importlib.import_module(_ON_FIRST_USE[name])
    return module if name == "problems" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
