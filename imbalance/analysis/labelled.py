"""Selection and comparison of runs of a stored sweep or record, as functions of datasets.

A learning rate is scored by the loss of its worst seed at a horizon, and the rate with the lowest
score wins. Three rules say how a rate is scored, and the winner can depend on the rule:

- ``"final"`` (the authors' code): the final loss counts. If it is not finite, or more than
  1.5 times the initial loss, the initial loss counts instead. A run may explode on its way.
- ``"stable"``: only rates whose loss never exceeds 1.5 times the initial loss, at any step
  and seed, can win.
- ``"steady"``: of these, only rates whose loss oscillates by less than a tenth over the last fifth
  of the steps (see `oscillation`). It stands for what the authors did by hand with such rates.

Where learning rates were searched on some seeds and the best were run again on fresh ones
(``attrs["search_seeds"]`` says on which they were searched), rates are scored on the former, and
`at_best` gives the runs of the latter. These take part in the choice by their veto only: a rate
that cannot win on one of them gives way to the next.

See "Choosing a learning rate" in docs/method.md.
"""

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

RULES = {
    "final": "rule final: lowest final loss, a run may explode on its way",
    "stable": "rule stable: only rates whose loss never exceeds 1.5 times the initial one",
    "steady": "rule steady: the loss stays below 1.5 times the initial one and does not oscillate",
}
DIVERGED_FACTOR = 1.5
STEADY = 0.1  # largest rise of the loss, relative to its mean
SOLVED = 0.01  # of the initial loss: what is below counts as this much, or zero would oscillate
NOT_RUN, DIVERGED = 0, 2  # values of ``status`` in stored results


def loss_at(dataset: xr.Dataset, step: int, variable: str = "loss") -> xr.DataArray:
    """``variable`` at ``step``.

    Raises:
      ValueError: If nothing was measured there.
    """
    if step not in dataset["step"]:
        raise ValueError(
            f"no losses were measured at step {step}; "
            f"measured are {dataset['step'].values.tolist()}"
        )
    return dataset[variable].sel(step=step, drop=True)


def highest_loss(dataset: xr.Dataset, step: int) -> xr.DataArray:
    """The largest loss of each run in steps 0 to ``step``; infinite if one was not finite."""
    every_step = dataset["train_loss"].where(dataset["train_step"] < step, -np.inf)
    # Frozen and exploding runs leave NaN behind; runs that were not made are masked by `score`.
    every_step = every_step.where(np.isfinite(every_step) | (dataset["train_step"] >= step), np.inf)
    last = loss_at(dataset, step)
    return xr.ufuncs.maximum(every_step.max("train_step"), last.where(np.isfinite(last), np.inf))


def oscillation(dataset: xr.Dataset, step: int) -> xr.DataArray:
    """By how much each run's loss oscillates over the last fifth of the steps up to ``step``.

    The largest rise from one of these steps to a later one, relative to the mean loss there or to a
    hundredth of the initial loss, whichever is larger: a loss that falls, however fast, does not
    oscillate. The loss is that of every step where a step takes the whole training set, else the
    one that was measured on the whole of it. Infinite for runs whose loss was not finite there.
    """
    loss, at, last = dataset["loss"], "step", step
    if "train_loss" in dataset and dataset["train_loss"].attrs.get("rows", "all") == "all":
        loss, at, last = dataset["train_loss"], "train_step", step - 1  # of the forward pass before
    loss = loss.where((loss[at] >= 0.8 * step) & (loss[at] <= last), drop=True)
    loss = loss.where(np.isfinite(loss))
    if loss.sizes[at] < 3:
        return xr.zeros_like(loss_at(dataset, step))
    axis = loss.get_axis_num(at)
    lowest = loss.copy(data=np.minimum.accumulate(loss.values, axis=axis))
    rise = (loss - lowest).max(at, skipna=False)
    mean = loss.mean(at, skipna=False)
    found = rise / xr.ufuncs.maximum(mean, SOLVED * loss_at(dataset, 0))
    return found.where(np.isfinite(found), np.inf)


