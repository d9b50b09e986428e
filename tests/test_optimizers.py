"""Every update rule against the same rule written in float64 NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imbalance.problems.objective import Objective
from imbalance.training import engine as engine_module
from imbalance.training.engine import Engine, microbatched
from imbalance.training.optimizers import (
    OPTIMIZERS,
    Optimizer,
    _bias_correction,
    adamw,
    optimizer_named,
)

start = jax.jit(engine_module.start, static_argnums=0)
advance = jax.jit(engine_module.advance, static_argnums=0, donate_argnums=1)

SAME = 1e-6  # both sides are float64
RATE, STEPS = 0.03, 20
SHAPES = ((3, 4), (3,))  # a matrix and a bias


# The rules: (parameters, gradients, rate) -> parameters after every step -------------------------


def heavy_ball(direction, momentum=0.0):
    def rule(params, gradients, rate):
        velocity = [np.zeros_like(p) for p in params]
        for g in gradients:
            velocity = [momentum * u + d for u, d in zip(velocity, direction(g), strict=True)]
            params = [p - rate * u for p, u in zip(params, velocity, strict=True)]
            yield params

    return rule


def coordinatewise(update):
    """A rule that treats every number alone: ``update(number, [its gradients], rate)``."""

    def rule(params, gradients, rate):
        for t in range(1, len(gradients) + 1):
            params = [update(p, [g[i] for g in gradients[:t]], rate) for i, p in enumerate(params)]
            yield params

    return rule


def adam(b1, b2=0.999, eps=1e-8, decay=0.0):
    def average(values, b):  # Σ (1 - b) b^(t - s) g_s, divided by 1 - b^t
        weight = b ** np.arange(len(values) - 1, -1, -1)
        return np.tensordot((1 - b) * weight, np.stack(values), 1) / (1 - b ** len(values))

    def update(p, gradients, rate):
        m, v = average(gradients, b1), average([g**2 for g in gradients], b2)
        shrunk = p * (1 - rate * decay) if p.ndim > 1 else p  # "split decay": none on biases
        return shrunk - rate * m / (np.sqrt(v) + eps)

    return coordinatewise(update)


def adagrad(p, gradients, rate, eps=1e-10):
    return p - rate * gradients[-1] / (np.sqrt(sum(g**2 for g in gradients)) + eps)


def plain(g):
    return g


def normalized(g):
    return [x / np.sqrt(sum((y**2).sum() for y in g)) for x in g]


def block_normalized(g):
    return [x / np.abs(x).sum() for x in g]


def sign(g):
    return [np.sign(x) for x in g]


def scaled_sign(g):
    return [np.sign(x) * sum(np.abs(y).sum() for y in g) for x in g]


RULES = {
    "gd": heavy_ball(plain),
    "gd+m": heavy_ball(plain, 0.9),
    "normalized_gd": heavy_ball(normalized),
    "normalized_gd+m": heavy_ball(normalized, 0.9),
    "block_normalized_gd": heavy_ball(block_normalized),
    "block_normalized_gd+m": heavy_ball(block_normalized, 0.9),
    "sign": heavy_ball(sign),
    "sign+m": heavy_ball(sign, 0.9),
    "scaled_sign": heavy_ball(scaled_sign),
    "scaled_sign+m": heavy_ball(scaled_sign, 0.9),
    "adam": adam(0.9),
    "adam_without_momentum": adam(0.0),
    "adamw": adam(0.9, 0.95, decay=0.01),
    "adagrad": coordinatewise(adagrad),
}


def random_problem(seed=0):
    """Parameters, and gradients whose coordinates differ in size by 10^6, as rare classes do."""
    rng = np.random.default_rng(seed)
    params = [rng.normal(size=shape) for shape in SHAPES]
    scales = [10 ** rng.uniform(-6, 0, shape) for shape in SHAPES]
    scales[0][1, 2] = 0  # a coordinate that never gets a gradient
    return params, [[s * rng.normal(size=s.shape) for s in scales] for _ in range(STEPS)]


def path(optimizer, params, gradients):
    """Parameters after every step, by optax, in the precision JAX works in."""
    transform = optimizer(RATE)
    params = [jnp.asarray(p) for p in params]
    state = transform.init(params)
    for g in gradients:
        updates, state = transform.update([jnp.asarray(x) for x in g], state, params)
        params = optax.apply_updates(params, updates)
        yield [np.asarray(p) for p in params]


@pytest.mark.parametrize("name", RULES)
def test_the_rules_of_the_paper(name):
    params, gradients = random_problem()
    with jax.enable_x64(True):
        found = list(path(OPTIMIZERS[name].rule, params, gradients))
    assert found[0][0].dtype == np.float64
    for step, expected in zip(found, RULES[name](params, gradients, RATE), strict=True):
        for a, b in zip(step, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("decay", [0.9, 0.95, 0.999])
def test_adams_bias_correction_is_right_to_float32(decay):
    """In float32 ``1 - 0.999^t`` is 2e-5 off at t = 1."""
    step = np.arange(1, 10_001)
    found = np.float64(_bias_correction(decay, jnp.asarray(step)))
    np.testing.assert_allclose(found, -np.expm1(step * np.log(decay)), rtol=4e-7)


@pytest.mark.parametrize("name", ["adam", "adam_without_momentum", "adamw"])
def test_in_float32_adam_goes_where_it_goes_in_float64(name):
    """Fifty steps, of which only roundings are lost; optax is 7e-6 off."""
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.uniform(-6, 0, 4)
    gradients = [[np.float32(scale * rng.normal(size=4))] for _ in range(50)]
    found = list(path(OPTIMIZERS[name].rule, [np.zeros(4, np.float32)], gradients))
    exact = [[np.float64(g)] for (g,) in gradients]
    expected = np.stack([p for (p,) in RULES[name]([np.zeros(4)], exact, RATE)])
    assert found[0][0].dtype == np.float32
    walked = np.abs(expected).max()
    np.testing.assert_allclose(
        np.stack([p for (p,) in found]) / walked, expected / walked, atol=SAME
    )


def test_our_adam_is_that_of_optax_up_to_its_bias_correction():
    """Optax computes 1 - b^t in float32, which at t = 1 loses three digits of seven."""
    params, gradients = random_problem()
    params = [np.zeros_like(p) for p in params]
    ours = path(OPTIMIZERS["adam"].rule, params, gradients)
    for a, b in zip(ours, path(optax.adam, params, gradients), strict=True):
        for one, other in zip(a, b, strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, other, atol=1e-4 * RATE)  # a step is about RATE long
    with jax.enable_x64(True):  # where nothing is lost they are the same
        ours = path(OPTIMIZERS["adam"].rule, params, gradients)
        for a, b in zip(ours, path(optax.adam, params, gradients), strict=True):
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), a, b)


def test_adam_without_momentum_keeps_no_first_moment():
    state = OPTIMIZERS["adam_without_momentum"].rule(0.1).init(jnp.ones(3))
    assert len([leaf for leaf in jax.tree.leaves(state) if leaf.shape == (3,)]) == 1


def test_decay_is_of_matrices_and_not_of_biases_embeddings_and_norms():
    matrix = jnp.ones((2, 2))
    params = {
        "weight": matrix,
        "bias": jnp.ones(2),
        "embedding": matrix,
        "blocks": [
            {"mlp_in": matrix, "norm_mlp": {"weight": matrix}, "Embedding_0": {"w": matrix}}
        ],
    }
    transform = adamw(0.1, weight_decay=0.5)
    none = jax.tree.map(jnp.zeros_like, params)
    updates, _ = transform.update(none, transform.init(params), params)
    block = updates["blocks"][0]
    for decayed in (updates["weight"], block["mlp_in"]):
        np.testing.assert_allclose(decayed, -0.1 * 0.5, rtol=SAME)
    kept = (updates["bias"], updates["embedding"], block["norm_mlp"], block["Embedding_0"])
    for leaf in jax.tree.leaves(kept):
        np.testing.assert_array_equal(leaf, 0)


@pytest.mark.parametrize(
    ("name", "torch_name", "options"),
    [
        ("gd", "SGD", {}),
        ("gd+m", "SGD", {"momentum": 0.9}),
        ("adam", "Adam", {}),
        ("adam_without_momentum", "Adam", {"betas": (0.0, 0.999)}),
        ("adamw", "AdamW", {"betas": (0.9, 0.95), "weight_decay": 0.01}),
        ("adagrad", "Adagrad", {}),
    ],
)
def test_the_rules_of_pytorch(name, torch_name, options):
    torch = pytest.importorskip("torch")
    params, gradients = random_problem()
    with jax.enable_x64(True):
        found = list(path(OPTIMIZERS[name].rule, params, gradients))
    matrix, bias = leaves = [torch.tensor(p, requires_grad=True) for p in params]
    groups = [{"params": [matrix]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = getattr(torch.optim, torch_name)(groups, lr=RATE, **options)
    for step, g in zip(found, gradients, strict=True):
        for leaf, x in zip(leaves, g, strict=True):
            leaf.grad = torch.tensor(x)
        optimizer.step()
        for a, leaf in zip(step, leaves, strict=True):
            np.testing.assert_allclose(a, leaf.detach().numpy(), rtol=SAME, atol=SAME)


def test_sign_before_momentum_is_not_sign_after_it():
    """After a gradient and nearly its opposite the one has almost stopped, the other turned."""
    gradients = [[np.array([1.0])], [np.array([-0.95])]]

    def moves(name):
        way = [p[0][0] / RATE for p in path(OPTIMIZERS[name].rule, [np.zeros(1)], gradients)]
        return np.diff([0, *way])

    np.testing.assert_allclose(moves("sign+m"), [-1, 0.1], rtol=SAME)
    np.testing.assert_allclose(moves("sign_of_momentum"), [-1, 1], rtol=SAME)


@pytest.mark.parametrize("name", [n for n in RULES if n != "adamw"])
def test_without_a_gradient_nothing_moves(name):
    (stays,) = path(OPTIMIZERS[name].rule, [np.ones(3)], [[np.zeros(3)]])
    np.testing.assert_array_equal(stays[0], np.ones(3))


def test_adam_without_memory_is_sign_descent():
    params, gradients = random_problem()
    gradients = [[np.where(x == 0, 1.0, x) for x in g] for g in gradients]
    memoryless = partial(optax.adam, b1=0.0, b2=0.0, eps=0.0)
    with jax.enable_x64(True):
        found = path(memoryless, params, gradients)
        for a, b in zip(found, path(OPTIMIZERS["sign"].rule, params, gradients), strict=True):
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12), a, b)


# Line search ------------------------------------------------------------------------------------


def armijo_steps(curvature, rate, count):
    """Step sizes η taken on ``½ Σ h w²`` from w = 1; whether η passes, and whether ``η / 0.9``."""
    h = np.asarray(curvature, float)

    def loss(w):
        return (jnp.asarray(h) * w**2).sum() / 2

    def passes(w, eta):  # L(w - ηg) ≤ L(w) - ½ η ‖g‖²
        g = h * w
        return h @ (w - eta * g) ** 2 / 2 <= h @ w**2 / 2 - eta * (g @ g) / 2

    with jax.enable_x64(True):
        transform = OPTIMIZERS["armijo"].rule(rate)
        w = jnp.ones(len(h))
        state = transform.init(w)
        taken = []
        for _ in range(count):
            value, g = jax.value_and_grad(loss)(w)
            updates, state = transform.update(g, state, w, value=value, grad=g, value_fn=loss)
            eta = float(-updates[0] / g[0])
            at = np.asarray(w)
            taken.append((eta, passes(at, eta), passes(at, eta / 0.9)))
            w = optax.apply_updates(w, updates)
        return taken


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_armijo_tries_the_learning_rate_first_and_then_half_more_than_the_last(rate):
    flat = armijo_steps([1e-6], rate, count=4)  # any step up to 10^6 passes
    assert [eta for eta, *_ in flat] == pytest.approx([rate * 1.5**t for t in range(4)], rel=SAME)


@pytest.mark.parametrize("rate", [1.0, 7.0])
def test_armijo_takes_the_first_step_that_passes(rate):
    previous = rate / 1.5
    for eta, passes, larger_passes in armijo_steps([30.0, 2.0, 0.1], rate, count=6):
        trial = 1.5 * previous
        backtracks = np.log(eta / trial) / np.log(0.9)
        assert backtracks == pytest.approx(round(backtracks), abs=SAME)
        assert round(backtracks) >= 0
        assert passes
        assert round(backtracks) == 0 or not larger_passes
        previous = eta


# All of them ------------------------------------------------------------------------------------


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="'adm'") as error:
        optimizer_named("adm")
    assert all(name in str(error.value) for name in OPTIMIZERS)
    assert "optimizers={**OPTIMIZERS, 'mine': mine}" in str(error.value)


def test_a_bare_rule_gets_its_name_for_a_label():
    found = optimizer_named("mine", {"mine": optax.sgd})
    assert found == Optimizer(optax.sgd, "mine")
    assert optimizer_named("mine", {"mine": Optimizer(optax.sgd)}).label == "mine"
    labelled = Optimizer(optax.sgd, "Mine", "red", momentum=False)
    assert optimizer_named("mine", {"mine": labelled}) is labelled


def test_names_labels_and_colours_tell_optimizers_apart():
    labels = [optimizer.label for optimizer in OPTIMIZERS.values()]
    assert all(labels) and len(set(labels)) == len(labels)
    looks = {(o.colour, o.momentum) for o in OPTIMIZERS.values()}
    assert (OPTIMIZERS["adam"].label, OPTIMIZERS["adam"].momentum) == ("Adam", True)
    assert not OPTIMIZERS["adam_without_momentum"].momentum
    assert len(looks) >= len(labels) - 1  # Adam and AdamW share theirs


QUICK = ("armijo", "muon")  # which need most of the engine: a loss function, and matrices


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in OPTIMIZERS]
)
def test_every_optimizer_runs_in_the_engine(problem, name):
    engine = Engine(problem.task, OPTIMIZERS[name].rule)
    state = start(engine, jax.random.key(0), jnp.array([1e-2]))
    before = jax.tree.map(np.asarray, state.params)
    state, (loss, _) = advance(engine, state, microbatched(problem.batch(0)), Objective(), 3)
    assert np.isfinite(loss[:3]).all()
    assert state.alive.all()
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(state.params), strict=True):
        assert new.dtype == np.float32
        assert not np.array_equal(old, new)
