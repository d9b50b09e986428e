"""Sums in checkpoints: as built-in types, and pickled."""

import json

import numpy as np
import pytest

from imbalance import LossByClass

READS = ("count", "diverged", "moments", "mean", "standard_error", "accuracy")


def fed(names=None):
    rng = np.random.default_rng(0)
    losses = LossByClass(5, ignore_index=4, names=names)
    label = rng.integers(0, 5, 100)
    loss = rng.exponential(1e-3, 100) / 3  # no round numbers
    losses.update(loss, label, rng.random(100), correct=rng.random(100) < 0.5)
    return losses


def assert_same(one, other):
    for name in READS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype
    for name in ("ignored", "out_of_range", "unbucketed", "ignore_index", "num_classes"):
        assert getattr(one, name) == getattr(other, name)


def built_in(value):
    """Whether nothing but built-in types is in it."""
    if type(value) is dict:
        return all(type(key) is str and built_in(item) for key, item in value.items())
    if type(value) is list:
        return all(map(built_in, value))
    return value is None or type(value) in (int, float)


def test_a_state_keeps_every_bit():
    losses = fed()
    state = losses.state_dict()
    assert built_in(state)
    again = LossByClass(5, ignore_index=4, names="abcde".__getitem__)
    again.load_state_dict(json.loads(json.dumps(state)))
    assert_same(again, losses)
    assert again.worst(1).name == ["abcde"[losses.worst(1).class_index[0]]]
    more = fed()
    for one in (again, losses):
        one.update([1.0, 2.0], [0, 1], correct=[True, False])
    assert_same(again, losses)
    assert more.count.sum() < losses.count.sum()  # the state was a copy
    np.testing.assert_array_equal(state["count"], more.count)


def test_a_state_takes_the_place_of_what_is_there():
    empty, losses = LossByClass(5, ignore_index=np.int64(4)), fed()
    losses.load_state_dict(empty.state_dict())
    assert losses.count.sum() == 0 and losses.correct is None and losses.ignored == 0
    assert built_in(empty.state_dict())


def test_torch_loads_it_with_weights_only(tmp_path):
    torch = pytest.importorskip("torch")
    losses, again = fed(), LossByClass(5, ignore_index=4)
    torch.save({"losses": losses.state_dict(), "w": torch.ones(2)}, tmp_path / "checkpoint.pt")
    found = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    again.load_state_dict(found["losses"])
    assert_same(again, losses)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_classes": 6}, "num_classes is 6 in the state and 5 here; load it into an object"),
        ({"ignore_index": None}, "ignore_index is None in the state and 4 here"),
        ({"count": [1, 2]}, r"count of the state has shape \(2,\); it must be \(5,\)"),
        ({"moments": None}, "moments of the state|no state of a LossByClass"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(changed, message):
    losses = fed()
    with pytest.raises(ValueError, match=message):
        losses.load_state_dict(fed().state_dict() | changed)
    for wrong in ({}, [1], None):
        with pytest.raises(ValueError, match="no state of a LossByClass .* give what state_dict"):
            losses.load_state_dict(wrong)
    assert_same(losses, fed())
