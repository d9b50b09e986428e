"""The precision of matrix products and convolutions in a step and in what is measured.

Parameters, sums and optimizer states are float32 in each of them.

- ``"float32"``: products in full float32, on accelerators too. Gradient descent at the edge of
  stability needs it.
- ``"tensorfloat32"``: on NVIDIA GPUs, factors have 10 bits after the leading one. Elsewhere what
  JAX makes of it: on a CPU, full float32.
- ``"bfloat16"``: factors are rounded to bfloat16, 7 bits after the leading one; products are summed
  in float32. The same on every device, so that a CPU can tell what it does to a curve.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.extend.core import Literal as Constant

Precision = Literal["float32", "tensorfloat32", "bfloat16"]
PRODUCTS = ("dot_general", "conv_general_dilated")
BFLOAT16 = (8, 7)  # bits of the exponent, and of the fraction


def in_precision(precision: Precision, function: Callable) -> Callable:
    """``function`` with its products in that precision; not to be differentiated afterwards."""
    setting = "float32" if precision == "bfloat16" else precision

    def computed(*arguments: Any) -> Any:
        with jax.default_matmul_precision(setting):
            if precision != "bfloat16":
                return function(*arguments)
            traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
            found = _evaluate(traced.jaxpr, traced.consts, jax.tree.leaves(arguments))
            return jax.tree.unflatten(jax.tree.structure(shapes), found)

    return computed


def _evaluate(program: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """The results of a program, equation by equation, with rounded factors."""
    values = dict(zip(program.constvars, constants, strict=True))
    values |= dict(zip(program.invars, arguments, strict=True))

    def value(place: Any) -> Any:
        return place.val if isinstance(place, Constant) else values[place]

    turned: dict[Any, Any] = {}  # matrices by the place of their transpose
    for equation in program.eqns:
        inputs, params = [value(place) for place in equation.invars], equation.params
        if "call_jaxpr" in params:  # a function with its own derivative, which is not needed now
            inner = params["call_jaxpr"]
            found = _evaluate(inner.jaxpr, inner.consts, inputs)
        else:
            if equation.primitive.name == "transpose" and inputs[0].ndim == 2:
                turned[equation.outvars[0]] = inputs[0]
            if equation.primitive.name == "dot_general":
                before = [
                    None if isinstance(p, Constant) else turned.get(p) for p in equation.invars
                ]
                inputs, params = _turned_back(inputs, before, params)
            if equation.primitive.name in PRODUCTS:
                inputs, params = _rounded(inputs, params)
            params = {name: _replaced(param) for name, param in params.items()}
            found = equation.primitive.bind(*inputs, **params)
            found = found if equation.primitive.multiple_results else [found]
        values |= dict(zip(equation.outvars, found, strict=True))
    return [value(place) for place in program.outvars]


def _turned_back(
    inputs: list[Any], before: list[Any], params: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """A product of matrices as they were before they were transposed.

    XLA copies a transposed factor in bfloat16 on a CPU, which takes longer than the product.
    """
    contracted, batched = params["dimension_numbers"]
    if any(batched) or any(len(dims) != 1 for dims in contracted):
        return inputs, params
    factors, dims = list(inputs), list(contracted)
    for i, matrix in enumerate(before):
        if matrix is not None:
            factors[i], dims[i] = matrix, (1 - contracted[i][0],)
    return factors, {**params, "dimension_numbers": (tuple(dims), batched)}


def _rounded(inputs: list[Any], params: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Factors of a product in bfloat16, which is summed in float32; of other types as they are.

    XLA multiplies numbers of bfloat16 on a CPU where they are plain matrices. Others are rounded
    and stay float32, in which the products of such numbers are exact.
    """
    if any(factor.dtype != jnp.float32 for factor in inputs):
        return inputs, params
    plain = all(factor.ndim == 2 for factor in inputs)
    if jax.default_backend() == "cpu" and not plain:
        return [jax.lax.reduce_precision(factor, *BFLOAT16) for factor in inputs], params
    factors = [factor.astype(jnp.bfloat16) for factor in inputs]
    return factors, {**params, "preferred_element_type": jnp.dtype(jnp.float32)}


def _replaced(param: Any) -> Any:
    """Programs inside an equation, such as a loop's body, with rounded factors as well."""
    if isinstance(param, ClosedJaxpr):
        return _rewritten(param)
    if isinstance(param, Jaxpr):
        return _rewritten(ClosedJaxpr(param, ())).jaxpr
    if type(param) is tuple:  # and no subclass: the branches of a condition
        return tuple(map(_replaced, param))
    return param


def _rewritten(program: ClosedJaxpr) -> ClosedJaxpr:
    def evaluated(*arguments: Any) -> list[Any]:
        return _evaluate(program.jaxpr, program.consts, arguments)

    return jax.make_jaxpr(evaluated)(*program.in_avals)
