"""Losses by class and by frequency, from arrays of labels and losses: NumPy in, NumPy out."""

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.counts import class_counts
from imbalance.analysis.losses import loss_by_bucket, loss_by_class

__all__ = ["FrequencyBuckets", "class_counts", "loss_by_bucket", "loss_by_class"]
