"""Sums as built-in types, for checkpoints."""

from typing import Any

import numpy as np

from imbalance.analysis.sums import ARRAYS, LEFT_OUT, LossSums, frozen

_DTYPES = {"count": np.int64, "diverged": np.int64, "moments": np.float64}


def state_of(sums: LossSums, ignore_index: int | None) -> dict[str, Any]:
    """Lists, integers, floats and None that `restored` takes back; groups are classes."""
    ignore_index = None if ignore_index is None else int(ignore_index)
    return {"num_classes": len(sums.count), "ignore_index": ignore_index, **_listed(sums)}


def restored(state: Any, num_classes: int, ignore_index: int | None) -> dict[str, Any]:
    """Fields of the sums of a state.

    Raises:
      ValueError: If it is no such state, or has other classes or another ``ignore_index``.
    """
    try:
        for name, here in (("num_classes", num_classes), ("ignore_index", ignore_index)):
            if state[name] != here:
                raise ValueError(
                    f"{name} is {state[name]} in the state and {here} here; load it into an object "
                    "that is made like the one that was saved."
                )
        return _arrays(state, num_classes)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"this is no state of a LossByClass ({error!r}); give what state_dict() returned."
        ) from error


def _listed(sums: LossSums) -> dict[str, Any]:
    listed: dict[str, Any] = {name: getattr(sums, name).tolist() for name in ARRAYS}
    listed |= {name: getattr(sums, name) for name in LEFT_OUT}
    return listed | {"correct": None if sums.correct is None else _listed(sums.correct)}


def _arrays(state: dict[str, Any], num_classes: int) -> dict[str, Any]:
    fields: dict[str, Any] = {name: int(state[name]) for name in LEFT_OUT}
    for name in ARRAYS:
        array = np.array(state[name], _DTYPES[name])
        shape = (5, num_classes) if name == "moments" else (num_classes,)
        if array.shape != shape:
            raise ValueError(f"{name} of the state has shape {array.shape}; it must be {shape}.")
        fields[name] = frozen(array)
    correct = state["correct"]
    fields["correct"] = None if correct is None else LossSums(**_arrays(correct, num_classes))
    return fields
