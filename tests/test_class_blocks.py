"""Class blocks against dense Hessians in float64, and against what Proposition 2 says of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imbalance.curvature.class_blocks import (
    class_blocks,
    class_gradient_norms,
    fold_bias,
    hessian_blocks,
    hessian_product,
)
from imbalance.problems import heavy_tailed_linear
from imbalance.problems.tasks import Batch, Head, accumulate
from imbalance.training.engine import microbatched

EXACT = 1e-9  # float64, of numbers of size one
CLASSES, FEATURES, EXAMPLES = 5, 3, 23
ALL = np.arange(CLASSES)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw():
    """Layer, labels and weights, some of which mask; class 4 has no example."""
    random = np.random.default_rng(0)
    features = random.normal(0.5, 1, (EXAMPLES, FEATURES))
    weight = random.normal(size=(CLASSES, FEATURES))
    label = random.permutation(EXAMPLES) % (CLASSES - 1)
    masked = np.arange(EXAMPLES) % 5 == 0
    head = Head(features, weight, random.normal(size=CLASSES))
    return head, label, np.where(masked, 0, random.uniform(0.5, 2, EXAMPLES))


def mean_loss(params, features, label, example_weight):
    logits = features @ params[:, :-1].T + params[None, :, -1]
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    return (example_weight * loss).sum() / example_weight.sum()


@jax.jit
def derivatives(*args):
    return jax.grad(mean_loss)(*args), jax.hessian(mean_loss)(*args)


def autodiff(head, label, w):
    """Gradient ``[k, a]`` and Hessian ``[k, a, j, b]`` of the weight and, last in a and b, bias."""
    params = np.column_stack([head.weight, head.bias])
    return jax.device_get(derivatives(params, head.features, label, w))


def sums_of_all(head, label, w, vector):
    """Everything that adds up over examples; Hessian blocks of all pairs of classes, k-major."""
    classes = np.arange(len(head.weight))
    rows, columns = (index.ravel() for index in np.meshgrid(classes, classes, indexing="ij"))
    return (
        class_blocks(head, label, w, diagonal=True, among=classes),
        hessian_blocks(head, rows, columns, w),
        hessian_product(head, vector, w),
        hessian_product(head, vector, w, block_diagonal=True),
    )


@jax.jit  # as they are meant to be used
def means_of_all(head, label, w, vector):
    return [sums.mean() for sums in sums_of_all(head, label, w, vector)]


def blocks_of(head, label, w):
    return means_of_all(head, label, w, head.weight)[0]


def close(found, expected, tolerance=EXACT):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module", params=["bias held", "bias folded in", "all ties"])
def case(request):
    """Labels, weights, a vector, what autodiff finds, and what is found of all."""
    head, label, w = draw()
    if request.param == "all ties":
        head = head._replace(weight=0 * head.weight, bias=0 * head.bias)
    with jax.enable_x64(True):
        gradient, hessian = autodiff(head, label, w)
        if request.param == "bias folded in":
            head = fold_bias(head)
        else:
            gradient, hessian = gradient[:, :-1], hessian[:, :-1, :, :-1]
        vector = np.random.default_rng(7).normal(size=head.weight.shape)
        return label, w, vector, gradient, hessian, means_of_all(head, label, w, vector)


def test_gradients_are_those_of_autodiff(case):
    label, w, _, gradient, _, (found, *_) = case
    close(found.gradient, gradient)
    close(found.gradient_norm, np.linalg.norm(gradient, axis=1))
    close(found.share, np.bincount(label, w, CLASSES) / w.sum())


def test_blocks_traces_and_diagonals_are_those_of_the_dense_hessian(case):
    *_, hessian, (found, blocks, _, _) = case
    close(blocks, hessian.transpose(0, 2, 1, 3).reshape(blocks.shape))
    close(found.trace, np.einsum("kaka->k", hessian))
    close(found.diagonal, np.einsum("kaka->ka", hessian))
    close(found.block_trace, np.einsum("kaja->kj", hessian))


def test_products_are_those_of_the_dense_hessian(case):
    *_, vector, _, hessian, (_, _, product, own) = case
    close(product, np.einsum("kajb,jb->ka", hessian, vector))
    close(own, np.einsum("kakb,kb->ka", hessian, vector))


def test_sums_over_classes_vanish(case):
    found, blocks, product, _ = jax.tree.map(np.asarray, case[-1])
    blocks = blocks.reshape(CLASSES, CLASSES, -1)
    for total in (found.gradient, blocks, found.block_trace, product):
        np.testing.assert_allclose(total.sum(0), 0, atol=1e-10)
    off = ~np.eye(CLASSES, dtype=bool)
    assert np.all(found.trace >= 0) and np.all(found.block_trace[off] <= 0)


def test_the_bias_has_derivatives_of_its_own():
    head, label, w = draw()
    found = blocks_of(head, label, w)
    gradient, hessian = autodiff(head, label, w)
    close(found.bias_gradient, gradient[:, -1])
    close(found.bias_trace, np.diag(hessian[:, -1, :, -1]))


def test_some_classes_and_coordinates_have_what_they_have_among_all():
    head, label, w = draw()
    _, hessian = autodiff(head, label, w)
    classes, coordinates = np.array([4, 1]), np.array([2, 0])

    @jax.jit
    def some(head, label, w):
        traces = class_blocks(head, label, w, among=classes)
        block = hessian_blocks(head, classes[:1], classes[1:], w, coordinates=coordinates)
        return traces.mean().block_trace, block.mean()[0]

    traces, block = some(head, label, w)
    hessian = hessian[:, :-1, :, :-1]
    close(traces, np.einsum("kaja->kj", hessian[classes][:, :, classes]))
    close(block, hessian[4][coordinates][:, 1, coordinates])


def test_class_weights_are_weights_of_examples():
    """The mean loss ``Σ w ω ℓ / Σ w ω`` of the objective."""
    head, label, w = draw()
    w *= np.linspace(0.5, 3, CLASSES)[label]
    found = blocks_of(head, label, w)
    gradient, hessian = autodiff(head, label, w)
    close(found.gradient, gradient[:, :-1])
    close(found.trace, np.einsum("kaka->k", hessian[:, :-1, :, :-1]))


def test_the_authors_statistic_has_features_where_squares_belong():
    head, label, w = draw()
    p = np.exp(head.features @ head.weight.T + head.bias)
    p /= p.sum(1, keepdims=True)
    expected = (w[:, None] * p * (1 - p)).T @ head.features.mean(1) / w.sum()
    close(blocks_of(head, label, w).authors_statistic, expected)


def without_label(label, w):
    """Labels that are no class, where the weight is 0."""
    return np.where(w > 0, label, np.where(np.arange(EXAMPLES) % 2, -100, CLASSES + 2))


def test_gradients_of_one_class_are_those_of_its_own_examples():
    head, label, w = draw()
    expected = []
    for k in ALL[:-1]:
        own = np.where(label == k, w, 0)
        gradient, _ = autodiff(head, label, own)
        expected.append(own.sum() / w.sum() * np.linalg.norm(gradient[:, :-1]))
    expected.append(0)  # no example
    # The order is of no matter, nor are labels without weight. Classes here lie across tiles.
    order = np.random.default_rng(0).permutation(EXAMPLES)
    shuffled = head._replace(features=head.features[order]), label[order], w[order]
    cases = (head, label, w), shuffled, (head, without_label(label, w), w)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *cases)
    found = jax.jit(jax.vmap(partial(class_gradient_norms, tile=4)))(*stacked)
    close(found, [expected] * len(cases))


def test_examples_without_weight_may_have_any_label():
    head, label, w = draw()
    found, expected = (blocks_of(head, y, w) for y in (without_label(label, w), label))
    jax.tree.map(close, found, expected)


def test_microbatches_add_up():
    head, label, w = draw()
    vector = np.ones((CLASSES, 1)) * ALL[:, None] * np.arange(FEATURES)
    batch = microbatched(Batch(head.features, label, w), 4).batch  # one row is padding

    @jax.jit
    def means(batch):
        def sums(rows, _):
            return sums_of_all(head._replace(features=rows.input), rows.label, rows.weight, vector)

        return [total.mean() for total in accumulate(sums, batch)]

    jax.tree.map(close, means(batch), means_of_all(head, label, w, vector))


def test_memory_is_that_of_one_microbatch():
    examples, classes, features, micro = 4096, 64, 16, 16
    shape = micro, examples // micro
    floats = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((*shape, features), shape)]
    label = jax.ShapeDtypeStruct(shape, jnp.int32)
    weight = jax.ShapeDtypeStruct((classes, features), jnp.float32)

    def whole(batch, weight):
        def sums(rows, _):
            return class_blocks(
                Head(rows.input, weight, None), rows.label, among=np.arange(classes)
            )

        return accumulate(sums, batch).mean()

    program = jax.jit(whole).lower(Batch(floats[0], label, floats[1]), weight).compile()
    found = program.memory_analysis().temp_size_in_bytes
    assert found < 4 * examples * classes  # one array of probabilities of all examples


def test_what_is_left_of_a_fitted_class_keeps_its_digits():
    # 1 - p is 4e-9, which float32 does not see beside one.
    head = Head(np.float32([[1]]), np.float32([[20], [0], [0]]), None)
    label, vector = np.array([0]), np.float32([[1], [0], [0]])
    found, _, product, own = means_of_all(head, label, np.ones(1, np.float32), vector)
    assert found.trace.dtype == product.dtype == jnp.float32
    rest = 2 * np.exp(-20) / (1 + 2 * np.exp(-20))
    for values in (-found.gradient, found.trace, product, own):
        assert np.ravel(values)[0] == pytest.approx(rest, rel=1e-5)
    close(np.sum(np.asarray(found.block_trace), 0) / rest, 0, 1e-5)


def test_half_precision_is_computed_in_single():
    head, label, w = draw()
    half = Head(*(jnp.asarray(array, jnp.bfloat16) for array in head))
    found = jax.eval_shape(sums_of_all, half, label, w, head.weight)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}


# Proposition 2, on random heavy-tailed labels and on one-hot inputs.

M = 6


@jax.jit
def prop_2(head, label, w):
    classes = np.arange(len(head.weight))
    return class_blocks(head, label, w, diagonal=True, among=classes).mean()


@pytest.fixture(scope="module")
def labels():
    return heavy_tailed_linear(M, bucketing="levels")  # 384 examples, 63 classes, 448 inputs


@pytest.fixture(scope="module")
def start(labels):
    """Inputs and labels, and what is found at W = 0."""
    batch = labels.batch(0)
    x, c = np.float64(batch.input), len(labels.counts)
    with jax.enable_x64(True):
        head = Head(x, np.zeros((c, x.shape[1])), None)
        return x, batch.label, prop_2(head, batch.label, np.ones(len(x)))


def test_at_the_start_the_hessian_knows_nothing_of_frequency(start):
    """(a), exact: ``∇_k = x̄ / c - π_k x̄_k`` and ``H_kk = (1/c) (1 - 1/c) H̄``."""
    x, label, found = start
    n, c = len(x), len(found.trace)
    sums = np.stack([x[label == k].sum(0) for k in range(c)])  # n_k x̄_k
    close(found.gradient, x.mean(0) / c - sums / n, 1e-12)
    close(found.diagonal, np.tile((1 - 1 / c) / c * np.mean(x**2, 0), (c, 1)), 1e-12)
    off = ~np.eye(c, dtype=bool)
    close(np.asarray(found.trace)[0] / -np.asarray(found.block_trace)[off], c - 1, 1e-12)
    ratio = np.divide(found.trace, found.authors_statistic) / x.shape[1]
    close(ratio, 2 / 3, 2e-3)  # .666 to .667


def expected_norms(m):
    """Root mean square of ``‖x̄ / c - π_k x̄_k‖`` over uniform inputs, for n_k = 2^m ... 2."""
    n, c, d = m * 2**m, 2**m - 1, (m + 1) * 2**m
    n_k = 2.0 ** np.arange(m, 0, -1)
    mean = (1 / c - n_k / n) / 2
    variance = (n_k * (1 / (c * n) - 1 / n) ** 2 + (n - n_k) / (c * n) ** 2) / 12
    return np.sqrt(d * (mean**2 + variance))


def test_the_norms_at_the_start_are_those_of_closed_forms(labels, start):
    """The list is for m = 11, whose expectation is a closed form; a smaller one is drawn."""
    listed = [7.09, 3.53, 1.74, 0.853, 0.408, 0.185, 0.0739, 0.0191, 0.0119, 0.0247, 0.0315]
    np.testing.assert_allclose(expected_norms(11), listed, rtol=0.02)
    level = labels.buckets.bucket_of_class
    norm = np.linalg.norm(start[-1].gradient, axis=1)
    found = [np.sqrt(np.mean(norm[level == i] ** 2)) for i in range(M)]
    np.testing.assert_allclose(found, expected_norms(M), rtol=0.02)


def one_hot(c, p, share):
    """Assumption 1 exactly, with ``x_k = e_k``: p on the own class, elsewhere (1 - p) / (c - 1)."""
    head = Head(np.eye(c), np.log(p * (c - 1) / (1 - p)) * np.eye(c), None)
    return jax.tree.map(np.asarray, prop_2(head, np.arange(c), share))


def test_after_training_both_follow_frequency_up_to_one_over_c():
    """(b): ``∇_k = -(1-p) π_k x̄_k`` and ``H_kk = p (1-p) π_k H̄_k``, with error O(1/c)."""
    p = 0.7
    for c in (128, 256):
        share = np.r_[0.5, np.full(c - 1, 0.5 / (c - 1))]
        found = one_hot(c, p, share)
        gradient, hessian = (factor * np.diag(share) for factor in (-(1 - p), p * (1 - p)))
        # The largest is what class 0 adds to the others: half the data, with probability q.
        q = (1 - p) / (c - 1)
        assert np.abs(found.gradient - gradient).max() == pytest.approx(q / 2, rel=EXACT)
        assert np.abs(found.diagonal - hessian).max() == pytest.approx(q * (1 - q) / 2, rel=EXACT)


def test_where_classes_are_frequent_the_norm_tells_the_curvature():
    """(c): over classes with ``c π_k`` of 10 or more, trace and norm have a log-log slope of 1."""
    c, p = 256, 0.5
    share = 1 / np.arange(1.0, c + 1)
    share /= share.sum()
    found = one_hot(c, p, share)
    frequent = c * share >= 10
    x, y = (np.log(values[frequent]) for values in (found.gradient_norm, found.trace))
    # The trace of the rarest of them is still a fifth, 1 / (p c π_k), larger than its limit.
    assert np.polyfit(x, y, 1)[0] == pytest.approx(1, abs=0.1)


# What it refuses.


def test_blocks_that_do_not_fit_say_what_they_need():
    head, label, w = draw()
    with pytest.raises(ValueError, match=r"5 x 5 blocks take 200 bytes.*max_bytes = 199"):
        class_blocks(head, label, w, among=ALL, max_bytes=199)
    with pytest.raises(ValueError, match=r"4 blocks of 3 x 3 take 288 bytes.*max_bytes = 100"):
        hessian_blocks(head, ALL[:4], ALL[:4], w, max_bytes=100)
    wide = Head(*(jax.ShapeDtypeStruct((CLASSES, 50_000), jnp.float32),) * 2, None)
    with pytest.raises(ValueError, match="1 blocks of 50000 x 50000 take 10,000,000,000 bytes"):
        jax.eval_shape(partial(hessian_blocks, rows=ALL[:1], columns=ALL[:1]), wide)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h, y, w: class_blocks(h._replace(weight=h.weight.T), y, w), "features have shape"),
        (lambda h, y, w: class_blocks(h._replace(bias=h.bias[:2]), y, w), "biases have shape"),
        (lambda h, y, w: class_blocks(h, y[:3], w), "labels have shape"),
        (lambda h, y, w: class_blocks(h, y, w[:3]), "weights of examples have shape"),
        (lambda h, y, w: hessian_product(h, h.weight.T, w), "the vector has shape"),
        (lambda h, y, w: hessian_blocks(h, ALL[:2], ALL[:1], w), "give pairs"),
        (lambda h, y, w: class_gradient_norms(h, y, w, tile=0), "give 1 or more"),
        (lambda h, y, w: fold_bias(h._replace(bias=None)), "no bias"),
    ],
)
def test_shapes_that_do_not_fit_are_told(call, message):
    with pytest.raises(ValueError, match=message):
        call(*draw())


def test_labels_are_integers():
    head, label, w = draw()
    with pytest.raises(TypeError, match="float64"):
        class_blocks(head, label.astype(float), w)
