"""Losses by class and by frequency from arrays of labels and losses, in NumPy."""

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.counts import class_counts
from imbalance.analysis.frequency import bucket_table, rank_frequency, tail_mass, zipf_fit
from imbalance.analysis.losses import loss_by_bucket, loss_by_class
from imbalance.analysis.streaming import LossByClass
from imbalance.analysis.tokens import next_token_labels

__all__ = [
    "FrequencyBuckets",
    "LossByClass",
    "bucket_table",
    "class_counts",
    "loss_by_bucket",
    "loss_by_class",
    "next_token_labels",
    "rank_frequency",
    "tail_mass",
    "zipf_fit",
]
