"""Losses and class frequencies as labelled arrays, under the variable names of stored sweeps."""

import numpy as np
import xarray as xr

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.sums import LossSums


def bucket_variables(counts: np.ndarray, buckets: FrequencyBuckets) -> dict[str, xr.DataArray]:
    """Description of the classes and buckets, to be stored with the losses; arrays are copies."""
    variables = {
        "class_count": xr.DataArray(
            np.array(counts), dims="class", attrs={"long_name": "examples of each class"}
        ),
        "bucket_of_class": xr.DataArray(np.array(buckets.bucket_of_class), dims="class"),
        "bucket_mass": xr.DataArray(
            buckets.num_examples / buckets.counts.sum(),
            dims="bucket",
            attrs={"long_name": "share of the examples"},
        ),
        "bucket_classes": xr.DataArray(
            buckets.num_classes, dims="bucket", attrs={"long_name": "number of classes"}
        ),
        "bucket_unigram_loss": xr.DataArray(
            buckets.unigram_loss,
            dims="bucket",
            attrs={"units": "nats", "long_name": "loss of predicting class frequencies"},
        ),
    }
    if buckets.names is not None:
        variables["bucket_name"] = xr.DataArray(list(buckets.names), dims="bucket")
    return variables


def loss_variables(by_class: LossSums | None, by_bucket: LossSums) -> dict[str, xr.DataArray]:
    """Mean losses overall, by class (if given) and by bucket, with their errors and counts.

    Accuracies, where they are known. Arrays are copies.
    """
    variables = {
        "loss": xr.DataArray(by_bucket.overall, attrs={"long_name": "mean loss of all examples"})
    }
    known = by_bucket.correct is not None
    if known:
        variables["accuracy"] = xr.DataArray(
            by_bucket.overall_accuracy, attrs={"long_name": "share of correct predictions"}
        )
    for dim, sums in (("class", by_class), ("bucket", by_bucket)):
        if sums is None:
            continue
        for name, meaning in (
            ("mean", "mean loss"),
            ("standard_error", "standard error of the mean loss"),
            ("share", "share of the overall loss"),
            ("weight", "total weight of the examples"),
            ("count", "number of examples"),
            ("diverged", "losses left out as NaN, infinite or too large"),
        ):
            key = f"{dim}_loss" if name == "mean" else f"{dim}_loss_{name}"
            variables[key] = xr.DataArray(
                np.array(getattr(sums, name)), dims=dim, attrs={"long_name": meaning}
            )
        for name, meaning in (
            ("accuracy", "share of correct predictions"),
            ("accuracy_standard_error", "standard error of the accuracy"),
        ):
            if known:
                variables[f"{dim}_{name}"] = xr.DataArray(
                    getattr(sums, name), dims=dim, attrs={"long_name": meaning}
                )
    for name in ("ignored", "out_of_range", "unbucketed"):
        variables[name] = xr.DataArray(getattr(by_bucket, name))
    return variables
