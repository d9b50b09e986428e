"""The key of a run: all that decides its numbers changes it, and nothing else does.

A key is a digest of traced programs and bytes of data, so that no list of settings has to be kept.
These tests are that list: whoever adds a field to a declaration says here what it does.
"""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from imbalance.models.cnn import SimpleCNN
from imbalance.models.transformer import Transformer, post_norm
from imbalance.probes import (
    Probe,
    block_spectra,
    block_traces,
    class_statistics,
    correct_class_probability,
    hessian_entries,
    loss_by_class,
    validation_loss_by_bucket,
)
from imbalance.problems import Problem, heavy_tailed_linear
from imbalance.problems.linear import random_linear
from imbalance.problems.objective import Objective
from imbalance.problems.tasks import Examples, Head, Task, classification, next_token, quadratic
from imbalance.reporting.experiment import load_experiment
from imbalance.training.engine import Engine
from imbalance.training.optimizers import OPTIMIZERS, Optimizer
from imbalance.training.plan import Traced, plans, runs
from imbalance.training.running import run
from imbalance.training.sweep import Confirm, Sweep

INPUT, LABEL, _ = heavy_tailed_linear(3).make_batch(0)


def start_at_random(key):
    return {"weight": jax.random.normal(key, (7, 32)), "bias": jnp.zeros(7)}


def softmax_loss(params, batch, key):
    logits = batch.input @ params["weight"].T + params["bias"][None]
    true = jnp.take_along_axis(logits, batch.label[:, None], 1)[:, 0]
    return Examples(jax.nn.logsumexp(logits, axis=1) - true, batch.label, batch.weight)


def last_layer(params, batch):
    return Head(batch.input, params["weight"], params["bias"])


TASK = Task(start_at_random, softmax_loss, last_layer)  # quicker to trace than a model of flax


def key(sweep):
    """Of the first run."""
    return runs(plans(sweep))[0].key


def key_of(rule):
    """Of a run by this rule, of something that is quick to trace."""
    problem = Problem.from_arrays("p", quadratic(3), None, np.arange(3))
    return key(Sweep(problem, {"mine": (0.1,)}, 3, optimizers={"mine": rule}))


