"""Random programs: compositions of up to twelve steps with branches, from lists of numbers that Hypothesis draws and shrinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax import lax

from tests.properties.oracle import Program
from tests.properties.programs import attention, conv, group_norm, layer_norm, pool, shuffle

Array = Any
Shape = tuple[int, ...]
LARGEST = 420


@dataclass(frozen=True)
class Step:
    """One step on (batch, height, width, channels): where it applies, the weights it wants, and what it computes."""

    name: str
    apply: Callable[..., Array]
    weights: Callable[[Shape], Sequence[Shape]] = lambda shape: ()
    fits: Callable[[Shape], bool] = lambda shape: True


def kernel(height: int, width: int, out: int, groups: int = 1) -> Callable[[Shape], Sequence[Shape]]:
    return lambda s: [(height, width, s[3] // groups, out)]


def depthwise(w: Array, x: Array) -> Array:
    return conv(groups=x.shape[-1])(w, x)


def tokens(w: Array, x: Array) -> Array:
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    return attention(w, flat).reshape(x.shape)


def spatial(axis: int, least: int) -> Callable[[Shape], bool]:
    return lambda s: s[axis] >= least


STEPS = [
    Step("conv 3", conv(), kernel(3, 3, 4)),
    Step("conv 3 by 1, 3 channels", conv(), kernel(3, 1, 3)),
    Step("conv 1", conv(), kernel(1, 1, 4)),
    Step("conv stride 2", conv(2), kernel(3, 3, 4), spatial(1, 3)),
    Step("conv 2 valid", conv(padding="VALID"), kernel(2, 2, 3), lambda s: s[1] > 2 and s[2] > 2),
    Step("conv dilated", conv(rhs_dilation=(2, 1)), kernel(3, 1, 4), spatial(1, 5)),
    Step("grouped", conv(groups=2), kernel(3, 1, 4, groups=2), lambda s: s[3] % 2 == 0),
    Step("depthwise", depthwise, lambda s: [(3, 3, 1, s[3])]),
    Step("transposed conv", lambda w, x: lax.conv_transpose(x, w, (2, 1), "SAME"), kernel(3, 1, 2)),
    Step("dense", lambda w, x: jnp.tanh(x @ w), lambda s: [(s[3], 4)]),
    Step("dense over height", lambda w, x: jnp.einsum("bhwc,hk->bkwc", x, w), lambda s: [(s[1], s[1])]),
    Step("tanh", jnp.tanh),
    Step("silu", jax.nn.silu),
    Step("softmax", jax.nn.softmax),
    Step("layer norm", layer_norm),
    Step("group norm", group_norm, fits=lambda s: s[3] % 2 == 0),
    Step("shuffle", shuffle, fits=lambda s: s[3] % 2 == 0),
    Step("sum pool", pool(lax.add, 0.0, 2, 2), fits=lambda s: s[1] > 2 and s[2] > 2),
    Step("sum pool overlapping", pool(lax.add, 0.0, 3, 1, "SAME")),
    Step("global mean", lambda x: x * x.mean((1, 2), keepdims=True)),
    Step("attention", tokens, lambda s: [(s[3], 3 * s[3])]),
    Step("flip", lambda x: x[:, ::-1]),
    Step("roll", lambda x: jnp.roll(x, 1, 2)),
    Step("turn", lambda x: x.swapaxes(1, 2)),
    Step("channels to width", lambda x: x.swapaxes(2, 3)),
    Step("crop", lambda x: x[:, 1:], fits=spatial(1, 3)),
    Step("every other", lambda x: x[:, ::2], fits=spatial(1, 4)),
    Step("pad", lambda x: jnp.pad(x, ((0, 0), (1, 0), (0, 1), (0, 0)))),
    Step("repeat", lambda x: jnp.repeat(x, 2, 1)),
    Step("cumulative", lambda x: jnp.cumsum(x, 2)),
    Step("space to depth", lambda x: x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2], x.shape[3]).swapaxes(2, 3)
         .reshape(x.shape[0], x.shape[1] // 2, x.shape[2], -1), fits=lambda s: s[1] % 2 == 0 and s[1] > 2),
    Step("split and multiply", lambda x: x[..., : x.shape[3] // 2] * x[..., x.shape[3] // 2 :],
         fits=lambda s: s[3] % 2 == 0 and s[3] > 2),
    Step("swap halves", lambda x: jnp.concatenate([x[..., 2:], x[..., :2]], -1), fits=lambda s: s[3] > 2),
    Step("merge height and width", lambda x: x.reshape(x.shape[0], x.shape[1] * x.shape[2], 1, -1),
         fits=lambda s: s[1] * s[2] < 40),
    Step("merge width and channels", lambda x: x.reshape(*x.shape[:2], 1, -1), fits=lambda s: s[2] * s[3] < 40),
]  # fmt: skip
JOINS = {
    "add": lambda a, b: a + b,
    "multiply": lambda a, b: a * b,
    "concatenate": lambda a, b: jnp.concatenate([a, b], -1),
}

Choice = tuple[int, int, int]
choices = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=12)


def build(drawn: Sequence[Choice], shape: Shape = (1, 6, 5, 4)) -> Program:
    """The program that a list of choices stands for: each a step (or a join with an earlier value) and what it reads."""
    plan: list[tuple[Any, tuple[int, ...], int]] = []
    shapes: list[Shape] = [shape]
    weights: list[Shape] = []
    names: list[str] = []
    for step, back, join in drawn:
        source = max(0, len(shapes) - 1 - (back if back < 3 else 0))
        if step >= 60:
            added = _join(shapes, source, list(JOINS)[join])
        else:
            added = _apply(STEPS[step % len(STEPS)], shapes, source, weights)
        if added is None:
            continue
        entry, out, wanted, name = added
        if np.prod(out) > LARGEST:
            continue
        plan.append(entry)
        shapes.append(out)
        weights.extend(wanted)
        names.append(name)

    def run(*arguments: Array) -> Array:
        values = [arguments[-1]]
        for function, reads, start in plan:
            count = len(reads) if start < 0 else 1
            given = [] if start < 0 else list(arguments[start : start + reads[1]])
            values.append(function(*given, *[values[k] for k in (reads if count > 1 else reads[:1])]))
        return values[-1]

    return Program(" → ".join(names) or "identity", run, shape, tuple(weights), draws=2)


def _apply(step: Step, shapes: list[Shape], source: int, weights: list[Shape]) -> Any:
    before = shapes[source]
    if not step.fits(before):
        return None
    wanted = list(step.weights(before))
    avals = [jax.ShapeDtypeStruct(s, jnp.float32) for s in (*wanted, before)]
    out = jax.eval_shape(step.apply, *avals).shape
    return (step.apply, (source, len(wanted)), len(weights)), out, wanted, f"{step.name}@{source}"


def _join(shapes: list[Shape], source: int, name: str) -> Any:
    same = [k for k, s in enumerate(shapes[:-1]) if s == shapes[-1]]
    if not same:
        return None
    other = same[source % len(same)]
    last = shapes[-1]
    out = (*last[:-1], 2 * last[-1]) if name == "concatenate" else last
    return (JOINS[name], (other, len(shapes) - 1), -1), out, [], f"{name}@{other}"
