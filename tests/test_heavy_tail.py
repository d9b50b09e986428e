"""The claims of Figure 3, on curves whose verdicts are known."""

import numpy as np
import pytest
import xarray as xr

from imbalance.reporting import heavy_tail
from imbalance.reporting.heavy_tail import ADAM, GD

STEPS = np.arange(0, 21, 2)
SEEDS = [1, 2]
RATES = [0.1, 1.0, 10.0]
BUCKETS = 4


def curves(lag):
    """Losses ``[seed, step, bucket]`` that halve every ``1 + lag * bucket`` steps."""
    speed = 1 / (1 + lag * np.arange(BUCKETS))
    return np.stack([4 * 2 ** -(STEPS[:, None] * speed) for _ in SEEDS])


def results(lags):
    """What a sweep stores: by data and optimizer, the middle learning rate the best."""
    shape = len(lags), 2, len(RATES), len(SEEDS), len(STEPS), BUCKETS
    bucket_loss = np.full(shape, 4.0)
    for i, pair in enumerate(lags.values()):
        for j, lag in enumerate(pair):
            bucket_loss[i, j, 1] = curves(lag)
    dims = ("data", "optimizer", "learning_rate", "seed", "step", "bucket")
    loss = bucket_loss.mean(-1)
    dataset = xr.Dataset(
        {
            "loss": (dims[:-1], loss),
            "bucket_loss": (dims, bucket_loss),
            "status": (dims[:-2], np.ones(shape[:-2], int)),
        },
        {
            "data": list(lags),
            "optimizer": [GD, ADAM],
            "learning_rate": RATES,
            "seed": SEEDS,
            "step": STEPS,
            "bucket": np.arange(BUCKETS),
        },
        {"scale": "laptop"},
    )
    return dataset


def verdicts(lags):
    rows = heavy_tail.claims(results(lags), "Figure 3", {})
    assert len({claim.name for claim in rows}) == len(rows)
    return {claim.name: claim for claim in rows}


def test_a_gap_that_only_the_tail_has_is_found():
    found = verdicts({"uniform": (0, 0), "heavy_tailed": (20, 1)})
    assert found["gap-is-of-the-tail-and-not-of-uniform"].holds
    assert found["gd-buckets-ordered-by-frequency"].holds
    # Adam halves the rarest bucket at step 4; gradient descent, which would take 61, does not.
    halved = found["gd-halves-the-rarest-bucket-late"]
    assert halved.holds and halved.measured.startswith("5 ")
    assert found["ratio-of-gaps"].holds is None
    assert found["gap-uniform"].measured.startswith("0 ")
    assert found["uniform-best-rates-inside-grid"].holds


def test_a_gap_that_uniform_classes_have_as_well_is_not_one_of_the_tail():
    found = verdicts({"uniform": (20, 1), "heavy_tailed": (20, 1), "full": (0, 0)})
    assert found["gap-is-of-the-tail-and-not-of-uniform"].holds is False
    assert found["gap-is-of-the-tail-and-not-of-full"].holds
    assert found["ratio-of-gaps"].measured.startswith("1 ")


def test_the_ratio_counts_a_tiny_gap_as_a_hundredth_of_the_initial_loss():
    found = verdicts({"uniform": (0, 0), "heavy_tailed": (20, 1)})
    gap = float(found["gap-heavy-tailed"].measured.split()[0])
    ratio = float(found["ratio-of-gaps"].measured.split()[0])
    assert ratio == pytest.approx(gap / 0.04, rel=1e-3)
