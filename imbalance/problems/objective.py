"""What training minimises, written once for the engine and for curvature."""

from dataclasses import dataclass
from functools import partial
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from imbalance.problems.tasks import Examples, Params


@partial(jax.tree_util.register_dataclass, data_fields=["class_weight", "l2"], meta_fields=[])
@dataclass(frozen=True)
class Objective:
    """The weighted mean and the penalty, ``Σ w ω_y ℓ / Σ w ω_y + (l2 / 2) ‖W‖²``.

    Reported losses contain neither ``ω`` nor the penalty.

    Attributes:
      class_weight: ω, float32 ``[class]``; None is one for every class.
      l2: coefficient of the penalty on weight matrices, not on biases; None leaves it out.
    """

    class_weight: jax.Array | None = None
    l2: jax.Array | float | None = None

    @classmethod
    def reweighted(cls, counts: np.ndarray, power: float, l2: float) -> Self:
        """Class weights ``n_k^-power``: 0.5 is the paper's 1/√π, 1 its 1/π.

        Args:
          counts: examples of each class, ``[class]``; classes without examples weigh nothing.
          power: 0 leaves the weights out.
          l2: as the attribute; 0 leaves the penalty out.
        """
        class_weight = None
        if power:
            counts = np.asarray(counts, np.float64)
            seen = np.where(counts > 0, counts, np.inf)
            class_weight = jnp.asarray(seen**-power, jnp.float32)
        return cls(class_weight, jnp.float32(l2) if l2 else None)

    def weight(self, examples: Examples) -> jax.Array:
        """``w ω_y [example]``."""
        if self.class_weight is None:
            return examples.weight
        return examples.weight * jnp.asarray(self.class_weight)[examples.label]

    def sums(self, examples: Examples) -> tuple[jax.Array, jax.Array]:
        """``Σ w ω_y ℓ`` and ``Σ w ω_y``."""
        weight = self.weight(examples)
        return jnp.sum(weight * examples.loss), jnp.sum(weight)

    def penalty(self, params: Params) -> jax.Array | float:
        """``(l2 / 2) ‖W‖²`` over all parameters with two axes or more."""
        if self.l2 is None:
            return 0.0
        matrices = [leaf for leaf in jax.tree.leaves(params) if jnp.ndim(leaf) >= 2]
        return self.l2 / 2 * sum(jnp.sum(leaf**2) for leaf in matrices)
