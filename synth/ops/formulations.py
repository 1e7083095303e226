"""Convolutions in training: equal ways to compute them, of which XLA runs some 50 times slower than others on CPUs.

A convolution is linear in its input and in its kernel, so that a training step computes three products: the output, the slope for
the input and the slope for the kernel. Each has a table of formulations that compute the same to rounding, and a `Plan` names one
of each. `fixed` is the plan of a shape where nothing was measured: a rule, the same on every machine. Who has measured says so:

    with using({question.key: plan, …}):
        …                                        # what is traced inside computes by these plans

Formulations: native (XLA's grouped convolution), dense (a dense one with a block-diagonal kernel), split (a dense one for each
group), products (a batched matrix product for each place of the window), shifts (shifted multiply-adds), sums and joint_sums (a
sum for each place of the window, apart or all in one pass), crossed (one matrix product for the whole window), phases (a
convolution without a stride for each rest that the stride leaves), direct (machine code of our own, where there is a C compiler).
Attention has native, which keeps all scores in memory, and direct, which keeps none.
"""

from __future__ import annotations

import functools
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from synth import native

LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


@dataclass(frozen=True)
class Question:
    """A grouped convolution on an input: shapes batch first, kernel as HWIO, stride and dilation of each axis, padding as pairs."""

    input: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    groups: int
    dtype: str = "float32"

    @property
    def key(self) -> str:
        """The question as text; the batch is left out, since a plan hangs little on it."""
        return json.dumps([self.input[1:], self.kernel, self.stride, self.dilation, self.padding, self.groups, self.dtype])

    @property
    def window(self) -> tuple[int, ...]:
        """The kernel's spatial sides."""
        return self.kernel[:-2]

    @property
    def output(self) -> tuple[int, ...]:
        """The output's shape."""
        places = zip(self.input[1:-1], self.window, self.stride, self.dilation, self.padding, strict=True)
        return (self.input[0], *((n + sum(p) - (k - 1) * d - 1) // s + 1 for n, k, s, d, p in places), self.kernel[-1])

    @property
    def macs(self) -> int:
        """Multiply-adds of the output."""
        return math.prod(self.output) * math.prod(self.kernel[:-1])

    @property
    def depthwise(self) -> bool:
        """Whether every group is one input channel."""
        return self.kernel[-2] == 1 < self.groups


@dataclass(frozen=True)
class AttentionQuestion:
    """Softmax attention: sizes of queries (batch, queries, heads, features), keys (…, keys, …) and values (…, keys, …, outputs)."""

    batch: int
    queries: int
    keys: int
    heads: int
    features: int
    outputs: int
    causal: bool
    dtype: str = "float32"

    @property
    def key(self) -> str:
        """The question as text; the batch is left out, as of a convolution."""
        sizes = [self.queries, self.keys, self.heads, self.features, self.outputs]
        return json.dumps(["attention", *sizes, self.causal, self.dtype])

    @property
    def macs(self) -> int:
        """Multiply-adds of scores and means."""
        return self.batch * self.heads * self.queries * self.keys * (self.features + self.outputs)


@dataclass(frozen=True)
class Plan:
    """The formulations of the output, of the slope for the input and of the slope for the kernel; of attention one name for all."""

    forward: str
    to_input: str
    to_kernel: str


class Formulated(ABC):
    """An op that has several equal formulations in training."""

    @abstractmethod
    def question(self, *inputs: tuple[int, ...], dtype: str) -> Question | AttentionQuestion:
        """What is to be planned for inputs of these shapes."""


Product = Callable[[Question, jax.Array, jax.Array], jax.Array]


def _native(q: Question, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _convolved(q, x, kernel, q.groups)


def _convolved(q: Question, x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=q.stride,
        padding=q.padding,
        rhs_dilation=q.dilation,
        dimension_numbers=LAYOUTS[len(q.window)],
        feature_group_count=groups,
    )


def _dense(q: Question, x: jax.Array, kernel: jax.Array) -> jax.Array:
    *window, channels, features = kernel.shape
    parts = kernel.reshape(*window, 1, channels, q.groups, features // q.groups)
    mask = jnp.eye(q.groups, dtype=kernel.dtype).reshape(q.groups, 1, q.groups, 1)
    return _convolved(q, x, (parts * mask).reshape(*window, q.groups * channels, features), 1)


def _split(q: Question, x: jax.Array, kernel: jax.Array) -> jax.Array:
    parts = zip(jnp.split(x, q.groups, -1), jnp.split(kernel, q.groups, -1), strict=True)
    return jnp.concatenate([_convolved(q, part, piece, 1) for part, piece in parts], -1)


def _places(q: Question, x: jax.Array) -> Iterator[tuple[tuple[int, ...], jax.Array]]:
    """(place in the window, the input as that place sees it)."""
    padded = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in q.padding), (0, 0, 0)])
    sizes = q.output[1:-1]
    for corner in np.ndindex(*q.window):
        spans = [
            slice(at * d, at * d + (n - 1) * s + 1, s) for at, d, n, s in zip(corner, q.dilation, sizes, q.stride, strict=True)
        ]
        yield corner, padded[(slice(None), *spans, slice(None))]


def _products(q: Question, x: jax.Array, kernel: jax.Array) -> jax.Array:
    channels, features = q.kernel[-2:]
    total = jnp.zeros((), x.dtype)
    for corner, seen in _places(q, x):
        rows = seen.reshape(-1, q.groups, channels)
        total = total + jnp.einsum("ngc,cgf->ngf", rows, kernel[corner].reshape(channels, q.groups, features // q.groups))
    return total.reshape(q.output)


def _repeated(q: Question, x: jax.Array) -> jax.Array:
    """Every channel as often as it has outputs."""
    times = q.kernel[-1] // q.groups
    return jnp.repeat(x, times, -1) if times > 1 else x


def _shifts(q: Question, x: jax.Array, kernel: jax.Array) -> jax.Array:
    total = jnp.zeros((), x.dtype)
    for corner, seen in _places(q, x):
        total = total + _repeated(q, seen) * kernel[(*corner, 0)]
    return total


def _shifted_back(q: Question, slope: jax.Array, kernel: jax.Array) -> jax.Array:
    """The slope for the input of a depthwise convolution: shifted multiply-adds of the output's slope, spread by the stride."""
    pads = []
    for n, m, k, s, d, (low, _) in zip(q.input[1:-1], q.output[1:-1], q.window, q.stride, q.dilation, q.padding, strict=True):
        before = (k - 1) * d - low
        pads.append((before, n + (k - 1) * d - before - ((m - 1) * s + 1), s - 1))
    spread = jax.lax.pad(slope, jnp.zeros((), slope.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    total = jnp.zeros((), slope.dtype)
    for corner in np.ndindex(*q.window):
        places = zip(corner, q.window, q.dilation, q.input[1:-1], strict=True)
        spans = [slice((k - 1 - at) * d, (k - 1 - at) * d + n) for at, k, d, n in places]
        total = total + spread[(slice(None), *spans, slice(None))] * kernel[(*corner, 0)]
    return total.reshape(*q.input, -1).sum(-1) if q.kernel[-1] > q.groups else total


def _sums(q: Question, x: jax.Array, slope: jax.Array) -> jax.Array:
    """The slope for the kernel of a depthwise convolution: one sum over batch and places for each place of the window."""
    sums = [(_repeated(q, seen) * slope).sum(range(slope.ndim - 1)) for _, seen in _places(q, x)]
    return jnp.stack(sums).reshape(q.kernel)


def _joint_sums(q: Question, x: jax.Array, slope: jax.Array) -> jax.Array:
    """The same sums in one pass over the input and the slope."""
    parts = tuple(_repeated(q, seen) * slope for _, seen in _places(q, x))
    zeros = tuple(jnp.zeros((), slope.dtype) for _ in parts)

    def added(left: tuple[jax.Array, ...], right: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(a + b for a, b in zip(left, right, strict=True))

    return jnp.stack(jax.lax.reduce(parts, zeros, added, tuple(range(slope.ndim - 1)))).reshape(q.kernel)


def _crossed(q: Question, x: jax.Array, slope: jax.Array) -> jax.Array:
    """The slope for the kernel of a dense convolution of stride 1, as one matrix product without waste: places of the window along
    the last axis are shifts of the output's slope, those along the axes before are shifts of the input, and each pair is a place.
    """
    *window, side = q.window
    width, count, gap, low = q.input[-2], q.output[-2], q.dilation[-1], q.padding[-1][0]
    shifts = [(place * gap - low, width - count - (place * gap - low), 0) for place in range(side)]
    still, zero = [(0, 0, 0)] * (slope.ndim - 2), jnp.zeros((), slope.dtype)
    columns = _side_by_side([jax.lax.pad(slope, zero, [*still, shift, (0, 0, 0)]) for shift in shifts])
    rows = _side_by_side([seen for _, seen in _places(_without_last(q), x)])
    product = rows.reshape(-1, rows.shape[-1]).T @ columns.reshape(-1, columns.shape[-1])
    return jnp.moveaxis(product.reshape(*window, x.shape[-1], side, slope.shape[-1]), -2, -3)


def _without_last(q: Question) -> Question:
    """The question without a window along the last axis, where each position sees itself."""
    return replace(
        q,
        kernel=(*q.window[:-1], 1, *q.kernel[-2:]),
        stride=(*q.stride[:-1], 1),
        dilation=(*q.dilation[:-1], 1),
        padding=(*q.padding[:-1], (0, 0)),
    )


def _side_by_side(parts: Sequence[jax.Array]) -> jax.Array:
    """Arrays next to one another along their features, or the only one as it is."""
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)


def _phases(q: Question, slope: jax.Array, kernel: jax.Array) -> jax.Array:
    """The slope for the input of a dense, strided convolution without the zeros between the slopes: the places of the input that
    leave the same rest by the stride see the same part of the window, so that each rest is a convolution without a stride.
    """
    rank = len(q.window)
    most = [-(-side // step) for side, step in zip(q.input[1:-1], q.stride, strict=True)]
    parts = []
    for rests in np.ndindex(*q.stride):
        pads, phase = [], kernel
        for axis, (rest, side, step, (low, _)) in enumerate(zip(rests, q.output[1:-1], q.stride, q.padding, strict=True)):
            first = (rest + low) % step
            phase = jax.lax.slice_in_dim(phase, min(first, phase.shape[axis]), None, step, axis)
            before = phase.shape[axis] - 1 - (rest + low - first) // step
            pads.append((before, most[axis] + phase.shape[axis] - 1 - side - before, 0))
        shape = (q.input[0], *most, q.input[-1])
        if 0 in phase.shape:
            parts.append(jnp.zeros(shape, slope.dtype))
            continue
        seen = jax.lax.pad(slope, jnp.zeros((), slope.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
        turned = jnp.flip(phase, range(rank)).swapaxes(-1, -2)
        parts.append(jax.lax.conv_general_dilated(seen, turned, (1,) * rank, "VALID", dimension_numbers=LAYOUTS[rank]))
    together = jnp.stack(parts).reshape(*q.stride, q.input[0], *most, q.input[-1])
    pairs = [axis for place in range(rank) for axis in (rank + 1 + place, place)]
    whole = [count * step for count, step in zip(most, q.stride, strict=True)]
    full = together.transpose(rank, *pairs, 2 * rank + 1).reshape(q.input[0], *whole, q.input[-1])
    return full[(slice(None), *(slice(side) for side in q.input[1:-1]))]


def _geometry(q: Question) -> np.ndarray:
    """The question as native code reads it: over two axes, of which the first may be of one position."""
    rank = len(q.window)

    def pair(numbers: Sequence[int], alone: int = 1) -> tuple[int, int]:
        return (alone, numbers[0]) if rank == 1 else (numbers[0], numbers[1])

    return native.geometry(
        q.input[0],
        q.input[-1],
        q.kernel[-1],
        q.groups,
        input=pair(q.input[1:-1]),
        window=pair(q.window),
        output=pair(q.output[1:-1]),
        stride=pair(q.stride),
        dilation=pair(q.dilation),
        low=pair([low for low, _ in q.padding], alone=0),
    )


def _direct(q: Question, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return native.product("output", q.output, _geometry(q), x, kernel)


def _direct_to_input(q: Question, slope: jax.Array, kernel: jax.Array) -> jax.Array:
    return native.product("input_slope", q.input, _geometry(q), slope, kernel)


def _direct_to_kernel(q: Question, x: jax.Array, slope: jax.Array) -> jax.Array:
    return native.product("kernel_slope", q.kernel, _geometry(q), x, slope)


def _to_input(forward: Product) -> Product:
    """(slope, kernel) to the slope for the input, as the transposed of a formulation of the output."""

    def transposed(q: Question, slope: jax.Array, kernel: jax.Array) -> jax.Array:
        of_input = jax.linear_transpose(lambda x: forward(q, x, kernel), jax.ShapeDtypeStruct(q.input, slope.dtype))
        return of_input(slope)[0]

    return transposed


def _to_kernel(forward: Product) -> Product:
    """(input, slope) to the slope for the kernel, likewise."""

    def transposed(q: Question, x: jax.Array, slope: jax.Array) -> jax.Array:
        of_kernel = jax.linear_transpose(lambda kernel: forward(q, x, kernel), jax.ShapeDtypeStruct(q.kernel, slope.dtype))
        return of_kernel(slope)[0]

    return transposed


_GENERAL: dict[str, Product] = {"native": _native, "dense": _dense, "split": _split, "products": _products}
FORWARD: Mapping[str, Product] = _GENERAL | {"shifts": _shifts, "direct": _direct}
TO_INPUT: Mapping[str, Product] = {name: _to_input(form) for name, form in _GENERAL.items()} | {
    "shifts": _shifted_back,
    "phases": _phases,
    "direct": _direct_to_input,
}
TO_KERNEL: Mapping[str, Product] = {name: _to_kernel(form) for name, form in _GENERAL.items()} | {
    "sums": _sums,
    "joint_sums": _joint_sums,
    "crossed": _crossed,
    "direct": _direct_to_kernel,
}
"""(question, input, kernel) to the output; (question, slope, kernel) and (question, input, slope) to the slopes."""

_DEPTHWISE_ONLY = frozenset({"shifts", "sums", "joint_sums"})
LARGE_WINDOW = 9
MOST_GROUPS = 32
"""More convolutions or products than this in one op compile slowly and never win."""
MOST_COPIED = 2**20
"""Values for each picture that crossing may copy its operands to."""


def fitting(q: Question | AttentionQuestion, table: Mapping[str, Any]) -> tuple[str, ...]:
    """The formulations of a table that are worth trying here."""
    has_native = isinstance(q, AttentionQuestion) or len(q.window) <= 2
    direct = ("direct",) if q.dtype == "float32" and has_native and native.available() else ()
    return (*(("native",) if isinstance(q, AttentionQuestion) else _fitting_anywhere(q, table)), *direct)


def runs_here(plan: Plan) -> bool:
    """Whether this machine has the formulations of a plan, which may be another one's."""
    return "direct" not in (plan.forward, plan.to_input, plan.to_kernel) or native.available()


def _fitting_anywhere(q: Question, table: Mapping[str, Product]) -> tuple[str, ...]:
    """What needs no compiler: dense kernels of many channels are mostly zeros, many groups many ops."""
    if q.groups == 1:
        return _fitting_dense(q, table)
    if q.depthwise:
        dense = ("dense",) if q.input[-1] <= 2 * MOST_GROUPS else ()
        return tuple(name for name in table if name in _DEPTHWISE_ONLY or name in dense)
    general = tuple(name for name in table if name in _GENERAL)
    return general if q.groups <= MOST_GROUPS else tuple(name for name in general if name != "split")


def has_choice(q: Question | AttentionQuestion) -> bool:
    """Whether several formulations fit, so that measuring can say which is fastest."""
    return any(len(fitting(q, table)) > 1 for table in (FORWARD, TO_INPUT, TO_KERNEL))


def _fitting_dense(q: Question, table: Mapping[str, Product]) -> tuple[str, ...]:
    """XLA does dense windows well, but for the slope of the kernel where the stride is 1, and that of the input where it is not and
    the window is large: it may take 40 times as long as the convolutions without a stride that it comes to.
    """
    if math.prod(q.window) == 1:
        return ("native", "products")
    if "phases" in table:
        apart = max(q.stride) > 1 == max(q.dilation) and math.prod(q.window) > LARGE_WINDOW
        return ("phases",) if apart else ("native",)
    copied = math.prod(q.output[1:-2]) * q.input[-2] * (math.prod(q.window[:-1]) * q.input[-1] + q.window[-1] * q.kernel[-1])
    crossed = "crossed" in table and max(q.stride) == 1 and copied <= MOST_COPIED
    return ("crossed",) if crossed else ("native",)


def fixed(q: Question | AttentionQuestion) -> Plan:
    """The plan where nothing was measured, by a rule that held on the machines that were looked at."""
    if isinstance(q, AttentionQuestion):
        return Plan("native", "native", "native")
    if q.depthwise:
        return Plan("shifts", "shifts", "sums" if math.prod(q.window) <= 9 else "joint_sums")
    if q.groups == 1 and math.prod(q.window) > 1:
        return Plan("native", *_fitting_dense(q, TO_INPUT), *_fitting_dense(q, TO_KERNEL))
    wide = q.kernel[-2] >= 8 and q.input[-1] > MOST_GROUPS >= q.groups
    output = "native" if q.groups == 1 else "split" if wide else "dense"
    if math.prod(q.window) == 1:
        return Plan(output, "products", "products")
    return Plan(output, output, "split" if q.groups <= MOST_GROUPS else "dense")


_plans: ContextVar[Mapping[str, Plan] | None] = ContextVar("plans", default=None)


@contextmanager
def using(plans: Mapping[str, Plan]) -> Iterator[None]:
    """What is traced inside computes by these plans; a question that is not among them, by `fixed`."""
    token = _plans.set(plans)
    try:
        yield
    finally:
        _plans.reset(token)


def planned(q: Question | AttentionQuestion) -> Plan:
    """The plan in use for a question; the rule's where this machine cannot do what another one recorded."""
    plan = (_plans.get() or {}).get(q.key)
    return plan if plan is not None and runs_here(plan) else fixed(q)


def convolve(q: Question, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution, its slopes too, by the plan in use."""
    return _planned(q, planned(q), x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _planned(q: Question, plan: Plan, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return FORWARD[plan.forward](q, x, kernel)


def _forward(q: Question, plan: Plan, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return FORWARD[plan.forward](q, x, kernel), (x, kernel)


def _backward(q: Question, plan: Plan, saved: tuple[jax.Array, jax.Array], slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return TO_INPUT[plan.to_input](q, slope, kernel), TO_KERNEL[plan.to_kernel](q, x, slope)


_planned.defvjp(_forward, _backward)
