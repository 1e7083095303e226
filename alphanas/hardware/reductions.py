"""Reductions as kernels: over windows, over any axes, and the stages of a reduction that others build upon."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import te, tirx

from alphanas.hardware.contractions import padded
from alphanas.hardware.emit import Emitted, Emitter, Geometry, divisor_block, line_blocks
from alphanas.hardware.program import NotLowerable, Step


def window(emitter: Emitter, step: Step) -> Emitted:
    params = step.params
    inner = len(params["window"]) - 1
    outermost = [params[name][0] for name in ("window", "strides", "dilation", "input_dilation")]
    innermost = [params[name][inner] for name in ("window", "strides", "dilation", "input_dilation")]
    still = params["pads"][0] == params["pads"][inner] == (0, 0)
    if inner >= 2 and still and outermost == innermost == [1, 1, 1, 1]:
        return _pool(emitter, step)
    return _window_of_any_axes(emitter, step)


def _pool(emitter: Emitter, step: Step) -> Emitted:
    """Windows over the axes between batch and features: a depthwise convolution without weights."""
    (x,) = step.inputs
    params = step.params
    batch, *outer, features = emitter.type(step.output).shape
    dtype = emitter.type(x).dtype
    combine, blank = _reducer(params["kind"], dtype)
    count, block = line_blocks(features, outer[-1], emitter.lanes)
    between = slice(1, -1)
    sides, strides, dilation = (params[name][between] for name in ("window", "strides", "dilation"))
    read, prologues = padded(
        emitter,
        x,
        window=sides,
        outer=outer,
        strides=strides,
        dilation=dilation,
        pads=params["pads"][between],
        gaps=params["input_dilation"][between],
        channels=count * block,
        blank=blank,
        blocked=block,
    )
    axes = [emitter.axis(size, f"k{i}") for i, size in enumerate(sides)]

    def value(n: Any, *at: Any) -> Any:
        *place, ob, lane = at
        spots = [p * s + q.var * d for p, s, q, d in zip(place, strides, axes, dilation, strict=True)]
        return combine(read(n, *spots, ob * block + lane), axis=axes)

    shape, sums_shape = (batch, *outer, features), (batch, *outer, count, block)
    sums = emitter.compute(sums_shape, value, "sums")
    emitter.anchor_at(step, shape, lambda at: sums(*at[:-1], te.floordiv(at[-1], block), te.floormod(at[-1], block)))
    work = math.prod(sums_shape) * math.prod(sides)
    vectors = -(-block // emitter.lanes)
    geometry = Geometry("depthwise", sums_shape[:-2], count, block, len(axes), work, prologues, vectors=vectors)
    return emitter.finish(shape, (batch, *outer, count * block), geometry)


def _window_of_any_axes(emitter: Emitter, step: Step) -> Emitted:
    (x,) = step.inputs
    params = step.params
    shape = emitter.type(step.output).shape
    kind = emitter.type(x)
    combine, blank = _reducer(params["kind"], kind.dtype)
    reach = [
        (o - 1) * s + (k - 1) * d + 1
        for o, s, k, d in zip(shape, params["strides"], params["window"], params["dilation"], strict=True)
    ]
    lows = [low for low, _ in params["pads"]]
    gaps = params["input_dilation"]
    fringed = any(low or high > 0 for low, high in params["pads"]) or any(gap > 1 for gap in gaps)
    prologues: tuple[str, ...] = ()
    if fringed or not emitter.is_memory(x):

        def stage(*at: Any) -> Any:
            return emitter.guarded(at, kind.shape, lows, gaps, lambda i: emitter.read(x, i), blank, reach)

        source = emitter.compute(reach, stage, "padded")
        prologues = ("padded",)
    else:
        source = lambda *at: emitter.read(x, at)  # noqa: E731
    axes = {i: emitter.axis(size, f"k{i}") for i, size in enumerate(params["window"]) if size > 1}
    if not axes:
        axes = {0: emitter.axis(1, "k0")}

    def value(*at: Any) -> Any:
        spots = [
            p * s + (axes[i].var * d if i in axes else 0)
            for i, (p, s, d) in enumerate(zip(at, params["strides"], params["dilation"], strict=True))
        ]
        return combine(source(*spots), axis=list(axes.values()))

    sums = emitter.compute(shape, value, "sums")
    emitter.anchor_at(step, shape, lambda at: sums(*at))
    work = math.prod(shape) * math.prod(params["window"])
    geometry = Geometry("window", shape, 1, shape[-1], len(axes), work, prologues)
    return emitter.finish(shape, shape, geometry)


def reduce(emitter: Emitter, step: Step) -> Emitted:
    names: list[str] = []
    own, lanes = sums_of(emitter, step, "", names)
    work = math.prod(emitter.type(step.inputs[0]).shape)
    stages = tuple(name for name in names if name == "parts")
    return emitter.finish(own, own, Geometry("reduction", own, 1, lanes, len(step.params["axes"]), work, stages=stages))


def sums_of(emitter: Emitter, step: Step, prefix: str, names: list[str]) -> tuple[tuple[int, ...], int]:
    """The stages of a reduction; returns (the shape it leaves, lanes). Over the last axis it is in vectors, then across one."""
    (x,) = step.inputs
    kind = emitter.type(x)
    axes = sorted(step.params["axes"])
    combine, _ = _reducer(step.params["kind"], kind.dtype)
    kept = [axis for axis in range(len(kind.shape)) if axis not in axes]
    shape = tuple(kind.shape[axis] for axis in kept)
    own = shape or (1,)
    last = kind.shape[-1]
    lanes = divisor_block(last, emitter.lanes) if len(kind.shape) - 1 in axes else 1
    rest = 0
    if lanes < 8 and axes == [len(kind.shape) - 1] and last > 2 * emitter.lanes:
        lanes, rest = emitter.lanes, last % emitter.lanes

    def at(kept_at: Sequence[Any], reduced_at: Sequence[Any]) -> list[Any]:
        places: list[Any] = [0] * len(kind.shape)
        for axis, index in zip(kept, kept_at if shape else [], strict=True):
            places[axis] = index
        for axis, index in zip(axes, reduced_at, strict=True):
            places[axis] = index
        return places

    names.append(f"{prefix}sums")
    if lanes < 4:
        whole = [emitter.axis(kind.shape[axis], f"k{axis}") for axis in axes]

        def directly(*i: Any) -> Any:
            return combine(emitter.read(x, at(i, [axis.var for axis in whole])), axis=whole)

        sums = emitter.compute(own, directly, f"{prefix}sums")
        emitter.anchor_at(step, own, lambda i: sums(*i))
        return own, 1
    outer = [emitter.axis(kind.shape[axis] // (lanes if axis == axes[-1] else 1), f"k{axis}") for axis in axes]

    def part(*i: Any) -> Any:
        *front, lane = i
        places = [axis.var for axis in outer]
        places[-1] = places[-1] * lanes + lane
        return combine(emitter.read(x, at(front, places)), axis=outer)

    parts = emitter.compute((*own, lanes), part, f"{prefix}parts")
    names.insert(-1, f"{prefix}parts")

    def total(*i: Any) -> Any:
        left_over = [emitter.read(x, at(i, [last - rest + n])) for n in range(rest)]
        return _tree(step.params["kind"], [*(parts(*i, lane) for lane in range(lanes)), *left_over])

    sums = emitter.compute(own, total, f"{prefix}sums")
    emitter.anchor_at(step, own, lambda i: sums(*i))
    return own, lanes


JOINS: Mapping[str, Callable[[Any, Any], Any]] = {
    "sum": lambda a, b: a + b,
    "prod": lambda a, b: a * b,
    "xor": lambda a, b: a ^ b,
    "max": te.max,
    "min": te.min,
    "or": tirx.Or,
    "and": tirx.And,
}


def _tree(kind: str, values: Sequence[Any]) -> Any:
    """All values joined in pairs of pairs: a chain would wait for every single step."""
    join = JOINS[kind]
    while len(values) > 1:
        pairs = [join(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + list(values[len(pairs) * 2 :])
    return values[0]


def _reducer(kind: str, dtype: str) -> tuple[Callable[..., Any], Any]:
    """(the reduction, the value that changes nothing)."""
    if kind == "sum":
        return te.sum, tirx.const(0, dtype)
    if kind in ("max", "or"):
        return _maximum(dtype), tirx.const(False, "bool") if dtype == "bool" else tirx.min_value(dtype)
    if kind in ("min", "and"):
        return _minimum(dtype), tirx.const(True, "bool") if dtype == "bool" else tirx.max_value(dtype)
    if kind == "xor":
        return te.comm_reducer(lambda a, b: a ^ b, lambda t: tirx.const(0, t)), tirx.const(0, dtype)
    if kind == "prod":
        return te.comm_reducer(lambda a, b: a * b, lambda t: tirx.const(1, t)), tirx.const(1, dtype)
    raise NotLowerable(f"reduce_{kind}", "no rule for this reduction")


def _maximum(dtype: str) -> Callable[..., Any]:
    if dtype == "bool":
        return te.comm_reducer(lambda a, b: tirx.Or(a, b), lambda t: tirx.const(False, "bool"))
    return te.comm_reducer(lambda a, b: te.max(a, b), lambda t: tirx.min_value(t))


def _minimum(dtype: str) -> Callable[..., Any]:
    if dtype == "bool":
        return te.comm_reducer(lambda a, b: tirx.And(a, b), lambda t: tirx.const(True, "bool"))
    return te.comm_reducer(lambda a, b: te.min(a, b), lambda t: tirx.max_value(t))