def spoilt(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


# Every field of every declaration ---------------------------------------------------------------


def halved(params, batch, *rest):
    found = TASK.per_example(params, batch, *rest)
    return found._replace(loss=found.loss / 2)


def zeros(key):
    return jax.tree.map(jnp.zeros_like, TASK.init(key))


def other_head(params, batch):
    return Head(2 * batch.input, params["weight"], params["bias"])


def sixth(learning_rate):
    return optax.sgd(learning_rate / 6)


def tracks_nothing(examples):
    return jnp.zeros(()), jnp.ones(())


ON_ONE_DEVICE = NamedSharding(jax.make_mesh((1,), ("row",)), PartitionSpec())


def make(task=TASK, head_of=TASK):
    """A sweep in which every option matters."""
    problem = Problem.from_arrays(
        "base", task, INPUT, LABEL, validation=(INPUT[::2], LABEL[::2]), bucketing=3
    )
    probes = (
        Probe("mean", mean_of_weights, {"mean": ()}),
        validation_loss_by_bucket(task, problem.buckets),
        block_traces(head_of, (0, 1)),
    )
    return Sweep(
        problem, {"gd": (0.1,)}, 8, seeds=(3,), stops=(0, 8), probes=probes, weighting=0.5,
        l2=0.1, batch_size=6, microbatches=2, measured_rows=12,
        optimizers={"gd": Optimizer(optax.sgd, "GD", "red")},
    )  # fmt: skip


def mean_of_weights(params, batch):
    return {"mean": params["weight"].mean()}


def sum_of_weights(params, batch):
    return {"mean": params["weight"].sum()}


def in_problem(**changes):
    return lambda s: replace(s, problem=replace(s.problem, **changes))


def in_probe(**changes):
    return lambda s: replace(s, probes=(replace(s.probes[0], **changes), *s.probes[1:]))


def in_optimizer(**changes):
    return lambda s: replace(s, optimizers={"gd": replace(s.optimizers["gd"], **changes)})


def in_sweep(**changes):
    return lambda s: replace(s, **changes)


def in_plan(part, **changes):
    """The key of a plan whose engine or objective is changed: what no sweep says yet."""

    def changed(sweep):
        (plan,) = plans(sweep)
        return replace(plan, **{part: replace(getattr(plan, part), **changes)})

    return changed


# declaration: field -> a change of it that changes numbers
CHANGES = {
    Sweep: {
        "problem": lambda s: replace(s, problem=make(replace(TASK, init=zeros)).problem),
        "learning_rates": in_sweep(learning_rates={"gd": (0.1 * (1 + 1e-6),)}),
        "steps": in_sweep(steps=9),
        "seeds": in_sweep(seeds=(4,)),
        "stops": in_sweep(stops=(0, 7)),
        "probes": lambda s: replace(s, probes=s.probes[1:]),
        "weighting": in_sweep(weighting=0.51),
        "l2": in_sweep(l2=0.11),
        "batch_size": in_sweep(batch_size=12),
        "in_order": in_sweep(in_order=True),
        "microbatches": in_sweep(microbatches=3),
        "measured_rows": in_sweep(measured_rows=11),  # as many microbatches as twelve rows
        "precision": in_sweep(precision="bfloat16"),
        "optimizers": in_sweep(optimizers=OPTIMIZERS | {"gd": OPTIMIZERS["adam"]}),
    },
    Problem: {
        "task": in_problem(task=replace(TASK, per_example=halved)),
        "counts": in_problem(counts=np.float64([2, 4, 4, 2, 2, 2, 8])),
        "make_batch": lambda s: in_problem(
            make_batch=lambda seed: s.problem.batch(0)._replace(
                input=spoilt(INPUT, (23, 31), INPUT[23, 31] + 1e-6)
            )
        )(s),
        "bucketing": in_problem(bucketing=(5,)),
        "make_validation": lambda s: in_problem(
            make_validation=lambda seed: s.problem.validation(0)._replace(
                input=spoilt(INPUT[::2], (11, 31), 0.5)
            )
        )(s),
    },
    Probe: {
        "measure": in_probe(measure=sum_of_weights),
        "dims": in_probe(measure=lambda p, b: {"mean": p["weight"].sum(0)}, dims={"mean": ("x",)}),
        "stops": in_probe(stops=(0, 4)),
        "validation": in_probe(validation=True),
    },
    Task: {
        "init": lambda s: make(replace(TASK, init=zeros)),
        "per_example": lambda s: make(replace(TASK, per_example=halved)),
        "head": lambda s: make(head_of=replace(TASK, head=other_head)),
    },
    Objective: {
        "class_weight": in_plan("objective", class_weight=np.float32([1, 2, 3, 4, 5, 6, 7])),
        "l2": in_plan("objective", l2=np.float32(0.2)),
    },
    Engine: {
        "task": in_plan("engine", task=replace(TASK, per_example=halved)),
        "optimizer": in_plan("engine", optimizer=sixth),
        "batch_size": in_plan("engine", batch_size=12),
        "in_order": in_plan("engine", in_order=True),
        "track": in_plan("engine", track=tracks_nothing),
        "precision": in_plan("engine", precision="bfloat16"),
        "laid": in_plan("engine", laid=ON_ONE_DEVICE),  # sums over devices are ordered otherwise
    },
    Optimizer: {"rule": in_optimizer(rule=sixth)},
}

# declaration: field -> a change of what is for people only, or leaves the numbers alone
LABELS = {
    Sweep: {"confirm": in_sweep(confirm=Confirm((7,)))},  # which runs there are, not what they are
    Problem: {
        "name": in_problem(name="another"),
        "settings": in_problem(settings={"m": 4}),
        "flops_per_step": in_problem(flops_per_step=1.0),
        "data_by_seed": in_problem(data_by_seed=True),  # the bytes of the data decide
    },
    Probe: {"name": in_probe(name="another"), "coords": in_probe(coords={"x": [1]})},
    Task: {},
    Objective: {},
    Engine: {},
    Optimizer: {
        "label": in_optimizer(label="another"),
        "colour": in_optimizer(colour="blue"),
        "momentum": in_optimizer(momentum=False),
    },
}

# What cannot be changed without the data: the promise of their shapes.
REFUSED = {Problem: {"shapes"}}


def each_of(table):
    return [
        pytest.param(change, id=f"{declaration.__name__}.{name}")
        for declaration, changes in table.items()
        for name, change in changes.items()
    ]


def key_after(change):
    changed = change(make())
    return key(changed) if isinstance(changed, Sweep) else changed.run(0.1, 3).key


@pytest.fixture(scope="module")
def base():
    sweep = make()
    return {key(sweep), plans(sweep)[0].run(0.1, 3).key}


@pytest.mark.parametrize("declaration", CHANGES)
def test_every_field_changes_the_key_or_is_known_as_a_label(declaration):
    changes, labels = set(CHANGES[declaration]), set(LABELS[declaration])
    refused = REFUSED.get(declaration, set())
    known = {field.name for field in dataclasses.fields(declaration)}
    assert changes | labels | refused == known, (
        f"say in {Path(__file__).name} whether a change of these fields of {declaration.__name__} "
        "is another run"
    )
    assert not changes & labels


@pytest.mark.parametrize("change", each_of(CHANGES))
def test_what_changes_numbers_changes_the_key(base, change):
    assert key_after(change) not in base


@pytest.mark.parametrize("change", each_of(LABELS))
def test_a_label_does_not_change_the_key(base, change):
    assert key_after(change) in base


def test_a_sweep_planned_again_has_the_same_keys(base):
    assert key(make()) in base


def test_other_shapes_than_promised_are_refused():
    problem = make().problem
    shapes = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, np.float32), problem.shapes)
    with pytest.raises(ValueError, match="promised"):
        key(replace(make(), problem=replace(problem, shapes=shapes)))


