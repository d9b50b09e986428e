"""The vision transformer against PyTorch, and what it must obey."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imbalance.models.pixels import Pixels
from imbalance.models.vit import VisionTransformer, flops, patches, sinusoids_of_places
from imbalance.problems.tasks import Batch, classification

CLASSES, SIDE = 5, 6
FIDELITY = 1e-4  # of the largest entry, float32 against PyTorch's float32
TINY = {"side": SIDE, "patch": 3, "width": 8, "num_layers": 2, "num_heads": 2, "mlp_width": 12}
PIXELS = Pixels((0.4, 0.5), (0.3, 0.2))


def task_of(**changes):
    return classification(partial(VisionTransformer, CLASSES, pixels=PIXELS, **(TINY | changes)))


def params_of(task):
    """Parameters that are not those of a start, so that each of them counts."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (0.4 * rng.normal(size=leaf.shape)).astype(np.float32),
        jax.eval_shape(task.init, jax.random.key(0)),
    )


def batch_of(rows=4):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (rows, SIDE, SIDE, 2), np.uint8)
    label = rng.integers(0, CLASSES, rows).astype(np.int32)
    return Batch(image, label, np.ones(rows, np.float32))


def torch_losses(torch, params, batch):
    """The same model by PyTorch's own layers, on parameters as tensors."""
    functional, leaves = torch.nn.functional, params

    def norm(x, of):
        return functional.layer_norm(x, x.shape[-1:], of["weight"], of["bias"])

    image = (batch.input / 255 - np.array(PIXELS.mean)) / np.array(PIXELS.std)
    image = torch.tensor(np.moveaxis(image, -1, 1).astype(np.float32))
    side, patch = TINY["side"] // TINY["patch"], TINY["patch"]
    x = functional.unfold(image, patch, stride=patch).transpose(1, 2)  # channel, row, column
    x = x.reshape(*x.shape[:2], 2, patch, patch).permute(0, 1, 3, 4, 2).flatten(2)
    x = norm(x, leaves["patch_norm"]) @ leaves["patch_weight"].T + leaves["patch_bias"]
    x = norm(x, leaves["embedded_norm"])
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    rate = 1 / 10_000 ** (torch.arange(2) / 1)
    places = [place.flatten()[:, None] * rate for place in (column, row)]
    x = x + torch.cat([f(place) for place in places for f in (torch.sin, torch.cos)], 1)
    for block in leaves["blocks"].values():
        inside = norm(x, block["norm_attention"]) @ block["in_weight"].T
        query, key, value = (
            part.reshape(*x.shape[:2], 2, -1).transpose(1, 2) for part in inside.chunk(3, -1)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x = x + mixed.transpose(1, 2).flatten(2) @ block["out_weight"].T
        inside = norm(x, block["norm_mlp"]) @ block["mlp_in"].T + block["mlp_in_bias"]
        x = x + functional.gelu(inside) @ block["mlp_out"].T + block["mlp_out_bias"]
    logits = norm(x, leaves["norm"]).mean(1) @ leaves["weight"].T + leaves["bias"]
    return functional.cross_entropy(logits, torch.tensor(batch.label).long(), reduction="none")


def test_losses_and_gradients_are_those_of_pytorch(torch):
    task, batch = task_of(), batch_of()
    params = params_of(task)
    tensors = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), params)
    expected = torch_losses(torch, tensors, batch)
    expected.mean().backward()

    def mean_loss(params):
        loss = task.per_example(params, batch, None).loss
        return loss.mean(), loss

    (_, loss), grads = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))(params)
    np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=FIDELITY, atol=FIDELITY)
    for one, tensor in zip(jax.tree.leaves(grads), jax.tree.leaves(tensors), strict=True):
        other = tensor.grad.numpy()
        assert np.abs(one - other).max() < FIDELITY * np.abs(other).max()


def test_an_example_does_not_depend_on_the_others():
    task, batch = task_of(), batch_of()
    params = params_of(task)
    alone = jax.tree.map(lambda leaf: leaf[:1], batch)
    first, all_of_them = (task.per_example(params, b, None).loss for b in (alone, batch))
    np.testing.assert_allclose(all_of_them[:1], first, rtol=1e-5)


def test_patches_are_cut_by_rows_and_columns():
    image = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    found = np.asarray(patches(jnp.asarray(image), 2))
    assert found.shape == (2, 6, 12)
    np.testing.assert_array_equal(found[1, 4], image[1, 2:4, 2:4].ravel())


def test_places_differ_and_have_equal_length():
    places = sinusoids_of_places(14, 384)
    assert places.shape == (196, 384) and len(np.unique(places, axis=0)) == 196
    np.testing.assert_allclose((places**2).sum(1), 192, rtol=1e-5)


def test_the_papers_model_has_its_sizes_and_its_start():
    build = partial(VisionTransformer, 1_000)
    shapes = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))))
    block = 4 * 384**2 + 2 * 384 * 1_536 + 1_536 + 384 + 4 * 384
    ends = 768 * 384 + 384 + 2 * (768 + 384 + 384) + 384 * 1_000 + 1_000
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 12 * block + ends
    params = task_of(width=32).init(jax.random.key(0))
    for name, fan_in in (("weight", 32), ("bias", 32), ("patch_weight", 18)):
        assert 0.9 < np.abs(params[name]).max() * fan_in**0.5 <= 1 or name == "bias"
    assert (params["norm"]["weight"] == 1).all() and not params["norm"]["bias"].any()


def test_operations_are_those_of_the_literature():
    """ViT-S/16: 4.25e9 multiplications and additions forward, without a token of the class."""
    weights = 196 * (768 * 384 + 12 * (4 * 384**2 + 2 * 384 * 1_536)) + 384_000
    attention = 196 * 12 * 2 * 196 * 384
    assert flops(224, 1_000) == 6 * (weights + attention)
    assert flops(224, 1_000) / 6 == pytest.approx(4.6e9, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 4}, "6 x 6 pixels cannot be cut into patches of 4"),
        ({"width": 10}, "10 features, 2 heads; give a multiple of 4"),
        ({"num_heads": 3}, "8 features, 3 heads"),
        ({"num_layers": 0}, "0 blocks; give 1 or more"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
    ],
)
def test_models_that_cannot_be_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        VisionTransformer(2, rngs=nnx.Rngs(0), **(TINY | changes))


def test_images_of_another_side_are_named():
    net = VisionTransformer(2, pixels=PIXELS, rngs=nnx.Rngs(0), **TINY)
    with pytest.raises(ValueError, match="images of 3 x 6 pixels, a model for 6 x 6"):
        net(jnp.zeros((1, 3, 6, 2)))


def test_low_precision_stays_near():
    wide, narrow = task_of(), task_of(dtype="bfloat16")
    params, batch = wide.init(jax.random.key(0)), batch_of()
    first, second = (task.per_example(params, batch, None).loss for task in (wide, narrow))
    assert second.dtype == jnp.float32
    assert 0 < np.abs(first - second).max() < 0.05
