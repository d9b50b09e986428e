"""Names of classes, such as words or tokens."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

Names = Sequence[Any] | Mapping[int, Any] | Callable[[int], Any]


def checked_names(names: Any, num_classes: int) -> Names | None:
    """Names as they are kept: a tuple of one for each class, a mapping, a function or None.

    Raises:
      TypeError: If names are none of these, or a mapping leads from names to classes.
      ValueError: If there is another number of them than of classes.
    """
    if names is None or callable(names):
        return names
    if isinstance(names, Mapping):
        if any(isinstance(key, str) for key in names):
            raise TypeError(
                "names has keys that are text; give a mapping from class to name, as "
                "{index: name for name, index in vocabulary.items()}."
            )
        return dict(names)
    if isinstance(names, str | Set) or not isinstance(names, Iterable):
        raise TypeError(
            f"names is {names!r}; give a sequence of {num_classes} names, a mapping from class to "
            "name, or a function, as lambda k: tokenizer.decode([k])."
        )
    names = tuple(names)
    if len(names) != num_classes:
        raise ValueError(f"there are {len(names)} names for {num_classes} classes; give one each.")
    return names


def names_of(names: Names | None, classes: Iterable[int]) -> list[str]:
    """The names of some classes; their numbers where there is none."""
    classes = map(int, classes)
    if names is None:
        return [str(k) for k in classes]
    if callable(names):
        return [str(names(k)) for k in classes]
    if isinstance(names, Mapping):
        return [str(names.get(k, k)) for k in classes]
    return [str(names[k]) for k in classes]
