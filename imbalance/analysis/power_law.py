"""Power laws over a range of ranks: maximum likelihood, distance, and sorted samples."""

import numpy as np

_WIDTH = 0.02  # of a block of ranks, relative to its distance from the first rank
_LARGE = 20_000  # classes from which it pays to draw classes of like shares together
_FEW = 100  # expected examples up to which that costs less than class by class


def rank_nodes(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for sums of a smooth function of the rank.

    ``Σ_{r=first..last} f(r) = Σ_i weight_i f(node_i)``. Each of the first hundred ranks is a node.
    From there on blocks of w ranks have three, at the zeros of the third polynomial that is
    orthogonal over w equal weights: the sum is exact to degree 5. Blocks grow with the distance
    from the first rank, so that steep laws, which live on few ranks, are summed as well as flat
    ones. For ``r^-a``, of any a, the relative error is less than 1e-9.

    Returns:
      Nodes (real ranks) and weights, float64 ``[node]``.
    """
    edges = [first]
    while edges[-1] <= last:
        edges.append(min(last + 1, edges[-1] + max(1, int(_WIDTH * (edges[-1] - first)))))
    start, width = np.array(edges[:-1]), np.diff(edges)
    middle = start + (width - 1) / 2
    # One rank has no spread: 1/4 stands for a negative number, and its side nodes weigh nothing.
    square = np.maximum((3 * width**2 - 7) / 20, 0.25)
    side = (width**2 - 1) / 24 / square
    node = middle + np.sqrt(square) * np.array([[-1], [0], [1]])
    weight = width * np.stack([side, 1 - 2 * side, side])
    return node[weight > 0], weight[weight > 0]


def maximum_likelihood(
    mean_log: np.ndarray, log_node: np.ndarray, weight: np.ndarray, start: float = 1.0
) -> np.ndarray:
    """Exponents ``a >= 0`` at which ``E_a[ln(r / first)]`` is the mean of the examples.

    ``E_a[f] = Σ r^-a f(r) / Σ r^-a`` over the range. It is the score equation: the mean of the log
    rank is all that the likelihood depends on.

    Args:
      mean_log: Means of ``ln(r / first)`` over the examples, positive, ``[table]``.
      log_node: Logs of the nodes of `rank_nodes` over the first rank, ``[node]``.
      weight: Weights of these, ``[node]``.
      start: Exponent at which to begin.

    Returns:
      float64 ``[table]``, to 1e-9 of ``1 + a``.
    """
    # E falls as a grows, and a >= 0 as counts are sorted. Newton's method in ln E, nearly straight
    # at large a. A step at most doubles a; one that would leave the bracket becomes a bisection.
    a = np.full(len(mean_log), start)
    low, high = np.zeros(len(a)), np.full(len(a), np.inf)
    moved = np.full(1, np.inf)
    while (moved > 1e-9 * (1 + a)).any():
        law = weight * np.exp(-a[:, None] * log_node)
        law /= law.sum(axis=1, keepdims=True)
        expected = law @ log_node
        low = np.where(expected > mean_log, a, low)
        high = np.where(expected > mean_log, high, a)
        slope = (law @ log_node**2) / expected - expected
        after = np.minimum(a + np.log(expected / mean_log) / slope, 2 * a + 1)
        after = np.where((after >= low) & (after <= high), after, (low + high) / 2)
        moved, a = np.abs(after - a), after
    return a


class RankRange:
    """The ranks ``first .. last``, and what is computed once for all tables fitted over them."""

    def __init__(self, first: int, last: int):
        self.first, self.last = first, last
        self.log_rank = np.log(np.arange(first, last + 1) / first)
        node, self.weight = rank_nodes(first, last)
        self.log_node = np.log(node / first)

    def exponents(self, ranked: np.ndarray, start: float = 1.0) -> np.ndarray:
        """Maximum likelihood exponents ``[table]`` of non-increasing counts ``[table, rank]``.

        The exponent of a table that is all of one class is infinite: it gets half an example at
        the next rank. That of a table without examples is NaN.
        """
        total = ranked.sum(axis=1)
        mean_log = np.maximum(ranked @ self.log_rank, self.log_rank[1] / 2) / np.maximum(total, 1)
        found = maximum_likelihood(mean_log, self.log_node, self.weight, start)
        return np.where(total > 0, found, np.nan)

    def distances(self, ranked: np.ndarray, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kolmogorov-Smirnov distances from power laws, and the ranks where they are reached.

        Args:
          ranked: Counts, non-increasing, ``[table, rank]``.
          exponents: Exponent for each table, ``[table]``.

        Returns:
          ``max_r |S(r) - F(r)|`` of the cumulative shares of counts and law, and r, ``[table]``.
        """
        law = np.exp(-exponents[:, None] * self.log_rank)
        gap = np.cumsum(law, axis=1, out=law)
        gap /= gap[:, -1:].copy()
        gap -= np.cumsum(ranked, axis=1) / np.maximum(ranked.sum(axis=1, keepdims=True), 1)
        np.abs(gap, out=gap)
        return gap.max(axis=1), self.first + gap.argmax(axis=1)


class SortedTables:
    """Random tables of counts, sorted: examples are independent draws from given shares.

    In large tables the classes that expect few examples are drawn together. Classes whose ``√λ``,
    λ their expected counts, differ by less than 1/20 share a Poisson law; how many of them have 0,
    1, 2 .. examples is then a single multinomial draw. That λ differs inside such a group adds less
    than a thousandth to the variance of its counts.

    Args:
      share: Probability of each class ``[class]``, in any order.
      num_examples: Number of examples of a table.
    """

    def __init__(self, share: np.ndarray, num_examples: int):
        self.share, self.num_examples = np.sort(share), num_examples
        self.together = len(share) > _LARGE
        if not self.together:
            return
        # Poisson tables, drawn a little too small, are topped up to the number of examples: that
        # makes them multinomial. They come out too large once in 30,000 times: then again.
        self.expected = self.share * max(0.0, num_examples - 4 * np.sqrt(num_examples))
        self.cumulative = np.cumsum(self.share)
        self.num_few = int(np.searchsorted(self.expected, _FEW, side="right"))
        few = self.expected[: self.num_few]
        starts = np.flatnonzero(np.diff(np.floor(20 * np.sqrt(few)), prepend=-1))
        self.sizes = np.diff(starts, append=self.num_few)
        self.chances = _poisson(np.add.reduceat(few, starts) / self.sizes) if len(few) else None

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One table, int64 ``[rank]``, non-increasing."""
        if self.together:
            counts = self._drawn_together(rng)
        else:
            # Rarest first: multinomial subtracts each share from 1, where tiny ones lose digits.
            counts = rng.multinomial(self.num_examples, self.share)
        counts.sort()
        return counts[::-1]

    def _drawn_together(self, rng: np.random.Generator) -> np.ndarray:
        while True:
            counts = rng.poisson(self.expected[self.num_few :])
            if self.chances is not None:
                times = rng.multinomial(self.sizes, self.chances)
                value = np.broadcast_to(np.arange(times.shape[1]), times.shape)
                counts = np.concatenate([np.repeat(value.ravel(), times.ravel()), counts])
            missing = self.num_examples - counts.sum()
            if missing >= 0:
                break
        place = np.sort(rng.random(missing)) * self.cumulative[-1]
        more = np.searchsorted(self.cumulative, place, side="right")
        return counts + np.bincount(more, minlength=len(counts))


def _poisson(mean: np.ndarray) -> np.ndarray:
    """Probabilities ``[mean, value]`` of 0, 1, .. under Poisson laws, to 1e-17."""
    value = np.arange(int(mean.max() + 10 * np.sqrt(mean.max()) + 20))
    log_factorial = np.cumsum(np.log(np.maximum(value, 1)))
    log = value * np.log(np.maximum(mean, 1e-300))[:, None] - mean[:, None] - log_factorial
    chance = np.where(log > -40, np.exp(log), 0.0)
    return chance / chance.sum(axis=1, keepdims=True)
