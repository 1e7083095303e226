"""3×3 convolutions of stride 1 by minimal filtering (Winograd; Lavin and Gray, 2016): fewer products, more sums.

F(m, 3) computes m×m outputs from (m + 2)² products a channel where the direct form takes 9 m²: 2.25 times as many for m = 2, 4
times for m = 4. Rounding grows with m: about 1e-5 of the output for m = 4, checked at every build like everything else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from alphanas.hardware.emit import Argument, Emitted, Emitter, Geometry, blocks_of
from alphanas.hardware.program import Step

INPUT = {
    2: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    4: (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
}
WEIGHT = {
    2: ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    4: (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
}
OUTPUT = {
    2: ((1, 1, 1, 0), (0, 1, -1, -1)),
    4: ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
}
"""The transforms of F(m, 3) at the points 0, ±1 (and ±2), by m."""
WINDOW = 3
FEWEST_TILES = {2: 12, 4: 36}
FEWEST_CHANNELS = 16
MOST_WEIGHTS = 1 << 23
"""With fewer tiles or channels, or more transformed weights, moving data costs more than the products that are saved."""
TILE_ROWS = (6, 5, 4, 3)
"""Tiles that a product may take at once beside two vectors of features, the best first."""
WORSE = 0.05
"""What a step down that list costs, as a share."""


def sizes(emitter: Emitter, step: Step) -> list[int]:
    """The m for which a convolution has this form, the largest alone; none where it has not."""
    w = step.inputs[1]
    params = step.params
    weight = emitter.type(w).shape
    usual = params["groups"] == 1 and weight[:-2] == (WINDOW, WINDOW) and emitter.type(step.output).dtype == "float32"
    still = all(set(params[name]) == {1} for name in ("strides", "dilation", "input_dilation"))
    if not usual or not still or min(weight[-2:]) < FEWEST_CHANNELS or min(low for low, _ in params["pads"]) < 0:
        return []
    batch, *outer, _ = emitter.type(step.output).shape

    def worth(m: int) -> bool:
        tiles = batch * math.prod(-(-size // m) for size in outer)
        return tiles >= FEWEST_TILES[m] and (m + 2) ** 2 * weight[-2] * weight[-1] <= MOST_WEIGHTS

    return [m for m in sorted(INPUT, reverse=True) if worth(m)][:1]


def transformed(weight: np.ndarray, m: int) -> np.ndarray:
    """A kernel [3, 3, C, O] as the products take it: [(m + 2)², C, O]."""
    across = np.asarray(WEIGHT[m], np.float64)
    both = np.kron(across, across) @ weight.reshape(WINDOW * WINDOW, -1).astype(np.float64)
    return both.astype(weight.dtype).reshape(-1, *weight.shape[2:])


def product_rows(tiles: int) -> int:
    """How many tiles a product takes at once, so that few of its rows are filling."""
    cost = {rows: -(-tiles // rows) * rows / tiles * (1 + WORSE * place) for place, rows in enumerate(TILE_ROWS)}
    return min(cost, key=lambda rows: cost[rows])


def convolve(emitter: Emitter, step: Step, m: int) -> Emitted:
    """The kernel by F(m, 3): inputs to tiles, products of all tiles position by position, and back, with the epilogue."""
    x, w = step.inputs
    kind = emitter.type(x)
    batch, *outer, features = emitter.type(step.output).shape
    channels, row = kind.shape[-1], emitter.row(outer[-1])
    count, block = blocks_of(features, emitter.lanes)
    down, right = -(-outer[0] // m), -(-row // m)
    side, tiles = m + 2, batch * down * right
    rows = product_rows(tiles)
    filled = -(-tiles // rows) * rows
    lane_count, lanes = blocks_of(channels, emitter.lanes)
    lows = [0, *(low for low, _ in step.params["pads"]), 0]
    reach = (batch, down * m + side - m, right * m + side - m, lane_count * lanes)
    blank = tirx.const(0, kind.dtype)

    def pixel(tile: Any, y: Any, x_: Any, channel: Any) -> Any:
        inside = te.min(tile, tiles - 1) if filled > tiles else tile
        n = te.floordiv(inside, down * right) if batch > 1 else 0
        at = (n, te.floormod(te.floordiv(inside, right), down) * m + y, te.floormod(inside, right) * m + x_, channel)
        return emitter.guarded(at, kind.shape, lows, [1] * 4, lambda i: emitter.read(x, i), blank, reach)

    # A stage of its own: the guard of the padding would else be in every term of the transform.
    pixels = emitter.compute(
        (filled, lane_count, side, side, lanes), lambda p, cb, i, j, lane: pixel(p, i, j, cb * lanes + lane), "pixels"
    )
    columns = emitter.compute(
        (filled, lane_count, side, side, lanes),
        lambda p, cb, i, j, lane: _chosen(i, INPUT[m], [pixels(p, cb, k, j, lane) for k in range(side)]),
        "columns",
    )
    spread = emitter.compute(
        (side, side, filled, lane_count * lanes),
        lambda i, j, p, c: _chosen(
            j, INPUT[m], [columns(p, te.floordiv(c, lanes), i, k, te.floormod(c, lanes)) for k in range(side)]
        ),
        "spread",
    )
    packed = emitter.tensor(Argument(w, block, 1, m), (side * side, count, channels, block), kind.dtype)
    c = emitter.axis(channels, "k0")
    sums = emitter.compute(
        (side, side, filled, count, block),
        lambda i, j, p, ob, lane: te.sum(spread(i, j, p, c.var) * packed(i * side + j, ob, c.var, lane), axis=[c]),
        "sums",
    )
    folded = emitter.compute(
        (tiles, count, m, side, block),
        lambda p, ob, i, j, lane: _chosen(i, OUTPUT[m], [sums(k, j, p, ob, lane) for k in range(side)]),
        "folded",
    )
    values = emitter.compute(
        (tiles, count, m, m, block),
        lambda p, ob, i, j, lane: _chosen(j, OUTPUT[m], [folded(p, ob, i, k, lane) for k in range(side)]),
        "values",
    )

    def element(at: Sequence[Any]) -> Any:
        n, y, x_, feature = at
        tile = (n * down + te.floordiv(y, m)) * right + te.floordiv(x_, m)
        inner = (te.floormod(y, m), te.floormod(x_, m))
        return values(tile, te.floordiv(feature, block), *inner, te.floormod(feature, block))

    shape = (batch, *outer, features)
    emitter.anchor_at(step, shape, element)
    work = side * side * filled * channels * count * block
    geometry = Geometry(
        "winograd", (filled,), count, block, 1, work, ("pixels", "columns", "spread"), stages=("folded", "values"), side=m
    )
    return emitter.finish(shape, (batch, outer[0], row, count * block), geometry)


def _chosen(place: Any, matrix: Sequence[Sequence[float]], values: Sequence[Any]) -> Any:
    """Row `place` of the matrix times the values. The loop over places is unrolled, so that one branch remains of each."""
    rows = [_combined(row, values) for row in matrix]
    result = rows[-1]
    for number, row in reversed(list(enumerate(rows[:-1]))):
        result = tirx.Select(place == number, row, result)
    return result


def _combined(row: Sequence[float], values: Sequence[Any]) -> Any:
    """The sum of the values times a row's factors, without those of zero and the products by one."""
    terms = [(factor, value) for factor, value in zip(row, values, strict=True) if factor]
    first, value = terms[0]
    result = value * tirx.const(first, "float32") if first != 1 else value
    for factor, value in terms[1:]:
        term = value if abs(factor) == 1 else value * tirx.const(abs(factor), "float32")
        result = result + term if factor > 0 else result - term
    return result
