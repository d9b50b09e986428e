"""Synthetic token streams with any unigram law, a learnable next token and a known best loss."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Successors(NamedTuple):
    """Pairs of classes that follow each other by the rule, each array ``[pair]``.

    Attributes:
      current: Class of the current token.
      following: Class of the next token.
      seats: Number of the current class's seats that lead to the next class.
    """

    current: np.ndarray
    following: np.ndarray
    seats: np.ndarray


@dataclass(frozen=True, eq=False)
class SyntheticTokens:
    """A Markov chain over the classes in which every token has exactly the law ``counts / n``.

    Class k owns ``n_k`` of n seats. The seats of all classes whose counts lie between the same
    powers of two form a circle, with the classes in an order drawn by ``seed``. With probability
    ``predictability`` the next token follows the rule: take a random seat of the current class,
    move along its circle by the largest count on it, and take the owner of the seat reached.
    Otherwise the next token is the owner of a random one of the n seats.

    The law is stationary: if a token has law ``n_k / n``, a random one of its seats is uniform over
    the n seats. Moving is a bijection of the seats, so the seat reached is also uniform, and its
    owner has law ``n_k / n``. So has an independent draw, hence the mixture, and the first token.

    By the rule, a class is followed by at most three classes of about its own frequency, so rare
    tokens are about as predictable as frequent ones, from few examples each. A class alone between
    two powers of two follows itself.

    Attributes:
      counts: Count of each class ``[class]``, in any order; a class of count 0 never occurs.
      predictability: Probability of the rule, at least 0 (independent tokens) and below 1.
      seed: Seed of the order of classes on their circles.

    Raises:
      TypeError: If counts are not integers.
      ValueError: If counts are not one-dimensional, one is negative, all are zero, or they sum to
        2^53 or more; or if the predictability is not in [0, 1).
    """

    counts: np.ndarray
    predictability: float = 0.9
    seed: int = 0

    def __post_init__(self):
        counts = np.asarray(self.counts)
        if not np.issubdtype(counts.dtype, np.integer):
            raise TypeError(f"counts have dtype {counts.dtype}; give integers.")
        if counts.ndim != 1 or not counts.any():
            raise ValueError(
                f"counts have shape {counts.shape} and sum {counts.sum()}; give one integer per "
                "class, not all 0."
            )
        if counts.min() < 0 or counts.sum(dtype=float) >= 2**53:
            raise ValueError(
                f"counts are {counts.min()} .. {counts.max()} with sum {counts.sum(dtype=float):g}"
                "; give 0 or more each, and less than 2^53 in all."
            )
        if not 0 <= self.predictability < 1:
            raise ValueError(
                f"predictability is {self.predictability}; give a number from 0 to below 1 (at 1 "
                "a stream would never leave the classes it began with)."
            )
        object.__setattr__(self, "counts", counts.astype(np.int64))

    @cached_property
    def num_examples(self) -> int:
        """n, the sum of the counts."""
        return int(self.counts.sum())

    def stream(self, length: int, seed: int) -> np.ndarray:
        """Tokens of one long stream, int32 ``[token]``; equal arguments give equal tokens.

        Raises:
          ValueError: If the length is less than 1 or the seed is negative.
        """
        if length < 1 or seed < 0:
            raise ValueError(f"length {length}, seed {seed}; give 1 or more, and 0 or more.")
        rng = np.random.default_rng(seed)
        by_rule = np.zeros(length + 1, bool)  # false for the first token and one past the last
        by_rule[1:length] = rng.random(length - 1) < self.predictability
        tokens = np.empty(length, np.int32)
        place = np.flatnonzero(~by_rule[:length])
        tokens[place] = self._owners(rng.integers(0, self.num_examples, len(place)))
        # Extend all stretches between independent draws side by side: the tokens that follow these
        # by the rule, then those that follow them, and so on.
        while len(place := place[by_rule[place + 1]]):
            current = tokens[place]
            seat = self._circles.first[current] + rng.integers(0, self.counts[current])
            place += 1
            tokens[place] = self._owners(self._moved(seat, current))
        return tokens

    @cached_property
    def successors(self) -> Successors:
        """The rule as a table, sorted by class and next class, about three pairs per class."""
        circles = self._circles
        # The owners of a seat and of the one it moves to change only at these seats.
        starts = circles.first[circles.order]
        before = self._moved(starts, circles.order, back=True)
        at = np.union1d(starts, before)
        current = self._owners(at)
        following = self._owners(self._moved(at, current))
        seats = np.diff(at, append=self.num_examples)
        key, pair = np.unique(current.astype(np.int64) * len(self.counts) + following, False, True)
        total = np.zeros(len(key), np.int64)
        np.add.at(total, pair.reshape(-1), seats)
        return Successors(key // len(self.counts), key % len(self.counts), total)

    @cached_property
    def lowest_loss(self) -> np.ndarray:
        """Expected loss of each class under the true law, ``E[-log p(k | current) | next = k]``.

        In nats, float64 ``[class]``; NaN where the count is 0. No model that has not seen the
        stream has a lower overall loss. A model can have a lower loss on some classes at the cost
        of others, or on a training stream by memorising it.
        """
        share = self.counts / self.num_examples
        current, following, _ = self.successors
        likely = self._probability(current, following)
        foretold = share[current] * likely  # of this pair
        rest = (1 - self.predictability) * share  # after any other class
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = np.bincount(following, -foretold * np.log(likely), len(share))
            loss /= share
            reached = np.bincount(following, share[current], len(share))
            loss -= (1 - self.predictability) * (1 - reached) * np.log(rest)
        return np.where(self.counts > 0, loss, np.nan)

    @cached_property
    def conditional_entropy(self) -> float:
        """Entropy of a token given those before it, the lowest loss over all classes, in nats."""
        occur = self.counts > 0
        return float(self.counts[occur] @ self.lowest_loss[occur]) / self.num_examples

    def losses(self, current: ArrayLike, following: ArrayLike) -> np.ndarray:
        """Losses of the best model on given tokens, ``-log p(following | current)``.

        Args:
          current: Inputs, integers of any shape.
          following: Targets, integers of the same shape.

        Returns:
          In nats, float64 of that shape; infinite where the target never follows.

        Raises:
          ValueError: If the shapes differ or a token is out of range.
        """
        current, following = np.asarray(current), np.asarray(following)
        if current.shape != following.shape:
            raise ValueError(
                f"inputs have shape {current.shape}, targets {following.shape}; give equal shapes."
            )
        for tokens in (current, following):
            if tokens.size and not 0 <= tokens.min() <= tokens.max() < len(self.counts):
                raise ValueError(
                    f"tokens are {tokens.min()} .. {tokens.max()}; give 0 .. {len(self.counts) - 1}"
                )
        with np.errstate(divide="ignore"):
            return -np.log(self._probability(current, following))

    def _probability(self, current: np.ndarray, following: np.ndarray) -> np.ndarray:
        """P(following | current), of any shape."""
        table = self.successors
        size = np.int64(len(self.counts))
        keys = table.current * size + table.following
        wanted = current * size + following
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        seats = np.where(keys[at] == wanted, table.seats[at], 0)
        independent = self.counts[following] / self.num_examples
        by_rule = seats / np.maximum(self.counts[current], 1)
        return self.predictability * by_rule + (1 - self.predictability) * independent

    @cached_property
    def _circles(self) -> "_Circles":
        occur = np.flatnonzero(self.counts)
        shuffled = np.random.default_rng(self.seed).permutation(occur)
        octave = np.frexp(self.counts[shuffled])[1]  # n_k in [2^(octave-1), 2^octave)
        by_octave = np.argsort(-octave, kind="stable")
        order, octave = shuffled[by_octave], octave[by_octave]
        ends = np.cumsum(self.counts[order])
        heads = np.flatnonzero(np.diff(octave, prepend=-1))
        start = (ends - self.counts[order])[heads]
        move = np.maximum.reduceat(self.counts[order], heads)
        size = np.diff(start, append=self.num_examples)
        first, circle = np.zeros((2, len(self.counts)), np.int64)
        first[order] = ends - self.counts[order]
        circle[order] = np.repeat(np.arange(len(heads)), np.diff(heads, append=len(order)))
        return _Circles(order, ends, first, start[circle], size[circle], move[circle])

    def _owners(self, seat: np.ndarray) -> np.ndarray:
        return self._circles.order[np.searchsorted(self._circles.ends, seat, side="right")]

    def _moved(self, seat: np.ndarray, owner: np.ndarray, back: bool = False) -> np.ndarray:
        """Seats that the rule reaches from seats of these owners, or those that lead to them."""
        start, size, move = (array[owner] for array in self._circles[3:])
        return start + (seat - start + (-move if back else move)) % size


class _Circles(NamedTuple):
    """The seats of all classes, and the circle of each class."""

    order: np.ndarray  # classes by seat [place]
    ends: np.ndarray  # one past the last seat of each [place]
    first: np.ndarray  # first seat of the class [class]
    start: np.ndarray  # first seat of its circle [class]
    size: np.ndarray  # number of seats of the circle [class]
    move: np.ndarray  # number of seats that the rule moves [class]
