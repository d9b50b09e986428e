"""Transformers against an implementation of their own in NumPy, and against what they must obey."""

from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance.models.attention import CausalAttention, kernel_for
from imbalance.models.last_layer import FrozenFeatures, LastLayer
from imbalance.models.layers import dropped, sinusoids
from imbalance.models.transformer import Transformer, gpt2, post_norm
from imbalance.problems.objective import Objective
from imbalance.problems.tasks import Batch, accumulate, next_token
from imbalance.training import engine
from imbalance.training.engine import Engine, microbatched, total
from imbalance.training.optimizers import OPTIMIZERS

start = jax.jit(engine.start, static_argnums=0)
advance = jax.jit(engine.advance, static_argnums=0, donate_argnums=1)

FORWARD = 2e-5  # absolute, of logits and losses of size 1 to 4 in float32 against float64
SUMS = 1e-5  # relative: sums over the same numbers in another order

CLASSES, ROWS, LENGTH = 11, 4, 6
TINY = {"width": 8, "num_layers": 2, "num_heads": 2, "mlp_width": 12}
NOISELESS = {"dropout": 0.0, "mlp_dropout": 0.0, "attention_dropout": 0.0}
ARCHITECTURES = {
    "post": post_norm(CLASSES, **TINY),
    "authors": gpt2(CLASSES, **TINY | {"num_layers": 1}),
    "pre": gpt2(CLASSES, **TINY, block="pre", tied=True, head_bias=False),
}


def tokens(seed=0, length=LENGTH):
    return np.random.default_rng(seed).integers(0, CLASSES, (ROWS, length)).astype(np.int32)


def make_batch(seed=0):
    text = tokens(seed, LENGTH + 1)
    weight = np.ones((ROWS, LENGTH), np.float32)
    weight[1, 2:] = 0  # a short row
    return Batch(text[:, :-1], text[:, 1:].copy(), weight)


@lru_cache
def task_of(architecture, **options):
    return next_token(lambda rngs: Transformer(architecture, rngs=rngs), **options)


