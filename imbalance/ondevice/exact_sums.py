"""Sums of float32 numbers without rounding errors, by integers and by pairs of floats.

Accelerators compute in float32, in which a running sum of 10^8 losses drifts by several per cent
and a count stops at 2^24. Here the terms of a sum are split into integers, which add without
rounding in any order and on any device. Sums are stored as pairs ``high + low`` with 48 bits.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Pair = tuple[jax.Array, jax.Array]  # high + low, float32 each
KEPT_BITS = 40  # bits kept of each term, from the leading bit of the largest term of its sum


class Reduction(NamedTuple):
    """Assignment of terms to sums; lists hold one array per quantity to be summed."""

    total: Callable[[list[jax.Array]], list[jax.Array]]  # terms [...] to their sums [sum]
    largest: Callable[[list[jax.Array]], list[jax.Array]]  # terms >= 0 to their maxima [sum]
    spread: Callable[[list[jax.Array]], list[jax.Array]]  # numbers [sum] to the terms of each sum
    number: int  # largest number of terms in a sum
    axis_name: Any  # mesh axes whose devices hold parts of the sums; None: a single device

    def whole(self, terms: list[jax.Array]) -> list[jax.Array]:
        """Sums of int32 terms on all devices, int32."""
        sums = self.total(terms)
        return sums if self.axis_name is None else jax.lax.psum(sums, self.axis_name)


def exact_sums(terms: list[Pair], into: Reduction) -> list[Pair]:
    """Sums of pairs, accurate to 2^-40 of the largest term of each sum.

    Every term is split into integer digits that share the exponent of the largest term in its sum.
    Digits are short enough for an int32 to hold their sum. Integers add without rounding, in any
    order and on any device.

    Raises:
      ValueError: If there are more than 2^24 terms in a sum, on all devices together.
    """
    axes = into.axis_name
    number = into.number * (1 if axes is None else jax.lax.psum(1, axes))
    if number > 2**24:
        raise ValueError(f"{number} examples in one update; give at most 2^24 and update again.")
    bits = 30 - math.ceil(math.log2(max(number, 1)))  # 2 number (2^bits - 1) < 2^31
    places = math.ceil(KEPT_BITS / bits)
    largest = into.largest([jnp.abs(high) for high, _ in terms])
    largest = largest if axes is None else jax.lax.pmax(largest, axes)
    above = [_power_above(magnitude) for magnitude in largest]
    rest = [  # in (-1, 1)
        (high / power, low / power)
        for (high, low), power in zip(terms, into.spread(above), strict=True)
    ]
    digits = []
    for _ in range(places):
        rest = [scaled(pair, 2.0**bits) for pair in rest]
        whole = [(jnp.trunc(high), jnp.trunc(low)) for high, low in rest]
        digits += [high.astype(jnp.int32) + low.astype(jnp.int32) for high, low in whole]
        rest = [jax.tree.map(jnp.subtract, *both) for both in zip(rest, whole, strict=True)]
    sums = [pair_of(whole) for whole in into.whole(digits)]
    found = sums[-len(terms) :]
    for place in range(places - 2, -1, -1):  # Horner's rule
        upper = sums[place * len(terms) : (place + 1) * len(terms)]
        found = [add(u, scaled(f, 2.0**-bits)) for u, f in zip(upper, found, strict=True)]
    return [scaled(pair, power * 2.0**-bits) for pair, power in zip(found, above, strict=True)]


def _power_above(magnitude: jax.Array) -> jax.Array:
    """A power of two above float32 ``magnitude``, and at least 2^-100."""
    bits = jax.lax.bitcast_convert_type(jnp.maximum(magnitude, 2.0**-101), jnp.int32)
    return 2 * jax.lax.bitcast_convert_type(bits & 0x7F800000, jnp.float32)  # its exponent alone


def pair_of(whole: jax.Array) -> Pair:
    """An int32 as an exact pair."""
    upper, lower = whole >> 16 << 16, whole & 0xFFFF
    return _quick_two_sum(upper.astype(jnp.float32), lower.astype(jnp.float32))


def scaled(a: Pair, power: jax.Array | float) -> Pair:
    """A pair times a power of two."""
    return a[0] * power, a[1] * power


def add(a: Pair, b: Pair) -> Pair:
    """The sum of two pairs, accurate to about 2^-47."""
    high, error = _two_sum(a[0], b[0])
    low, rest = _two_sum(a[1], b[1])
    high, low = _quick_two_sum(high, error + low)
    return _quick_two_sum(high, low + rest)


def _two_sum(a: jax.Array, b: jax.Array) -> Pair:
    """``a + b`` exactly: the rounded sum and its error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _quick_two_sum(a: jax.Array, b: jax.Array) -> Pair:
    """``a + b`` exactly, where ``|a| >= |b|`` or a is 0 (Dekker 1971)."""
    total = a + b
    return total, b - (total - a)


def product(a: jax.Array, b: jax.Array) -> Pair:
    """``a b`` exactly: the rounded product and its error (Dekker 1971)."""

    def split(x: jax.Array) -> Pair:
        c = 4097.0 * x  # 2^12 + 1: the halves have 12 bits, so their products are exact
        big = c - (c - x)
        return big, x - big

    high = a * b
    (a1, a2), (b1, b2) = split(a), split(b)
    return high, ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2