def test_a_probe_with_its_own_stops_names_an_axis_of_the_result():
    own = in_probe(stops=(0, 4))(make())
    assert key(own) != key(in_probe(name="another")(own))


# What the key does not depend on ------------------------------------------------------------------


def keys_by_run(sweep):
    return {(r.plan.optimizer.label, r.learning_rate, r.seed): r.key for r in runs(plans(sweep))}


def test_other_runs_and_their_order_do_not_change_the_key_of_a_run(tiny_sweep):
    before = keys_by_run(tiny_sweep)
    rates = {name: rates[::-1] for name, rates in reversed(tiny_sweep.learning_rates.items())}
    optimizers = dict(reversed(OPTIMIZERS.items()))
    turned = replace(
        tiny_sweep, learning_rates=rates, seeds=(1, 0), stops=(12, 0, 4, 4), optimizers=optimizers
    )
    assert keys_by_run(turned) == before
    more = replace(
        tiny_sweep,
        learning_rates={"sign": (0.3,), "gd": (0.1, 0.2, 1.0), "adam": (0.01, 0.1)},
        seeds=(5, 0, 1),
        optimizers=OPTIMIZERS | {"mine": optax.sgd},
    )
    after = keys_by_run(more)
    del before["GD", 3e38, 0], before["GD", 3e38, 1]
    assert before.items() <= after.items() and len(after) == 3 * (1 + 3 + 2)


def test_the_name_of_an_optimizer_and_where_it_is_looked_up_do_not_count(problem):
    other = Sweep(problem, {"mine": (0.1,)}, 3, optimizers={"mine": optax.sgd})
    assert key(other) == key(Sweep(problem, {"gd": (0.1,)}, 3))


def test_rates_are_as_alike_as_the_numbers_a_run_is_given(problem):
    def of(rate):
        return key(Sweep(problem, {"gd": (rate,)}, 3))

    assert of(0.1) == of(np.float32(0.1)) == of(float(np.float32(0.1)))
    assert of(1) == of(1.0) != of(float(np.nextafter(np.float32(1), np.float32(2))))


def test_a_validation_set_that_nothing_is_measured_on_does_not_count():
    plain = Problem.from_arrays("p", TASK, INPUT, LABEL)
    held = Problem.from_arrays("p", TASK, INPUT, LABEL, validation=(INPUT[:4], LABEL[:4]))
    assert key(Sweep(plain, {"gd": (0.1,)}, 3)) == key(Sweep(held, {"gd": (0.1,)}, 3))


def test_data_that_do_not_depend_on_the_seed_are_the_same_whatever_seeds_there_are(problem):
    """Even where that was said of data which do."""
    wrong = replace(problem, data_by_seed=False)
    of = [keys_by_run(Sweep(wrong, {"gd": (0.1,)}, 3, seeds=seeds)) for seeds in ((0, 1), (1, 0))]
    assert of[0] == of[1]


# What is hidden in functions ----------------------------------------------------------------------

FACTOR = 1.0


def scaled(factor):
    """A rule with a constant in its closure."""
    return lambda rate: optax.sgd(rate * factor)


def reads_a_global(rate):
    return optax.sgd(rate * FACTOR)


