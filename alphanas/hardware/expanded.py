"""The kernel of a 1×1 convolution and the depthwise one that reads it (see `fusing`): by strips of rows and blocks of channels.

A strip of the wide value, with its fringe, is made of all channels of the narrow one, then filtered where it lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx

from alphanas.hardware.contractions import filled_places
from alphanas.hardware.emit import Argument, Emitted, Emitter, Geometry, blocks_of
from alphanas.hardware.kernels import Kernel
from alphanas.hardware.program import Step

STRIP_BYTES = 1 << 17
"""What a strip of the wide value may take of the second cache."""
FEWEST_ROWS = 4
"""Of a shorter strip the fringe, which is computed twice, is too large a part."""
FLOAT_BYTES = 4


def convolve(emitter: Emitter, kernel: Kernel) -> Emitted:
    (first,), step = kernel.before, kernel.anchor
    assert step is not None
    x, w = step.inputs
    params = step.params
    batch, *outer, features = emitter.type(step.output).shape
    height, width = emitter.type(x).shape[1:3]
    rows, row = outer[0], emitter.row(outer[1])
    window, strides, dilation = emitter.type(w).shape[:2], params["strides"], params["dilation"]
    vectors = 2 if features % (2 * emitter.lanes) == 0 else 1
    count, block = blocks_of(features, vectors * emitter.lanes)
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip((rows, row), strides, window, dilation, strict=True)]
    strip = _strip(rows, strides[0], reach[0] - (rows - 1) * strides[0], width * block * FLOAT_BYTES, height)
    low = params["pads"][0][0]

    whole = strip == rows
    wide = _whole if whole else _by_rows
    value = wide(emitter, first, (batch, count, block), (height, width), reach[0], low)
    emitter.join(kernel)
    blank = tirx.const(0, emitter.type(x).dtype)
    lows = [0, *(pair[0] for pair in params["pads"]), 0]
    sizes = (batch, *reach, count * block)

    def stage(n: Any, ob: Any, r: Any, c: Any, lane: Any) -> Any:
        shape = (batch, height, width, count * block)

        def inside(at: Sequence[Any]) -> Any:
            return value(n, ob, at[1] if whole else r, at[2], lane)

        return emitter.guarded((n, r, c, ob * block + lane), shape, lows, [1] * len(shape), inside, blank, sizes)

    padded = emitter.compute((batch, count, *reach, block), stage, "padded")
    packed = emitter.tensor(Argument(w, block), (count, *window, 1, block), emitter.type(w).dtype)
    axes = [emitter.axis(size, f"q{i}") for i, size in enumerate(window)]

    def product(n: Any, y: Any, c: Any, ob: Any, lane: Any) -> Any:
        spots = [p * s + q.var * d for p, s, q, d in zip((y, c), strides, axes, dilation, strict=True)]
        return te.sum(padded(n, ob, *spots, lane) * packed(ob, *(axis.var for axis in axes), 0, lane), axis=axes)

    shape, sums_shape = (batch, *outer, features), (batch, rows, row, count, block)
    sums = emitter.compute(sums_shape, product, "sums")
    emitter.anchor_at(step, shape, lambda at: sums(*at[:-1], te.floordiv(at[-1], block), te.floormod(at[-1], block)))
    work = math.prod(sums_shape) * math.prod(window) + _products(emitter, first, count * block)
    stages = ("products", "wide")
    geometry = Geometry(
        "expanded", sums_shape[:3], count, block, len(axes), work, ("padded",), stages=stages, side=strip, vectors=vectors
    )
    return emitter.finish(shape, (batch, rows, row, count * block), geometry)


def _strip(rows: int, stride: int, reach: int, row_bytes: int, height: int) -> int:
    """How many rows of the result a strip has: all of them, or a divisor of them whose input stays near."""
    if height * row_bytes <= STRIP_BYTES:
        return rows
    strips = [d for d in range(1, rows + 1) if rows % d == 0 and (d >= FEWEST_ROWS or d == rows)]
    return max([d for d in strips if ((d - 1) * stride + reach) * row_bytes <= STRIP_BYTES], default=strips[0])


def _products(emitter: Emitter, first: Kernel, features: int) -> int:
    assert first.anchor is not None
    x, _ = first.anchor.inputs
    return math.prod(emitter.type(x).shape) * features


def _whole(
    emitter: Emitter, first: Kernel, blocks: tuple[int, int, int], plane: tuple[int, int], reach: int, low: int
) -> Callable[..., Any]:
    """All rows at once: places in one row, which any tile divides but for a little filling."""
    height, width = plane
    filled = filled_places(height * width)

    def spot(place: Any) -> tuple[Any, Any]:
        inside = te.min(place, height * width - 1) if filled > height * width else place
        return te.floordiv(inside, width), te.floormod(inside, width)

    wide = _wide(emitter, first, blocks, (filled,), spot)
    return lambda n, ob, y, x, lane: wide(n, ob, y * width + x, lane)


def _by_rows(
    emitter: Emitter, first: Kernel, blocks: tuple[int, int, int], plane: tuple[int, int], reach: int, low: int
) -> Callable[..., Any]:
    """Row by row of the padded input, so that a strip's fringe is as regular as the rest; nothing reads the rows outside."""
    height, width = plane

    def spot(r: Any, x: Any) -> tuple[Any, Any]:
        return te.max(te.min(r - low, height - 1), 0), x

    return _wide(emitter, first, blocks, (reach, width), spot)


def _wide(
    emitter: Emitter, first: Kernel, blocks: tuple[int, int, int], outer: tuple[int, ...], spot: Callable[..., tuple[Any, Any]]
) -> Any:
    """The stages of the wide value, by blocks of channels: its products, and with its epilogue."""
    step: Step | None = first.anchor
    assert step is not None
    batch, count, block = blocks
    x, w = step.inputs
    channels = emitter.type(x).shape[-1]
    packed = emitter.tensor(Argument(w, block), (count, 1, 1, channels, block), emitter.type(w).dtype)
    k = emitter.axis(channels, "k0")

    def product(n: Any, ob: Any, *at: Any) -> Any:
        *place, lane = at
        return te.sum(emitter.read(x, [n, *spot(*place), k.var]) * packed(ob, 0, 0, k.var, lane), axis=[k])

    products = emitter.compute((batch, count, *outer, block), product, "products")
    emitter.join(first)

    def value(n: Any, ob: Any, *at: Any) -> Any:
        *place, lane = at
        emitter.anchor_at(step, emitter.type(step.output).shape, lambda _: products(n, ob, *at))
        return emitter.read(first.output, [n, *spot(*place), ob * block + lane])

    return emitter.compute((batch, count, *outer, block), value, "wide")
