"""Two runs side by side, bucket by bucket: when each is learnt, and how far.

Every run is measured at steps of its own. Between them a loss is interpolated linearly, so two runs
are compared at the same step and never at neighbouring ones.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import xarray as xr

from imbalance.analysis.selection import DIVERGED, NOT_RUN

INTERPOLATION = "linear between measured steps"
LOSS, ERROR = "bucket_loss", "bucket_loss_standard_error"


def time_to_fraction(
    dataset: xr.Dataset, fraction: float = 0.5, variable: str = LOSS
) -> xr.DataArray:
    """The step at which a loss is first at most ``fraction`` of its initial value.

    The initial value is the first that was measured. The loss is interpolated linearly between
    measured steps; steps at which it is NaN or infinite are skipped. The result is NaN where the
    loss never gets there, where the run diverged (by its ``status``, if there is one) or was not
    made, and for a bucket without examples.

    Args:
      dataset: Sweep or record.
      fraction: Share of the initial loss, between 0 and 1.
      variable: Name of a loss ``[..., step, ...]``.

    Returns:
      float64, with the dimensions of ``variable`` without ``step``.

    Raises:
      ValueError: If ``fraction`` is not between 0 and 1, or the variable has no steps.
    """
    _check_fraction(fraction)
    if "step" not in dataset[variable].dims:
        dims = ", ".join(map(str, dataset[variable].dims))
        raise ValueError(f"{variable} has dimensions {dims}; give a loss by step.")

    time = xr.apply_ufunc(
        lambda step, loss: _first_time(_measured(step, loss), fraction),
        dataset["step"],
        dataset[variable],
        input_core_dims=[["step"], ["step"]],
        vectorize=True,
        output_dtypes=[float],
    ).where(_not_diverged(dataset))
    return time.rename("time_to_fraction").assign_attrs(
        units="step", long_name=f"step at which the loss is at {fraction:g} of its initial value"
    )


def compare(one: xr.Dataset, other: xr.Dataset, fraction: float = 0.5) -> xr.Dataset:
    """Two runs side by side, bucket by bucket: how fast each bucket is learnt, and how far.

    The runs may have been measured at different steps. A bucket is compared over the steps that
    both reached, from the first to the last: where one of them was not measured, its loss is
    interpolated linearly between the steps before and after. Steps at which a bucket has no
    examples count as not measured.

    Dimensions of size one, such as the optimizer and learning rate of a record, are dropped. Others
    are kept and must have the same labels in both.

    Args:
      one: Record, or runs selected from a sweep.
      other: Runs of another optimizer, learning rate, ... with the same buckets.
      fraction: Share of the loss at the first step that both reached, between 0 and 1.

    Returns:
      By ``bucket``, NaN where a run diverged (by its ``status``) or was not made, or where the two
      have no common steps at which the bucket has examples:

      - ``time_one`` and ``time_other``, the step at which the loss of each is first at most
        ``fraction`` of its own at the first common step, NaN if it never gets there. It may be
        after the last common step.
      - ``time_ratio``, the first over the second: above one where ``other`` is faster.
      - ``final_difference``, the loss of ``one`` minus that of ``other`` in nats at ``final_step``,
        the last step that both reached.
      - ``final_difference_error``, its standard error ``√(e₁² + e₂²)`` from the errors ``e`` stored
        by both runs, if they are. It measures the noise of the examples measured, as if those of
        the two runs were independent; where both were evaluated on the same examples, much of the
        noise is in both and cancels, and this is too large. It does not measure the variation
        between seeds, see `imbalance.analysis.seeds`. Between two measured steps ``e`` is
        interpolated like the loss, which is its value if both evaluate the same examples.

      ``bucket_mass`` and ``bucket_classes`` are copied. ``attrs`` hold the names of ``one`` and
      ``other``, the ``fraction``, the ``final_step`` of the bucket that was measured last, and
      ``interpolation``.

    Raises:
      ValueError: If buckets or other labels differ, if the runs have no steps in common, or as
        `time_to_fraction`.

    Example:
      >>> from imbalance import Sweep, at_best, compare, problems, run
      >>> linear = problems.heavy_tailed_linear(m=3, bucketing="levels")
      >>> rates = {"gd": (0.1, 0.3), "adam": (0.01, 0.1)}
      >>> runs = run(Sweep(linear, rates, steps=30, seeds=(0, 1, 2)))
      >>> best = at_best(runs, step=30).sel(seed=0)
      >>> table = compare(best.sel(optimizer="gd"), best.sel(optimizer="adam"))
      >>> table["final_difference"].values.round(1)  # by how much GD is behind, by bucket
      array([0.6, 1. , 1.6])
    """
    _check_fraction(fraction)
    one, other = without_single(one), without_single(other)
    check_same_buckets(one, other)
    _check_same_labels(one, other)
    names = names_of(one, other)
    runs = [dataset.reset_coords(drop=True) for dataset in (one, other)]
    _check_common_steps(*runs)
    found = _side_by_side(runs[0], runs[1], fraction)
    return xr.Dataset(
        {name: runs[0][name] for name in ("bucket_mass", "bucket_classes") if name in one} | found,
        attrs={
            "one": names[0],
            "other": names[1],
            "fraction": fraction,
            "final_step": float(found["final_step"].max()),
            "interpolation": INTERPOLATION,
        },
    )


def _side_by_side(one: xr.Dataset, other: xr.Dataset, fraction: float) -> dict[str, xr.DataArray]:
    """What `compare` returns by bucket."""

    def curves(dataset: xr.Dataset, step: str) -> list[xr.DataArray]:
        errors = dataset.get(ERROR, xr.full_like(dataset[LOSS], np.nan, float))
        lines = dataset["step"], dataset[LOSS], errors
        return [line.rename(step=step).drop_vars(step) for line in lines]

    time_one, time_other, difference, error, final_step = xr.apply_ufunc(
        lambda *lines: _compared(_measured(*lines[:3]), _measured(*lines[3:]), fraction),
        *curves(one, "step_one"),
        *curves(other, "step_other"),
        input_core_dims=[["step_one"]] * 3 + [["step_other"]] * 3,
        output_core_dims=[[]] * 5,
        vectorize=True,
        output_dtypes=[float] * 5,
    )
    time_one = time_one.where(_not_diverged(one))
    time_other = time_other.where(_not_diverged(other))
    both = _not_diverged(one) & _not_diverged(other)
    found = {
        "time_one": (time_one, "step", f"step at which one is at {fraction:g} of its loss"),
        "time_other": (time_other, "step", f"step at which other is at {fraction:g} of its loss"),
        "time_ratio": (time_one / time_other, "1", "time of one over time of other"),
        "final_difference": (
            difference.where(both),
            "nats",
            "final loss of one minus that of other",
        ),
        "final_step": (final_step, "step", "last step that both reached"),
    }
    if ERROR in one and ERROR in other:
        what = "standard error of the difference, of independent examples"
        found["final_difference_error"] = (error.where(both), "nats", what)
    return {
        name: values.assign_attrs(units=units, long_name=words)
        for name, (values, units, words) in found.items()
    }


class _Curve(NamedTuple):
    """Where a loss was measured: float64 ``[step]`` each."""

    step: np.ndarray
    loss: np.ndarray
    error: np.ndarray

    def at(self, step: float) -> tuple[float, float]:
        """The loss and its error at a step within the curve."""
        return (
            float(np.interp(step, self.step, self.loss)),
            float(np.interp(step, self.step, self.error)),
        )


def _measured(step: np.ndarray, loss: np.ndarray, error: np.ndarray | None = None) -> _Curve:
    measured = np.isfinite(loss)
    error = np.full(loss.shape, np.nan) if error is None else error
    return _Curve(*(values[measured].astype(float) for values in (step, loss, error)))


def _compared(one: _Curve, other: _Curve, fraction: float) -> tuple[float, ...]:
    """Both times, the final difference with its error, and its step, of one bucket."""
    if not (one.step.size and other.step.size):
        return (np.nan,) * 5
    first, last = max(one.step[0], other.step[0]), min(one.step[-1], other.step[-1])
    if first > last:
        return (np.nan,) * 5
    times = [_first_time(_from(first, curve), fraction) for curve in (one, other)]
    (loss, error), (other_loss, other_error) = one.at(last), other.at(last)
    return *times, loss - other_loss, float(np.hypot(error, other_error)), float(last)


def _from(first: float, curve: _Curve) -> _Curve:
    """A curve from a step on that lies within it."""
    later = curve.step > first
    beginning = (first, *curve.at(first))
    ends = zip(beginning, curve, strict=True)
    return _Curve(*(np.append(start, values[later]) for start, values in ends))


def _first_time(curve: _Curve, fraction: float) -> float:
    """The step at which a curve is first at most ``fraction`` of its first loss, or NaN."""
    step, loss, _ = curve
    there = np.flatnonzero(loss <= fraction * loss[:1])
    if not there.size:
        return np.nan
    around = slice(max(there[0] - 1, 0), there[0] + 1)
    # A loss that is zero from the start gets there at once.
    return float(np.interp(-fraction * loss[0], -loss[around], step[around]))


def _not_diverged(dataset: xr.Dataset) -> xr.DataArray:
    return dataset["status"] != DIVERGED if "status" in dataset else xr.DataArray(True)


# Which runs can be compared ---------------------------------------------------------------------


def without_single(dataset: xr.Dataset, keep: Collection[str] = ()) -> xr.Dataset:
    """``dataset`` without the dimensions that have a single label, or a single one that was run.

    Args:
      dataset: Sweep or record.
      keep: Dimensions to leave as they are.

    Raises:
      ValueError: If it has no losses by bucket.
    """
    if LOSS not in dataset:
        raise ValueError(
            f"there is no {LOSS} among {', '.join(map(str, dataset.data_vars)) or 'no variables'}; "
            "give a record, by load_record(path), or runs of a sweep."
        )
    run = dataset["status"] != NOT_RUN if "status" in dataset else xr.DataArray(True)
    for dim in set(run.dims) - set(keep):
        dataset = dataset.isel({dim: run.any([d for d in run.dims if d != dim]).values})
    others = set(dataset[LOSS].dims) - {"step", "bucket", *keep}
    return dataset.squeeze([dim for dim in others if dataset.sizes[dim] == 1])


def names_of(one: xr.Dataset, other: xr.Dataset) -> tuple[str, str]:
    """Names of two runs: their optimizers and, if these are equal, the labels that differ."""
    labels = [
        {str(name): coord.item() for name, coord in dataset.coords.items() if coord.ndim == 0}
        for dataset in (one, other)
    ]
    names = [labels[0].pop("optimizer", "one"), labels[1].pop("optimizer", "other")]
    if names[0] == names[1]:
        for i, label in enumerate(labels):
            for name, value in label.items():
                if repr(value) != repr(labels[1 - i].get(name)):  # NaN is the same as NaN
                    names[i] += f", {name} {f'{value:.3g}' if isinstance(value, float) else value}"
    return names[0], names[1]


def check_same_buckets(
    one: xr.Dataset, other: xr.Dataset, names: tuple[str, str] = ("one", "other")
) -> None:
    """That two datasets group the same classes into the same buckets.

    Raises:
      ValueError: If they do not: in what they differ, by ``names``, and what to do.
    """
    differs = _bucket_difference(one, other, names)
    if differs:
        raise ValueError(
            f"{differs}. Give both the same buckets, as by load_record(path, buckets) with "
            "buckets = FrequencyBuckets.from_counts(counts) of the training data."
        )


def _bucket_difference(one: xr.Dataset, other: xr.Dataset, names: tuple[str, str]) -> str:
    for dim, words in (("bucket", "buckets"), ("class", "classes")):
        sizes = one.sizes.get(dim, 0), other.sizes.get(dim, 0)
        if sizes[0] != sizes[1] and all(sizes):
            return f"{names[0]} has {sizes[0]} {words} and {names[1]} has {sizes[1]}"
    if "bucket_of_class" not in one or "bucket_of_class" not in other:
        return ""
    of_one, of_other = (dataset["bucket_of_class"].values for dataset in (one, other))
    if of_one.ndim != 1 or of_other.ndim != 1:  # sweeps that differ in their buckets
        return "" if np.array_equal(of_one, of_other, equal_nan=True) else "the buckets differ"
    moved = np.flatnonzero(~((of_one == of_other) | (np.isnan(of_one) & np.isnan(of_other))))
    if not moved.size:
        return ""
    first, more = moved[0], moved.size - 1
    places = [
        f"in bucket {int(of[first])} of {name}"
        for of, name in zip((of_one, of_other), names, strict=True)
    ]
    return f"the buckets differ: class {first} is {' and '.join(places)}" + (
        f", and so with {more} more" if more else ""
    )


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; give a number between 0 and 1.")


def _check_same_labels(one: xr.Dataset, other: xr.Dataset) -> None:
    for dim in set(one[LOSS].dims) & set(other[LOSS].dims) - {"step"}:
        labels = [dataset[dim].values.tolist() for dataset in (one, other)]
        if labels[0] != labels[1]:
            raise ValueError(
                f"{dim} is {labels[0]} in one and {labels[1]} in other; select the same, or one of "
                "each with .sel."
            )


def _check_common_steps(one: xr.Dataset, other: xr.Dataset) -> None:
    ends = []
    for dataset in (one, other):
        loss = dataset[LOSS]
        measured = loss.where(np.isfinite(loss)).notnull()
        step = dataset["step"].where(measured.any([d for d in loss.dims if d != "step"]))
        ends.append((float(step.min()), float(step.max())))
    if ends[0][0] > ends[1][1] or ends[1][0] > ends[0][1]:  # not so where nothing was measured
        raise ValueError(
            f"one was measured at steps {ends[0][0]:g} to {ends[0][1]:g} and other at "
            f"{ends[1][0]:g} to {ends[1][1]:g}, so there is no step to compare them at; give runs "
            "whose steps overlap."
        )
