"""The batch size: with less noise the gap between gradient descent and Adam grows.

Claims (Kunstner et al. 2023, arXiv 2304.13960; here after the same number of steps at every batch
size): the gap is widest in full batch, where there is no noise. Adam gains from larger batches;
gradient descent hardly does, and on rare tokens least of all.

At laptop scale a one-layer transformer with 64 features learns 4,480 tokens of the docstrings of
the Python standard library. At paper scale it is the paper's two-layer transformer on PTB, where
``IMBALANCE_DATA`` has a folder ``ptb``.

Run:    python experiments/language_batch_size.py
Draws:  figures/language_batch_size.png
"""

import numpy as np

from imbalance.analysis.labelled import at_best
from imbalance.data.folders import real_data
from imbalance.models.transformer import post_norm
from imbalance.problems import language
from imbalance.reporting import plots
from imbalance.reporting.claims import between, inside_grid
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, half_decades, linear_stops

OPTIMIZERS = ("gd+m", "adam")
SIZES = {  # training tokens, layers, features, positions, columns, steps, rows in a batch
    "smoke": (600, 1, 16, 8, 8, 6, (8, 64)),
    "laptop": (4_480, 1, 64, 35, 64, 80, (4, 16, 64, 128)),
    "paper": (None, 2, 1_000, 35, 512, 3_200, (16, 64, 256, 1_024, 4_096)),
}
GRIDS = {  # exponents of the first and last learning rate of GD and of Adam
    "smoke": ((-1, -1), (-2.5, -2.5)),
    "laptop": ((-1.5, 0), (-3, -1.5)),
    "paper": ((-3, 0), (-5, -2)),
}


def sweeps(scale):
    """One sweep for each batch size, in the order of the text; all take equally many steps."""
    tokens, layers, width, length, columns, steps, batches = SIZES[scale]
    folder = real_data("ptb") if scale == "paper" else None
    corpus = language.text_folder(folder) if folder else language.docstrings(tokens)
    dropout = 0.2 if scale == "paper" else 0.0
    size = {"num_layers": layers, "num_heads": layers, "width": width, "mlp_width": width}
    model = post_norm(corpus.num_classes, **size, dropout=dropout, mlp_dropout=dropout)
    problem = language.next_token_problem(
        corpus, model, length, columns=columns, noisy_evaluation=dropout > 0
    )
    gd, adam = (half_decades(*grid) for grid in GRIDS[scale])
    found = {}
    for rows in batches:
        rows = min(rows, problem.num_rows)
        found[rows] = Sweep(
            problem,
            {"gd+m": gd, "adam": adam},
            steps,
            stops=linear_stops(steps, 11),
            batch_size=rows,
            in_order=True,
            microbatches=max(1, rows // 512),
            measured_rows=1_024 if scale == "paper" else None,
        )
    return found


def best(dataset, rows):
    """The runs with one batch size at the best learning rates by the rule `stable`."""
    return at_best(dataset.sel(rows=rows), int(dataset["step"][-1]))


def at_end(dataset):
    """Final losses ``[rows]`` of each optimizer: overall, and in the rarest bucket."""
    runs = [best(dataset, rows).isel(seed=0, step=-1) for rows in dataset["rows"].values]
    return {
        name: (
            np.array([float(run["loss"].sel(optimizer=name)) for run in runs]),
            np.array([float(run["bucket_loss"].sel(optimizer=name)[-1]) for run in runs]),
        )
        for name in OPTIMIZERS
    }


def draw(dataset):
    """Both optimizers at each batch size, and their final losses against the batch size."""
    sizes = dataset["rows"].values
    figure, axes = plots.panels(1, len(sizes) + 1)
    top = 1.2 * float(dataset["loss"].isel(step=0).max())
    for axis, rows in zip(axes[0], sizes, strict=False):
        plots.overall(axis, best(dataset, rows), OPTIMIZERS)
        axis.legend(fontsize=5)
        axis.set(title=f"{rows} rows in a batch", ylim=(0, top))
    axes[0, 0].set_ylabel("loss (nats)")
    for name, (overall, rarest) in at_end(dataset).items():
        colour = plots.line_style(name)["color"]
        axes[0, -1].plot(sizes, overall, "o-", ms=4, color=colour, label=plots.label(name, dataset))
        axes[0, -1].plot(sizes, rarest, "s:", ms=4, color=colour, label="its rarest bucket")
    axes[0, -1].set(xscale="log", xlabel="rows in a batch", title="Final loss", ylim=(0, top))
    axes[0, -1].set_xticks(sizes, [str(rows) for rows in sizes])
    axes[0, -1].minorticks_off()
    axes[0, -1].legend(fontsize=5)
    title = f"After {int(dataset['step'][-1])} steps: with less noise the gap grows"
    plots.headline(figure, best(dataset, sizes[0]), title)
    return figure


def claims(dataset):
    """How the losses change from the smallest to the largest batch."""
    (gd, gd_rare), (adam, adam_rare) = (at_end(dataset)[name] for name in OPTIMIZERS)
    smallest, largest = dataset["rows"].values[[0, -1]]
    gap, rare_gap = gd - adam, gd_rare - adam_rare
    said = f"from {smallest} to {largest} rows in a batch"
    rows = [
        between(name, f"{what} {said}, nats", float(value), low=0.0, fixed="before any run")
        for name, what, value in (
            ("gap-grows-with-batch", "Growth of the gap, GD - Adam,", gap[-1] - gap[0]),
            (
                "rarest-bucket-gap-grows-with-batch",
                "Growth of the gap in the rarest bucket",
                rare_gap[-1] - rare_gap[0],
            ),
            ("adam-gains-from-batch", "Fall of Adam's loss", adam[0] - adam[-1]),
        )
    ]
    share = float((gd[0] - gd[-1]) / (adam[0] - adam[-1]))
    rows.append(
        between(
            "gd-gains-less-than-adam",
            f"Fall of GD's loss divided by that of Adam's {said}",
            share,
            high=0.5,
            fixed="before any run",
        )
    )
    grids = (
        inside_grid(best(dataset, batch), f"{batch}-rows-best-rates-inside-grid")
        for batch in dataset["rows"].values
    )
    return [*rows, *grids]


EXPERIMENT = Experiment("language_batch_size", sweeps, draw, claims, over="rows")

if __name__ == "__main__":
    main(EXPERIMENT)
