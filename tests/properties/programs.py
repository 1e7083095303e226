"""Programs of every family of primitives, for the soundness of what is inferred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.properties.oracle import Program

Array = Any
IMAGE = (2, 5, 7, 6)
NHWC = ("NHWC", "HWIO", "NHWC")


def conv(stride: int = 1, padding: Any = "SAME", groups: int = 1, **options: Any) -> Callable[..., Array]:
    """A 2-d convolution of (weights, x)."""

    def apply(w: Array, x: Array) -> Array:
        return lax.conv_general_dilated(
            x, w, (stride, stride), padding, dimension_numbers=NHWC, feature_group_count=groups, **options
        )

    return apply


def pool(reduce: Any, start: float, window: int, stride: int, padding: Any = "VALID") -> Callable[[Array], Array]:
    def apply(x: Array) -> Array:
        return lax.reduce_window(x, start, reduce, (1, window, window, 1), (1, stride, stride, 1), padding)

    return apply


def group_norm(x: Array, groups: int = 2) -> Array:
    parts = x.reshape(*x.shape[:-1], groups, -1)
    axes = (1, 2, 4)
    parts = (parts - parts.mean(axes, keepdims=True)) / jnp.sqrt(parts.var(axes, keepdims=True) + 1e-3)
    return parts.reshape(x.shape)


def layer_norm(x: Array) -> Array:
    return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-3)


def shuffle(x: Array, groups: int = 2) -> Array:
    return x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)


def gate(w: Array, x: Array) -> Array:
    """Squeeze and excite."""
    return x * jax.nn.sigmoid(x.mean((1, 2)) @ w)[:, None, None, :]


def inverted_residual(a: Array, d: Array, g: Array, b: Array, x: Array) -> Array:
    wide = jax.nn.silu(conv(groups=6)(d, jax.nn.silu(conv()(a, x))))
    return x + conv()(b, gate(g, wide))


def attention(w: Array, x: Array, mask: Any = None) -> Array:
    q, k, v = jnp.split(x @ w, 3, axis=-1)
    scores = jnp.einsum("bqc,bkc->bqk", q, k)
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    return jax.nn.softmax(scores) @ v


def heads(w: Array, x: Array) -> Array:
    """Attention in two heads that share the features."""
    q, k, v = (part.reshape(*part.shape[:-1], 2, -1) for part in jnp.split(x @ w, 3, axis=-1))
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*x.shape)


def recurrent(w: Array, u: Array, x: Array, *, reverse: bool = False, before: bool = False) -> Array:
    """A simple recurrent net over axis 1; its states after each step, or before it."""

    def step(h: Array, x_t: Array) -> tuple[Array, Array]:
        after = jnp.tanh(x_t @ w + h @ u)
        return after, h if before else after

    start = jnp.zeros((x.shape[0], w.shape[1]), x.dtype)
    return lax.scan(step, start, x.swapaxes(0, 1), reverse=reverse)[1].swapaxes(0, 1)


def unrolled(x: Array) -> Array:
    return lax.fori_loop(0, 3, lambda _, v: v + jnp.pad(v[:, 1:], ((0, 0), (0, 1), (0, 0), (0, 0))), x)


def halting(x: Array) -> Array:
    return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * 1.5), (0, x))[1]


@jax.custom_vjp
def doubled(x: Array) -> Array:
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))

E = jnp.exp
ELEMENTWISE = [
    Program("relu", jax.nn.relu, draws=6),
    Program("gelu", jax.nn.gelu),
    Program("gelu exact", lambda x: jax.nn.gelu(x, approximate=False)),
    Program("silu", jax.nn.silu),
    Program("clip", lambda x: jnp.clip(x, -1, 1), draws=6),
    Program("where on sign", lambda x: jnp.where(x > 0, x, 2 * x)),
    Program("scalar power", lambda x: x**3),
    Program("sum of itself", lambda x: x + x),
    Program("times its mean", lambda x: x * x.mean()),
    Program("bias", lambda b, x: x + b, params=((6,),)),
    Program("row vector", lambda x: x + x[:, :, :1]),
    Program("outer", lambda x: x[:, :, None] * x[:, None, :], (2, 5)),
    Program("one after the other", lambda x: lax.logistic(lax.erfc(lax.rsqrt(jnp.sqrt(jnp.log(1 + E(x))))))),
    Program("parts", lambda x: jnp.abs(lax.complex(x[..., :3], x[..., 3:]))),
    Program("chosen by a constant", lambda x: jnp.where(np.arange(3) > 0, x[..., :3], x[..., 3:])),
    Program("complex", lambda x: jnp.abs(lax.complex(x, 2 * x))),
    Program("custom gradient", doubled, reverse=True),
    Program("rematerialized", jax.checkpoint(lambda x: jnp.sin(jnp.cos(x)))),
]
CONTRACTION = [
    Program("dense", lambda w, x: x @ w, params=((6, 4),)),
    Program("dense on axis 1", lambda w, x: jnp.einsum("bhwc,hk->bkwc", x, w), params=((5, 4),)),
    Program("bottleneck", lambda a, b, x: (x @ a) @ b, params=((6, 2), (2, 6))),
    Program("two axes", lambda w, x: jnp.einsum("bhwc,wck->bhk", x, w), params=((7, 6, 3),)),
    Program("gram", lambda x: jnp.einsum("bic,bjc->bij", x, x), (2, 5, 4)),
    Program("attention", attention, (2, 6, 4), ((4, 12),)),
    Program("two heads", heads, (2, 5, 4), ((4, 12),)),
    Program("causal attention", lambda w, x: attention(w, x, np.tri(6, dtype=bool)), (2, 6, 4), ((4, 12),)),
    Program("banded attention", lambda w, x: attention(w, x, np.tri(6, k=1, dtype=bool) & ~np.tri(6, k=-2, dtype=bool)),
            (2, 6, 4), ((4, 12),)),
    Program("masked dense", lambda w, x: x @ (w * np.tri(5).T), (2, 5), ((5, 5),)),
    Program("masked by a bias", lambda w, x: jax.nn.softmax(x[:, :, None] * w + np.where(np.tri(5), 0, -1e9)) @ x[..., None],
            (2, 5), ((5, 5),)),
    Program("block-diagonal dense", lambda w, x: jnp.einsum("bgc,gcd->bgd", x.reshape(2, 3, 2), w).reshape(2, -1), (2, 6),
            ((3, 2, 4),)),
    Program("kronecker mix", lambda a, x: jnp.einsum("bij,ik->bkj", x.reshape(2, 3, 4), a).reshape(2, 12), (2, 12), ((3, 3),)),
    Program("solve", lambda x: jnp.linalg.solve(x + 4 * jnp.eye(4), x[..., :2]), (2, 4, 4)),
    Program("inverse", lambda x: jnp.linalg.inv(x + 4 * jnp.eye(4)), (2, 4, 4)),
    Program("cholesky", lambda x: jnp.linalg.cholesky(jnp.einsum("bij,bkj->bik", x, x) + jnp.eye(4)), (2, 4, 4)),
    Program("triangular solve by data", lambda w, x: jax.scipy.linalg.solve_triangular(x + 4 * jnp.eye(4), w), (2, 4, 4),
            ((2, 4, 3),)),
    Program("triangular solve", lambda w, x: jax.scipy.linalg.solve_triangular(w + 4 * jnp.eye(4), x), (4, 3), ((4, 4),)),
]  # fmt: skip
REDUCTION = [
    Program("mean of axes", lambda x: x.mean((1, 2))),
    Program("mean kept", lambda x: x.mean((1, 2), keepdims=True)),
    Program("max of axis", lambda x: x.max(1), draws=24),
    Program("sum of all", lambda x: x.sum()),
    Program("product", lambda x: x.prod(2)),
    Program("softmax", jax.nn.softmax, (2, 3, 6)),
    Program("softmax on axis 1", lambda x: jax.nn.softmax(x, axis=1), (2, 5, 3)),
    Program("log-sum-exp", lambda x: jax.nn.logsumexp(x, axis=-1)),
    Program("layer norm", layer_norm, (2, 3, 6)),
    Program("group norm", group_norm, (2, 3, 4, 6)),
    Program("group norm of 3", lambda x: group_norm(x, 3), (2, 3, 4, 6)),
    Program("squeeze and excite", gate, (2, 3, 4, 6), ((6, 6),)),
    Program("cumulative sum", lambda x: jnp.cumsum(x, 1)),
    Program("reversed cumulative sum", lambda x: lax.cumsum(x, 1, reverse=True)),
    Program("cumulative log-sum-exp", lambda x: lax.cumlogsumexp(x, 2)),
    Program("cumulative twice", lambda x: jnp.cumsum(jnp.cumsum(x, 1), 1)),
    Program("cumulative both ways", lambda x: lax.cumsum(jnp.cumsum(x, 1), 1, reverse=True)),
    Program("cumulative max", lambda x: lax.cummax(x, 1), draws=40),
    Program("sort", lambda x: jnp.sort(x, 1), (2, 4, 3), draws=60),
    Program("top k", lambda x: lax.top_k(x, 2)[0], (2, 4), draws=40),
    Program("variance", lambda x: x.var(1)),
    Program("fourier", lambda x: jnp.real(jnp.fft.fft(x, axis=-1)), (2, 3, 5)),
]
LAYOUT = [
    Program("flatten", lambda x: x.reshape(2, -1)),
    Program("flatten all", lambda x: x.reshape(-1)),
    Program("split channels", lambda x: x.reshape(2, 5, 7, 2, 3)),
    Program("merge space", lambda x: x.reshape(2, 35, 6)),
    Program("split and merge", lambda x: x.reshape(2, 35, 6).reshape(2, 5, 7, 6)),
    Program("uneven reshape", lambda x: x.reshape(2, 7, 5, 6), inexact="5×7 as 7×5 shares no factor"),
    Program("half-even reshape", lambda x: x.reshape(4, 9), (6, 6), inexact="rows of 9 start in the middle of rows of 6"),
    Program("transpose", lambda x: x.transpose(0, 2, 1, 3)),
    Program("transpose merged", lambda x: x.transpose(0, 2, 1, 3).reshape(2, 35, 6)),
    Program("slice", lambda x: x[:, 1:4]),
    Program("strided slice", lambda x: x[:, ::2, 1::3]),
    Program("reversed", lambda x: x[:, ::-1]),
    Program("reversed strided", lambda x: x[:, ::-2]),
    Program("difference", lambda x: x[:, 1:] - x[:, :-1]),
    Program("plus flipped", lambda x: x + x[:, ::-1]),
    Program("plus transposed", lambda x: x + x.swapaxes(1, 2), (2, 5, 5, 3)),
    Program("roll", lambda x: jnp.roll(x, 2, 1)),
    Program("plus rolled", lambda x: x + jnp.roll(x, 2, 1)),
    Program("roll two axes", lambda x: jnp.roll(x, (1, 2), (1, 2))),
    Program("pad", lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0)))),
    Program("pad reflected", lambda x: jnp.pad(x, ((0, 0), (2, 2), (0, 0), (0, 0)), mode="reflect")),
    Program("pad wrapped", lambda x: jnp.pad(x, ((0, 0), (2, 2), (0, 0), (0, 0)), mode="wrap")),
    Program("crop by padding", lambda x: lax.pad(x, 0.0, ((0, 0, 0), (-1, -1, 0), (0, 0, 0), (0, 0, 0)))),
    Program("spread", lambda x: lax.pad(x, 0.0, ((0, 0, 0), (1, 1, 1), (0, 0, 0), (0, 0, 0)))),
    Program("concatenate", lambda x: jnp.concatenate([x, E(x)], -1)),
    Program("concatenate with a mean", lambda x: jnp.concatenate([x, x.mean((1, 2), keepdims=True) + jnp.zeros(x.shape)], -1)),
    Program("concatenate constants", lambda w, x: jnp.concatenate([w, x], 1), (2, 5, 3), ((2, 2, 3),)),
    Program("swap halves", lambda x: jnp.concatenate([x[..., 3:], x[..., :3]], -1)),
    Program("rotary", lambda x: x * 2 + jnp.concatenate([-x[..., 3:], x[..., :3]], -1)),
    Program("space to depth", lambda x: x.reshape(2, 3, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 3, 4, 12), (2, 6, 8, 3)),
    Program("depth to space", lambda x: x.reshape(2, 3, 4, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 6, 8, 3), (2, 3, 4, 12)),
    Program("channel shuffle", shuffle),
    Program("channel shuffle twice", lambda x: shuffle(shuffle(x), 3)),
    Program("shuffle of 4", lambda x: shuffle(x, 4), (2, 3, 12)),
    Program("repeat", lambda x: jnp.repeat(x, 2, 1)),
    Program("tile", lambda x: jnp.tile(x, (1, 2, 1, 1))),
    Program("repeat and mean", lambda x: jnp.repeat(x, 2, 1).reshape(2, 5, 2, 7, 6).mean(2)),
    Program("split and add", lambda x: sum(jnp.split(x, 2, -1))),
    Program("stack", lambda x: jnp.stack([x, 2 * x], 1), (2, 4, 3)),
    Program("one position", lambda x: x[:, 0]),
    Program("size one", lambda x: x + 1, (2, 1, 3)),
    Program("broadcast", lambda x: jnp.broadcast_to(x[:, None], (2, 4, 3)), (2, 3)),
]
INDEXING = [
    Program("take constants", lambda x: x[:, jnp.array([0, 2, 4])]),
    Program("take unevenly", lambda x: x[:, jnp.array([0, 1, 4])], inexact="constant indices out of step are covered by a range"),
    Program("take one", lambda x: jnp.take(x, 3, axis=1)),
    Program("take strided", lambda x: jnp.take(x, jnp.arange(0, 7, 2), axis=2)),
    Program("diagonal", lambda x: jnp.diagonal(x, axis1=1, axis2=2), (2, 4, 4)),
    Program("dynamic slice", lambda x: lax.dynamic_slice_in_dim(x, 1, 3, 1)),
    Program("clamped dynamic slice", lambda x: lax.dynamic_slice_in_dim(x, 9, 3, 1)),
    Program("update", lambda x: x.at[:, 1:3].set(0.0)),
    Program("update in place", lambda x: lax.dynamic_update_slice(2 * x, x[:, :2] ** 2, (0, 3, 0, 0))),
    Program("add at", lambda x: x.at[:, 1].add(x[:, 3]), (2, 5, 3)),
    Program("by its argmax", lambda x: jnp.take_along_axis(x, jnp.argmax(x, 1, keepdims=True), 1), (2, 4, 3), draws=40),
    Program("embedding of one-hot", lambda w, x: jax.nn.one_hot(jnp.array([0, 2]), 3) @ w * x[:, None], (2, 1), ((3, 1),)),
]
WINDOW = [
    Program("conv 3", conv(), params=((3, 3, 6, 4),)),
    Program("conv 1", conv(), params=((1, 1, 6, 4),)),
    Program("conv 5 valid", conv(padding="VALID"), params=((5, 3, 6, 4),)),
    Program("conv stride 2", conv(2), (2, 8, 7, 3), ((3, 3, 3, 4),)),
    Program("conv 1 stride 2", conv(2), (2, 8, 7, 3), ((1, 1, 3, 4),)),
    Program("conv dilated", conv(rhs_dilation=(2, 2)), (2, 8, 7, 3), ((3, 3, 3, 4),)),
    Program("conv strided and dilated", conv(3, rhs_dilation=(2, 2)), (2, 11, 7, 2), ((3, 3, 2, 3),)),
    Program("conv of even kernel", conv(), params=((2, 4, 6, 4),)),
    Program("conv padded by hand", conv(padding=((2, 0), (0, 3))), params=((3, 3, 6, 4),)),
    Program("depthwise", conv(groups=6), params=((3, 3, 1, 6),)),
    Program("depthwise multiplied", conv(groups=6), params=((3, 3, 1, 12),)),
    Program("grouped", conv(groups=2), params=((3, 3, 3, 4),)),
    Program("transposed conv", lambda w, x: lax.conv_transpose(x, w, (2, 2), "SAME"), (2, 4, 5, 3), ((3, 3, 3, 2),)),
    Program("transposed conv 4", lambda w, x: lax.conv_transpose(x, w, (2, 2), "SAME"), (2, 4, 5, 3), ((4, 4, 3, 2),)),
    Program("transposed conv stride 3", lambda w, x: lax.conv_transpose(x, w, (3, 3), "VALID"), (2, 4, 3, 2), ((2, 2, 2, 2),)),
    Program("transposed conv dilated", lambda w, x: lax.conv_transpose(x, w, (2, 2), "SAME", rhs_dilation=(2, 2)), (2, 4, 5, 2),
            ((3, 3, 2, 2),)),
    Program("batch groups", lambda w, x: conv(padding="VALID")(w, x) * 0 + conv(padding="VALID", batch_group_count=2)(w, x)[:1],
            (2, 4, 4, 3), ((2, 2, 3, 2),), inexact="times zero is no dependence that a Jacobian shows"),
    Program("conv in batch groups", conv(padding="VALID", batch_group_count=2), (4, 4, 4, 3), ((2, 2, 3, 2),)),
    Program("conv 1-d", lambda w, x: lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")),
            (2, 7, 3), ((3, 3, 4),)),
    Program("conv NCHW", lambda w, x: lax.conv(x, w, (1, 1), "SAME"), (2, 3, 5, 6), ((4, 3, 3, 3),)),
    Program("data as kernel", lambda w, x: conv()(x, w), (3, 3, 2, 4), ((2, 5, 5, 2),)),
    Program("two convs", lambda a, b, x: conv()(b, conv()(a, x)), (1, 9, 9, 2), ((3, 3, 2, 3), (3, 3, 3, 2))),
    Program("four convs cover the axis", lambda a, x: conv()(a, conv()(a, conv()(a, conv()(a, x)))), (1, 9, 9, 2), ((3, 3, 2, 2),)),
    Program("three convs do not", lambda a, x: conv()(a, conv()(a, conv()(a, x))), (1, 9, 9, 2), ((3, 3, 2, 2),)),
    Program("conv on pooled", lambda a, x: conv()(a, pool(lax.add, 0.0, 2, 2)(x)), (1, 12, 8, 2), ((3, 3, 2, 2),)),
    Program("conv on strided", lambda a, b, x: conv()(b, conv(2)(a, x)), (1, 13, 8, 2), ((1, 1, 2, 2), (3, 3, 2, 2))),
    Program("conv on upsampled", lambda a, x: conv()(a, jnp.repeat(x, 2, 1)), (1, 5, 4, 2), ((3, 3, 2, 2),)),
    Program("upsampled strided conv", lambda a, x: jnp.repeat(conv(3)(a, x), 2, 1), (1, 10, 4, 2), ((3, 3, 2, 2),)),
    Program("pool of upsampled", lambda x: pool(lax.add, 0.0, 2, 2)(jnp.repeat(x, 2, 1)), (1, 5, 6, 2)),
    Program("conv on spread", lambda a, x: conv()(a, lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0)))), (1, 5, 4, 2),
            ((3, 3, 2, 2),)),
    Program("average pool", pool(lax.add, 0.0, 2, 2), (2, 6, 8, 3)),
    Program("average pool overlapping", pool(lax.add, 0.0, 3, 1, "SAME"), (2, 6, 5, 2)),
    Program("max pool", pool(lax.max, -jnp.inf, 2, 2), (2, 6, 8, 3), draws=24),
    Program("max pool overlapping", pool(lax.max, -jnp.inf, 3, 2, "SAME"), (1, 7, 7, 2), draws=60),
    Program("min pool", pool(lax.min, jnp.inf, 2, 2), (2, 6, 8, 3), draws=24),
    Program("residual block", lambda a, b, x: jax.nn.relu(x + conv()(b, jax.nn.relu(conv()(a, x)))), (1, 8, 8, 3),
            ((3, 3, 3, 3), (3, 3, 3, 3)), draws=12),
    Program("inverted residual", inverted_residual,
            (1, 7, 7, 3), ((1, 1, 3, 6), (3, 3, 1, 6), (6, 6), (1, 1, 6, 3))),
    Program("shuffled groups", lambda a, b, x: conv(groups=2)(b, shuffle(conv(groups=2)(a, x))), (1, 3, 4, 8),
            ((1, 1, 4, 8), (1, 1, 4, 8))),
    Program("groups unshuffled", lambda a, b, x: conv(groups=2)(b, conv(groups=2)(a, x)), (1, 3, 4, 8),
            ((1, 1, 4, 8), (1, 1, 4, 8))),
    Program("conv of flipped sum", lambda a, x: conv()(a, x + x[:, ::-1]), (1, 9, 4, 2), ((3, 3, 2, 2),)),
    Program("inception", lambda a, b, x: jnp.concatenate([conv()(a, x), conv()(b, x), x], -1), (1, 7, 7, 2),
            ((1, 1, 2, 2), (3, 3, 2, 3))),
    Program("dense block", lambda a, b, x: conv()(b, jnp.concatenate([x, conv()(a, x)], -1)), (1, 9, 4, 2),
            ((3, 3, 2, 2), (3, 3, 4, 2))),
    Program("grouped over a concatenation", lambda a, x: conv(groups=2)(a, jnp.concatenate([x, x + x.mean(1, keepdims=True)], -1)),
            (1, 4, 4, 2), ((1, 1, 2, 4),)),
    Program("windowed attention", lambda w, x: attention(w, x.reshape(4, 3, 4)).reshape(2, 6, 4), (2, 6, 4), ((4, 12),)),
    Program("mixer block", lambda a, b, x: x + jnp.einsum("btc,tu->buc", jax.nn.gelu(x @ b), a), (2, 5, 4), ((5, 5), (4, 4))),
]  # fmt: skip
CONTROL = [
    Program("scan", recurrent, (2, 5, 3), ((3, 4), (4, 4))),
    Program("scan backwards", lambda w, u, x: recurrent(w, u, x, reverse=True), (2, 5, 3), ((3, 4), (4, 4))),
    Program("scan and what it hands on", lambda w, u, x: x @ w + recurrent(w, u, x, before=True), (2, 5, 3), ((3, 4), (4, 4))),
    Program("map", lambda x: lax.map(lambda row: row * row.sum(), x), (3, 4)),
    Program("fixed loop", unrolled),
    Program("while", halting, (2, 3)),
    Program("cond", lambda x: lax.cond(x[0, 0] > 0, lambda v: v, lambda v: v[::-1], x), (4, 3), draws=12,
            inexact="the element that decides has no gradient"),
    Program("switch", lambda x: lax.switch(1, [lambda v: v, lambda v: 2 * v], x), (4, 3)),
    Program("vmapped", jax.vmap(lambda x: x @ x.T), (2, 4, 3)),
    Program("gradient", jax.grad(lambda x: (jnp.sin(x) * x.sum()).sum()), (3, 4)),
    Program("gradient of two uses", jax.grad(lambda x: (x**3).sum() + (x * x[::-1]).sum()), (4, 3)),
    Program("jitted", jax.jit(lambda x: x.sum(0)), (3, 4)),
]  # fmt: skip

FAMILIES = {
    "elementwise": ELEMENTWISE,
    "contraction": CONTRACTION,
    "reduction": REDUCTION,
    "layout": LAYOUT,
    "indexing": INDEXING,
    "window": WINDOW,
    "control": CONTROL,
}
PROGRAMS = [program for family in FAMILIES.values() for program in family]
