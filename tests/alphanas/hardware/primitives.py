"""Functions that hold the primitives beyond the usual layers: order, indices that are data, running totals, bits, control flow."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

AT = np.array([[1, 2], [3, 4], [1, 0], [9, 9]], np.int32)
"""Pairs of indices, one used twice and one beyond any array here."""


def ordered(x: Any) -> Any:
    """Sorting along either axis, by one key and by two, and what is chosen by order. x: 4×37."""
    return (
        (jnp.sort(x, 0), jnp.argsort(jnp.where(x > 1, np.nan, x))),
        (lax.sort((jnp.floor(x), -x), num_keys=2)[1], lax.top_k(x, 5), lax.approx_max_k(x, 3)[1]),
        (jnp.argmin(x, 0), jnp.argmax((x * 3).astype(np.int32), 1), jnp.argmax(jnp.where(x > 1, np.nan, x), 1)),
    )


def running(x: Any) -> Any:
    """Running totals, forwards and backwards. x: 4×37."""
    some = jnp.floor(x * 4).astype(np.int32)
    return (
        (jnp.cumsum(x, 1), jnp.cumprod(x[:, :9], 1), lax.cummax(x[:, :5], 1), lax.cummin(x, 0, reverse=True)),
        lax.cumlogsumexp(x[:, :3], 1),
        (jnp.cumsum(some, 0), lax.cummax(some, 1, reverse=True)),
    )


def dynamic(x: Any, at: Any) -> Any:
    """Pieces found, and elements changed, at indices that are data; some lie outside. x: 4×37, at: 4×2."""
    rows, columns = at[:, 0], at[:, 1]
    return (
        (
            x[at[0, 0], columns] * 2,
            lax.dynamic_slice(x, (at[0, 0], at[0, 1]), (2, 9)),
            lax.dynamic_slice(x, (at[3, 0], 9), (1, 30)),
        ),
        (lax.dynamic_update_slice(x, x[:2, :5] * 2, (at[1, 0], at[1, 1])), x.at[rows].set(x[::-1]), x.at[rows].add(2.0)),
        (x.at[rows, columns].mul(3.0), x.at[:, columns].max(x[:, :4]), x.at[at[0, 0]].set(5.0), x.at[1:3, 4].set(0.0)),
        (x.at[rows].min(x[::-1]), x.at[rows].subtract(1.0), x.at[..., 2:4].add(7.0), x.at[rows].set(x[::-1], mode="clip")),
        (jnp.zeros((5, 7)).at[np.array([0, 2, 2])].add(x[:3, :7]), jax.vmap(lambda row, spot: row.at[spot].set(0.0))(x, columns)),
    )


def functions(x: Any) -> Any:
    """Functions of one number that are made of others."""
    return (
        (jnp.tan(x), jnp.sinh(x), jnp.cosh(x), jnp.arctan(x), jnp.arctan2(x, x[::-1]), jnp.arcsinh(x), jnp.cbrt(x)),
        (jnp.arcsin(x / 9), jnp.arccos(x / 9), jnp.arctanh(x / 10), jnp.arccosh(jnp.abs(x) + 1), lax.erf_inv(x / 10)),
        (jnp.round(x * 3), lax.round(x * 2), jnp.nextafter(x, -x), jnp.signbit(x)),
        (lax.reduce_precision(x, 8, 7), lax.reduce_precision(x, 8, 10), x.astype(np.float16).astype(np.float32)),
        (jnp.exp(x.astype(np.float16)).astype(np.float32), jnp.stack([x, -x]), jnp.unstack(x[:2] + 1)),
    )


def integers(k: Any) -> Any:
    """Bits of integers of several widths. k: 4×37 of int32."""
    short, small = k.astype(np.int16), k.astype(np.uint8)
    order = k.astype(np.float32) * np.where(np.arange(37) % 2, 1, -1)
    return (
        (lax.population_count(k), lax.clz(k), lax.population_count(small), lax.clz(short), jnp.sign(small)),
        (k << 2, k >> 1, lax.shift_right_logical(k, jnp.int32(3)), lax.shift_left(k, jnp.full_like(k, 40)), small >> 3),
        (lax.bitcast_convert_type(lax.bitcast_convert_type(k + 0.5, np.int32) + 1, np.float32), lax.reduce_xor(k, (1,))),
        tuple(primitive.bind(order, -order) for primitive in (lax.eq_to_p, lax.lt_to_p, lax.le_to_p)),
    )


def control(x: Any, at: Any) -> Any:
    """Conditions that data decides, loops of a known length. x: 4×37, at: 4×2."""
    return (
        lax.cond(x[0, 0] > 0, lambda v: v * 2, jnp.sin, x),
        lax.switch(at[0, 0], [lambda v: v, lambda v: v + 1, lambda v: v.sum() + v * 0], x),
        lax.switch(at[3, 0], [lambda v: v, lambda v: v + 1], x),
        lax.scan(lambda carry, row: (jnp.tanh(carry + row), carry * row), x[0], x),
        lax.scan(lambda carry, row: (carry + row[0], carry), x[0, 0], x, reverse=True),
        lax.fori_loop(0, 5, lambda n, v: v * 0.5 + n, x),
        lax.while_loop(lambda state: state[0] < 3, lambda state: (state[0] + 1, state[1] * 2), (0, x))[1],
        lax.map(lambda row: row @ row, x),
    )
