"""Why one optimizer beats another on heavy-tailed classes, and what happens to the rare ones.

The names here need NumPy only; import the rest (`imbalance.training.sweep`, ...) from its module.
"""

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

__version__ = "0.1.0"

__all__ = [
    "FrequencyBuckets",
    "LossByClass",
    "__version__",
    "bucket_table",
    "class_counts",
    "loss_by_bucket",
    "loss_by_class",
    "next_token_labels",
    "rank_frequency",
    "tail_mass",
    "zipf_fit",
]