def with_default(factor):
    def rule(rate, factor=factor):
        return optax.sgd(rate * factor)

    return rule


class Scaling:
    """A rule that is an object, and one that is a method."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, rate):
        return optax.sgd(rate * self.factor)

    rule = __call__


@dataclass
class Unhashable:
    """An object that can be compared and so cannot be hashed."""

    factors: list

    def __call__(self, rate):
        return optax.sgd(rate * self.factors[-1])


def masked(rate, mask):
    """Gradient descent with a long array inside."""
    scale = optax.stateless(lambda g, _: jax.tree.map(lambda x: x * jnp.prod(mask), g))
    return optax.chain(scale, optax.sgd(rate))


LONG = np.linspace(0, 1, 5000, dtype=np.float32)
OTHER = spoilt(LONG, 2500, LONG[2500] + 1e-6)

RULES = {
    "a constant in a closure": (scaled(1.0), scaled(1.5)),
    "the last bit of one": (scaled(np.float32(0.1)), scaled(np.nextafter(np.float32(0.1), 1))),
    "a default": (with_default(1.0), with_default(1.5)),
    "a lambda": (lambda rate: optax.sgd(rate), lambda rate: optax.sgd(-rate)),
    "a partial": (partial(optax.sgd, momentum=0.8), partial(optax.sgd, momentum=0.9)),
    "a long array": (partial(masked, mask=LONG), partial(masked, mask=OTHER)),
    "an object": (Scaling(1.0), Scaling(1.5)),
    "a method": (Scaling(1.0).rule, Scaling(1.5).rule),
    "no hash": (Unhashable([1.0]), Unhashable([1.5])),
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_a_change_inside_a_rule_is_another_run(rules):
    one, other = rules
    assert key_of(one) == key_of(one) != key_of(other)


def test_a_global_that_a_rule_reads_counts(monkeypatch):
    before = key_of(reads_a_global)
    assert key_of(reads_a_global) == before
    monkeypatch.setitem(globals(), "FACTOR", 1.5)
    assert key_of(reads_a_global) != before


@pytest.mark.parametrize("make", [Scaling, lambda f: Unhashable([f])], ids=["object", "no hash"])
@pytest.mark.parametrize("method", [False, True])
def test_an_object_that_changes_in_place_is_another_rule(make, method):
    rule = make(1.0)
    chosen = rule.__call__ if method else rule
    before = key_of(chosen)
    if isinstance(rule, Scaling):
        rule.factor = 1.5
    else:
        rule.factors.append(1.5)
    assert key_of(chosen) != before == key_of(make(1.0))


def test_a_rule_given_to_a_rule_is_recognised():
    """A function among the arguments has an address, which says nothing."""

    def outer(rate, inner):
        return optax.chain(inner(), optax.sgd(rate))

    first = key_of(partial(outer, inner=optax.scale_by_adam))
    assert first == key_of(partial(outer, inner=optax.scale_by_adam))
    assert first == key_of(partial(outer, inner=lambda: optax.scale_by_adam()))
    assert first != key_of(partial(outer, inner=partial(optax.scale_by_adam, b2=0.99)))


def test_an_object_that_changes_between_two_calls_is_not_run_as_it_was():
    """On ``½ Σ w² / 3`` a step of gradient descent is a factor."""
    problem = Problem.from_arrays("p", quadratic(3), None, np.arange(3))
    rule = Scaling(1.0)
    sweep = Sweep(problem, {"mine": (1.5,)}, 3, stops=(0, 3), optimizers={"mine": rule})
    for factor in (1.0, 0.5):
        rule.factor = factor
        found = run(sweep)["train_loss"].values.squeeze()
        expected = (1 - 1.5 * factor / 3) ** (2 * np.arange(3)) / 2
        np.testing.assert_allclose(found, expected, rtol=1e-6)


# What is hidden in programs -----------------------------------------------------------------------


def in_jit(array):
    return jax.jit(lambda x: x * jnp.sum(array))


def in_jit_in_jit(array):
    inner = in_jit(array)
    return jax.jit(lambda x: inner(x) + 1)


def in_jit_in_scan(array):
    inner = in_jit(array)
    return lambda x: jax.lax.scan(lambda c, _: (inner(c), None), x, None, length=2)[0]


def in_scan(array):
    return lambda x: jax.lax.scan(lambda c, _: (c * jnp.sum(array), None), x, None, length=2)[0]


def in_loop(array):
    return lambda x: jax.lax.fori_loop(0, 2, lambda i, c: c * array[i + 2500], x)


def in_while(array):
    return lambda x: jax.lax.while_loop(
        lambda c: c.sum() < jnp.sum(array), lambda c: c * (2 + array[0]), x
    )


def in_cond(array):
    return lambda x: jax.lax.cond(x.sum() > 0, lambda x: x * jnp.sum(array), lambda x: x, x)


def in_jit_in_cond(array):
    return lambda x: jax.lax.cond(x.sum() > 0, in_jit(array), lambda x: x, x)


def in_checkpoint(array):
    return jax.checkpoint(lambda x: x * jnp.sum(array))


def in_map(array):
    return lambda x: jax.lax.map(lambda one: one * jnp.sum(array), x)


def in_vmap_of_jit(array):
    return jax.vmap(in_jit(array))


def in_gradient(array):
    return jax.grad(lambda x: (in_jit(array)(x) ** 2).sum())


def in_custom_vjp(array):
    function = jax.custom_vjp(in_jit(array))
    function.defvjp(lambda x: (function(x), None), lambda _, g: (g,))
    return lambda x: function(x)


def in_backward_rule(array):
    function = jax.custom_vjp(lambda x: x)
    function.defvjp(lambda x: (x, None), lambda _, g: (in_jit(array)(g),))
    return jax.grad(lambda x: function(x).sum())


PLACES = (
    in_jit, in_jit_in_jit, in_jit_in_scan, in_scan, in_loop, in_while, in_cond, in_jit_in_cond,
    in_checkpoint, in_map, in_vmap_of_jit, in_gradient, in_custom_vjp, in_backward_rule,
)  # fmt: skip


@pytest.mark.parametrize("on_device", [False, True], ids=["numpy", "jax"])
@pytest.mark.parametrize("place", PLACES)
def test_one_number_of_a_captured_array_counts(place, on_device):
    x = jax.ShapeDtypeStruct((3,), np.float32)
    as_captured = jnp.asarray if on_device else np.array

    def digest(array):
        array = as_captured(array)
        return Traced(place(jnp.asarray(array) if place is in_loop else array), x).digest

    assert digest(LONG) == digest(LONG) != digest(spoilt(LONG, 2501, 2.0))


def test_a_captured_key_counts():
    def noisy(seed):
        key = jax.random.key(seed)
        return jax.jit(lambda x: x + jax.random.normal(key, x.shape))

    x = jax.ShapeDtypeStruct((3,), np.float32)
    assert Traced(noisy(0), x).digest == Traced(noisy(0), x).digest != Traced(noisy(1), x).digest


def test_equal_programs_of_different_functions_are_compiled_once():
    x = jax.ShapeDtypeStruct((3,), np.float32)
    one, other = Traced(in_jit(LONG), x), Traced(lambda y: in_jit(LONG)(y), x)
    assert one.digest == other.digest
    assert one.compiled() is other.compiled()
    assert one.compiled() is not Traced(in_jit(OTHER), x).compiled()  # but for a number


class Callback:
    """What XLA calls back into Python; its text tells nothing."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return np.float32(x * self.factor)

    def __repr__(self):
        return "a callback"


