"""Gradient norms of a softmax head against automatic differentiation, in three libraries."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imbalance import FrequencyBuckets, HeadGradient, head_gradient_norms
from imbalance.analysis import gradients
from imbalance.curvature.class_blocks import class_blocks
from imbalance.problems.tasks import Head

N, D, C = 24, 5, 7
IGNORE = -100
# Float32 has 24 bits; sums of 24 products of numbers of order one.
CLOSE = {"numpy": 1e-14, "torch": 1e-14, "jax": 2e-6}


def arrays(library):
    """What makes arrays of a library."""
    if library == "torch":
        return pytest.importorskip("torch").tensor
    return {"numpy": np.asarray, "jax": jnp.asarray}[library]


@pytest.fixture(params=["numpy", "torch", "jax"])
def library(request):
    return request.param


@pytest.fixture(params=[3, 7, 100], ids=lambda chunk: f"chunk {chunk}")
def chunk(request, monkeypatch):
    monkeypatch.setattr(gradients, "_CHUNK", request.param)


def batch(seed=0):
    """Features, logits, labels and weights; one example is ignored, some have weight 0."""
    rng = np.random.default_rng(seed)
    x, head, bias = rng.normal(size=(N, D)), rng.normal(size=(C, D)), rng.normal(size=C)
    label = rng.integers(0, C, N)
    label[3] = IGNORE
    return x, x @ head.T + bias, label, rng.choice([0.0, 1.0, 2.5], N), head, bias


def by_jax(x, label, weight, head, bias):
    """The gradient by automatic differentiation in float32."""
    weight = weight * (label != IGNORE)

    def objective(head):
        log_p = jax.nn.log_softmax(x @ head.T + bias[None])
        loss = -jnp.take_along_axis(log_p, np.maximum(label, 0)[:, None], axis=1)[:, 0]
        return jnp.sum(weight * loss) / weight.sum()

    return np.asarray(jax.grad(objective)(head))


def by_torch(x, label, weight, head, bias):
    torch = pytest.importorskip("torch")
    x, label, weight, bias = map(torch.tensor, (x, label, weight, bias))
    head = torch.tensor(head, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        x @ head.T + bias, label, reduction="none", ignore_index=IGNORE
    )
    (torch.sum(weight * loss) / torch.sum(weight * (label != IGNORE))).backward()
    return head.grad.numpy()


@pytest.mark.parametrize(
    ("differentiate", "rtol"), [(by_torch, 1e-13), (by_jax, 1e-5)], ids=["torch", "jax"]
)
def test_norms_are_those_of_automatic_differentiation(differentiate, rtol, library, chunk):
    x, logits, label, weight, head, bias = batch()
    wanted = np.linalg.norm(differentiate(x, label, weight, head, bias), axis=1)
    convert = arrays(library)
    given = map(convert, (x, logits, label, weight))
    norms = np.asarray(head_gradient_norms(*given, ignore_index=IGNORE))
    np.testing.assert_allclose(norms, wanted, rtol=rtol + CLOSE[library])


def test_a_stream_is_its_concatenation(library, chunk):
    x, logits, label, weight, head, bias = batch()
    wanted = by_torch(x, label, weight, head, bias)
    convert = arrays(library)
    stream, parts = HeadGradient(C, IGNORE), [HeadGradient(C, IGNORE) for _ in range(3)]
    for part, piece in zip(parts, (slice(0, 2), slice(2, 15), slice(15, N)), strict=True):
        rows = [convert(array[piece]) for array in (x, logits, label, weight)]
        stream.update(*rows)
        part.update(*rows)
    merged = HeadGradient(C, IGNORE)
    for part in parts:
        merged = merged.merge(part)
    for found in (stream, merged):
        atol = CLOSE[library]
        np.testing.assert_allclose(found.gradient, wanted, rtol=atol, atol=atol)
        np.testing.assert_allclose(found.norm, np.linalg.norm(wanted, axis=1), rtol=10 * atol)
        assert found.norm.dtype == np.float64
    buckets = FrequencyBuckets([9, 5, 5, 2, 0, 1, 1], [0, 1, 1, 2, -1, 2, 2], 3)
    by_bucket = [np.linalg.norm(wanted[classes]) for classes in ([0], [1, 2], [3, 5, 6])]
    np.testing.assert_allclose(stream.by_bucket(buckets), by_bucket, rtol=10 * CLOSE[library])


def test_norms_are_those_of_the_class_blocks():
    x, logits, label, weight, head, bias = batch()
    label[3] = 0
    blocks = class_blocks(Head(*map(jnp.float32, (x, head, bias))), label, jnp.float32(weight))
    norms = head_gradient_norms(x, logits, label, weight)
    np.testing.assert_allclose(blocks.mean().gradient_norm, norms, rtol=1e-5)


def test_it_runs_inside_jit_and_vmap():
    x, logits, label, weight, *_ = batch()
    norms = head_gradient_norms(x, logits, label, weight, IGNORE)
    inside = jax.jit(partial(head_gradient_norms, ignore_index=IGNORE))
    given = [jnp.asarray(array) for array in (x, logits, label, weight)]
    np.testing.assert_allclose(inside(*given), norms, rtol=1e-5)
    runs = jax.vmap(inside)(*(jnp.stack([array, array]) for array in given))
    np.testing.assert_allclose(runs, np.stack([norms, norms]), rtol=1e-5)


def test_what_is_left_out_may_be_nan_and_axes_may_be_many(library):
    x, logits, label, weight, *_ = batch()
    convert = arrays(library)
    wanted = head_gradient_norms(x, logits, label, weight, IGNORE)
    out = (label == IGNORE) | (weight == 0)
    label = np.where(label == IGNORE, C + 2, label)  # no class: left out as well
    x, logits = (np.where(out[:, None], np.nan, array) for array in (x, logits))
    given = [array.reshape(4, N // 4, *array.shape[1:]) for array in (x, logits, label, weight)]
    norms = np.asarray(head_gradient_norms(*map(convert, given)))
    np.testing.assert_allclose(norms, wanted, rtol=1e-13 + CLOSE[library])


def test_bfloat16_is_computed_in_float32():
    torch = pytest.importorskip("torch")
    x, logits, label, *_ = batch()
    wanted = head_gradient_norms(*(np.asarray(a, jnp.bfloat16) for a in (x, logits)), label)
    assert wanted.dtype == np.float32
    for found in (
        head_gradient_norms(*(jnp.asarray(a, jnp.bfloat16) for a in (x, logits)), label),
        head_gradient_norms(*(torch.tensor(a, dtype=torch.bfloat16) for a in (x, logits)), label),
    ):
        assert str(found.dtype).endswith("float32")
        np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-5)


def test_labels_beyond_32_bits_do_not_wrap_around():
    x, logits, label, *_ = batch()
    wrapped = np.where(label == IGNORE, 2**32 + 1, label)
    norms = head_gradient_norms(jnp.asarray(x), jnp.asarray(logits), wrapped)
    wanted = head_gradient_norms(x, logits, label, ignore_index=IGNORE)
    np.testing.assert_allclose(norms, wanted, rtol=1e-5)


def test_no_gradient_of_torch_is_kept():
    torch = pytest.importorskip("torch")
    x, logits, label, weight, *_ = (torch.tensor(array) for array in batch())
    stream = HeadGradient(C, IGNORE)
    stream.update(x.requires_grad_(), logits.requires_grad_(), label, weight.requires_grad_())
    assert not any(rows.requires_grad for rows in stream._sums)
    assert not head_gradient_norms(x, logits, label, weight).requires_grad


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: np.ones((N - 1, D))}, ValueError, r"features have shape \(23, 5\), labels \(24,\)"),
        ({1: np.ones((N - 1, C))}, ValueError, r"logits have shape \(23, 7\), labels"),
        ({2: np.ones(N)}, TypeError, "labels have dtype float64; give integers"),
        ({1: np.ones((N, C), int)}, TypeError, "logits have dtype int64; give floating"),
        ({3: np.ones(N - 1)}, ValueError, r"weights have shape \(23,\), labels \(24,\)"),
        ({1: [[1.0] * C] * N}, TypeError, "logits are of type list; give an array of NumPy"),
        ({0: np.ma.masked_less(np.zeros((N, D)), 1)}, TypeError, "120 of 120 values are masked"),
    ],
)
def test_wrong_arrays_are_refused(change, error, message):
    given = [change.get(i, array) for i, array in enumerate(batch()[:4])]
    with pytest.raises(error, match=message):
        head_gradient_norms(*given)


def test_wrong_streams_are_refused():
    x, logits, label, *_ = batch()
    with pytest.raises(ValueError, match="num_classes is 0; give 1 or more"):
        HeadGradient(0)
    with pytest.raises(ValueError, match="logits are of 7 classes, not of 6"):
        HeadGradient(6).update(x, logits, label)
    stream = HeadGradient(C)
    with pytest.raises(ValueError, match="no batch was added; update first"):
        _ = stream.norm
    stream.update(x, logits, label)
    with pytest.raises(ValueError, match="there are 4 features, and there were 5"):
        stream.update(x[:, :4], logits, label)
    with pytest.raises(ValueError, match="ignore_index is None here and -100 there"):
        stream.merge(HeadGradient(C, IGNORE))
    with pytest.raises(TypeError, match="buckets is 3; give FrequencyBuckets"):
        stream.by_bucket(3)
    with pytest.raises(ValueError, match="buckets are of 2 classes, the gradient of 7"):
        stream.by_bucket(FrequencyBuckets.from_counts([2, 1], 2))
    nothing = HeadGradient(C)
    nothing.update(x, logits, label, np.zeros(N))
    assert np.isnan(nothing.norm).all()