@lru_cache
def params_of(architecture):
    """Parameters that are not those of a start, so that each of them counts."""
    shapes = jax.eval_shape(task_of(architecture).init, jax.random.key(0))
    rng = np.random.default_rng(0)

    def filled(path, leaf):
        names = [getattr(entry, "key", "") for entry in path]
        scale = "norm" in str(names[-2:]) and names[-1] == "weight"
        return rng.normal(float(scale), 0.3, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(filled, shapes)


@lru_cache
def compiled(architecture):
    """Examples: ``(params, batch, key) ->``."""
    return jax.jit(task_of(architecture).per_example)


@lru_cache
def gradient(architecture, chunk=None, microbatches=1):
    """Weighted mean loss, and its gradient: ``(params, batch, key) ->``."""
    task = task_of(architecture, chunk=chunk)

    def both(params, batch, key):
        def sums(params, part):
            return total(task.per_example(params, part, key))

        parts = jax.tree.map(lambda leaf: leaf.reshape(microbatches, -1, *leaf.shape[1:]), batch)
        differentiate = jax.value_and_grad(sums, has_aux=True)
        (loss, weight), grads = accumulate(lambda part, _: differentiate(params, part), parts)
        return loss / weight, jax.tree.map(lambda g: g / weight, grads)

    return jax.jit(both)


def apart(found, expected):
    """Largest difference of any leaf, relative to the largest number of that leaf."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(np.abs(a - b).max() / max(np.abs(b).max(), 1e-3) for a, b in pairs)


# An implementation of its own, in float64: loops over rows, heads and positions -----------------


def numpy_norm(x, layer):
    scaled = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return scaled * layer["weight"] + layer["bias"]


def numpy_attention(x, layer, num_heads):
    """``x [position, feature]``, one query at a time; each attends to itself and what is before."""
    length, width = x.shape
    size = width // num_heads
    query, key, value = np.split(x @ layer["in_weight"].T + layer["in_bias"], 3, axis=1)
    mixed = np.zeros_like(x)
    for head in range(num_heads):
        of_head = slice(head * size, (head + 1) * size)
        for t in range(length):
            score = key[: t + 1, of_head] @ query[t, of_head] / np.sqrt(size)
            weight = np.exp(score) / np.exp(score).sum()
            mixed[t, of_head] = weight @ value[: t + 1, of_head]
    return mixed @ layer["out_weight"].T + layer["out_bias"]


def numpy_embedded(row, embedding):
    width = embedding.shape[1]
    x = np.sqrt(width) * embedding[row]
    for t in range(len(row)):
        for i in range(width):
            angle = t / 10_000 ** ((i - i % 2) / width)
            x[t, i] += np.cos(angle) if i % 2 else np.sin(angle)
    return x


def numpy_logits(params, architecture, row):
    params = jax.tree.map(np.float64, params)
    norms = np.apply_along_axis

    def mlp(x, block):
        x = x @ block["mlp_in"].T + block["mlp_in_bias"]
        if architecture.activation == "relu":
            x = np.maximum(x, 0)
        else:
            x = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return x @ block["mlp_out"].T + block["mlp_out_bias"]

    x = numpy_embedded(row, params["embedding"])
    for block in params["blocks"].values():
        attention = partial(
            numpy_attention, layer=block["attention"], num_heads=architecture.num_heads
        )
        first, second = (
            partial(norms, numpy_norm, 1, layer=block[name])
            for name in ("norm_attention", "norm_mlp")
        )
        if architecture.block == "post":
            x = first(arr=x + attention(x))
            x = second(arr=x + mlp(x, block))
        elif architecture.block == "authors":
            x = first(arr=x)
            x = x + attention(x)
            x = second(arr=x)
            x = x + mlp(x, block)
        else:
            x = x + attention(first(arr=x))
            x = x + mlp(second(arr=x), block)
    if architecture.block != "post":
        x = norms(numpy_norm, 1, x, layer=params["norm"])
    return x @ params.get("weight", params["embedding"]).T + params.get("bias", 0)


# Forward and backward ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_losses_are_those_of_an_independent_implementation(name):
    architecture, batch = ARCHITECTURES[name], make_batch()
    params = params_of(architecture)
    found = compiled(architecture)(params, batch, None)
    logits = np.stack([numpy_logits(params, architecture, row) for row in batch.input])
    log_sum = np.log(np.exp(logits).sum(-1))
    expected = log_sum - np.take_along_axis(logits, batch.label[..., None], -1)[..., 0]
    np.testing.assert_allclose(found.loss, expected.reshape(-1), atol=FORWARD)
    np.testing.assert_array_equal(found.label, batch.label.reshape(-1))
    np.testing.assert_array_equal(found.weight, batch.weight.reshape(-1))
    assert np.ptp(expected) > 1  # so that the losses say something


@pytest.mark.slow
def test_logits_are_those_the_losses_are_made_of():
    architecture, batch = ARCHITECTURES["pre"], make_batch()
    params = params_of(architecture)
    model = Transformer(architecture, rngs=nnx.Rngs(0))
    nnx.update(model, params)
    found = jax.jit(model)(batch.input)
    assert found.shape == (ROWS, LENGTH, CLASSES)
    expected = numpy_logits(params, architecture, batch.input[0])
    np.testing.assert_allclose(found[0], expected, atol=FORWARD)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_future_tokens_change_nothing(name):
    architecture, batch = ARCHITECTURES[name], make_batch()
    params, run = params_of(architecture), compiled(architecture)
    changed = batch.input.copy()
    changed[:, 3:] = (changed[:, 3:] + 1) % CLASSES
    # Noise must not leak either: the attention that drops has a mask of its own.
    for key in (None, jax.random.key(0))[: 2 if name == "authors" else 1]:
        inputs = (batch.input, changed)
        found = [run(params, batch._replace(input=i), key).loss for i in inputs]
        before, after = (loss.reshape(ROWS, LENGTH) for loss in found)
        np.testing.assert_array_equal(before[:, :3], after[:, :3])
        assert (before[:, 3:] != after[:, 3:]).all()


# Programs of gradients take seconds to compile, so one of them stands for all that saves memory.
LEAN = ("authors", {"remat": True}, {"chunk": 5, "microbatches": 2}, False)
EACH = (
    ("post", {}, {"microbatches": 2}, False),
    ("post", {"remat": True}, {}, True),
    ("authors", {}, {"chunk": 5}, True),
    ("pre", {"remat": True}, {"chunk": 1, "microbatches": 4}, False),
)


@pytest.mark.parametrize(
    ("name", "change", "options", "noisy"),
    [LEAN, *(pytest.param(*each, marks=pytest.mark.slow) for each in EACH)],
)
def test_what_saves_memory_changes_no_gradient(name, change, options, noisy):
    """Microbatches add up to the batch; noise that is made again is the same noise."""
    architecture, batch = ARCHITECTURES[name], make_batch()
    params, key = params_of(architecture), jax.random.key(3) if noisy else None
    loss, grads = gradient(architecture)(params, batch, key)
    lean = gradient(replace(architecture, **change), **options)
    lean_loss, lean_grads = lean(params, batch, key)
    assert lean_loss == pytest.approx(float(loss), rel=SUMS)
    assert apart(lean_grads, grads) < SUMS


def test_bfloat16_is_near_float32():
    architecture, batch = ARCHITECTURES["authors"], make_batch()
    params = params_of(architecture)
    low = compiled(replace(architecture, dtype="bfloat16"))(params, batch, None).loss
    exact = compiled(architecture)(params, batch, None).loss
    assert low.dtype == jnp.float32
    assert 0 < np.abs(low - exact).max() < 0.1 * np.ptp(exact)  # roundings of 2^-9, some dozens
    assert abs(np.mean(low - exact)) < 0.02  # which mostly cancel


@pytest.mark.slow
def test_gradients_in_bfloat16_are_near_and_come_in_float32():
    architecture, batch = ARCHITECTURES["authors"], make_batch()
    params, key = params_of(architecture), jax.random.key(3)
    _, grads = gradient(architecture)(params, batch, key)
    _, low_grads = gradient(replace(architecture, dtype="bfloat16"))(params, batch, key)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(low_grads))
    for exact, rounded in zip(jax.tree.leaves(grads), jax.tree.leaves(low_grads), strict=True):
        assert np.linalg.norm(rounded - exact) < 0.05 * np.linalg.norm(exact) + 1e-4


def test_a_token_that_is_no_class_is_not_passed_over():
    architecture, batch = ARCHITECTURES["post"], make_batch()
    wrong = batch.input.copy()
    wrong[2, 3] = CLASSES
    params, batch = params_of(architecture), batch._replace(input=wrong)
    bad = np.isnan(compiled(architecture)(params, batch, None).loss.reshape(ROWS, LENGTH))
    assert bad[2, 3:].all() and not np.delete(bad, 2, axis=0).any()


@pytest.mark.slow
def test_the_engine_trains_it_alike_with_and_without_microbatches():
    architecture = replace(ARCHITECTURES["post"], **NOISELESS)
    descent = Engine(task_of(architecture), OPTIMIZERS["gd"].rule)
    ends = []
    for microbatches in (1, 2):
        state = start(descent, jax.random.key(0), jnp.array([0.1, 0.2]))
        data = microbatched(make_batch(), microbatches)
        state, (loss, weight) = advance(descent, state, data, Objective(), 3)
        ends.append((state.params, (loss / weight)[:3]))
    assert apart(ends[1], ends[0]) < SUMS
    losses = ends[0][1]
    assert (np.diff(losses, axis=0) < 0).all()
    assert losses[0] == pytest.approx(np.full(2, np.log(CLASSES)), abs=0.2)


# The start --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def started():
    """Starts of the paper's models at some width, large enough for statistics."""
    small = {"width": 96, "num_layers": 2, "num_heads": 4, "mlp_width": 128}
    makes = {"post": post_norm(500, **small), "authors": gpt2(500, **small)}
    return {name: (a, task_of(a).init(jax.random.key(1))) for name, a in makes.items()}


def is_normal(values, spread, mean=0.0):
    """Mean and standard deviation within 5 standard errors, and tails beyond 2 of the spread."""
    n = values.size
    assert abs(values.mean() - mean) < 5 * spread / n**0.5
    assert values.std() == pytest.approx(spread, rel=5 / (2 * n) ** 0.5)
    outside = (np.abs(values - mean) > 2 * spread).mean()
    assert outside == pytest.approx(0.0455, abs=5 * (0.0455 * 0.9545 / n) ** 0.5)


def is_uniform(values, bound):
    n = values.size
    assert np.abs(values).max() <= bound
    assert values.std() == pytest.approx(bound / 3**0.5, rel=5 * 0.45 / n**0.5)


def test_the_small_models_start_as_the_paper_says(started):
    """B.3: N(0, .02²) but for attention, which is PyTorch's and equal in all layers."""
    _, params = started["post"]
    first, second = params["blocks"].values()
    for weight in (params["embedding"], params["weight"], first["mlp_in"], second["mlp_out"]):
        is_normal(weight, 0.02)
    assert not np.array_equal(params["embedding"], params["weight"])
    assert not np.array_equal(first["mlp_in"], second["mlp_in"])
    norms = [block[name]["weight"] for block in (first, second) for name in NORMS]
    is_normal(np.stack(norms), 0.02, mean=1.0)
    # Xavier over the joint matrix [3 d, d]: sqrt(6 / (3 d + d)).
    is_uniform(first["attention"]["in_weight"], (6 / (4 * 96)) ** 0.5)
    is_uniform(first["attention"]["out_weight"], 96**-0.5)
    jax.tree.map(np.testing.assert_array_equal, first["attention"], second["attention"])


def test_gpt2_starts_as_the_paper_says(started):
    """B.5: sqrt(2) 0.02, the MLP's way out divided by sqrt(2 layers); attention is PyTorch's."""
    _, params = started["authors"]
    first, second = params["blocks"].values()
    for weight in (params["embedding"], params["weight"], first["mlp_in"]):
        is_normal(weight, 2**0.5 * 0.02)
    is_normal(first["mlp_out"], 2**0.5 * 0.02 / 4**0.5)
    for norm in (*(first[name] for name in NORMS), params["norm"]):
        np.testing.assert_array_equal(norm["weight"], 1)
    is_uniform(first["attention"]["in_weight"], (6 / (4 * 96)) ** 0.5)
    is_uniform(first["attention"]["out_weight"], 96**-0.5)
    jax.tree.map(np.testing.assert_array_equal, first["attention"], second["attention"])
    assert not np.array_equal(first["mlp_in"], second["mlp_in"])


def test_adamw_decays_all_matrices_of_gpt2_but_the_embedding(started):
    """Weights of zero gradient move where they are decayed: attention, MLP and the last layer."""
    _, params = started["authors"]
    params = jax.tree.map(lambda leaf: leaf + 1.0, params)
    transform = OPTIMIZERS["adamw"].rule(1.0)
    none = jax.tree.map(jnp.zeros_like, params)
    updates, _ = transform.update(none, transform.init(params), params)
    moved, _ = jax.tree_util.tree_flatten_with_path(
        jax.tree.map(lambda leaf: bool(leaf.any()), updates)
    )
    found = {
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, is_moved in moved
        if is_moved
    }
    in_block = ("attention.in_weight", "attention.out_weight", "mlp_in", "mlp_out")
    assert found == {"weight", *(f"blocks.{i}.{name}" for i in (0, 1) for name in in_block)}


def test_the_papers_models_drop_attention_weights():
    """PyTorch's encoder layer hands its dropout to its attention."""
    assert (post_norm(9).dropout, post_norm(9).attention_dropout) == (0.2, 0.2)
    assert (gpt2(9).dropout, gpt2(9).attention_dropout) == (0.1, 0.1)


NORMS = ("norm_attention", "norm_mlp")


@pytest.mark.parametrize("name", ["post", "authors"])
def test_all_biases_start_at_zero(started, name):
    leaves, _ = jax.tree_util.tree_flatten_with_path(started[name][1])
    biases = [leaf for path, leaf in leaves if "bias" in path[-1].key]
    assert len(biases) == (13 if name == "post" else 14)
    assert not any(leaf.any() for leaf in biases)


@pytest.mark.parametrize("name", ["post", "authors"])
def test_the_first_loss_is_log_of_the_classes(started, name):
    """Features of norm sqrt(d) and weights of spread s: logits are N(0, s² d), their lse half more.

    A loss is log V + s² d / 2 - z_y, of which the mean over positions keeps the noise of z_y.
    """
    architecture, params = started[name]
    rows = np.random.default_rng(0).integers(0, 500, (4, 33))
    logits = np.concatenate([numpy_logits(params, architecture, row[:-1]) for row in rows])
    label = rows[:, 1:].reshape(-1)
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(label.size), label]
    variance = architecture.spread**2 * architecture.width
    expected = np.log(500) + variance / 2
    # Positions share features in part, so their losses are not independent: of 128, at least 16.
    assert loss.mean() == pytest.approx(expected, abs=4 * (variance / 16) ** 0.5)
    assert loss.std() == pytest.approx(variance**0.5, rel=0.5)