@pytest.mark.parametrize("nested", [False, True])
def test_what_jax_cannot_see_into_is_never_taken_for_another(nested):
    x = jax.ShapeDtypeStruct((3,), np.float32)

    def digest(factor):
        callback = Callback(factor)

        def call(x):
            return jax.pure_callback(callback, x, x)

        return Traced(jax.jit(call) if nested else call, x).digest

    assert digest(1.0) != digest(1.5)


# Options of equal length, of probes, tasks and problems -------------------------------------------


def probed(probe):
    problem = Problem.from_arrays("p", TASK, INPUT, LABEL)
    return key(Sweep(problem, {"gd": (0.1,)}, 3, probes=(probe,)))


PROBES = {
    "steps of Lanczos": (
        block_spectra(TASK, (0, 1), steps=6, starts=1),
        block_spectra(TASK, (0, 1), steps=8, starts=1),
    ),
    "blocks": (
        block_spectra(TASK, (0, 1), steps=4, starts=1),
        block_spectra(TASK, (0, 2), steps=4, starts=1),
    ),
    "coordinates": (
        hessian_entries(TASK, "some", (0, 3), (1, 8)),
        hessian_entries(TASK, "some", (0, 3), (1, 9)),
    ),
    "classes of entries": (
        hessian_entries(TASK, "some", (0, 3), (1, 8)),
        hessian_entries(TASK, "some", (0, 4), (1, 8)),
    ),
    "classes of traces": (block_traces(TASK, (0, 3)), block_traces(TASK, (0, 4))),
    "quantiles": (
        correct_class_probability(TASK, heavy_tailed_linear(3).buckets, (0.1, 0.5)),
        correct_class_probability(TASK, heavy_tailed_linear(3).buckets, (0.1, 0.6)),
    ),
    "levels": (
        correct_class_probability(TASK, heavy_tailed_linear(3, bucketing=3).buckets),
        correct_class_probability(TASK, heavy_tailed_linear(3, bucketing=(9, 3)).buckets),
    ),
    "a probe of one's own": (
        Probe("mine", lambda p, b: {"x": p["bias"].max()}, {"x": ()}),
        Probe("mine", lambda p, b: {"x": p["bias"].min()}, {"x": ()}),
    ),
    "what it calls its arrays": (
        Probe("mine", lambda p, b: {"x": p["bias"].max()}, {"x": ()}),
        Probe("mine", lambda p, b: {"y": p["bias"].max()}, {"y": ()}),
    ),
    "what it calls their axes": (
        Probe("mine", lambda p, b: {"x": p["bias"]}, {"x": ("class",)}),
        Probe("mine", lambda p, b: {"x": p["bias"]}, {"x": ("other",)}),
    ),
    "another loss": (loss_by_class(TASK, 7), loss_by_class(replace(TASK, per_example=halved), 7)),
}


