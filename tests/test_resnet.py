"""Residual networks against PyTorch, and what becomes of statistics over examples."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imbalance.models.pixels import Pixels
from imbalance.models.resnet import STEMS, ResNet, Stem, flops
from imbalance.probes import loss_by_bucket
from imbalance.problems.objective import Objective
from imbalance.problems.problem import Problem
from imbalance.problems.tasks import Batch, accumulate, classification
from imbalance.training import engine
from imbalance.training.engine import Engine, microbatched, total
from imbalance.training.optimizers import OPTIMIZERS
from imbalance.training.plan import plans, runs
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

CLASSES = 5
FIDELITY = 1e-4  # of the largest entry, float32 against PyTorch's float32
ROUNDING = 1e-5
slow = pytest.mark.slow
SMALL = {"width": 4, "blocks": (1, 2), "stem": "16"}


@lru_cache
def task_of(norm="batch", **size):
    build = partial(ResNet, CLASSES, norm=norm, pixels=Pixels(), **(SMALL | size))
    return classification(build)


def params_of(task, seed=0):
    """Parameters that are not those of a start, so that each of them counts."""
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    rng = np.random.default_rng(seed)

    def drawn(path, leaf):
        mean = 1.0 if "scales" in jax.tree_util.keystr(path) else 0.0
        return (mean + 0.3 * rng.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(drawn, shapes)


def batch_of(rows=12, side=4, seed=1):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (rows, side, side), np.uint8)
    label = rng.integers(0, CLASSES, rows).astype(np.int32)
    return Batch(image, label, np.ones(rows, np.float32))


def mean_loss(task, params, batch):
    loss, weight = total(task.per_example(params, batch, None))
    return loss / weight


def apart(found, expected):
    """Largest difference, as a share of the largest entry."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return np.abs(found - expected).max() / np.abs(expected).max()


# The same network in PyTorch ----------------------------------------------------------------------


def torch_twin(torch, size, norm, channels):
    """A network of the same layers, with statistics of the batch at hand."""
    nn, stem = torch.nn, STEMS[size["stem"]]

    def normalise(width):
        if norm == "batch":
            return nn.BatchNorm2d(width, track_running_stats=False)
        return nn.GroupNorm(1, width)

    def layer(inputs, outputs, side, stride):
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False), normalise(outputs)
        )

    class Block(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            stride = 1 if inputs == outputs else 2
            self.first = layer(inputs, outputs, 3, stride)
            self.second = layer(outputs, outputs, 3, 1)
            self.short = nn.Identity() if stride == 1 else layer(inputs, outputs, 1, 2)

        def forward(self, x):
            return torch.relu(self.second(torch.relu(self.first(x))) + self.short(x))

    width = size["width"]
    layers = [layer(channels, width, stem.kernel, stem.stride), nn.ReLU()]
    layers += [nn.MaxPool2d(3, 2, 1)] if stem.pool else []
    inputs = width
    for stage, count in enumerate(size["blocks"]):
        for _ in range(count):
            layers.append(Block(inputs, width * 2**stage))
            inputs = width * 2**stage
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES)]
    return nn.Sequential(*layers, *last)


def parameters_as_torch_has_them(params):
    """Our parameters, in PyTorch's order and layout."""
    found = []
    for kernel, scale, offset in zip(
        *(params[name].values() for name in ("kernels", "norm_scales", "norm_offsets")), strict=True
    ):
        found += [np.transpose(kernel, (3, 2, 0, 1)), scale, offset]
    return [*found, params["weight"], params["bias"]]


def torch_results(torch, net, params, image, label):
    """Losses and gradients of their mean, of standardised images."""
    values = parameters_as_torch_has_them(params)
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(np.array(value)))
    image = torch.tensor(np.moveaxis(image, -1, 1))
    loss = torch.nn.functional.cross_entropy(
        net(image), torch.tensor(label).long(), reduction="none"
    )
    loss.mean().backward()
    return loss.detach().numpy(), [parameter.grad.numpy() for parameter in net.parameters()]


def assert_same(task, params, batch, expected, most=FIDELITY):
    loss, gradients = expected
    found = jax.jit(lambda params: task.per_example(params, batch, None).loss)(params)
    np.testing.assert_allclose(found, loss, rtol=most, atol=most)
    grads = jax.jit(jax.grad(partial(mean_loss, task)))(params, batch)
    for one, other in zip(parameters_as_torch_has_them(grads), gradients, strict=True):
        assert apart(one, other) < most


