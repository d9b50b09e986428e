"""The batch size: with less noise the gap between gradient descent and Adam grows.

Claims (Kunstner et al. 2023, arXiv 2304.13960; here after the same number of steps at every batch
size): the gap is widest in full batch, where there is no noise. Adam gains from larger batches;
stochastic gradient descent hardly does, and on rare tokens least of all.

The picture shows both optimizers at each batch size, and at the right their final losses against
the batch size. At laptop scale a one-layer transformer with 64 features takes 60 steps on 16,384
tokens of the docstrings of the Python standard library: in full batch, and in batches of a quarter,
a sixteenth and a sixty-fourth of them. Each claim is made of every size and not of the two ends
alone. Losses are measured on the same evenly spread rows at every size. Learning rates are a
quarter of a decade apart, as half a decade changes losses as much as the batch size does; they are
searched on one seed and the best by the rule `stable` run on two others: the loss of small batches
is noisy at any rate, so that none is steady. At paper scale it is the two-layer transformer of four
heads on PTB.

Run:    python experiments/language_batch_size.py
Draws:  figures/language_batch_size.png
"""

import numpy as np

from imbalance.analysis.selection import at_best
from imbalance.data.folders import paper_data
from imbalance.models.transformer import post_norm
from imbalance.problems import language
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.optimizers import ON_MINI_BATCHES
from imbalance.training.sweep import Confirm, Sweep, linear_stops, quarter_decades

NAMES = ("gd+m", "adam")
SIZES = {  # training tokens, layers, heads, features, positions, columns, steps, rows in a batch
    "smoke": (600, 1, 1, 16, 8, 8, 6, (8, 64)),
    "laptop": (64 * 257, 1, 1, 64, 32, 64, 60, (8, 32, 128, 512)),
    "paper": (None, 2, 4, 1_000, 35, 512, 3_200, (16, 64, 256, 1_024, 4_096)),
}
GRIDS = {  # exponents of the first and last learning rate of SGD and of Adam
    "smoke": ((-1, -1), (-2.5, -2.5)),
    "laptop": ((-1.25, -0.5), (-2.5, -1.75)),
    "paper": ((-2, -0.5), (-4.5, -3)),
}
ROWS_AT_ONCE = {"smoke": 64, "laptop": 128, "paper": 512}
MEASURED_ROWS = {"smoke": None, "laptop": 128, "paper": 1_024}
SEEDS = {"smoke": (1,), "laptop": (1, 2), "paper": (1, 2, 3)}


def sweeps(scale):
    """One sweep for each batch size, in the order of the text; all take equally many steps."""
    tokens, layers, heads, width, length, columns, steps, batches = SIZES[scale]
    if scale == "paper":
        corpus = language.text_folder(paper_data("ptb"))
    else:
        corpus = language.docstrings(tokens)
    rate = 0.2 if scale == "paper" else 0.0
    dropout = {"dropout": rate, "mlp_dropout": rate, "attention_dropout": rate}
    size = {"num_layers": layers, "num_heads": heads, "width": width, "mlp_width": width}
    problem = language.next_token_problem(
        corpus,
        post_norm(corpus.num_classes, **size, **dropout),
        length,
        columns=columns,
        noisy_evaluation=rate > 0,
    )
    gd, adam = (quarter_decades(*grid) for grid in GRIDS[scale])
    found = {}
    for rows in batches:
        rows = min(rows, problem.num_rows)
        found[rows] = Sweep(
            problem,
            {"gd+m": gd, "adam": adam},
            steps,
            confirm=Confirm(seeds=SEEDS[scale], rules=("stable",)),
            stops=linear_stops(steps, 51),
            batch_size=rows,
            in_order=True,
            microbatches=max(1, rows // ROWS_AT_ONCE[scale]),
            measured_rows=MEASURED_ROWS[scale],
            optimizers=ON_MINI_BATCHES,
        )
    return found


def best(dataset, rows):
    """The runs with one batch size at the best learning rates by the rule `stable`."""
    return at_best(dataset.sel(rows=rows), int(dataset["step"][-1]), "stable")


def at_end(dataset):
    """Final losses ``[rows, seed]`` of each optimizer: overall, and in the rarest bucket."""
    runs = [best(dataset, rows).isel(step=-1) for rows in dataset["rows"].values]
    return {
        name: (
            np.stack([run["loss"].sel(optimizer=name).values for run in runs]),
            np.stack([run["bucket_loss"].sel(optimizer=name)[..., -1].values for run in runs]),
        )
        for name in NAMES
    }


def draw(dataset):
    """Both optimizers at each batch size, and their final losses against the batch size."""
    sizes, scale = dataset["rows"].values, dataset.attrs["scale"]
    figure, axes = page.panels(1, len(sizes) + 1)
    top = 1.1 * float(dataset["loss"].isel(step=0).max())
    for axis, rows in zip(axes[0], sizes, strict=False):
        chosen = best(dataset, rows)
        plots.overall(axis, chosen, NAMES)
        rates = ", ".join(plots.exponent(rate) for rate in chosen["learning_rate"].values)
        axis.set(title=f"{rows} rows a step\nη {rates}", ylim=(0, top))
    axes[0, 0].set_ylabel("loss (nats)")
    final = at_end(dataset)
    for name, losses in final.items():
        colour, said = plots.line_style(name)["color"], plots.label(name, dataset)
        for found, line, words in zip(losses, "-:", (said, f"{said}, rarest bucket"), strict=True):
            mean = found.mean(axis=1)
            ends = np.abs(np.stack([found.min(axis=1), found.max(axis=1)]) - mean)
            look = {"linestyle": line, "marker": "o", "ms": 3, "color": colour, "label": words}
            axes[0, -1].errorbar(sizes, mean, ends, **look)
    highest = 1.1 * max(np.max(losses) for losses in final.values())
    axes[0, -1].set(xscale="log", xlabel="rows a step", title="Final loss", ylim=(0, highest))
    axes[0, -1].set_xticks(sizes, [str(rows) for rows in sizes])
    axes[0, -1].minorticks_off()
    examples, length = int(dataset["class_count"].sum("class").max()), SIZES[scale][3]
    page.headline(
        figure,
        best(dataset, sizes[0]),
        "The gap between SGD and Adam is widest where there is no noise",
        f"{examples:,} tokens in rows of {length}.",
    )
    return figure


def claims(dataset):
    """How the losses change from each batch size to the next."""
    (gd, gd_rare), (adam, adam_rare) = (at_end(dataset)[name] for name in NAMES)
    sizes = ", ".join(map(str, dataset["rows"].values))
    rows = [
        between(
            name,
            f"{what} from one batch size to the next ({sizes} rows): the smallest, nats",
            np.diff(growing, axis=0).min(axis=0),
            low=0.0,
            fixed="before any run",
        )
        for name, what, growing in (
            ("gap-grows-with-batch", "growth of the gap, SGD - Adam,", gd - adam),
            (
                "rarest-bucket-gap-grows-with-batch",
                "growth of the gap in the rarest bucket",
                gd_rare - adam_rare,
            ),
            ("adam-gains-from-batch", "fall of Adam's loss", -adam),
        )
    ]
    share = (gd[0] - gd[1:]) / (adam[0] - adam[1:])
    rows.append(
        between(
            "gd-gains-less-than-adam",
            "what SGD gains from a larger batch than the smallest, of what Adam gains "
            f"({sizes} rows): the largest share",
            share.max(axis=0),
            high=0.5,
            percent=True,
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
