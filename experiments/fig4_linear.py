"""Figure 4: a linear softmax model on random heavy-tailed labels shows Adam's whole advantage.

Claim (Figure 4): what is seen in language models is also seen with a linear model, random inputs
and full batch. Gradient descent fits the frequent classes and leaves the rare ones behind; Adam
fits all of them. So neither depth, nor noise, nor text is needed.

At laptop scale m = 8 (2,048 examples, 255 classes); the paper has m = 11. Learning rates are
searched on one seed and the best by the rule `steady` at step 100, about twice what Adam needs to
fit both halves, run on three others. At step 150 the best rate of gradient descent is one at which
its loss shakes for a hundred steps before: what is left of the gap then is told by the claims.

Run:    python experiments/fig4_linear.py
Draws:  figures/fig4_linear.png
"""

from functools import partial

import numpy as np

from imbalance.analysis import FrequencyBuckets
from imbalance.analysis.block_measures import spearman
from imbalance.analysis.counts import entropy
from imbalance.analysis.selection import RULES, at_best
from imbalance.data import zipf
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, close, inside_grid, undecided
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops

OPTIMIZERS = ("gd+m", "adam")
SECTION = "Figure 4"
STEPS = {"smoke": 20, "laptop": 150, "paper": 150}
HORIZON = {"smoke": 20, "laptop": 100, "paper": 150}  # at which learning rates are chosen
STOPS = {"smoke": 76, "laptop": 76, "paper": 151}
TABLE = {  # m -> n, d, c, largest and smallest share of a class, entropy: see docs/method.md
    7: (896, 1024, 127, 1 / 7, 2 / 896, 4.025),
    8: (2048, 2304, 255, 1 / 8, 2 / 2048, 4.505),
    11: (22528, 24576, 2047, 1 / 11, 2 / 22528, 5.864),
}
BUCKETS = {  # m -> number of classes in each of ten buckets
    7: (1, 1, 2, 3, 4, 8, 11, 21, 32, 44),
    8: (1, 2, 2, 4, 6, 13, 23, 38, 64, 102),
    11: (2, 2, 6, 12, 25, 55, 115, 243, 512, 1075),
}


def sweeps(scale):
    """Gradient descent and Adam, both with momentum, over their grids."""
    m, gd, adam = {
        "smoke": (4, (-3, -1), (-4, -2)),
        "laptop": (8, (-2.5, -1), (-3.5, -2)),
        "paper": (11, (-4, -1), (-5, -3)),
    }[scale]
    rates = {"gd+m": half_decades(*gd), "adam": half_decades(*adam)}
    steps, horizon = STEPS[scale], HORIZON[scale]
    confirm = Confirm(steps=tuple({horizon, steps}))
    stops = linear_stops(steps, STOPS[scale])
    return {"": Sweep(heavy_tailed_linear(m), rates, steps, confirm=confirm, stops=stops)}


def best(dataset):
    """The runs at the best learning rates by the rule `steady`, at the horizon."""
    return at_best(dataset, HORIZON[dataset.attrs["scale"]])


def draw(dataset):
    """Class frequencies, overall loss, and both optimizers by bucket."""
    examples, classes = int(dataset["class_count"].sum()), dataset.sizes["class"]
    return plots.fan(
        [best(dataset)],
        OPTIMIZERS,
        top=1.4 * np.log(classes),
        title="A linear softmax model on random labels: GD leaves rare classes behind",
        more=f"{examples:,} examples, {classes:,} classes, full batch.",
    )


def claims(dataset):
    """The data, and what Figure 4 shows, in numbers."""
    scale = dataset.attrs["scale"]
    rows, last = _figure_rows(best(dataset), HORIZON[scale]), STEPS[scale]
    for rule in RULES:
        loss = at_best(dataset, last, rule)["loss"].sel(step=last)
        rows.append(
            between(
                f"later-gap-by-rule-{rule}",
                f"rates chosen at step {last} by the rule {rule} (GD's loss may shake before): "
                "GD's overall loss minus Adam's there, nats",
                loss.sel(optimizer="gd+m") - loss.sel(optimizer="adam"),
                low=1.0,
                fixed="before any run",
            )
        )
    return [
        *rows,
        *_paper_scale(best(dataset), scale),
        inside_grid(best(dataset)),
        *(_table_row(m) for m in TABLE),
        *(_bucket_row(m) for m in BUCKETS),
    ]