@pytest.mark.parametrize(
    ("norm", "size", "channels", "side"),
    [
        ("batch", {"width": 4, "blocks": (1, 2), "stem": "16"}, 1, 4),
        ("layer", {"width": 4, "blocks": (1, 1), "stem": "16"}, 2, 4),
        *(
            pytest.param(norm, {"width": 3, "blocks": blocks, "stem": stem}, 3, side, marks=slow)
            for norm, blocks, stem, side in (
                ("batch", (1, 2), "16", 12),
                ("layer", (2, 1), "32", 9),
                ("batch", (1, 1), "224", 40),
            )
        ),
    ],
)
def test_losses_and_gradients_are_those_of_pytorch(torch, norm, size, channels, side):
    pixels = Pixels((0.4,) * channels, (0.3,) * channels)
    task = classification(partial(ResNet, CLASSES, norm=norm, pixels=pixels, **size))
    batch = batch_of(side=side)
    image = np.random.default_rng(2).integers(0, 256, (12, side, side, channels), np.uint8)
    batch = batch._replace(input=image)
    params = params_of(task)
    net = torch_twin(torch, size, norm, channels)
    standardised = ((image / 255 - 0.4) / 0.3).astype(np.float32)
    assert_same(task, params, batch, torch_results(torch, net, params, standardised, batch.label))


@slow
def test_the_papers_network_is_that_of_torchvision(torch):
    models = pytest.importorskip("torchvision").models
    pixels = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    net = models.resnet18(num_classes=CLASSES).double().train()
    task = classification(partial(ResNet, CLASSES, pixels=pixels))
    image = np.random.default_rng(2).normal(size=(6, 64, 64, 3))
    batch = batch_of(6)._replace(input=image)
    # In float64, as rounding grows through eighteen layers: in float32 gradients differed by 2e-4.
    with jax.enable_x64(True):
        params = jax.tree.map(np.float64, task.init(jax.random.key(0)))
        assert_same(
            task, params, batch, torch_results(torch, net, params, image, batch.label), 1e-9
        )


def test_the_papers_network_has_its_number_of_parameters_and_its_start():
    build = partial(ResNet, 1_000)
    shapes = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 11_689_512  # torchvision's
    params = task_of(width=32, blocks=(1, 1)).init(jax.random.key(0))
    for kernel in params["kernels"].values():
        fan_out = kernel.shape[0] * kernel.shape[1] * kernel.shape[3]
        error = 6 * (2 / kernel.size) ** 0.5  # six standard errors
        assert abs(np.var(kernel) * fan_out / 2 - 1) < error
    assert np.abs(params["weight"]).max() <= 64**-0.5
    assert all((scale == 1).all() for scale in params["norm_scales"].values())
    assert not any(offset.any() for offset in params["norm_offsets"].values())


def test_operations_are_those_of_the_literature():
    """1.81e9 multiplications and additions forward; the first layer has one gradient only."""
    first = 2 * 112**2 * 7**2 * 3 * 64
    assert flops(224, 1_000) == pytest.approx(3 * 2 * 1.814e9 - first, rel=1e-3)


# Statistics ---------------------------------------------------------------------------------------


def test_examples_of_a_microbatch_are_normalised_together_or_alone():
    batch = batch_of()
    other = batch._replace(input=np.concatenate([batch.input[:6], 255 - batch.input[6:]]))
    for norm, depends in (("batch", True), ("layer", False)):
        task = task_of(norm)
        params = params_of(task)
        first, second = (task.per_example(params, b, None).loss[:6] for b in (batch, other))
        assert (apart(first, second) > 1e-3) == depends


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_rows_of_weight_zero_take_no_part(norm):
    """So a padded microbatch has the statistics of its rows."""
    task, batch = task_of(norm), batch_of()
    params = params_of(task)
    weight = np.where(np.arange(12) % 3 == 1, 0, 0.5).astype(np.float32)
    left = jax.tree.map(lambda leaf: leaf[weight > 0], batch)
    grad = jax.jit(jax.value_and_grad(partial(mean_loss, task)))
    found, expected = grad(params, batch._replace(weight=weight)), grad(params, left)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert apart(one, other) < ROUNDING
    nobody = task.per_example(params, batch._replace(weight=0 * weight), None)
    assert np.isfinite(nobody.loss).all()


def test_statistics_are_those_of_each_microbatch():
    task, batch = task_of(), batch_of(10)
    params, cut = params_of(task), microbatched(batch, 3)  # of 4, 4 and 2 rows

    def sums(part, _):
        return total(task.per_example(params, part, None))

    found = accumulate(sums, cut.batch)
    parts = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 4], batch) for i in (0, 4, 8)]
    expected = np.sum([np.array(sums(part, 0)) for part in parts], axis=0)
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)
    assert apart(found[0], sums(batch, 0)[0]) > 1e-3


