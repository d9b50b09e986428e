"""Windows: a stream of tokens as rows of inputs and of next tokens."""

from typing import NamedTuple

import numpy as np

from imbalance.analysis.counts import class_counts


class Windows(NamedTuple):
    """Inputs and targets; the target of a position is the token after its input.

    Both are views of the tokens, so a memory-mapped file stays on the disk.

    Attributes:
      inputs: Input tokens, ``[row, position]``.
      targets: Target tokens, ``[row, position]``.
    """

    inputs: np.ndarray
    targets: np.ndarray

    def counts(self, num_classes: int) -> np.ndarray:
        """Number of targets of each class, int64 ``[class]``.

        Raises:
          ValueError: If a target is not in ``0 .. num_classes - 1``.
        """
        counts = np.zeros(num_classes, np.int64)
        rows = max(1, 2**22 // self.targets.shape[1])  # a few at a time, as counting copies them
        for start in range(0, len(self.targets), rows):
            counts += class_counts(self.targets[start : start + rows].reshape(-1), num_classes)
        return counts


def columns(tokens: np.ndarray, num_columns: int) -> Windows:
    """The stream in ``num_columns`` long pieces of equal length; the remainder is dropped.

    The ``batchify`` of the paper's code, whose columns are the rows here: its batch of step t is
    ``inputs[:, t * length : (t + 1) * length]``.

    Args:
      tokens: Integers ``[token]``.
      num_columns: Number of pieces, the batch size.

    Returns:
      Windows of ``num_columns`` rows with ``len(tokens) // num_columns - 1`` positions.

    Raises:
      TypeError: If the tokens are not integers.
      ValueError: If they are not one-dimensional, or too few for one target in every column.
    """
    tokens = _checked(tokens)
    if num_columns < 1:
        raise ValueError(f"num_columns is {num_columns}; give 1 or more.")
    length = len(tokens) // num_columns
    if length < 2:
        raise ValueError(
            f"{len(tokens)} tokens in {num_columns} columns; give at least two tokens a column: "
            f"{2 * num_columns} tokens, or at most {len(tokens) // 2} columns."
        )
    table = tokens[: num_columns * length].reshape(num_columns, length)
    return Windows(table[:, :-1], table[:, 1:])


def windows(tokens: np.ndarray, length: int) -> Windows:
    """The stream in consecutive blocks without overlap; the remainder is dropped.

    Every token but the first is a target once, up to the remainder.

    Args:
      tokens: Integers ``[token]``.
      length: Number of positions of a block.

    Returns:
      Windows of ``(len(tokens) - 1) // length`` rows.

    Raises:
      TypeError: If the tokens are not integers.
      ValueError: If they are not one-dimensional, or too few for one block.
    """
    tokens = _checked(tokens)
    if length < 1:
        raise ValueError(f"length is {length}; give 1 or more.")
    rows = (len(tokens) - 1) // length
    if rows < 1:
        raise ValueError(
            f"{len(tokens)} tokens are not one block of {length} with its targets; give at least "
            f"{length + 1} tokens, or a length of at most {len(tokens) - 1}."
        )
    end = rows * length
    return Windows(tokens[:end].reshape(rows, length), tokens[1 : end + 1].reshape(rows, length))


def _checked(tokens: np.ndarray) -> np.ndarray:
    if not np.issubdtype(tokens.dtype, np.integer):
        raise TypeError(f"tokens have dtype {tokens.dtype}; give integers.")
    if tokens.ndim != 1:
        raise ValueError(f"tokens have shape {tokens.shape}; give one stream, ``[token]``.")
    return tokens
