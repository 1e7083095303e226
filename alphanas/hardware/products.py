"""Matrix products as kernels: rows of the left operand times blocks of columns of the right one, one vector a block.

The left operand is read where it lies, one element repeated across a vector; only what has to be computed, or found by dividing an
index, is written out before. The right operand is packed into blocks of columns: when the model is built if it is a constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx

from alphanas.hardware import indexing
from alphanas.hardware.contractions import filled_places
from alphanas.hardware.emit import Argument, Emitted, Emitter, Geometry, blocks_of, stream_blocks
from alphanas.hardware.program import Step

LARGEST_TILE = 12
"""Up to so many blocks one tile can take them all."""


def contract(emitter: Emitter, step: Step) -> Emitted:
    """The kernel of a canonical product; see `canonical`."""
    a, b = step.inputs
    batch, rows, depths = step.params["batch"], step.params["rows"], step.params["depths"]
    *own, columns = emitter.type(step.output).shape
    dtype = emitter.type(step.output).dtype
    known = emitter.constant(b) is not None
    count, block = (stream_blocks if known and math.prod(own) == 1 else blocks_of)(columns, emitter.lanes)
    if not known:
        count = _tileable(count)
    # Rows that read the same columns are one row of places, as in a 1×1 convolution.
    outer = own if batch or not rows else [math.prod(own)]
    filled_outer = tuple(outer) if not rows else (*outer[:-1], emitter.row(outer[-1]) if batch else filled_places(outer[-1]))
    prologues: list[str] = []
    left = _left(emitter, a, own, outer, filled_outer, depths, prologues)
    right = _right(emitter, b, outer[:batch], columns, (count, block), prologues)
    axes = [emitter.axis(size, f"k{n}") for n, size in enumerate(depths)]
    sums_shape = (*(filled_outer or (1,)), count, block)

    def product(*at: Any) -> Any:
        *front, ob, lane = at
        front = front if filled_outer else []
        k: Any = 0
        for axis, size in zip(axes, depths, strict=True):
            k = k * size + axis.var
        return te.sum(left(*front, k).astype(dtype) * right(*front[:batch], ob, k, lane).astype(dtype), axis=axes)

    sums = emitter.compute(sums_shape, product, "sums")
    shape = (*outer, columns) if outer else (1, columns)
    emitter.anchor_at(step, shape, lambda at: sums(*at[:-1], te.floordiv(at[-1], block), te.floormod(at[-1], block)))
    work = math.prod(sums_shape) * math.prod(depths)
    geometry = Geometry(
        "contraction",
        sums_shape[:-2],
        count,
        block,
        len(axes),
        work,
        tuple(prologues),
        batch=batch,
        vectors=-(-block // emitter.lanes),
    )
    return emitter.finish(shape, (*(filled_outer or (1,)), count * block), geometry)


def _left(
    emitter: Emitter,
    a: int,
    own: Sequence[int],
    outer: Sequence[int],
    filled: Sequence[int],
    depths: Sequence[int],
    prologues: list[str],
) -> Callable[..., Any]:
    """How an element of the left operand is read; rows beyond its last are the last once more, and nothing reads their sums."""

    def element(*at: Any) -> Any:
        *front, k = at
        inside = [te.min(i, size - 1) if wide > size else i for i, size, wide in zip(front, outer, filled, strict=True)]
        return emitter.read(a, [*indexing.regroup(inside, outer, own), k])

    if emitter.is_memory(a, depths):
        return element
    prologues.append("left")
    return emitter.compute((*filled, math.prod(depths)), element, "left")


def _tileable(blocks: int) -> int:
    """A number of blocks that a tile of two or three divides; the least addition to many of them."""
    return blocks + 1 if blocks > LARGEST_TILE and blocks % 2 and blocks % 3 else blocks


def _right(
    emitter: Emitter, b: int, batch: Sequence[int], columns: int, blocks: tuple[int, int], prologues: list[str]
) -> Callable[..., Any]:
    """The right operand in blocks of columns: so many of so many lanes."""
    kind = emitter.type(b)
    depth, (count, block) = kind.shape[-2], blocks
    sizes = (*batch, count, depth, block)
    if emitter.constant(b) is not None:
        return emitter.tensor(Argument(b, block, len(batch)), sizes, kind.dtype)
    zero = tirx.const(0, kind.dtype)

    def pack(*at: Any) -> Any:
        *front, ob, k, lane = at
        limits, total = (*batch, depth, columns), (*batch, depth, count * block)
        lows, gaps = [0] * len(limits), [1] * len(limits)
        place = (*front, k, ob * block + lane)
        return emitter.guarded(place, limits, lows, gaps, lambda i: emitter.read(b, i), zero, total)

    prologues.append("right")
    return emitter.compute(sizes, pack, "right")
