"""Choosing and comparing runs of a stored sweep: functions of labelled datasets.

Section C.4 of the specification: at a horizon, take the worst seed of every learning rate and then
the best rate. Two rules say which rates may win, and the answer can depend on the rule:

- ``"final"`` (rule F, the authors' code): any rate whose final loss is finite and at most 1.5 times
  the initial one; other final losses count as the initial one. A run may explode on its way.
- ``"stable"`` (rule S): only rates whose loss never exceeds 1.5 times the initial one, at any step
  and seed.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

RULES = {
    "final": "rule F: lowest final loss, a run may explode on its way",
    "stable": "rule S: only rates whose loss never exceeds 1.5 times the initial one",
}
DIVERGED_FACTOR = 1.5
NOT_RUN = 0  # the status of a cell of the grid that holds no run; others are in `results`


def loss_at(dataset: xr.Dataset, step: int, variable: str = "loss") -> xr.DataArray:
    """``variable`` at ``step``.

    Raises:
      ValueError: if nothing was measured there.
    """
    if step not in dataset["step"]:
        raise ValueError(
            f"no losses were measured at step {step}; "
            f"measured are {dataset['step'].values.tolist()}"
        )
    return dataset[variable].sel(step=step, drop=True)


def highest_loss(dataset: xr.Dataset, step: int) -> xr.DataArray:
    """The largest loss of a run in steps 0 to ``step``, infinite where it was not finite."""
    every_step = dataset["train_loss"].where(dataset["train_step"] < step, -np.inf)
    # Frozen and exploding runs leave NaN behind; a run that was never made is masked by its status.
    every_step = every_step.where(np.isfinite(every_step) | (dataset["train_step"] >= step), np.inf)
    last = loss_at(dataset, step)
    return xr.ufuncs.maximum(every_step.max("train_step"), last.where(np.isfinite(last), np.inf))


def score(dataset: xr.Dataset, step: int, rule: str = "stable") -> xr.DataArray:
    """Loss of every learning rate at ``step`` in its worst seed; infinite where it may not win.

    Raises:
      ValueError: for an unknown rule, or a step that was not measured.
    """
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; known are {', '.join(RULES)}.")
    initial, final = loss_at(dataset, 0), loss_at(dataset, step)
    bound = DIVERGED_FACTOR * initial
    if rule == "stable":
        final = final.where(highest_loss(dataset, step) <= bound, np.inf)
    else:
        final = final.where(final <= bound, initial)  # also where it is NaN
    run = dataset["status"] != NOT_RUN
    return final.where(run).max("seed").where(run.any("seed"), np.inf)


def best_learning_rate(dataset: xr.Dataset, step: int, rule: str = "stable") -> xr.Dataset:
    """The best rate of each optimizer at ``step``.

    Args:
      dataset: a joined sweep with ``loss``, ``train_loss`` and ``status``.
      step: the horizon; losses must have been measured there.
      rule: which rates may win, one of `RULES`.

    Returns:
      ``learning_rate`` (NaN if no rate may win), ``loss`` in the worst seed, ``position`` in the
      dataset's grid, and ``edge``: "smallest tried" or "largest tried" where the best rate stands
      at the edge of its optimizer's grid, so that a wider one might do better, else "".
    """
    scores = score(dataset, step, rule)
    position = scores.argmin("learning_rate")
    tried = (dataset["status"] != NOT_RUN).any("seed")
    size = dataset.sizes["learning_rate"]
    first = tried.argmax("learning_rate")
    last = size - 1 - tried.isel(learning_rate=slice(None, None, -1)).argmax("learning_rate")
    edge = xr.where(position == first, "smallest tried", "")
    edge = xr.where(position == last, "largest tried", edge)
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


def at_best(dataset: xr.Dataset, step: int, rule: str = "stable") -> xr.Dataset:
    """The runs at each optimizer's `best_learning_rate`, with ``learning_rate`` and ``edge``.

    The result says in ``attrs["selection"]`` how rates were chosen.
    """
    best = best_learning_rate(dataset, step, rule)
    chosen = dataset.isel(learning_rate=best["position"]).drop_vars("learning_rate")
    chosen = chosen.assign_coords(learning_rate=best["learning_rate"], edge=best["edge"])
    return chosen.assign_attrs(selection=f"best rate at step {step}, {RULES[rule]}")


def at_fixed(
    dataset: xr.Dataset, learning_rates: Mapping[str, float], selection: str = "fixed"
) -> xr.Dataset:
    """The runs at given rates, one for each optimizer named; ``selection`` says in words why these.

    Raises:
      ValueError: if an optimizer or one of its rates is not in the dataset.
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
    return joined.assign_attrs(dataset.attrs, selection=selection)
