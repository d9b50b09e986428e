"""Every block of docs/optimizers.md is run, and its rule compared with another way to the same."""

import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imbalance import OPTIMIZERS, Sweep
from imbalance.models.cnn import SimpleCNN
from imbalance.models.linear import SoftmaxLinear
from imbalance.problems.objective import Objective
from imbalance.problems.tasks import classification
from imbalance.training import engine as walk
from imbalance.training.engine import Engine, microbatched
from imbalance.training.plan import plans

PAGE = Path(__file__).resolve().parents[1] / "docs" / "optimizers.md"
TEXT = PAGE.read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
BLOCKS = {
    title: re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    for title, section in SECTIONS.items()
    if "```python" in section
}
RULES = {
    "signed": "A rule of your own",
    "warmed_up": "Warm-up and decay",
    "clipped": "Clipping",
    "decayed": "Weight decay with a mask",
    "muon_inside": "Rates per module",
    "sharpness_aware": "A second gradient",
    "library_sam": "Sharpness-aware minimisation of optax",
    "schedule_free": "Schedule-free",
    "searched": "Line searches",
    "quasi_newton": "Line searches",
}
LONGEST = 10  # lines of a recipe
QUICK = ("schedule_free",)  # which needs most of the engine


def run_block(title):
    namespace = {"__name__": "recipe"}
    exec(compile(BLOCKS[title], f"{PAGE.name}: {title}", "exec"), namespace)
    return SimpleNamespace(**namespace)


def rule(name):
    return getattr(run_block(RULES[name]), name)


def loss(params):
    """A loss of a matrix inside, an embedding and a bias, with a curvature in every direction."""
    return sum(
        jnp.sum((1 + jnp.arange(leaf.size).reshape(leaf.shape) / 7) * (leaf - 1) ** 2)
        for leaf in jax.tree.leaves(params)
    )


PARAMS = {
    "blocks": {0: {"mlp_in": jnp.linspace(-1, 1, 12).reshape(3, 4), "norm": jnp.ones((2, 2))}},
    "embedding": jnp.linspace(0, 2, 6).reshape(3, 2),
    "bias": jnp.array([0.5, -0.5]),
}


def path(transform, steps, value_fn=loss, params=PARAMS):
    """Parameters after every step of a rule that is given what the engine gives."""
    transform, state = optax.with_extra_args_support(transform), transform.init(params)

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(value_fn)(params)
        given = {"value": value, "grad": grads, "value_fn": value_fn}
        updates, state = transform.update(grads, state, params, **given)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
        yield params


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Nearly all the time goes into compiling; what is compiled runs for milliseconds."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def assert_same(one, other, rtol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), one, other)


def test_every_block_has_a_test():
    assert TEXT.count("```python") == len(BLOCKS)
    source = Path(__file__).read_text("utf-8")
    assert set(RULES.values()) | set(re.findall(r"run_block\(\"(.+?)\"", source)) == set(BLOCKS)


@pytest.mark.parametrize("title", sorted(set(RULES.values())))
def test_recipes_are_short(title):
    assert len([line for line in BLOCKS[title].splitlines() if line.strip()]) <= LONGEST


@pytest.mark.parametrize("name", RULES)
def test_a_recipe_is_traced_by_the_engine(name, problem):
    sweep = Sweep(problem, {"mine": (0.05,)}, 8, optimizers={"mine": rule(name)})
    (plan,) = plans(sweep)
    start, advance, _ = plan.alone
    assert jax.tree.structure(advance.out_shapes[0]) == jax.tree.structure(start.out_shapes)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RULES]
)
def test_a_recipe_runs_in_the_engine(name, problem):
    engine = Engine(problem.task, rule(name))
    start = jax.jit(walk.start, static_argnums=0)
    advance = jax.jit(walk.advance, static_argnums=0, donate_argnums=1)
    state = start(engine, jax.random.key(0), jnp.array([0.05]))
    before = jax.tree.map(np.asarray, state.params)
    state, (total, weight) = advance(engine, state, microbatched(problem.batch(0)), Objective(), 8)
    mean = total[:8, 0] / weight[:8, 0]
    assert state.alive.all() and np.isfinite(mean).all() and mean[-1] < mean[0]
    moved = jax.tree.map(lambda old, new: not np.array_equal(old, new), before, state.params)
    assert all(jax.tree.leaves(moved))


