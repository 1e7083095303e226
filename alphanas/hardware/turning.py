"""Convolutions in groups that are narrower than a vector: each lane multiplies its own channel, and sums turn within their group.

Of a group's `share` sums in a lane, one for each of its features, the n-th belongs n lanes further. So the input is read in whole
vectors, nothing of it is repeated or moved, and a vector of results costs `share` - 1 permutations whatever the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from alphanas.hardware.contractions import padded
from alphanas.hardware.emit import LINE, Argument, Emitted, Emitter, Geometry, divisor_block
from alphanas.hardware.program import Step

FLOAT_BYTES = 4
NEAREST_BYTES = 1 << 15
"""What a first cache of usual size holds."""
FEWEST_ROWS = 4
"""Of a strip of fewer rows, what it shares with its neighbours and each pads for itself is too large a part."""


def block_of(emitter: Emitter, step: Step) -> int:
    """How many features of a convolution share a vector, with all the channels that they read; 0 where they do not.

    Groups must be as wide in features as in channels, and several of them fill the better part of a vector.
    """
    *_, inner, features = emitter.type(step.inputs[1]).shape
    groups, lanes = step.params["groups"], emitter.lanes
    share = features // groups
    if not 1 < share < lanes or inner != share:
        return 0
    block = share * divisor_block(groups, lanes // share)
    return block if groups > 1 and (2 * block > lanes or block == features) else 0


def convolve(emitter: Emitter, step: Step) -> Emitted:
    """The kernel of a convolution that has a `block_of`."""
    x, w = step.inputs
    params = step.params
    *window, share, features = emitter.type(w).shape
    batch, *outer, _ = emitter.type(step.output).shape
    block = block_of(emitter, step)
    count = features // block
    filled = (*outer[:-1], emitter.row(outer[-1]))
    strides, dilation = params["strides"], params["dilation"]
    line = LINE if LINE % block == features % LINE == 0 else block
    read, prologues = padded(
        emitter,
        x,
        window=window,
        outer=filled,
        strides=strides,
        dilation=dilation,
        pads=params["pads"],
        gaps=params["input_dilation"],
        channels=features,
        blank=tirx.const(0, emitter.type(x).dtype),
        blocked=line,
    )
    packed = emitter.tensor(Argument(w, block, turned=share), (count, *window, share, block), emitter.type(w).dtype)
    axes = [emitter.axis(size, f"k{i}") for i, size in enumerate(window)]

    def product(n: Any, *at: Any) -> Any:
        *place, ob, turn, lane = at
        spots = [p * s + q.var * d for p, s, q, d in zip(place, strides, axes, dilation, strict=True)]
        return te.sum(read(n, *spots, ob * block + lane) * packed(ob, *(axis.var for axis in axes), turn, lane), axis=axes)

    sums = emitter.compute((batch, *filled, count, share, block), product, "sums")

    def total(*at: Any) -> Any:
        *place, lane = at
        group = te.floordiv(lane, share) * share
        turned = [sums(*place, turn, group + te.floormod(lane + share - turn, share)) for turn in range(1, share)]
        return sum(turned, sums(*place, 0, lane))

    joined = emitter.compute((batch, *filled, count, block), total, "joined")
    shape = (batch, *outer, features)
    emitter.anchor_at(step, shape, lambda at: joined(*at[:-1], te.floordiv(at[-1], block), te.floormod(at[-1], block)))
    spans = list(zip(filled, strides, window, dilation, strict=True))
    geometry = Geometry(
        "turning",
        (batch, *filled),
        count,
        block,
        len(window),
        math.prod((batch, *filled, features, *window, share)),
        prologues,
        stages=("joined",),
        side=_strip(spans, line * FLOAT_BYTES),
        vectors=share,
    )
    return emitter.finish(shape, (batch, *filled, features), geometry)


def _strip(spans: Sequence[tuple[int, int, int, int]], line_bytes: int) -> int:
    """How many rows read no more of a line of channels than the first cache holds: a divisor of all of them, not too few.

    Spans are (places, stride, window, dilation) of each axis; a row is a place of the last but one.
    """
    *_, (rows, *steps), across = spans if len(spans) > 1 else ((1, 1, 1, 1), *spans)

    def reach(places: int, stride: int, window: int, dilation: int) -> int:
        return (places - 1) * stride + (window - 1) * dilation + 1

    strips = [some for some in range(1, rows + 1) if rows % some == 0 and (some >= FEWEST_ROWS or some == rows)]
    near = [some for some in strips if reach(some, *steps) * reach(*across) * line_bytes <= NEAREST_BYTES]
    return max(near, default=strips[0])