def score(dataset: xr.Dataset, step: int, rule: str = "steady") -> xr.DataArray:
    """Loss of each learning rate at ``step`` in its worst seed; infinite if it cannot win.

    Raises:
      ValueError: For an unknown rule, or a step that was not measured.
    """
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; known are {', '.join(RULES)}.")
    initial, final = loss_at(dataset, 0), loss_at(dataset, step)
    bound = DIVERGED_FACTOR * initial
    if rule != "final":
        final = final.where(highest_loss(dataset, step) <= bound, np.inf)
        if rule == "steady":
            final = final.where(oscillation(dataset, step) <= STEADY, np.inf)
    else:
        final = final.where(final <= bound, initial)  # also where it is NaN
    run = dataset["status"] != NOT_RUN
    return final.where(run).max("seed").where(run.any("seed"), np.inf)


def best_learning_rate(dataset: xr.Dataset, step: int, rule: str = "steady") -> xr.Dataset:
    """The best rate of each optimizer at ``step``.

    Args:
      dataset: Joined sweep with ``loss``, ``train_loss`` and ``status``.
      step: Horizon, a step at which losses were measured.
      rule: Selection rule, one of `RULES`.

    Returns:
      ``learning_rate`` (NaN if no rate qualifies), ``loss`` in the worst seed, ``position`` in the
      dataset's grid, and ``edge``: "smallest tried" or "largest tried" where the best rate is at
      the edge of its optimizer's grid, so that a wider grid might do better; "no rate qualifies";
      else "", as where a single rate was tried.
    """
    scores = score(_searched(dataset), step, rule)
    scores = scores.where(~_refuted(dataset, step, rule), np.inf)
    position = scores.argmin("learning_rate")
    tried = (_searched(dataset)["status"] != NOT_RUN).any("seed")
    size = dataset.sizes["learning_rate"]
    first = tried.argmax("learning_rate")
    last = size - 1 - tried.isel(learning_rate=slice(None, None, -1)).argmax("learning_rate")
    edge = xr.where(position == first, "smallest tried", "")
    edge = xr.where(position == last, "largest tried", edge)
    edge = xr.where(first == last, "", edge)
    loss = scores.min("learning_rate")
    any_wins = np.isfinite(loss)
    return xr.Dataset(
        {
            "learning_rate": dataset["learning_rate"]
            .isel(learning_rate=position)
            .drop_vars("learning_rate")
            .where(any_wins),
            "loss": loss,
            "position": position,
            "edge": xr.where(any_wins, edge, "no rate qualifies"),
        },
        attrs={"rule": rule, "step": step},
    )


def at_best(dataset: xr.Dataset, step: int, rule: str = "steady") -> xr.Dataset:
    """The runs at each optimizer's `best_learning_rate`, with ``learning_rate`` and ``edge``.

    Of fresh seeds where all that were selected have such runs, else of those of the search.
    ``attrs["selection"]`` says how the rates were selected.
    """
    best = best_learning_rate(dataset, step, rule)
    chosen = dataset.isel(learning_rate=best["position"]).drop_vars("learning_rate")
    chosen = _of_fresh_seeds(chosen, best["loss"] < np.inf)
    chosen = chosen.assign_coords(learning_rate=best["learning_rate"], edge=best["edge"])
    return chosen.assign_attrs(selection=f"best rate at step {step}, {RULES[rule]}")


def _search_seeds(dataset: xr.Dataset) -> list[int]:
    return np.atleast_1d(dataset.attrs.get("search_seeds", dataset["seed"].values)).tolist()


def _searched(dataset: xr.Dataset) -> xr.Dataset:
    """The runs among which learning rates are chosen."""
    if "seed" not in dataset.dims:
        return dataset
    return dataset.sel(seed=dataset["seed"].isin(_search_seeds(dataset)))


def _refuted(dataset: xr.Dataset, step: int, rule: str) -> xr.DataArray:
    """Rates that cannot win on a fresh seed: what is steady on one start may shake on another."""
    if "seed" not in dataset.dims:
        return xr.DataArray(False)
    fresh = dataset.sel(seed=~dataset["seed"].isin(_search_seeds(dataset)))
    if not fresh.sizes["seed"]:
        return xr.DataArray(False)
    run = (fresh["status"] != NOT_RUN).any("seed")
    return run & np.isinf(score(fresh, step, rule))