@pytest.mark.parametrize("pair", PROBES.values(), ids=PROBES)
def test_an_option_of_a_probe_counts(pair):
    one, other = map(probed, pair)
    assert one != other


class Wide(nnx.Module):
    """A model of one's own, with an option that is no parameter's size."""

    class_axis = 1

    def __init__(self, width, slope, rngs):
        self.first = nnx.Linear(32, width, rngs=rngs)
        self.last = nnx.Linear(width, 7, rngs=rngs)
        self.slope = slope

    def __call__(self, x):
        return self.last(jnp.tanh(self.slope * self.first(x)))


def problem_of(task=TASK, input=INPUT, label=LABEL, **options):
    return Problem.from_arrays("p", task, input, label, **options)


def drawn(counts):
    return random_linear("mine", {}, np.array(counts), 4)


PROBLEMS = {
    "counts": (drawn([6, 3, 1]), drawn([6, 2, 2])),
    "which class is frequent": (drawn([6, 3, 1]), drawn([3, 6, 1])),
    "the width of a model": (
        problem_of(classification(partial(Wide, 4, 1.0))),
        problem_of(classification(partial(Wide, 5, 1.0))),
    ),
    "a constant of a model": (
        problem_of(classification(partial(Wide, 4, 1.0))),
        problem_of(classification(partial(Wide, 4, 1.1))),
    ),
    "a pixel": (problem_of(), problem_of(input=spoilt(INPUT, (5, 7), 0.25))),
    "a weight": (problem_of(), problem_of(weight=spoilt(np.ones(24), 3, 0.5))),
    "the order of the rows": (problem_of(), problem_of(input=INPUT[::-1], label=LABEL[::-1])),
    "two labels": (problem_of(), problem_of(label=spoilt(spoilt(LABEL, 0, 1), 8, 0))),
    "buckets of as many classes": (
        problem_of(counts=np.float64([9, 8, 7, 6, 5, 4, 3]), bucketing=2),
        problem_of(counts=np.float64([3, 4, 5, 6, 7, 8, 9]), bucketing=2),
    ),
}


@pytest.mark.parametrize("pair", PROBLEMS.values(), ids=PROBLEMS)
def test_what_is_learnt_counts(pair):
    one, other = (key(Sweep(problem, {"gd": (0.1,)}, 3)) for problem in pair)
    assert one != other


def test_the_seed_counts_where_the_data_do_not_depend_on_it():
    first, second = runs(plans(Sweep(problem_of(), {"gd": (0.1,)}, 3, seeds=(0, 1))))
    assert first.key != second.key


# The same key elsewhere ---------------------------------------------------------------------------