def test_a_tied_head_has_no_weight_of_its_own():
    """That it is the embedding then, the comparison with NumPy says."""
    architecture = ARCHITECTURES["pre"]
    assert {"weight", "bias"}.isdisjoint(params_of(architecture))
    assert {"weight", "bias"} < set(params_of(ARCHITECTURES["post"]))
    task, batch = task_of(architecture), make_batch()
    assert jax.eval_shape(task.head, params_of(architecture), batch).bias is None


def test_sinusoids_are_those_of_the_formula():
    found = sinusoids(50, 7)
    assert found.shape == (50, 7)  # an odd width ends in a sine
    for t, i in ((0, 0), (3, 0), (3, 1), (49, 4), (49, 5), (20, 6)):
        angle = t / 10_000 ** ((i - i % 2) / 7)
        assert found[t, i] == pytest.approx(np.cos(angle) if i % 2 else np.sin(angle), abs=1e-6)


# Dropout ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(rate=st.floats(0.0, 0.95), seed=st.integers(0, 2**31 - 1))
def test_dropout_keeps_its_share_and_the_mean(rate, seed):
    values = jnp.ones((33, 331))  # an odd number of them
    found = np.asarray(dropped(values, rate, jax.random.key(seed)))
    kept = found != 0
    n, keep = found.size, 1 - rate
    assert kept.mean() == pytest.approx(keep, abs=5 * (keep * rate / n) ** 0.5 + 2**-16)
    np.testing.assert_allclose(found[kept], 1 / keep, rtol=2e-4)
    # Neighbours, and the two halves that share a random number, are independent.
    if 0.05 < rate:
        flat = kept.reshape(-1) - kept.mean()
        for distance in (1, 331, n // 2, (n + 1) // 2):
            together = (flat[distance:] * flat[:-distance]).mean() / flat.var()
            assert abs(together) < 5 / (n - distance) ** 0.5


def test_no_key_and_no_rate_drop_nothing():
    values = jnp.arange(6.0).reshape(2, 3)
    assert dropped(values, 0.5, None) is values
    assert dropped(values, 0.0, jax.random.key(0)) is values


@pytest.mark.parametrize("name", [pytest.param("post", marks=pytest.mark.slow), "authors"])
def test_noise_is_of_the_key_and_only_of_it(name):
    architecture, batch = ARCHITECTURES[name], make_batch()
    params, run = params_of(architecture), compiled(architecture)
    key, other = jax.random.key(1), jax.random.key(2)
    quiet, noisy = (run(params, batch, k).loss for k in (None, key))
    np.testing.assert_array_equal(quiet, run(params, batch, None).loss)
    np.testing.assert_array_equal(noisy, run(params, batch, key).loss)
    assert (noisy != quiet).all()
    assert (noisy != run(params, batch, other).loss).all()


@pytest.mark.slow
@pytest.mark.parametrize("where", sorted(NOISELESS))
def test_each_rate_makes_noise_where_it_is_named(where):
    """With two of the three rates at zero, the third still changes the losses."""
    architecture = replace(ARCHITECTURES["authors"], **{**NOISELESS, where: 0.5}, num_layers=1)
    model = Transformer(architecture, rngs=nnx.Rngs(0))
    quiet, noisy = (model.head(tokens(), key)[0] for key in (None, jax.random.key(0)))
    assert not np.array_equal(quiet, noisy)


def test_attention_with_dropout_is_attention_on_average():
    attention = CausalAttention(8, 2, dropout=0.3, key=jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    keys = jax.random.split(jax.random.key(2), 2000)
    found = np.asarray(jax.jit(jax.vmap(lambda key: attention(x, key)))(keys))
    params = jax.tree.map(np.float64, nnx.to_pure_dict(nnx.state(attention)))
    expected = np.stack([numpy_attention(row, params, num_heads=2) for row in x])
    error = np.abs(found.mean(0) - expected) / (found.std(0) / len(keys) ** 0.5)
    assert error.max() < 5
    # The first position attends to itself alone, so both heads drop it in 0.3² of the cases.
    gone = (found[:, :, 0] == 0).all(-1).mean()
    assert gone == pytest.approx(0.09, abs=5 * (0.09 * 0.91 / found[:, :, 0, 0].size) ** 0.5)


# Figure 5 ---------------------------------------------------------------------------------------


def test_frozen_features_are_those_of_an_independent_implementation():
    model = FrozenFeatures(CLASSES, 8, rngs=nnx.Rngs(0))
    params = jax.tree.map(np.float64, nnx.to_pure_dict(nnx.state(model)))
    found = jax.jit(model)(tokens())
    for row, features in zip(tokens(), found, strict=True):
        h = numpy_embedded(row, params["embedding"])
        expected = h + numpy_attention(h, params["attention"], num_heads=1)
        np.testing.assert_allclose(features, expected, atol=FORWARD)


def test_the_last_layer_is_a_linear_softmax_model():
    task = next_token(lambda rngs: LastLayer(8, CLASSES, rngs=rngs))
    params, batch = task.init(jax.random.key(0)), make_batch()
    features = np.random.default_rng(0).normal(size=(ROWS, LENGTH, 8)).astype(np.float32)
    found = task.per_example(params, batch._replace(input=features), None)
    logits = features.reshape(-1, 8) @ np.float64(params["weight"]).T
    label = batch.label.reshape(-1)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(label.size), label]
    np.testing.assert_allclose(found.loss, expected, atol=FORWARD)
    assert params["weight"].std() == pytest.approx(0.02, rel=0.3) and not params["bias"].any()


# What it says of itself -------------------------------------------------------------------------


def test_the_kernel_is_the_fused_one_where_it_exists(monkeypatch):
    def chosen(dtype, head, asked="auto"):
        return kernel_for(asked, jnp.zeros((1, 1, 1, head), dtype))

    assert chosen(jnp.bfloat16, 64) == "xla"  # no GPU here
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert chosen(jnp.bfloat16, 64) == "cudnn"
    assert chosen(jnp.bfloat16, 64, "xla") == "xla"
    for dtype, head in ((jnp.float32, 64), (jnp.bfloat16, 12), (jnp.bfloat16, 256)):
        assert chosen(dtype, head) == "xla"


def test_work_is_that_of_all_matrix_products(started):
    """Counted from the parameters, and attention from its products."""
    architecture, params = started["post"]
    matrices = [leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    weights = sum(matrices) - params["embedding"].size
    scores_and_values = 2 * sum(t for t in range(1, 33)) * 96 * architecture.num_layers
    per_row = 32 * weights + scores_and_values
    assert architecture.flops(5, 32) == pytest.approx(6 * 5 * per_row, rel=0.01)


def test_gpt2_small_has_the_size_of_the_paper():
    assert gpt2(50_257).matrix_parameters() == 12 * (4 * 768**2 + 2 * 768 * 3072) + 50_257 * 768
    paper = post_norm(9_922)
    assert (paper.num_layers, paper.num_heads, paper.width, paper.mlp_width) == (2, 4, 1000, 1000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width is 0; give 1 or more"),
        ({"dropout": 1.0}, "dropout is 1.0; give 0 or more, below 1"),
        ({"block": "middle"}, "block is 'middle'; give one of"),
        ({"dtype": "float8"}, "dtype is 'float8'; give one of"),
    ],
)
def test_what_cannot_be_built_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        post_norm(CLASSES, **change)


def test_heads_must_share_the_width():
    with pytest.raises(ValueError, match="10 features cannot be split into 4 heads"):
        CausalAttention(10, 4, key=jax.random.key(0))