def _of_fresh_seeds(chosen: xr.Dataset, wanted: xr.DataArray) -> xr.Dataset:
    """Runs on seeds other than those of the search, if all ``wanted`` selections have them."""
    if "seed" not in chosen.dims:
        return chosen
    fresh = ~chosen["seed"].isin(_search_seeds(chosen))
    run = (chosen["status"] != NOT_RUN).sel(seed=fresh)
    shown = fresh if fresh.any() and bool((run.all("seed") | ~wanted).all()) else ~fresh
    return chosen.sel(seed=shown)


def at_fixed(
    dataset: xr.Dataset, learning_rates: Mapping[str, float], selection: str = "fixed"
) -> xr.Dataset:
    """The runs at given rates, one per optimizer; ``selection`` says in words why these.

    Raises:
      ValueError: If an optimizer or one of its rates is not in the dataset.
    """
    known = dataset["optimizer"].values.tolist()
    chosen = []
    for optimizer, rate in learning_rates.items():
        if optimizer not in known:
            raise ValueError(f"no runs of optimizer {optimizer!r}; there are {', '.join(known)}.")
        one = dataset.sel(optimizer=[optimizer])
        run = (one["status"] != NOT_RUN).any(
            [d for d in one["status"].dims if d != "learning_rate"]
        )
        tried = one["learning_rate"].values[run.values]
        near = [r for r in tried if np.isclose(r, rate, rtol=1e-6, atol=0)]
        if not near:
            raise ValueError(
                f"no runs of {optimizer!r} at learning rate {rate:g}; tried are "
                f"{', '.join(f'{r:.3g}' for r in tried)}."
            )
        one = one.sel(learning_rate=near[0]).drop_vars("learning_rate")
        chosen.append(one.assign_coords(learning_rate=("optimizer", [near[0]])))
    joined = xr.concat(
        chosen, "optimizer", data_vars="minimal", coords="minimal", compat="equals", join="exact"
    )
    joined = _of_fresh_seeds(joined.assign_attrs(dataset.attrs), xr.DataArray(True))
    return joined.assign_attrs(selection=selection)


def at_only(dataset: xr.Dataset) -> xr.Dataset:
    """The runs without their learning-rate dimension, where every optimizer has a single rate.

    Raises:
      ValueError: If an optimizer has several, or none.
    """
    if "learning_rate" not in dataset.dims:
        return dataset
    others = [d for d in dataset["status"].dims if d not in ("optimizer", "learning_rate")]
    run = (dataset["status"] != NOT_RUN).any(others)
    number = run.sum("learning_rate")
    if (number != 1).any():
        raise ValueError(
            f"optimizers have {np.atleast_1d(number).tolist()} learning rates; choose one for each "
            "with at_best or at_fixed, or with .sel(learning_rate=[...])."
        )
    return dataset.isel(learning_rate=run.argmax("learning_rate"))


