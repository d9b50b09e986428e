"""Are glyphs neither trivial nor noise? A linear model, and a small convolutional network.

Both are trained by Adam on batches of glyphs, at the best of some rates, and shown fresh draws
(another seed): a linear softmax model of the pixels does not tell them apart, a small network does.

Run:     python benchmarks/glyphs_learnable.py     (about a minute on one quiet core)
Writes:  a section of benchmarks/RESULTS.md, with --write
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx
from report import table, write_section

from imbalance.data.glyphs import glyphs
from imbalance.data.images import Images
from imbalance.models.cnn import SimpleCNN


@dataclass(frozen=True)
class Settings:
    """What is learnt, and for how long."""

    classes: int = 40
    each: int = 60
    """Training images of a class."""
    fresh: int = 10
    """Images of a class that are drawn anew."""
    size: int = 16
    channels: tuple[int, int] = (8, 24)
    batch: int = 120
    epochs: int = 12
    rates: tuple[float, ...] = (1e-3, 3e-3)
    write: bool = False
    """Write the section of RESULTS.md."""


class Linear(nnx.Module):
    """A linear softmax model of the pixels; logits ``[class, example]``, as of the CNN."""

    class_axis = 0

    def __init__(self, size: int, num_classes: int, rngs: nnx.Rngs):
        self.layer = nnx.Linear(size**2, num_classes, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits."""
        return self.layer(image.reshape(len(image), -1)).T


def inputs(images: Images) -> np.ndarray:
    return (images.image / 127.5 - 1).astype(np.float32)


def losses(model: Any, image: jax.Array, label: jax.Array) -> jax.Array:
    logits = model(image)
    return optax.softmax_cross_entropy_with_integer_labels(logits, label, axis=model.class_axis)


def train(
    build: Callable[..., Any], rate: float, train: Images, fresh: Images, settings: Settings
) -> tuple[float, float, float]:
    """Accuracy on training images and on fresh ones, and the loss on the latter."""
    model = build(rngs=nnx.Rngs(0))
    graph, params = nnx.split(model)
    rule = optax.adam(rate)

    @jax.jit
    def step(params, state, image, label):
        def loss(params):
            return losses(nnx.merge(graph, params), image, label).mean()

        change, state = rule.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, change), state

    @jax.jit
    def evaluate(params, image, label):
        model = nnx.merge(graph, params)
        guess = model(image).argmax(axis=model.class_axis)
        return (guess == label).mean(), losses(model, image, label).mean()

    state, image, rng = rule.init(params), inputs(train), np.random.default_rng(0)
    for _ in range(settings.epochs):
        order = rng.permutation(len(train.label))
        for at in np.split(order, range(settings.batch, len(order), settings.batch)):
            if len(at) == settings.batch:
                params, state = step(params, state, image[at], train.label[at])
    some = rng.permutation(len(train.label))[: len(fresh.label)]
    seen, _ = evaluate(params, image[some], train.label[some])
    new, loss = evaluate(params, inputs(fresh), jnp.asarray(fresh.label))
    return float(seen), float(new), float(loss)


def measured(settings: Settings) -> str:
    counts = np.ones(settings.classes, int)
    images = glyphs(settings.each * counts, 0, settings.size)
    fresh = glyphs(settings.fresh * counts, 1, settings.size)
    models = {
        "linear softmax": partial(Linear, settings.size, settings.classes),
        "small CNN": partial(
            SimpleCNN, settings.classes, side=settings.size, channels=settings.channels
        ),
    }
    rows = []
    for name, build in models.items():
        found = {rate: train(build, rate, images, fresh, settings) for rate in settings.rates}
        rate = max(found, key=lambda rate: found[rate][1])
        seen, new, loss = found[rate]
        rows.append([name, f"{rate:g}", f"{seen:.1%}", f"{new:.1%}", f"{loss:.2f}"])
    head = ["model", "best rate", "correct, training", "correct, fresh", "loss, fresh"]
    return (
        f"{settings.classes} classes of {settings.each} images, {settings.size} pixels, "
        f"{settings.epochs} epochs; chance is {1 / settings.classes:.1%} and a loss of "
        f"{np.log(settings.classes):.2f}.\n\n{table(head, rows)}"
    )


def main(settings: Settings) -> None:
    command = shlex.join(["python", "benchmarks/glyphs_learnable.py", *sys.argv[1:]])
    text = f"`{command}`. {measured(settings)}"
    print(text)
    if settings.write:
        write_section("Glyphs: neither trivial nor noise", text)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
