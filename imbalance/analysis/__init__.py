"""Losses by class and by frequency from arrays of labels and losses, in NumPy."""

from imbalance.analysis.buckets import FrequencyBuckets, bucket_table
from imbalance.analysis.by_bucket import LossByBucket
from imbalance.analysis.counts import class_counts
from imbalance.analysis.differences import difference
from imbalance.analysis.frequency import rank_frequency, tail_mass, zipf_fit
from imbalance.analysis.gradients import HeadGradient, head_gradient_norms
from imbalance.analysis.losses import loss_by_bucket, loss_by_class
from imbalance.analysis.streaming import LossByClass
from imbalance.analysis.tokens import next_token_labels

__all__ = [
    "FrequencyBuckets",
    "HeadGradient",
    "LossByBucket",
    "LossByClass",
    "bucket_table",
    "class_counts",
    "difference",
    "head_gradient_norms",
    "loss_by_bucket",
    "loss_by_class",
    "next_token_labels",
    "rank_frequency",
    "tail_mass",
    "zipf_fit",
]
