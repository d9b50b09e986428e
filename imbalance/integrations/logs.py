"""Losses by class as plain numbers under names, which every logger takes."""

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.streaming import LossByClass


def scalars(
    losses: LossByClass, buckets: FrequencyBuckets | None = None, prefix: str = ""
) -> dict[str, float]:
    """Losses, and accuracies where they are known, as a flat dict of floats to be logged.

    Names: ``loss/overall``, ``loss/macro`` (the mean over classes) and ``loss/bucket_0``, from the
    most frequent to the rarest, or ``loss/bucket_few`` where buckets have names; likewise
    ``accuracy/overall``, ``accuracy/balanced`` and ``accuracy/bucket_0``. A number that is not
    known, such as the loss of a bucket without examples, is left out, since loggers differ in what
    they make of NaN. ``loss/diverged`` counts the examples of diverged losses, which are in no
    mean; it is there when there are any.

    Args:
      losses: Sums of the examples to be told of.
      buckets: Grouping of the classes by their counts in training; None: no bucket is told of,
        since buckets made anew at each report would not be the same ones.
      prefix: Beginning of every name, as ``"val/"``.

    Returns:
      The numbers, by name.

    Raises:
      TypeError: If ``buckets`` are not `FrequencyBuckets`.
      ValueError: If buckets have another number of classes, or two of one name.

    Example:
      >>> from imbalance import FrequencyBuckets, LossByClass
      >>> from imbalance.integrations import scalars
      >>> losses = LossByClass(num_classes=2)
      >>> losses.update([0.25, 0.75, 3.0], [0, 0, 1])
      >>> scalars(losses, FrequencyBuckets.shots([900, 10]), prefix="val/")
      {'val/loss/overall': 1.3333333333333333, 'val/loss/macro': 1.75,
       'val/loss/bucket_many': 0.5, 'val/loss/bucket_few': 3.0}
    """
    found = {"loss/overall": losses.overall, "loss/macro": losses.macro}
    if losses.correct is not None:
        found["accuracy/overall"] = losses.overall_accuracy
        found["accuracy/balanced"] = losses.balanced_accuracy
    if buckets is not None:
        read, labels = losses.by_bucket(buckets), _labels(buckets)
        found |= {f"loss/{a}": float(mean) for a, mean in zip(labels, read.mean, strict=True)}
        if read.correct is not None:
            right = zip(labels, read.accuracy, strict=True)
            found |= {f"accuracy/{a}": float(share) for a, share in right}
    if losses.diverged.any():
        found["loss/diverged"] = float(losses.diverged.sum())
    return {prefix + name: value for name, value in found.items() if value == value}


def _labels(buckets: FrequencyBuckets) -> list[str]:
    """What each bucket is called in a log."""
    names = range(buckets.num_buckets) if buckets.names is None else buckets.names
    labels = [f"bucket_{name}" for name in names]
    if len(set(labels)) < len(labels):
        raise ValueError(f"names of buckets are {buckets.names}; give each bucket its own.")
    return labels
