"""Problems: what they refuse, and those made of a user's own arrays."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from imbalance.models.linear import SoftmaxLinear
from imbalance.probes import validation_loss_by_bucket
from imbalance.problems import Problem, heavy_tailed_linear
from imbalance.problems.problem import digest_of, shapes_of
from imbalance.problems.tasks import Batch, classification, quadratic
from imbalance.training.plan import plans, runs
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

# Bad data: the message names what was given and what is allowed -----------------------------------


def with_batch(problem, **changes) -> Problem:
    """The same problem, its data changed after the fact."""
    return replace(problem, make_batch=lambda seed: problem.make_batch(seed)._replace(**changes))


def bad(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


INPUT, LABEL, WEIGHT = heavy_tailed_linear(3).make_batch(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": bad(INPUT, (3, 4), np.nan)}, "1 of 768 values of 'input' .* must be finite"),
        ({"input": bad(INPUT, 0, np.inf)}, "32 of 768 values of 'input' .* must be finite"),
        ({"weight": bad(WEIGHT, 2, np.nan)}, "1 of 24 values of 'weight' .* must be finite"),
        ({"weight": bad(WEIGHT, 2, -1)}, "negative weights; give 0 or more"),
        ({"label": bad(LABEL, 5, 7)}, "first is 7 at position 5; labels must be in 0 .. 6"),
        ({"label": bad(LABEL, 5, -1)}, "first is -1 at position 5; labels must be in 0 .. 6"),
        ({"label": bad(LABEL, 0, 1)}, "class 0 has 7 labels, but counts say 8"),
        ({"label": LABEL.astype(np.int64)}, "int64.*promised.*int32"),
        ({"input": INPUT[:, 1:]}, r"\(24, 31\).*promised.*\(24, 32\)"),
    ],
)
def test_bad_data(problem, changes, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        with_batch(problem, **changes).batch(0)


def test_a_sweep_checks_its_data(problem):
    wrong = with_batch(problem, input=np.full_like(INPUT, np.nan))
    with pytest.raises(ValueError, match="768 of 768 values of 'input'"):
        run(Sweep(wrong, {"gd": (0.1, 1.0, 2.0)}, 12))


def test_a_problem_without_examples_is_refused(problem):
    with pytest.raises(ValueError, match="counts of its 7 classes add up to 0; give at least one"):
        replace(problem, counts=np.zeros(7, int))


def test_a_validation_set_is_checked_too(problem):
    held = problem.batch(0)._replace(label=bad(LABEL, 5, 7))
    with pytest.raises(ValueError, match="first is 7 at position 5"):
        replace(problem, make_validation=lambda seed: held).validation(0)
    with pytest.raises(ValueError, match="heavy_tailed_linear' has no validation set"):
        problem.validation(0)


# Buckets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bucketing", "classes"),
    [
        ("levels", [1, 2, 4]),
        (2, [2, 5]),
        ((3,), [3, 4]),  # classes of three examples or more, and the rest
        ((5, 3), [1, 2, 4]),
    ],
)
def test_classes_are_grouped_as_the_bucketing_says(problem, bucketing, classes):
    buckets = replace(problem, bucketing=bucketing).buckets
    assert np.bincount(buckets.bucket_of_class).tolist() == classes


def test_probabilities_are_grouped_by_mass():
    counts = np.array([0.5, 0.25, 0.125, 0.125])
    task = quadratic(4)
    found = Problem.from_arrays("p", task, None, np.arange(4), counts, counts=counts, bucketing=2)
    assert found.buckets.bucket_of_class.tolist() == [0, 1, 1, 1]


# Problems of one's own arrays ---------------------------------------------------------------------

TASK = classification(partial(SoftmaxLinear, 32, 7))


def of_arrays(input=INPUT, label=LABEL, **options):
    return Problem.from_arrays("mine", TASK, input, label, **options)


def test_a_problem_of_arrays_is_the_one_made_by_hand(problem):
    found = of_arrays(bucketing="levels", flops_per_step=problem.flops_per_step)
    assert shapes_of(found.batch(0)) == problem.shapes == found.shapes
    jax.tree.map(np.testing.assert_array_equal, found.batch(3), problem.batch(0))
    np.testing.assert_array_equal(found.counts, problem.counts)
    np.testing.assert_array_equal(found.buckets.bucket_of_class, problem.buckets.bucket_of_class)
    assert found.num_rows == problem.num_rows == 24 and not found.data_by_seed

    def keys(problem):
        return [one.key for one in runs(plans(Sweep(problem, {"gd": (0.1,)}, 3)))]

    assert keys(found) == keys(problem)  # its programs and its data are the same


def test_arrays_come_in_the_dtypes_the_engine_works_in():
    found = of_arrays(INPUT.astype(np.float64), LABEL.astype(np.int64), weight=np.ones(24)).batch(0)
    assert (found.input.dtype, found.label.dtype) == (np.float32, np.int32)
    assert found.weight.dtype == np.float32
    np.testing.assert_array_equal(found.input, INPUT)
    of_lists = of_arrays(label=LABEL.tolist(), weight=[1.0] * 24)
    assert digest_of(of_lists.batch(0)) == digest_of(found)
    tokens = of_arrays(INPUT.astype(np.int64))
    assert np.issubdtype(tokens.batch(0).input.dtype, np.integer)  # whole numbers stay whole


def test_inputs_may_be_a_tree():
    tree = {"a": INPUT, "b": (INPUT[:, :2], LABEL)}
    found = of_arrays(tree, flops_per_step=1.0)
    assert jax.tree.structure(found.batch(0).input) == jax.tree.structure(tree)


def test_a_masked_label_is_not_counted():
    weight = np.ones(24, np.float32)
    weight[:3] = 0  # of class 0, which has eight examples
    assert of_arrays(weight=weight).counts.tolist() == [5, 4, 4, 2, 2, 2, 2]


def test_classes_are_as_many_as_one_says():
    assert len(of_arrays().counts) == 7
    more = of_arrays(num_classes=9)
    assert more.counts.tolist() == [8, 4, 4, 2, 2, 2, 2, 0, 0]
    with pytest.raises(ValueError, match="first is 3"):
        of_arrays(num_classes=3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input": INPUT[:20]}, ValueError, "input has 20 rows and there are 24 labels"),
        ({"input": {"a": INPUT, "b": LABEL[:5]}}, ValueError, "input has 5 rows"),
        ({"label": LABEL.astype(np.float32)}, TypeError, "dtype float32; give integers"),
        ({"label": bad(LABEL, 0, -1)}, ValueError, "-1 at position 0"),
        ({"weight": np.ones(23)}, ValueError, r"shape \(23,\), labels \(24,\); give one for each"),
        ({"weight": -np.ones(24), "counts": np.ones(7)}, ValueError, "negative weights"),
        ({"input": bad(INPUT, (1, 1), np.nan)}, ValueError, "1 of 768 values of 'input'"),
        ({"weight": bad(WEIGHT, 1, np.inf)}, ValueError, "1 of 24 values of 'weight'"),
        ({"counts": np.array([9, 4, 4, 2, 2, 2, 1])}, ValueError, "class 0 has 8 labels, but"),
        ({"validation": (INPUT[:4], LABEL[:3])}, ValueError, "4 rows and there are 3 labels"),
    ],
)
def test_bad_arrays_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        of_arrays(**options)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ((bad(INPUT, 0, np.nan), LABEL), "32 of 768 values of 'input'"),
        ((INPUT, bad(LABEL, 2, 7)), "first is 7 at position 2"),
    ],
)
def test_a_bad_validation_set_is_refused_when_it_is_used(held, message):
    found = of_arrays(validation=held)
    with pytest.raises(ValueError, match=message):
        found.validation(0)


def test_a_problem_of_arrays_is_validated():
    found = of_arrays(validation=(INPUT[::2], LABEL[::2]), bucketing="levels")
    jax.tree.map(
        np.testing.assert_array_equal,
        found.validation(5),
        Batch(INPUT[::2], LABEL[::2], np.ones(12, np.float32)),
    )
    probe = validation_loss_by_bucket(found.task, found.buckets)
    result = run(Sweep(found, {"gd": (0.1,)}, 2, stops=(0, 2), probes=(probe,)))
    params = TASK.init(jax.random.fold_in(jax.random.key(0), 0))
    loss = np.asarray(TASK.per_example(params, found.batch(0), None).loss)
    first = result.isel(optimizer=0, learning_rate=0, seed=0, step=0)
    np.testing.assert_allclose(first["loss"], loss.mean(), rtol=1e-6)
    np.testing.assert_allclose(first["validation_loss"], loss[::2].mean(), rtol=1e-6)


def test_the_work_of_a_step_is_guessed_where_it_is_not_told():
    assert of_arrays().flops_per_step == 6.0 * 24 * 32 * 7
    assert of_arrays(flops_per_step=5.0).flops_per_step == 5.0


# Digests of data ----------------------------------------------------------------------------------


def test_the_digest_of_data_is_of_every_byte_shape_and_dtype():
    batch = Batch(INPUT, LABEL, WEIGHT)
    others = [
        batch._replace(input=bad(INPUT, (23, 31), INPUT[23, 31] + 1e-6)),
        batch._replace(input=INPUT.reshape(24, 16, 2)),
        batch._replace(input=INPUT.view(np.int32)),
        batch._replace(label=bad(LABEL, 0, 1)),
        batch._replace(weight=bad(WEIGHT, 23, 0)),
        batch._replace(input=(INPUT,)),
        batch._replace(input=None),
    ]
    found = {digest_of(one) for one in (batch, *others)}
    assert len(found) == 1 + len(others)
    assert digest_of(Batch(np.asfortranarray(INPUT), LABEL.copy(), WEIGHT)) == digest_of(batch)
    assert digest_of(jax.device_put(batch)) == digest_of(batch)