def test_compare_it(capsys):
    r = run_block("Compare it")
    printed = capsys.readouterr().out
    assert "adam" in printed and "mine" in printed and "standard_error" in printed
    assert r.best["seed"].values.tolist() == [1, 2, 3]
    mean = r.best["bucket_loss"].isel(step=-1).mean("seed")
    difference = mean.sel(optimizer="mine") - mean.sel(optimizer="adam")
    np.testing.assert_allclose(r.last["mean"], difference, rtol=1e-5, atol=1e-6)


def test_how_parameters_are_called(capsys):
    run_block("How parameters are called")
    names = {line.split(" ")[0] for line in capsys.readouterr().out.splitlines()}
    told = SECTIONS["How parameters are called"]
    (row,) = re.findall(r"^\| transformer \| (.+) \|$", told, re.MULTILINE)
    for word in re.findall(r"`([a-z_.]+)`", row.split("; `norm`")[0]):
        if word != "blocks.0":
            assert names & {word, f"blocks.0.{word}"}, word
    assert {"embedding", "weight", "bias", "blocks.0.attention.in_bias"} <= names


@pytest.mark.parametrize(
    ("model", "build"),
    [
        ("linear", lambda rngs: SoftmaxLinear(2, 3, rngs=rngs)),
        ("convolutional", lambda rngs: SimpleCNN(3, side=4, channels=(2, 2), rngs=rngs)),
    ],
)
def test_parameters_of_the_other_models_are_called_so(model, build):
    start = jax.eval_shape(classification(build).init, jax.random.key(0))
    leaves, _ = jax.tree_util.tree_flatten_with_path(start)
    names = {jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves}
    (row,) = re.findall(rf"^\| {model} \| (.+) \|$", TEXT, re.MULTILINE)
    assert set(re.findall(r"`([a-z]+(?:\.\d)?)`", row)) == names


def test_a_rule_of_your_own_is_the_sign_of_the_momentum():
    found = path(rule("signed")(0.01), 5)
    for one, other in zip(found, path(optax.signum(0.01, beta=0.9), 5), strict=True):
        assert_same(one, other)


def test_further_hyperparameters(problem):
    rules = run_block("Further hyperparameters").by_decay
    rates = {name: (0.1, 0.01) for name in rules}
    sweep = Sweep(problem, rates, steps=2, optimizers={**OPTIMIZERS, **rules})
    assert len(sweep.settings()["own_optimizers"]) == 3
    first, *_, last = (next(path(make(0.1), 3)) for make in rules.values())
    assert_same(first, last)  # after one step b2 cancels
    first, *_, last = (list(path(make(0.1), 3))[-1] for make in rules.values())
    assert not np.allclose(first["bias"], last["bias"], rtol=1e-6)


def test_warm_up_and_decay_is_that_of_optax_on_a_known_rate(problem):
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.3, warmup_steps=5, decay_steps=12)
    found = path(run_block("Warm-up and decay").warmed_up(0.3, steps=12), 14)
    for one, other in zip(found, path(optax.adam(schedule), 14), strict=True):
        assert_same(one, other)

    def naive(rate):
        return optax.adam(optax.warmup_cosine_decay_schedule(0.0, rate, 5, 12))

    with pytest.raises(jax.errors.TracerBoolConversionError):  # as the page says
        jax.eval_shape(lambda rate: naive(rate).init(PARAMS), jnp.float32(0.3))


