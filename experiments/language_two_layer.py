"""A two-layer transformer on text: training text, held-out text and class weights.

Claims (the paper's appendix): under gradient descent the loss of rare tokens falls last; under Adam
the loss of all tokens falls. This holds on the training text and on held-out text, which has
buckets of its own. Trained with class weights 1/√π, gradient descent does better on the unweighted
loss; with weights 1/π the paper's results were mixed.

At laptop scale the model has 64 features and learns 20,000 tokens of the docstrings of the Python
standard library. At paper scale it is the paper's two-layer transformer on PTB, where
``IMBALANCE_DATA`` has a folder ``ptb``.

Run:    python experiments/language_two_layer.py
Draws:  figures/language_two_layer.png
"""

import numpy as np

from imbalance.analysis.block_measures import spearman
from imbalance.analysis.labelled import at_best
from imbalance.data.folders import real_data
from imbalance.models.transformer import post_norm
from imbalance.probes import validation_loss_by_bucket
from imbalance.problems import language
from imbalance.reporting import plots
from imbalance.reporting.claims import between, inside_grid, slug, undecided
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, half_decades, linear_stops

OPTIMIZERS = ("gd+m", "adam")
WEIGHTINGS = {0.0: "unweighted", 0.5: "weights 1/√π", 1.0: "weights 1/π"}
SIZES = {  # training tokens, features, positions in a row, rows in a batch, steps
    "smoke": (800, 16, 8, 8, 8),
    "laptop": (20_000, 64, 32, 16, 400),
    "paper": (None, 1_000, 35, 512, 5_200),
}
GRIDS = {  # exponents of rates: Adam without weights, then GD with each weighting
    "smoke": ((-2.5, -2.5), (-1, -1), (-1, -1), (-1, -1)),
    "laptop": ((-3, -2), (-1.5, -0.5), (-2, -1), (-2, -1)),
    "paper": ((-5, -2), (-3, -1), (-2, 0), (-2, 1)),
}
FIXED = "before any run"  # all thresholds below


def sweeps(scale):
    """One sweep for each weighting, in the order of the text; Adam on the unweighted loss only."""
    tokens, width, length, rows, steps = SIZES[scale]
    folder = real_data("ptb") if scale == "paper" else None
    corpus = language.text_folder(folder) if folder else language.docstrings(tokens)
    dropout = 0.2 if scale == "paper" else 0.0
    size = {"width": width, "mlp_width": width, "dropout": dropout, "mlp_dropout": dropout}
    problem = language.next_token_problem(
        corpus,
        post_norm(corpus.num_classes, **size),
        length,
        columns=rows,
        noisy_evaluation=dropout > 0,
    )
    adam, *gd = (half_decades(*grid) for grid in GRIDS[scale])
    return {
        weighting: Sweep(
            problem,
            {"gd+m": rates} | ({"adam": adam} if weighting == 0 else {}),
            steps,
            stops=linear_stops(steps, 11),
            probes=(validation_loss_by_bucket(problem.task, problem.validation_buckets),),
            weighting=weighting,
            batch_size=rows,
            in_order=True,
            measured_rows=8_192 if scale == "paper" else None,
        )
        for weighting, rates in zip(WEIGHTINGS, gd, strict=True)
    }


def best(dataset, weighting=0.0):
    """One weighting, at the best learning rates for the unweighted loss by the rule `stable`."""
    runs = dataset.sel(weighting=weighting).dropna("optimizer", how="all", subset=["loss"])
    return at_best(runs, int(dataset["step"][-1]))


def held_out(chosen):
    """The same runs with the losses on held-out text in place of those on training text."""
    named = {"validation_loss": "loss", "validation_bucket_loss": "bucket_loss"}
    return chosen[list(named)].rename(named | {"validation_bucket": "bucket"})


