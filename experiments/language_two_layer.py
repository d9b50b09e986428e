"""A two-layer transformer in the paper's order: training text, held-out text, class weights.

Claims (appendix items 4, 5 and 16; C1, C10, C12): under gradient descent the loss of rare words
falls last, under Adam that of all falls, on the text that is trained on and on held-out text with
buckets of its own. Trained with class weights 1/√π, gradient descent does better on the unweighted
loss; with 1/π the paper found it mixed.

Laptop scale has 64 features and 20,000 words of the docstrings of the Python standard library;
paper scale the model of B.3 on PTB, where ``IMBALANCE_DATA`` has it.

Run:    python experiments/language_two_layer.py
Draws:  figures/language_two_layer.png
"""

import numpy as np

from imbalance import language, plots
from imbalance.analysis.labelled import at_best
from imbalance.claims import between, inside_grid, spearman, undecided
from imbalance.data.folders import real_data
from imbalance.experiment import Experiment, main
from imbalance.models.transformer import post_norm
from imbalance.probes import validation_loss_by_bucket
from imbalance.sweep import Sweep, half_decades, linear_stops

OPTIMIZERS = ("gd+m", "adam+m")
WEIGHTINGS = {0.0: "unweighted", 0.5: "weights 1/√π", 1.0: "weights 1/π"}
SIZES = {  # training tokens, features, positions of a row, rows of a batch, steps
    "smoke": (800, 16, 8, 8, 8),
    "laptop": (20_000, 64, 32, 16, 400),
    "paper": (None, 1_000, 35, 512, 5_200),
}
GRIDS = {  # exponents: Adam without weights, then GD with each of them
    "smoke": ((-2.5, -2.5), (-1, -1), (-1, -1), (-1, -1)),
    "laptop": ((-3, -2), (-1.5, -0.5), (-2, -1), (-2, -1)),
    "paper": ((-5, -2), (-3, -1), (-2, 0), (-2, 1)),
}
FIXED = "before any run"  # all thresholds below


def sweeps(scale):
    """One sweep a weighting, in the order of the text; Adam on the unweighted loss only."""
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
            {"gd+m": rates} | ({"adam+m": adam} if weighting == 0 else {}),
            steps,
            stops=linear_stops(steps, 11),
            probes=(validation_loss_by_bucket(problem.task, problem.validation_buckets),),
            weighting=weighting,
            batch_size=rows,
            in_order=True,
            measured_rows=8_192 if scale == "paper" else None,
            chunk=1,
        )
        for weighting, rates in zip(WEIGHTINGS, gd, strict=True)
    }


def best(dataset, weighting=0.0):
    """The runs of one weighting at the best rates under rule S, judged by the unweighted loss."""
    runs = dataset.sel(weighting=weighting).dropna("optimizer", how="all", subset=["loss"])
    return at_best(runs, int(dataset["step"][-1]))


def held_out(chosen):
    """The same runs with the losses of held-out text in the place of those of training."""
    named = {"validation_loss": "loss", "validation_bucket_loss": "bucket_loss"}
    return chosen[list(named)].rename(named | {"validation_bucket": "bucket"})


def draw(dataset):
    """Training above, held-out text below; at the right what class weights do."""
    chosen = best(dataset)
    figure, axes = plots.panels(2, 4)
    top = 1.25 * float(np.log((chosen["class_count"] > 0).sum()))
    plots.in_rows(axes[:1, :3], chosen, [OPTIMIZERS], top)
    plots.in_rows(axes[1:, :3], held_out(chosen), [OPTIMIZERS], top)
    axes[1, 0].set(title="Held-out text, overall")
    for axis, name in zip(axes[1, 1:3], OPTIMIZERS, strict=True):
        axis.set_title(f"{plots.label(name)}, held-out text")
    lines = zip(WEIGHTINGS.items(), (("k", "-"), ("#DDAA33", "--"), ("#004488", "--")), strict=True)
    for (weighting, words), (colour, style) in lines:
        one = best(dataset, weighting).sel(optimizer="gd+m").isel(seed=0)
        said = f"GD +m, {words}, η = {plots.exponent(one['learning_rate'].item())}"
        axes[0, 3].plot(one["step"], one["loss"], color=colour, ls=style, label=said)
    adam = chosen.sel(optimizer="adam+m").isel(seed=0)
    axes[0, 3].plot(adam["step"], adam["loss"], **plots.line_style("adam+m"), label="Adam +m")
    axes[0, 3].set(title="Overall, with class weights", xlabel="step", ylim=(0, top))
    axes[0, 3].legend(fontsize=5)
    plots.by_bucket(axes[1, 3], best(dataset, 0.5).sel(optimizer="gd+m"))
    axes[1, 3].set(title=f"GD +m, {WEIGHTINGS[0.5]}", ylim=(0, top))
    for axis in axes[:, 3]:
        axis.margins(x=0)
    plots.bucket_bar(figure, axes[1, 3], dataset.sizes["bucket"])
    plots.headline(figure, chosen, "A two-layer transformer: training text, held-out text, weights")
    return figure


def claims(dataset):
    """T13, C1 and C12 on both texts; T21 and C10."""
    last, rows, chosen = int(dataset["step"][-1]), [], best(dataset).isel(seed=0)
    for words, run in (("training text", chosen), ("held-out text", held_out(chosen))):
        at_end = run.sel(step=last)
        gd, adam = (at_end.sel(optimizer=name) for name in OPTIMIZERS)
        start = run["bucket_loss"].sel(optimizer="adam+m").isel(step=0).values
        tests = [
            ("C1", "GD's loss above Adam's, nats", gd["loss"] - adam["loss"], 1.0, np.inf),
            ("T13", "GD's buckets: rank correlation", spearman(gd["bucket_loss"]), 0.95, np.inf),
            (
                "T13",
                "Adam's buckets over their start: largest",
                np.nanmax(adam["bucket_loss"].values / start),  # one may be empty
                -np.inf,
                1.0,
            ),
            (
                "Fig. 1",
                "rarest bucket, GD's above Adam's, nats",
                gd["bucket_loss"][-1] - adam["bucket_loss"][-1],
                2.0,
                np.inf,
            ),
        ]
        rows += [
            between(id, f"{words} at t = {last}: {said}", float(value), *limits, fixed=FIXED)
            for id, said, value, *limits in tests
        ]
    final = {
        weighting: float(best(dataset, weighting)["loss"].sel(optimizer="gd+m", step=last)[0])
        for weighting in WEIGHTINGS
    }
    said = f"Unweighted loss at t = {last}: GD +m with 1/√π over plain GD +m"
    rows.append(between("T21", said, final[0.5] / final[0.0], high=1.0, fixed=FIXED))
    said = f"1/π over plain GD +m at t = {last}"
    mixed = "the paper: mixed, no threshold"
    rows.append(undecided("C10", said, mixed, f"{final[1.0] / final[0.0]:.4g}", fixed=FIXED))
    return [*rows, *(inside_grid(best(dataset, weighting)) for weighting in WEIGHTINGS)]


EXPERIMENT = Experiment("language_two_layer", sweeps, draw, claims, over="weighting")

if __name__ == "__main__":
    main(EXPERIMENT)
