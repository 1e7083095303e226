"""Convolutions as kernels: a sum over window and channels, features in blocks of one vector."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import te, tirx

from alphanas.hardware import indexing
from alphanas.hardware.emit import Argument, Emitted, Emitter, Geometry, blocks_of, divisor_block, line_blocks, stream_blocks
from alphanas.hardware.fusing import is_pointwise
from alphanas.hardware.program import Flat, Step
from alphanas.hardware.winograd import TILE_ROWS, product_rows

LONG_TILE = 12
MANY_PLACES = 256
"""From so many places on, filling them up to a multiple of the long tile, which many tiles divide, costs next to nothing."""


def convolve(emitter: Emitter, step: Step) -> Emitted:
    if is_product(emitter.flat, step):
        return _product(emitter, step)
    x, w = step.inputs
    params = step.params
    *window, inner, features = emitter.type(w).shape
    batch, *outer, _ = emitter.type(step.output).shape
    channels = emitter.type(x).shape[-1]
    groups, rank = params["groups"], len(window)
    share = features // groups
    depthwise = groups > 1 and share < emitter.lanes
    row = emitter.row(outer[-1])
    if depthwise and inner == share == 1:
        count, block = line_blocks(features, row, emitter.lanes)
    elif groups == 1 or depthwise:
        count, block = blocks_of(features, emitter.lanes)
    else:
        block = divisor_block(share, emitter.lanes)
        count = features // block
    filled_outer = (*outer[:-1], row)
    strides, dilation = params["strides"], params["dilation"]
    each: dict[str, Any] = {
        "window": window,
        "outer": filled_outer,
        "strides": strides,
        "dilation": dilation,
        "pads": params["pads"],
        "gaps": params["input_dilation"],
        "blank": tirx.const(0, emitter.type(x).dtype),
    }
    spread = None
    prologues: tuple[str, ...] = ()
    if depthwise and (inner > 1 or share > 1):
        spread, prologues = _spread(emitter, x, count, block, share, inner, each), ("padded",)
    else:
        filled_channels = count * block if depthwise else channels
        read, prologues = padded(emitter, x, channels=filled_channels, blocked=block if depthwise else 0, **each)
    packed = emitter.tensor(Argument(w, block), (count, *window, inner, block), emitter.type(w).dtype)
    axes = [emitter.axis(size, f"k{i}") for i, size in enumerate((*window, inner))]

    def product(n: Any, *at: Any) -> Any:
        *place, ob, lane = at
        spots = [p * s + q.var * d for p, s, q, d in zip(place, strides, axes, dilation, strict=False)]
        weight = packed(ob, *(axis.var for axis in axes), lane)
        if spread is not None:
            return te.sum(spread(n, ob, axes[-1].var, *spots, lane) * weight, axis=axes)
        if depthwise:
            channel = ob * block + lane
        else:
            channel = te.floordiv(ob * block, share) * inner + axes[-1].var if groups > 1 else axes[-1].var
        return te.sum(read(n, *spots, channel) * weight, axis=axes)

    shape = (batch, *outer, features)
    sums_shape = (batch, *filled_outer, count, block)
    sums = emitter.compute(sums_shape, product, "sums")
    emitter.anchor_at(step, shape, lambda at: sums(*at[:-1], te.floordiv(at[-1], block), te.floormod(at[-1], block)))
    work = math.prod(sums_shape) * math.prod(window) * inner
    kind = "depthwise" if depthwise else "contraction"
    together = share // block if groups > 1 and not depthwise else 0
    vectors = -(-block // emitter.lanes)
    repeated = share if spread is not None and block % share == 0 else 1
    sizes = (sums_shape[:-2], count, block, rank + 1, work, prologues)
    geometry = Geometry(kind, *sizes, together=together, vectors=vectors, share=repeated)
    return emitter.finish(shape, (batch, *filled_outer, count * block), geometry)


def _spread(emitter: Emitter, x: int, count: int, block: int, share: int, inner: int, each: Mapping[str, Any]) -> Any:
    """The padded input of groups that are narrower than a vector: for each of a group's channels a map in which every feature
    finds it in its own lane. What follows is a depthwise convolution over so many maps (grouped spatial pack, the group in lanes).
    """
    kind = emitter.type(x)
    spans = zip(each["outer"], each["strides"], each["window"], each["dilation"], strict=True)
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in spans]
    lows = [0, *(low for low, _ in each["pads"]), 0]
    sizes = (kind.shape[0], *reach, -(-count * block // share) * inner)

    def stage(n: Any, ob: Any, own: Any, *at: Any) -> Any:
        *place, lane = at
        channel = te.floordiv(ob * block + lane, share) * inner + own
        gaps = [1, *each["gaps"], 1]
        return emitter.guarded((n, *place, channel), kind.shape, lows, gaps, lambda i: emitter.read(x, i), each["blank"], sizes)

    return emitter.compute((kind.shape[0], count, inner, *reach, block), stage, "padded")


def is_product(flat: Flat, step: Step) -> bool:
    """Whether a convolution is a product of the features of some places, those that its strides leave."""
    still = dataclasses.replace(step, params={**step.params, "strides": [1] * len(step.params["strides"])})
    return is_pointwise(flat, still)


def _product(emitter: Emitter, step: Step) -> Emitted:
    """A 1×1 convolution: all places in one row, so that any tile divides it but for a little filling at the end."""
    x, w = step.inputs
    strides = (1, *step.params["strides"], 1)
    kind = emitter.type(x)
    *outer, features = emitter.type(step.output).shape
    channels, places = kind.shape[-1], math.prod(outer)
    count, block = (stream_blocks if places == 1 else blocks_of)(features, emitter.lanes)
    filled = filled_places(places)

    def element(place: Any, channel: Any) -> Any:
        inside = te.min(place, places - 1) if filled > places else place
        at = indexing.regroup([inside, channel], (places, channels), (*outer, channels))
        return emitter.read(x, [index * stride for index, stride in zip(at, strides, strict=True)])

    prologues: tuple[str, ...] = ()
    left: Callable[..., Any] = element
    if not emitter.is_memory(x):
        left, prologues = emitter.compute((filled, channels), element, "left"), ("left",)
    window = emitter.type(w).shape[:-2]
    packed = emitter.tensor(Argument(w, block), (count, *window, channels, block), emitter.type(w).dtype)
    k = emitter.axis(channels, "k0")

    def product(place: Any, ob: Any, lane: Any) -> Any:
        return te.sum(left(place, k.var) * packed(ob, *(0 for _ in window), k.var, lane), axis=[k])

    sums = emitter.compute((filled, count, block), product, "sums")
    shape = (places, features)
    emitter.anchor_at(step, shape, lambda at: sums(at[0], te.floordiv(at[1], block), te.floormod(at[1], block)))
    work = filled * count * block * channels
    vectors = -(-block // emitter.lanes)
    geometry = Geometry("contraction", (filled,), count, block, 1, work, prologues, vectors=vectors)
    return emitter.finish(shape, (filled, count * block), geometry)


def filled_places(places: int) -> int:
    """So many places that a good tile divides them; a few are a tile of their own."""
    if places <= max(TILE_ROWS):
        return places
    tile = LONG_TILE if places >= MANY_PLACES else product_rows(places)
    return -(-places // tile) * tile


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