def draw(dataset):
    """Training text above, held-out text below; at the right the effect of class weights."""
    chosen = best(dataset)
    figure, axes = plots.panels(2, 4)
    top = 1.25 * float(np.log((chosen["class_count"] > 0).sum()))
    plots.in_rows(axes[:1, :3], chosen, [OPTIMIZERS], top)
    plots.in_rows(axes[1:, :3], held_out(chosen), [OPTIMIZERS], top)
    axes[1, 0].set(title="Held-out text, overall")
    for axis, name in zip(axes[1, 1:3], OPTIMIZERS, strict=True):
        axis.set_title(f"{plots.label(name, dataset)}, held-out text")
    lines = zip(WEIGHTINGS.items(), (("k", "-"), ("#DDAA33", "--"), ("#004488", "--")), strict=True)
    for (weighting, words), (colour, style) in lines:
        one = best(dataset, weighting).sel(optimizer="gd+m").isel(seed=0)
        eta = plots.exponent(one["learning_rate"].item())
        said = f"{plots.label('gd+m', dataset)}, {words}, η = {eta}"
        axes[0, 3].plot(one["step"], one["loss"], color=colour, ls=style, label=said)
    adam = chosen.sel(optimizer="adam").isel(seed=0)
    look = plots.line_style("adam") | {"label": plots.label("adam", dataset)}
    axes[0, 3].plot(adam["step"], adam["loss"], **look)
    axes[0, 3].set(title="Overall, with class weights", xlabel="step", ylim=(0, top))
    axes[0, 3].legend(fontsize=5)
    plots.by_bucket(axes[1, 3], best(dataset, 0.5).sel(optimizer="gd+m"))
    axes[1, 3].set(title=f"{plots.label('gd+m', dataset)}, {WEIGHTINGS[0.5]}", ylim=(0, top))
    for axis in axes[:, 3]:
        axis.margins(x=0)
    plots.bucket_bar(figure, axes[1, 3], dataset.sizes["bucket"])
    plots.headline(figure, chosen, "A two-layer transformer: training text, held-out text, weights")
    return figure


def claims(dataset):
    """The gap on both texts, and the effect of class weights."""
    last, rows, chosen = int(dataset["step"][-1]), [], best(dataset).isel(seed=0)
    for words, run in (("training text", chosen), ("held-out text", held_out(chosen))):
        at_end = run.sel(step=last)
        gd, adam = (at_end.sel(optimizer=name) for name in OPTIMIZERS)
        start = run["bucket_loss"].sel(optimizer="adam").isel(step=0).values
        tests = [
            ("gap", "GD's loss minus Adam's, nats", gd["loss"] - adam["loss"], 1.0, np.inf),
            (
                "gd-buckets-ordered-by-frequency",
                "rank correlation of GD's bucket losses with rarity",
                spearman(np.arange(gd.sizes["bucket"]), gd["bucket_loss"].values),
                0.95,
                np.inf,
            ),
            (
                "adam-lowers-every-bucket",
                "Adam's bucket losses divided by their initial values: largest ratio",
                np.nanmax(adam["bucket_loss"].values / start),  # one may be empty
                -np.inf,
                1.0,
            ),
            (
                "rarest-bucket-gap",
                "GD's loss in the rarest bucket minus Adam's, nats",
                gd["bucket_loss"][-1] - adam["bucket_loss"][-1],
                2.0,
                np.inf,
            ),
        ]
        rows += [
            between(
                f"{slug(words)}-{name}",
                f"{words}, step {last}: {said}",
                float(value),
                *limits,
                fixed=FIXED,
            )
            for name, said, value, *limits in tests
        ]
    final = {
        weighting: float(best(dataset, weighting)["loss"].sel(optimizer="gd+m", step=last)[0])
        for weighting in WEIGHTINGS
    }
    said = f"Unweighted loss at step {last}: GD with weights 1/√π divided by unweighted GD"
    name = "root-weights-help-gd"
    rows.append(between(name, said, final[0.5] / final[0.0], high=1.0, fixed=FIXED))
    said = f"Unweighted loss at step {last}: GD with weights 1/π divided by unweighted GD"
    name, mixed = "full-weights-and-gd", "the paper: mixed, no threshold"
    rows.append(undecided(name, said, mixed, f"{final[1.0] / final[0.0]:.4g}", fixed=FIXED))
    grids = (
        inside_grid(best(dataset, weighting), f"{name}-best-rates-inside-grid")
        for weighting, name in (
            (0.0, "unweighted"),
            (0.5, "root-weights"),
            (1.0, "full-weights"),
        )
    )
    return [*rows, *grids]


EXPERIMENT = Experiment("language_two_layer", sweeps, draw, claims, over="weighting")

if __name__ == "__main__":
    main(EXPERIMENT)
