"""The nearest of the known names, where somebody wrote another."""

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of the sentence "there is no such name": which is meant, if one is near.

    Args:
      name: Name that is not known.
      known: Names that are.
    """
    lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"; did you mean {lower[near[0]]!r}?" if near else "."
