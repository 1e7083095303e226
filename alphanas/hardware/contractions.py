"""Contractions and convolutions as kernels: a sum over depth or window, features in blocks of one vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx

from alphanas.hardware.emit import Argument, Emitted, Emitter, Geometry, blocks_of, divisor_block
from alphanas.hardware.program import Step


def contract(emitter: Emitter, step: Step) -> Emitted:
    a, b = step.inputs
    batch, rows = step.params["batch"], step.params["rows"]
    *outer, columns = emitter.type(step.output).shape
    depth = emitter.type(b).shape[-2]
    dtype = emitter.type(step.output).dtype
    count, block = blocks_of(columns, emitter.lanes)
    row = emitter.row(outer[-1]) if rows else 1
    shape = (*outer, columns)
    filled_outer = (*outer[:-1], row) if rows else tuple(outer)
    prologues: list[str] = []
    if emitter.is_memory(a) and (not rows or row == outer[-1]):
        left: Callable[..., Any] = lambda *at: emitter.read(a, at)  # noqa: E731
    else:
        limit = (*outer, depth)
        zero = tirx.const(0, emitter.type(a).dtype)

        def stage(*at: Any) -> Any:
            lows, gaps, total = [0] * len(at), [1] * len(at), (*filled_outer, depth)
            return emitter.guarded(at, limit, lows, gaps, lambda i: emitter.read(a, i), zero, total)

        left = emitter.compute((*filled_outer, depth), stage, "left")
        prologues.append("left")
    if emitter.constant(b) is not None:
        packed = emitter.tensor(Argument(b, block, batch), (*outer[:batch], count, depth, block), emitter.type(b).dtype)
    else:
        nothing = tirx.const(0, emitter.type(b).dtype)
        sizes = (*outer[:batch], count, depth, block)

        def pack(*at: Any) -> Any:
            *front, ob, k, lane = at
            column = ob * block + lane
            limits, total = (*outer[:batch], depth, columns), (*outer[:batch], depth, count * block)
            lows, gaps = [0] * (batch + 2), [1] * (batch + 2)
            return emitter.guarded((*front, k, column), limits, lows, gaps, lambda i: emitter.read(b, i), nothing, total)

        packed = emitter.compute(sizes, pack, "right")
        prologues.append("right")
    k = emitter.axis(depth, "k")
    sums_shape = (*(filled_outer or (1,)), count, block)

    def product(*at: Any) -> Any:
        *front, ob, lane = at
        front = front if filled_outer else []
        x = left(*front, k.var)
        return te.sum(x.astype(dtype) * packed(*front[:batch], ob, k.var, lane).astype(dtype), axis=[k])

    sums = emitter.compute(sums_shape, product, "sums")
    shape = shape if outer else (1, columns)
    emitter.anchor_at(step, shape, lambda at: sums(*at[:-1], te.floordiv(at[-1], block), te.floormod(at[-1], block)))
    work = math.prod(sums_shape) * depth
    geometry = Geometry("contraction", sums_shape[:-2], count, block, 1, work, tuple(prologues))
    return emitter.finish(shape, (*(filled_outer or (1,)), count * block), geometry)


def convolve(emitter: Emitter, step: Step) -> Emitted:
    x, w = step.inputs
    params = step.params
    *window, inner, features = emitter.type(w).shape
    batch, *outer, _ = emitter.type(step.output).shape
    channels = emitter.type(x).shape[-1]
    groups, rank = params["groups"], len(window)
    depthwise = groups == channels == features and groups > 1
    row = emitter.row(outer[-1])
    if groups == 1 or depthwise:
        count, block = blocks_of(features, emitter.lanes)
    else:
        block = divisor_block(features // groups, emitter.lanes)
        count = features // block
    filled_outer = (*outer[:-1], row)
    filled_channels = count * block if depthwise else channels
    strides, dilation = params["strides"], params["dilation"]
    read, prologues = padded(
        emitter,
        x,
        window=window,
        outer=filled_outer,
        strides=strides,
        dilation=dilation,
        pads=params["pads"],
        gaps=params["input_dilation"],
        channels=filled_channels,
        blank=tirx.const(0, emitter.type(x).dtype),
        blocked=block if depthwise else 0,
    )
    packed = emitter.tensor(Argument(w, block), (count, *window, inner, block), emitter.type(w).dtype)
    axes = [emitter.axis(size, f"k{i}") for i, size in enumerate((*window, inner))]

    def product(n: Any, *at: Any) -> Any:
        *place, ob, lane = at
        spots = [p * s + q.var * d for p, s, q, d in zip(place, strides, axes, dilation, strict=False)]
        if depthwise:
            channel = ob * block + lane
        else:
            channel = te.floordiv(ob * block, features // groups) * inner + axes[-1].var if groups > 1 else axes[-1].var
        weight = packed(ob, *(axis.var for axis in axes), lane)
        return te.sum(read(n, *spots, channel) * weight, axis=axes)

    shape = (batch, *outer, features)
    sums_shape = (batch, *filled_outer, count, block)
    sums = emitter.compute(sums_shape, product, "sums")
    emitter.anchor_at(step, shape, lambda at: sums(*at[:-1], te.floordiv(at[-1], block), te.floormod(at[-1], block)))
    work = math.prod(sums_shape) * math.prod(window) * inner
    kind = "depthwise" if depthwise else "contraction"
    geometry = Geometry(kind, sums_shape[:-2], count, block, rank + 1, work, prologues)
    return emitter.finish(shape, (batch, *filled_outer, count * block), geometry)


def padded(
    emitter: Emitter,
    x: int,
    *,
    window: Sequence[int],
    outer: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    pads: Sequence[tuple[int, int]],
    gaps: Sequence[int],
    channels: int,
    blank: Any,
    blocked: int,
) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """How to read the padded input of a window: from memory where nothing is padded, else from a stage that pads it."""
    kind = emitter.type(x)
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(outer, strides, window, dilation, strict=True)]
    own = [(size - 1) * gap + 1 for size, gap in zip(kind.shape[1:-1], gaps, strict=True)]
    inside = all(low <= 0 and need + max(-low, 0) <= have for (low, _), need, have in zip(pads, reach, own, strict=True))
    plain = inside and all(gap == 1 for gap in gaps) and emitter.is_memory(x)
    lows = [0, *(low for low, _ in pads), 0]
    if plain and channels == kind.shape[-1]:
        return (lambda *at: emitter.read(x, [i - low for i, low in zip(at, lows, strict=True)])), ()
    sizes = (kind.shape[0], *reach, channels)

    def stage(*at: Any) -> Any:
        if blocked:
            n, ob, *place, lane = at
            at = (n, *place, ob * blocked + lane)
        return emitter.guarded(at, kind.shape, lows, [1, *gaps, 1], lambda i: emitter.read(x, i), blank, sizes)

    if not blocked:
        return emitter.compute(sizes, stage, "padded"), ("padded",)
    blocks = emitter.compute((kind.shape[0], channels // blocked, *reach, blocked), stage, "padded")

    def by_block(n: Any, *at: Any) -> Any:
        *place, channel = at
        return blocks(n, te.floordiv(channel, blocked), *place, te.floormod(channel, blocked))

    return by_block, ("padded",)