def _figure_rows(chosen, last):
    """What Figure 4 shows at the horizon, in numbers."""
    gd, adam = (chosen.sel(optimizer=optimizer) for optimizer in OPTIMIZERS)
    gd_last, adam_last = gd["bucket_loss"].sel(step=last), adam["bucket_loss"].sel(step=last)
    at_start = chosen["bucket_loss"].sel(step=0)
    mass_mean = (chosen["bucket_loss"] * chosen["bucket_mass"]).sum("bucket")
    test = partial(between, fixed="before any run", section=SECTION)
    return [
        test(
            "gap",
            f"GD's overall loss minus Adam's at step {last}, nats",
            gd["loss"].sel(step=last) - adam["loss"].sel(step=last),
            low=1.0,
            headline=True,
        ),
        test(
            "rarest-bucket-gap",
            f"GD's loss in the rarest bucket minus Adam's at step {last}, nats",
            gd_last.isel(bucket=-1) - adam_last.isel(bucket=-1),
            low=2.0,
            headline=True,
        ),
        test(
            "gd-buckets-ordered-by-frequency",
            f"rank correlation of GD's bucket losses with rarity at step {last}",
            [spearman(np.arange(one.size), one.values) for one in gd_last],
            low=0.95,
            headline=True,
        ),
        test(
            "adam-lowers-every-bucket",
            f"Adam's bucket losses at step {last} divided by their initial values: largest ratio",
            (adam_last / adam["bucket_loss"].sel(step=0)).max("bucket"),
            high=1.0,
        ),
        test(
            "initial-loss-is-uniform",
            "every bucket's initial loss is ln c: largest difference, nats",
            abs(at_start - np.log(chosen.sizes["class"])).max(["bucket", "optimizer"]),
            high=0.5,
            reason="the first buckets hold one class, and its loss is that of one random start",
        ),
        between(
            "overall-is-mean-of-buckets",
            "the overall loss is the mean of the bucket losses, weighted by their shares of the "
            "examples: largest difference",
            float(abs(mass_mean - chosen["loss"]).max()),
            high=1e-4,
            fixed="arithmetic",
        ),
        between(
            "adam-fits-rarest-bucket-first",
            f"Adam's loss in the rarest bucket minus that in the most frequent, step {last}, nats",
            adam_last.isel(bucket=-1) - adam_last.isel(bucket=0),
            high=0.0,
            fixed="after a pilot",
        ),
    ]


def _table_row(m):
    counts = zipf.grouped_counts(m)
    n, c = counts.sum(), len(counts)
    found = (n, (m + 1) * 2**m, c, counts.max() / n, counts.min() / n, round(entropy(counts), 3))
    statement = f"m = {m}: n, d, c, largest and smallest share of a class, entropy"
    return close(f"data-sizes-m{m}", statement, found, TABLE[m], atol=1e-12, fixed="arithmetic")


def _bucket_row(m):
    """Counted in whole numbers: summed in floating point, 448/896 at m = 7 falls just below 1/2."""
    buckets = FrequencyBuckets.from_counts(zipf.grouped_counts(m), 10)
    statement = f"m = {m}: number of classes in each of ten buckets"
    return close(
        f"bucket-sizes-m{m}", statement, buckets.num_classes, BUCKETS[m], atol=0, fixed="arithmetic"
    )


def _paper_scale(chosen, scale):
    """Values predicted for m = 11 at step 150; no other scale can decide them."""
    statements = (
        ("paper-size-gd-loss", "GD's overall loss at m = 11, step 150", 5.3, 6.0),
        ("paper-size-gd-rarest-bucket", "GD's rarest bucket at m = 11, step 150", 8.3, np.inf),
        ("paper-size-adam-loss", "Adam's overall loss at m = 11, step 150", -np.inf, 1.5),
    )
    if scale != "paper":
        return [
            undecided(
                name,
                text,
                f"{low} to {high}",
                "needs --scale paper",
                fixed="before any run",
                section=SECTION,
            )
            for name, text, low, high in statements
        ]
    last = chosen.sel(step=STEPS[scale])
    gd, adam = (last.sel(optimizer=optimizer) for optimizer in OPTIMIZERS)
    values = (gd["loss"], gd["bucket_loss"].isel(bucket=-1), adam["loss"])
    return [
        between(name, text, value, low, high, fixed="before any run", section=SECTION)
        for (name, text, low, high), value in zip(statements, values, strict=True)
    ]


EXPERIMENT = Experiment("fig4_linear", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
