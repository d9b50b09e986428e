"""The linear softmax model of Figure 4."""

import jax
import jax.numpy as jnp
from flax import nnx


class SoftmaxLinear(nnx.Module):
    """Logits ``W x + b``, class-major: the result has shape ``[class, example]``.

    Class-major logits let many runs share one matrix product, ``[run * class, input]`` times
    ``[input, example]``, without a transposition of the weights (measured 15-20 % faster on CPU).

    Initialised as PyTorch's ``nn.Linear``: weights and biases uniform on ``±1/sqrt(num_inputs)``.
    With ``theoretical``, the setting of the theory (Section 3): weights of zero and no bias.
    """

    class_axis = 0

    def __init__(
        self, num_inputs: int, num_classes: int, *, theoretical: bool = False, rngs: nnx.Rngs
    ):
        if theoretical:
            self.weight, self.bias = nnx.Param(jnp.zeros((num_classes, num_inputs))), None
            return
        bound = num_inputs**-0.5

        def uniform(*shape: int) -> jax.Array:
            return jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound)

        self.weight = nnx.Param(uniform(num_classes, num_inputs))
        self.bias = nnx.Param(uniform(num_classes))

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Logits ``[class, example]`` of ``inputs [example, input]``."""
        logits = self.weight[...] @ inputs.T
        return logits if self.bias is None else logits + self.bias[...][:, None]

    def head(self, inputs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Features ``[example, input]`` of the last layer, its weight and its bias."""
        return inputs, self.weight[...], None if self.bias is None else self.bias[...]