def time_to_fraction(
    dataset: xr.Dataset, fraction: float = 0.5, variable: str = "bucket_loss"
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
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; give a number between 0 and 1.")
    if "step" not in dataset[variable].dims:
        dims = ", ".join(map(str, dataset[variable].dims))
        raise ValueError(f"{variable} has dimensions {dims}; give a loss by step.")

    def first(loss: np.ndarray, step: np.ndarray) -> float:
        measured = np.isfinite(loss)
        loss, step = loss[measured].astype(float), step[measured]
        there = np.flatnonzero(loss <= fraction * loss[:1])
        if not there.size:
            return np.nan
        around = slice(max(there[0] - 1, 0), there[0] + 1)
        # A loss that is zero from the start gets there at once.
        return float(np.interp(-fraction * loss[0], -loss[around], step[around]))

    time = _by_line(dataset, dataset[variable], first)
    return time.rename("time_to_fraction").assign_attrs(
        units="step", long_name=f"step at which the loss is at {fraction:g} of its initial value"
    )


def compare(one: xr.Dataset, other: xr.Dataset, fraction: float = 0.5) -> xr.Dataset:
    """Two runs side by side, bucket by bucket: how fast each bucket is learnt, and how far.

    Dimensions of size one, such as the optimizer and learning rate of a record, are dropped. Others
    are kept and must have the same labels in both.

    Args:
      one: Record, or runs selected from a sweep.
      other: Runs of another optimizer, learning rate, ... with the same buckets.
      fraction: Share of the initial loss, as in `time_to_fraction`.

    Returns:
      By ``bucket``: ``time_one`` and ``time_other``, the `time_to_fraction` of each;
      ``time_ratio``, the first over the second, above one where ``other`` is faster;
      ``final_difference``, the loss of ``one`` minus that of ``other`` in nats, at the last step
      that both reached (if a bucket has no examples there, at the last before). They are NaN where
      either is NaN, for the reasons given at `time_to_fraction`. ``bucket_mass`` and
      ``bucket_classes`` are copied. ``attrs`` hold the names of ``one`` and ``other``, the
      ``fraction`` and the ``final_step``.

    Raises:
      ValueError: If buckets or other labels differ, or as `time_to_fraction`.
    """
    one, other = _without_single(one), _without_single(other)
    _check_same_labels(one, other)
    names = _names(one, other)
    one, other = (dataset.reset_coords(drop=True) for dataset in (one, other))
    times = [time_to_fraction(dataset, fraction) for dataset in (one, other)]
    final_step = float(np.minimum(_last_step(one), _last_step(other)))
    finals = [
        _by_line(dataset, dataset["bucket_loss"].where(dataset["step"] <= final_step), _last_loss)
        for dataset in (one, other)
    ]
    ratio, difference = times[0] / times[1], finals[0] - finals[1]
    return xr.Dataset(
        {name: one[name] for name in ("bucket_mass", "bucket_classes") if name in one}
        | {
            "time_one": times[0],
            "time_other": times[1],
            "time_ratio": ratio.assign_attrs(long_name="time of one over time of other"),
            "final_difference": difference.assign_attrs(
                units="nats", long_name="final loss of one minus that of other"
            ),
        },
        attrs={
            "one": names[0],
            "other": names[1],
            "fraction": fraction,
            "final_step": final_step,
        },
    )


def _by_line(
    dataset: xr.Dataset, losses: xr.DataArray, function: Callable[[np.ndarray, np.ndarray], float]
) -> xr.DataArray:
    """``function(losses, steps)`` along each line of ``losses``; NaN for diverged runs."""
    found = xr.apply_ufunc(
        function,
        losses,
        losses["step"],
        input_core_dims=[["step"], ["step"]],
        vectorize=True,
        output_dtypes=[float],
    )
    return found.where(dataset["status"] != DIVERGED) if "status" in dataset else found


def _last_step(dataset: xr.Dataset) -> float:
    measured = dataset["bucket_loss"].notnull()
    measured = measured.any([d for d in measured.dims if d != "step"])
    return float(dataset["step"].where(measured).max())


def _last_loss(loss: np.ndarray, step: np.ndarray) -> float:
    measured = loss[np.isfinite(loss)]
    return float(measured[-1]) if measured.size else np.nan


def _without_single(dataset: xr.Dataset) -> xr.Dataset:
    """``dataset`` without the dimensions that have a single label, or a single one that was run."""
    run = dataset["status"] != NOT_RUN if "status" in dataset else xr.DataArray(True)
    for dim in run.dims:
        dataset = dataset.isel({dim: run.any([d for d in run.dims if d != dim]).values})
    others = set(dataset["bucket_loss"].dims) - {"step", "bucket"}
    return dataset.squeeze([dim for dim in others if dataset.sizes[dim] == 1])


def _names(one: xr.Dataset, other: xr.Dataset) -> tuple[str, str]:
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


def _check_same_labels(one: xr.Dataset, other: xr.Dataset) -> None:
    of_one, of_other = (
        dataset.get("bucket_of_class", dataset["bucket"]).values for dataset in (one, other)
    )
    same = one.sizes["bucket"] == other.sizes["bucket"]
    if not (same and np.array_equal(of_one, of_other, equal_nan=True)):
        raise ValueError(
            f"one has {one.sizes['bucket']} buckets and other {other.sizes['bucket']}, or their "
            "classes differ; give both the same, as by load_record(path, buckets)."
        )
    for dim in set(one["bucket_loss"].dims) & set(other["bucket_loss"].dims) - {"step"}:
        labels = [dataset[dim].values.tolist() for dataset in (one, other)]
        if labels[0] != labels[1]:
            raise ValueError(
                f"{dim} is {labels[0]} in one and {labels[1]} in other; select the same, or one of "
                "each with .sel."
            )
