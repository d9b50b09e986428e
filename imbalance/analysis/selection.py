"""Selection of learning rates from the runs of a stored sweep or of records.

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

from collections.abc import Mapping

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
    """The largest loss of each run in steps 0 to ``step``; infinite if one was not finite.

    Of every step where ``train_loss`` holds them, else of the measured steps, as in records; those
    that are compared need the same steps.
    """
    last = loss_at(dataset, step)
    name, at = ("train_loss", "train_step") if "train_loss" in dataset else ("loss", "step")
    before = dataset[at] < step
    every_step = dataset[name].where(before, -np.inf)
    # Frozen and exploding runs leave NaN behind; runs that were not made are masked by `score`.
    every_step = every_step.where(np.isfinite(every_step) | ~before, np.inf)
    return xr.ufuncs.maximum(every_step.max(at), last.where(np.isfinite(last), np.inf))


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

    Example:
      >>> from imbalance import Sweep, at_best, problems, run
      >>> linear = problems.heavy_tailed_linear(m=3, bucketing="levels")
      >>> rates = {"gd": (0.1, 0.3), "adam": (0.01, 0.1)}
      >>> runs = run(Sweep(linear, rates, steps=30, seeds=(0, 1, 2)))
      >>> best = at_best(runs, step=30)
      >>> best["learning_rate"].values, best["edge"].values
      (array([0.3, 0.1]), array(['largest tried', 'largest tried'], dtype='<U17'))
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

    Example:
      >>> from imbalance import Sweep, at_fixed, problems, run
      >>> linear = problems.heavy_tailed_linear(m=3, bucketing="levels")
      >>> rates = {"gd": (0.1, 0.3), "adam": (0.01, 0.1)}
      >>> runs = run(Sweep(linear, rates, steps=30, seeds=(0, 1, 2)))
      >>> at_fixed(runs, {"gd": 0.3, "adam": 0.01})["learning_rate"].values
      array([0.3 , 0.01])
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
            "with at_best(runs, step), at_fixed(runs, {optimizer: rate}) or "
            ".sel(learning_rate=[...]). To see several runs of one optimizer, name them: "
            'join({"small rate": one, "large rate": other}).'
        )
    return dataset.isel(learning_rate=run.argmax("learning_rate"))