def problem_of(norm="batch", rows=30):
    batch = batch_of(rows)
    return Problem.from_arrays(
        "noise", task_of(norm), batch.input, batch.label, num_classes=CLASSES, bucketing=2
    )


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_evaluation_changes_nothing(norm):
    """The same run with and without looks on the way: equal parameters, to the bit."""
    problem = problem_of(norm)
    task, data = problem.task, microbatched(problem.batch(0), 2)
    probe = loss_by_bucket(task, problem.buckets)
    descent = Engine(task, OPTIMIZERS["gd+m"].rule)
    advance = jax.jit(partial(engine.advance, descent))
    measure = jax.jit(partial(engine.measure, descent, probe.measure))
    start = engine.start(descent, jax.random.key(0), jnp.asarray([0.1]))

    straight, _ = advance(start, data, Objective(), 4)
    looked, seen = start, []
    for _ in range(4):
        before = jax.tree.map(np.asarray, looked.params)
        for _ in range(2):
            seen.append(measure(looked.params, looked.alive, data)["loss"][0])
        jax.tree.map(np.testing.assert_array_equal, before, looked.params)
        looked, _ = advance(looked, data, Objective(), 1)
    jax.tree.map(np.testing.assert_array_equal, straight.params, looked.params)
    assert seen[::2] == seen[1::2] and len(set(map(float, seen))) == 4
    # What is measured is what is minimised: the loss of the step's own forward pass.
    _, (loss, weight) = advance(start, data, Objective(), 1)
    assert float(loss[0, 0] / weight[0, 0]) == pytest.approx(float(seen[0]), rel=ROUNDING)


def test_a_run_does_not_depend_on_the_runs_beside_it():
    """On one axis with a run that diverges, and alone; through a sweep, to the bit."""
    problem = problem_of()
    descent = Engine(problem.task, OPTIMIZERS["gd"].rule)
    data = microbatched(problem.batch(0), 2)
    rates = jnp.asarray([0.1, 1e30])

    def losses(rates):
        state = engine.start(descent, jax.random.key(0), rates)
        state, (loss, weight) = jax.jit(partial(engine.advance, descent))(
            state, data, Objective(), 4
        )
        return np.asarray(loss / weight)[:4, 0], state.alive

    alone, _ = losses(rates[:1])
    beside, alive = losses(rates)
    np.testing.assert_allclose(alone, beside, rtol=ROUNDING)
    assert alive.tolist() == [True, False]

    wide, narrow = (
        run(Sweep(problem, {"gd": given}, 3, stops=(0, 3), microbatches=2))
        for given in ((0.1, 0.3), (0.1,))
    )
    np.testing.assert_array_equal(
        wide["loss"].sel(learning_rate=0.1), narrow["loss"].sel(learning_rate=0.1)
    )


def test_another_normalisation_width_or_depth_is_another_run():
    def key(**changes):
        batch = batch_of(10)
        task = task_of(**changes)
        problem = Problem.from_arrays("noise", task, batch.input, batch.label, num_classes=CLASSES)
        (one,) = runs(plans(Sweep(problem, {"gd": (0.1,)}, 1)))
        return one.key

    changes = ({}, {"norm": "layer"}, {"width": 5}, {"blocks": (1, 1)}, {"stem": "32"})
    assert len({key(**change) for change in changes}) == len(changes)


# What is asked wrongly ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": ()}, "give a stage or more"),
        ({"blocks": (1, 0)}, "give a stage or more"),
        ({"width": 0}, "give a stage or more"),
        ({"norm": "group"}, "norm is 'group'; give one of"),
        ({"stem": "64"}, "stem is '64'; give one of"),
        ({"dtype": "float16"}, "dtype is 'float16'; give one of"),
    ],
)
def test_networks_that_cannot_be_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        ResNet(2, rngs=nnx.Rngs(0), **changes)


def test_images_of_other_channels_are_named():
    net = ResNet(2, width=2, blocks=(1,), stem=Stem(3, 1, False), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="images of 1 channels, mean and std of 3"):
        net(jnp.zeros((2, 4, 4)))


def test_bytes_are_standardised_and_numbers_left_alone():
    pixels = Pixels((0.5, 0.25), (0.5, 0.125))
    image = np.array([[[[255, 0]]]], np.uint8)
    np.testing.assert_allclose(pixels.standardised(jnp.asarray(image)), [[[[1, -2]]]], rtol=1e-6)
    given = jnp.full((1, 1, 1, 2), 7.0)
    np.testing.assert_array_equal(pixels.standardised(given), given)


def test_low_precision_stays_near():
    wide, narrow = task_of(), task_of(dtype="bfloat16")
    params, batch = wide.init(jax.random.key(0)), batch_of()
    first, second = (task.per_example(params, batch, None).loss for task in (wide, narrow))
    assert second.dtype == jnp.float32 and 0 < apart(second, first) < 0.05
