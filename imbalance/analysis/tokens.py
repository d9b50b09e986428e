"""Labels of next-token prediction."""

from typing import Any

import numpy as np

from imbalance.analysis.checks import as_numpy


def next_token_labels(token: Any, mask: Any = None, ignore_index: int = -100) -> Any:
    """The label of every position: the token after it.

    Pass the labels to ``LossByClass(vocabulary_size, ignore_index)`` with the loss of every
    position, from logits that are not shifted. The last position has no next token and is ignored,
    as is a position whose next token is masked. Where several documents share a row, mask the first
    token of each: it cannot be predicted from the document before.

    Args:
      token: Integers ``[..., position]``, NumPy's, JAX's (also inside ``jit``) or PyTorch's.
      mask: Boolean mask ``[..., position]``, false or 0 where a token is padding or not to be
        predicted; None: all true.
      ignore_index: Label of positions without one.

    Returns:
      int32 ``[..., position]`` (int64 for int64 tokens), a JAX array for JAX tokens, else NumPy.

    Raises:
      TypeError: If tokens are not integers, or are masked by anything but ``mask``.
      ValueError: If there is no axis, or the mask has another shape.

    Example:
      >>> from imbalance import next_token_labels
      >>> next_token_labels([[5, 7, 9, 0]], mask=[[True, True, True, False]])
      array([[   7,    9, -100, -100]])
    """
    if isinstance(token, np.ndarray) or not hasattr(token, "__array_namespace__"):
        token = as_numpy(token)
    xp = token.__array_namespace__()
    if not xp.isdtype(token.dtype, "integral"):
        raise TypeError(f"tokens have dtype {token.dtype}; give integers.")
    if token.ndim == 0:
        raise ValueError("tokens have no axis; give [..., position].")
    # Tokens are often stored as uint16, which cannot hold -100.
    token = token.astype(xp.int64 if token.dtype.itemsize == 8 else xp.int32)
    nothing = xp.full_like(token[..., :1], ignore_index)
    if mask is not None:
        mask = xp.asarray(mask if hasattr(mask, "__array_namespace__") else as_numpy(mask))
        if mask.shape != token.shape:
            raise ValueError(f"the mask has shape {mask.shape}, tokens {token.shape}.")
        token = xp.where(mask.astype(bool), token, ignore_index)
    return xp.concat([token[..., 1:], nothing], axis=-1)