def telling_sweeps():
    """Optimizers, probes, and models of text and images."""
    tokens = np.arange(60).reshape(6, 10) % 11
    architecture = post_norm(11, width=8, num_heads=2, num_layers=1, mlp_width=8)
    text = next_token(partial(Transformer, architecture), noisy_evaluation=True)
    images = classification(partial(SimpleCNN, 7, channels=(2, 3)))
    small = Problem.from_arrays("small", TASK, INPUT, LABEL)
    one = {"adam": (0.1,)}
    probes = (
        class_statistics(TASK),
        block_spectra(TASK, (0, 1), steps=4, starts=1),
        correct_class_probability(TASK, small.buckets),
    )
    return {
        "some": Sweep(small, dict.fromkeys(("gd+m", "armijo"), (0.1,)), 3),
        "probes": Sweep(small, one, 3, probes=probes, weighting=0.5, l2=0.1, microbatches=5),
        "optimizers": Sweep(small, dict.fromkeys(OPTIMIZERS, (0.1,)), 3),
        "text": Sweep(
            Problem.from_arrays("text", text, tokens, (tokens + 1) % 11), one, 3, batch_size=2
        ),
        "images": Sweep(
            Problem.from_arrays("images", images, np.ones((24, 28, 28)), LABEL), one, 3
        ),
    }


def telling_keys(names):
    sweeps = telling_sweeps()
    return {name: [one.key for one in runs(plans(sweeps[name]))] for name in names}


@pytest.mark.parametrize(
    "names",
    [
        ("some", "probes"),
        pytest.param(("optimizers", "text", "images"), marks=pytest.mark.slow),
    ],
    ids="+".join,
)
def test_the_key_is_the_same_in_another_process_and_folder(tmp_path, names):
    code = f"import json, test_keys; print(json.dumps(test_keys.telling_keys({names})))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONHASHSEED": "7",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    elsewhere, found = json.loads(done.stdout.splitlines()[-1]), telling_keys(names)
    assert elsewhere == found
    keys = [one for group in found.values() for one in group]
    assert (
        len(set(keys))
        == len(keys)
        == sum(len(telling_sweeps()[name].learning_rates) for name in names)
    )


SCRIPT = '''
"""An experiment with a rule, a model and a probe of its own."""
from functools import partial
import jax, jax.numpy as jnp, numpy as np, optax
from matplotlib.figure import Figure
from imbalance.probes import Probe
from imbalance.problems import Problem, heavy_tailed_linear
from imbalance.problems.tasks import Examples, Task
from imbalance.reporting.experiment import Experiment
from imbalance.training.optimizers import OPTIMIZERS
from imbalance.training.plan import plans, runs
from imbalance.training.sweep import Sweep

SLOW = 0.5

class Rule:
    def __init__(self, factor):
        self.factor = factor
    def __call__(self, rate):
        return optax.sgd(rate * self.factor * SLOW)

@jax.jit
def squared(params):
    return jnp.sum(params["w"] ** 2)

def sweeps(scale):
    def per_example(params, batch, key):
        loss = (params["w"][batch.label] - batch.input) ** 2
        return Examples(loss, batch.label, batch.weight)
    task = Task(lambda key: {"w": jax.random.normal(key, (3,))}, per_example)
    problem = Problem.from_arrays("mine", task, np.arange(6.0), np.arange(6) % 3)
    norm = Probe("norm", lambda params, batch: {"norm": squared(params)}, {"norm": ()})
    mine = {**OPTIMIZERS, "mine": Rule(3.0)}
    rates = {"mine": (0.1, 0.2), "adam": (0.1,)}
    return {"": Sweep(problem, rates, 4, seeds=(0, 1), probes=(norm,), optimizers=mine)}

EXPERIMENT = Experiment("own", sweeps, lambda dataset: Figure(), lambda dataset: [])
if __name__ == "__main__":
    print(*[run.key for run in runs(plans(sweeps("smoke")[""]))])
'''


def test_the_key_is_the_same_for_a_script_and_for_what_is_loaded_from_it(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    sweep = load_experiment(path).sweeps("smoke")[""]
    loaded = [one.key for one in runs(plans(sweep))]
    assert done.stdout.split() == loaded and len(set(loaded)) == 6
    moved = tmp_path / "elsewhere" / "own.py"  # its lines moved, and its folder
    moved.parent.mkdir()
    moved.write_text("# a word\n\n\n" + SCRIPT)
    again = [one.key for one in runs(plans(load_experiment(moved).sweeps("smoke")[""]))]
    assert again == loaded