def test_clipping():
    (first,) = path(rule("clipped")(0.1), 1)
    moved = optax.tree.norm(optax.tree.sub(first, PARAMS))
    assert optax.tree.norm(jax.grad(loss)(PARAMS)) > 1
    assert moved == pytest.approx(0.1, rel=1e-5)


def test_weight_decay_is_of_what_the_mask_says():
    (first,) = path(rule("decayed")(0.1), 1, value_fn=lambda params: 0 * loss(params))
    shrunk = PARAMS["blocks"][0]["mlp_in"] * (1 - 0.1 * 0.1)
    expected = {**PARAMS, "blocks": {0: {**PARAMS["blocks"][0], "mlp_in": shrunk}}}
    assert_same(first, expected)


def test_muon_is_inside_and_adam_outside():
    (first,) = path(rule("muon_inside")(0.1), 1)
    (adam,) = path(optax.adam(0.01), 1)
    for name in ("embedding", "bias"):
        assert_same(first[name], adam[name])
    update = (first["blocks"][0]["mlp_in"] - PARAMS["blocks"][0]["mlp_in"]) / 0.1
    sizes = np.linalg.svd(update, compute_uv=False)
    assert sizes[0] < 2 * sizes[2], "Muon makes singular values alike"
    (by_adam,) = path(optax.adam(0.1), 1)
    sizes = np.linalg.svd(by_adam["blocks"][0]["mlp_in"] - PARAMS["blocks"][0]["mlp_in"])[1]
    assert sizes[0] > 2 * sizes[2]


def test_both_sharpness_aware_steps_take_the_gradient_uphill():
    grads = jax.grad(loss)(PARAMS)
    scale = 0.05 / optax.tree.norm(grads)
    uphill = jax.tree.map(lambda p, g: p + scale * g, PARAMS, grads)
    step = jax.tree.map(lambda p, g: p - 0.01 * g, PARAMS, jax.grad(loss)(uphill))
    (own,), (library,) = (path(rule(n)(0.01), 1) for n in ("sharpness_aware", "library_sam"))
    assert_same(own, step)
    assert_same(library, step)


def test_schedule_free_is_measured_where_optax_evaluates():
    theirs = optax.contrib.schedule_free_sgd(0.03, b1=0.9)
    state, y = theirs.init(PARAMS), PARAMS
    for x in path(rule("schedule_free")(0.03), 6):
        updates, state = theirs.update(jax.grad(loss)(y), state, y)
        y = optax.apply_updates(y, updates)
        assert_same(x, optax.contrib.schedule_free_eval_params(state, y), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "rate"),
    [("searched", 10.0), pytest.param("quasi_newton", None, marks=pytest.mark.slow)],
)
def test_line_searches_accept_only_what_lowers_the_loss(name, rate):
    losses = [float(loss(params)) for params in path(rule(name)(rate), 4)]
    assert losses[0] < float(loss(PARAMS)) and (np.diff(losses) < 0).all()


@pytest.mark.slow
def test_a_rule_with_a_stream_of_its_own_has_the_same_noise_at_every_seed(problem):
    """As the page says: its key is a constant of the program, and the run's seed is not in it."""

    def noise(rate):
        return optax.chain(optax.set_to_zero(), optax.add_noise(1.0, 0.0, key=0), optax.sgd(rate))

    engine = Engine(problem.task, noise)
    advance = jax.jit(walk.advance, static_argnums=0)
    moved = []
    for seed in (0, 1):
        state = walk.start(engine, jax.random.key(seed), jnp.array([0.5]))
        after, _ = advance(engine, state, microbatched(problem.batch(seed)), Objective(), 1)
        moved.append(jax.tree.map(jnp.subtract, after.params, state.params))
    assert_same(*moved, rtol=1e-4)
    assert all(np.abs(leaf).max() > 0.1 for leaf in jax.tree.leaves(moved))
