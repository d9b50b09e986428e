"""Means over seeds and their errors, of one selection of runs or of two on the same seeds."""

import numpy as np
import xarray as xr

from imbalance.analysis.comparison import check_same_buckets, names_of, without_single
from imbalance.analysis.selection import NOT_RUN


def over_seeds(dataset: xr.Dataset, variable: str = "bucket_loss") -> xr.Dataset:
    """Mean, spread and range of a variable over seeds.

    Seeds that were not run (by ``status``, if there is one) are left out. A seed that was run and
    is NaN, as where it diverged, makes the result NaN: the others alone would look too good.

    Args:
      dataset: Runs at one learning rate each, such as those of `at_best` or joined records of
        several seeds.
      variable: Name of a variable ``[..., seed, ...]``, such as ``loss`` or ``bucket_loss``.

    Returns:
      With the other dimensions of ``variable``, over ``n`` seeds, in its units, float64:

      - ``mean``;
      - ``standard_deviation``, ``s = √(Σ (x - mean)² / (n - 1))``, NaN for one seed;
      - ``standard_error`` of the mean, ``s / √n``. It measures how the mean would vary with other
        seeds. Of few seeds it is rough: an interval of 95 % is ± 4.3 errors for three and ± 2.8
        for five, by Student's t with n - 1 degrees of freedom;
      - ``lowest`` and ``highest``;
      - ``num_seeds``, n.

    Raises:
      ValueError: If there is no such variable, or it has no dimension ``seed``.

    Example:
      >>> from imbalance import Sweep, at_best, over_seeds, problems, run
      >>> linear = problems.heavy_tailed_linear(m=3, bucketing="levels")
      >>> rates = {"gd": (0.1, 0.3), "adam": (0.01, 0.1)}
      >>> runs = run(Sweep(linear, rates, steps=30, seeds=(0, 1, 2)))
      >>> found = over_seeds(at_best(runs, step=30)).sel(optimizer="gd", step=30)
      >>> found["num_seeds"].item(), found["mean"].values.round(1)
      (3, array([0.7, 1.1, 1.7]))
    """
    values = _by_seed(dataset, variable)
    return _summary(values, _run(dataset)).assign_attrs(variable=variable)


def paired_over_seeds(
    one: xr.Dataset, other: xr.Dataset, variable: str = "bucket_loss"
) -> xr.Dataset:
    """The difference of two optimizers, or of other runs, on the same seeds.

    With d the difference on one seed, the standard error of its mean is ``s(d) / √n``. What a seed
    does to both, by its start or its data, cancels, so it is smaller than that of two independent
    means where they rise and fall together.

    Args:
      one: Runs at one learning rate each, as for `over_seeds`.
      other: Runs that differ in one label, such as ``best.sel(optimizer="adam")``; seeds that were
        run for both are paired, by label and not by place.
      variable: Name of a variable ``[..., seed, ...]``.

    Returns:
      What `over_seeds` returns, of ``one`` minus ``other``, at the steps at which both were
      measured. ``attrs`` hold the names of ``one`` and ``other`` and the paired ``seeds``.

    Raises:
      ValueError: If the two have no seeds or no steps in common, or other buckets, or as
        `over_seeds`.

    Example:
      >>> from imbalance import Sweep, at_best, paired_over_seeds, problems, run
      >>> linear = problems.heavy_tailed_linear(m=3, bucketing="levels")
      >>> rates = {"gd": (0.1, 0.3), "adam": (0.01, 0.1)}
      >>> runs = run(Sweep(linear, rates, steps=30, seeds=(0, 1, 2)))
      >>> best = at_best(runs, step=30)
      >>> found = paired_over_seeds(best.sel(optimizer="gd"), best.sel(optimizer="adam"))
      >>> found["mean"].sel(step=30).values.round(1)  # by how much GD is behind, by bucket
      array([0.6, 1. , 1.6])
    """
    one, other = (without_single(dataset, keep=("seed",)) for dataset in (one, other))
    values = [_by_seed(dataset, variable).reset_coords(drop=True) for dataset in (one, other)]
    check_same_buckets(one, other)
    _check_common("seed", *(_seeds(dataset) for dataset in (one, other)))
    if "step" in values[0].dims:
        _check_common("step", *(line["step"].values for line in values))
    first, second = xr.align(*values, join="inner")
    both = (_run(one) & _run(other)).reset_coords(drop=True)
    names = names_of(one, other)
    return _summary(first - second, both).assign_attrs(
        variable=variable,
        one=names[0],
        other=names[1],
        seeds=np.intersect1d(_seeds(one), _seeds(other)).tolist(),
    )


def _by_seed(dataset: xr.Dataset, variable: str) -> xr.DataArray:
    if variable not in dataset:
        known = [str(name) for name, values in dataset.data_vars.items() if "seed" in values.dims]
        raise ValueError(
            f"there is no {variable!r}; by seed there are {', '.join(known) or 'none'}."
        )
    values = dataset[variable]
    if "seed" not in values.dims:
        dims = ", ".join(map(str, values.dims)) or "none"
        raise ValueError(
            f"{variable} has dimensions {dims}; give runs of several seeds, such as joined records "
            "or those of at_best."
        )
    return values.astype(float, keep_attrs=True)


def _run(dataset: xr.Dataset) -> xr.DataArray:
    """Which runs were made; all, where it is not said."""
    if "status" in dataset:
        return dataset["status"] != NOT_RUN
    return xr.ones_like(dataset["seed"], bool)


def _seeds(dataset: xr.Dataset) -> np.ndarray:
    """The seeds of which a run was made."""
    run = _run(dataset)
    return run["seed"].values[run.any([dim for dim in run.dims if dim != "seed"])]


def _check_common(dim: str, one: np.ndarray, other: np.ndarray) -> None:
    if not np.isin(one, other).any():
        raise ValueError(
            f"one has {dim}s {one.tolist()} and other {other.tolist()}; give runs that have some "
            "in common."
        )


def _summary(values: xr.DataArray, run: xr.DataArray) -> xr.Dataset:
    """What `over_seeds` returns, of the runs that were made."""
    number = run.sum("seed")
    some = number > 0
    mean = (values.where(run, 0).sum("seed", skipna=False) / number.where(some)).where(some)
    squares = ((values - mean) ** 2).where(run, 0).sum("seed", skipna=False)
    deviation = np.sqrt(squares / (number - 1).where(number > 1))
    lowest = values.where(run, np.inf).min("seed", skipna=False).where(some)
    highest = values.where(run, -np.inf).max("seed", skipna=False).where(some)
    units = {name: value for name, value in values.attrs.items() if name == "units"}
    found = {
        "mean": (mean, "mean over seeds"),
        "standard_deviation": (deviation, "standard deviation over seeds"),
        "standard_error": (deviation / np.sqrt(number), "standard error of the mean over seeds"),
        "lowest": (lowest, "lowest of the seeds"),
        "highest": (highest, "highest of the seeds"),
    }
    summary = {
        name: values.assign_attrs(long_name=words, **units)
        for name, (values, words) in found.items()
    }
    return xr.Dataset(summary | {"num_seeds": number.assign_attrs(long_name="number of seeds")})
