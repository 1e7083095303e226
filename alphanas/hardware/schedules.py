"""One schedule for each kind of kernel, with its knobs.

The contraction keeps a tile of rows times blocks of features in registers: each weight vector is loaded once a tile, each input
element is repeated across a vector. Convolutions, dense layers and batched products of attention are all of this form.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import s_tir

from alphanas.hardware import ahead
from alphanas.hardware.emit import Emitted, Geometry
from alphanas.hardware.winograd import product_rows

TUNED_KINDS = ("contraction", "depthwise", "turning")
"""The kinds that leave TVM's own tuner room."""
FORM = "alphanas.form"
"""The attribute by which a scheduled function says which form of its task it is."""
WORTH_TRYING = 1 << 15
"""Below so many operations a kernel takes well under a microsecond of arithmetic: one thread, and nothing is tried."""
BESIDE_FORMS = 2
"""Where a kernel has other forms, which save work, so many tiles of its own are tried."""
STRIP_BYTES = 1 << 16
"""What a part of the rows of a product reads and writes may take of the second cache."""
NEAR_BYTES = 3 << 17
"""What is read again and again is not slow as long as it takes no more: three quarters of a second cache of usual size."""
FLOAT_BYTES = 4
FEW_GROUPS = 8
"""From so many groups on, threads share them, not what is in them."""
PLANE = 3
WIDE_TILE = 12
"""Registers that a tile of the wide value may take."""
PARALLEL_WORK = 1 << 18
MAYBE_PARALLEL_WORK = 1 << 22
"""Between so many operations, waking a second thread may cost more than it saves; below it does, above it does not."""


@dataclass(frozen=True)
class Knobs:
    """What is tried: the tile in rows and columns, its blocks of features, whether threads share the loop, and the task's form."""

    row: int = 1
    column: int = 1
    blocks: int = 1
    parallel: bool = True
    form: str = ""

    @property
    def registers(self) -> int:
        return self.row * self.column * self.blocks


def choices(task: Emitted, registers: int, threads: int) -> list[Knobs]:
    """The knobs worth trying for a task in all its forms, the likeliest first; always at least one."""
    others = [
        dataclasses.replace(knobs, form=name)
        for name, form in task.forms.items()
        for knobs in candidates(form.geometry, registers, threads)
    ]
    own = candidates(task.geometry, registers, threads)
    return [*others, *own[:BESIDE_FORMS]] if others else own


def candidates(geometry: Geometry, registers: int, threads: int) -> list[Knobs]:
    """The tiles worth trying with so many registers, the likeliest first; always at least one."""
    parallel = thread_choices(geometry, threads)[0]
    if geometry.kind == "winograd":
        return [Knobs(column=product_rows(geometry.outer[0]), blocks=blocks, parallel=parallel) for blocks in _panels(geometry)]
    if geometry.kind not in ("contraction", "depthwise", "turning", "expanded"):
        return [Knobs(parallel=parallel)]
    outer = (1, *geometry.outer)
    registers //= geometry.vectors if geometry.kind != "expanded" else 1
    rows = _divisors(geometry.side or outer[-2], registers) if len(geometry.outer) - geometry.batch > 1 else [1]
    columns = _divisors(outer[-1], registers)
    blocks = _divisors(geometry.together or geometry.blocks, registers) if geometry.kind == "contraction" else [1]
    tiles = [(r, c, b) for r, c, b in itertools.product(rows, columns, blocks) if r * c * b <= registers]
    tiles.sort(key=lambda tile: (-_merit(tile, registers), tile))
    shortlist = tiles[: 1 if geometry.work < WORTH_TRYING else 4 if geometry.work > MAYBE_PARALLEL_WORK else 3]
    return [Knobs(r, c, b, parallel) for r, c, b in shortlist]


def thread_choices(geometry: Geometry, threads: int) -> tuple[bool, ...]:
    """Whether threads share the outer loop: both ways are worth a measurement for work of middling size."""
    if geometry.work < PARALLEL_WORK or threads == 1:
        return (False,)
    if geometry.work > MAYBE_PARALLEL_WORK:
        return (True,)
    return (True, False)


def _panels(geometry: Geometry) -> list[int]:
    """How many blocks of features a product of Winograd tiles takes at once."""
    return [2] if geometry.blocks % 2 == 0 else [1]


def _merit(tile: tuple[int, int, int], registers: int) -> float:
    """How well a tile hides the latency of a multiply-add (8 in flight) and how few loads it needs for each."""
    row, column, blocks = tile
    taken = row * column * blocks
    loads = row * column + blocks
    spilt = taken + blocks + 1 > registers * 4 // 3
    return min(taken, 12) / 12 - 0.5 * loads / taken - 0.1 * (row > 1) - 0.05 * (taken > 16) - 0.5 * (loads > taken) - 0.5 * spilt


def _divisors(size: int, limit: int) -> list[int]:
    return [d for d in range(1, min(size, limit) + 1) if size % d == 0]


def scheduled(emitted: Emitted, knobs: Knobs) -> Any:
    """The emitted function under its kind's schedule."""
    form = emitted.form(knobs.form)
    schedule = s_tir.Schedule(form.function)
    SCHEDULES[form.geometry.kind](schedule, form.geometry, knobs)
    function = _from_afar(schedule, form, knobs) if _is_of_places(form.geometry) else schedule.mod["main"]
    return function.with_attr("tirx.is_scheduled", True).with_attr(FORM, knobs.form)


def _is_of_places(geometry: Geometry) -> bool:
    """Whether a kernel is the product of places and features."""
    return geometry.kind == "contraction" and len(geometry.outer) == geometry.reductions == 1 and not geometry.batch


def _from_afar(schedule: Any, form: Emitted, knobs: Knobs) -> Any:
    """The scheduled function of such a product, which asks ahead for weights that do not stay near."""
    geometry = form.geometry
    panel = geometry.work // (geometry.outer[0] * geometry.blocks) * knobs.blocks
    panels = geometry.blocks // knobs.blocks
    weights = [place for place, argument in enumerate(form.arguments) if argument.block]
    if len(weights) != 1 or panel * panels * FLOAT_BYTES <= NEAR_BYTES:
        return schedule.mod["main"]
    return ahead.asked(schedule, weights[0], _strip(geometry, knobs), panels, panel)


def _contraction(schedule: Any, geometry: Geometry, knobs: Knobs) -> None:
    if _has_groups_to_share(geometry):
        _by_group(schedule, geometry, knobs)
        return
    for name in geometry.prologues:
        _elementwise(schedule, schedule.get_sblock(name), knobs.parallel, geometry.grain)
    tile = _tile(schedule, geometry, knobs)
    _in_registers(schedule, geometry, tile)


def _depthwise(schedule: Any, geometry: Geometry, knobs: Knobs) -> None:
    result = schedule.get_sblock("result")
    *outer, feature = schedule.get_loops(result)
    block, lane = schedule.split(feature, [None, geometry.block])
    column_out, column_in = schedule.split(outer[-1], [None, knobs.column])
    row_out, row_in = schedule.split(outer[-2], [None, knobs.row])
    front = outer[:-2]
    schedule.reorder(*front, block, row_out, column_out, row_in, column_in, lane)
    shared = schedule.fuse(*front, block) if front else block
    sums = schedule.get_sblock("sums")
    schedule.compute_at(sums, column_out, preserve_unit_loops=True)
    for name in geometry.prologues:
        stage = schedule.get_sblock(name)
        schedule.compute_at(stage, shared, preserve_unit_loops=True)
        width = geometry.share if geometry.share > 1 else geometry.block
        repeats, lane = schedule.split(schedule.get_loops(stage)[-1], [None, width])
        schedule.unroll(repeats)
        schedule.vectorize(lane)
    if knobs.parallel:
        schedule.parallel(shared)
    _accumulate(schedule, geometry, sums, column_out)
    _store(schedule, result, 3)


def _turning(schedule: Any, geometry: Geometry, knobs: Knobs) -> None:
    """By strips of rows, and in each by lines of channels: what a line reads of a strip is padded, then filtered where it lies."""
    result, sums = schedule.get_sblock("result"), schedule.get_sblock("sums")
    padded = [schedule.get_sblock(name) for name in geometry.prologues]
    line = _extent(schedule, schedule.get_loops(padded[0])[-1]) if padded else geometry.block
    *outer, feature = schedule.get_loops(result)
    block, vector, lane = schedule.split(feature, [None, line // geometry.block, geometry.block])
    column_out, column_in = schedule.split(outer[-1], [None, knobs.column])
    front, strips, rest, inner = outer[:-1], [], [vector, column_out], [column_in]
    if len(outer) > PLANE - 1:
        strip, row_out, row_in = schedule.split(outer[-2], [None, geometry.side // knobs.row, knobs.row])
        front, strips, rest, inner = outer[:-2], [strip], [vector, row_out, column_out], [row_in, column_in]
    schedule.reorder(*front, *strips, block, *rest, *inner, lane)
    shared = schedule.fuse(*front, *strips, block)
    # As one loop: in one along a row alone the compiler would copy a vector's weights to the stack, and read them there.
    tile = schedule.fuse(*rest)
    if knobs.parallel:
        schedule.parallel(shared)
    joined = [schedule.get_sblock(name) for name in geometry.stages]
    for stage in (*joined, sums):
        schedule.compute_at(stage, tile, preserve_unit_loops=True)
    for stage in padded:
        schedule.compute_at(stage, shared, preserve_unit_loops=True)
        schedule.vectorize(schedule.get_loops(stage)[-1])
    _accumulate(schedule, geometry, sums, tile)
    for stage in (*joined, result):
        _store(schedule, stage, 2)


def _expanded(schedule: Any, geometry: Geometry, knobs: Knobs) -> None:
    """By strips of rows and blocks of channels: the wide value of the strip, padded, filtered."""
    result, sums = schedule.get_sblock("result"), schedule.get_sblock("sums")
    front, row, column, feature = schedule.get_loops(result)
    block, vector, lane = schedule.split(feature, [None, geometry.vectors, geometry.block // geometry.vectors])
    strip, row_out, row_in = schedule.split(row, [None, geometry.side // knobs.row, knobs.row])
    column_out, column_in = schedule.split(column, [None, knobs.column])
    schedule.reorder(front, strip, block, vector, row_out, column_out, row_in, column_in, lane)
    shared = schedule.fuse(front, strip, block)
    # Now: of strips that overlap TVM does not see below that they may run side by side.
    if knobs.parallel:
        schedule.parallel(shared)
    schedule.compute_at(sums, column_out, preserve_unit_loops=True)
    padded, products, wide = (schedule.get_sblock(name) for name in (*geometry.prologues, *geometry.stages))
    schedule.compute_at(padded, shared, preserve_unit_loops=True)
    schedule.vectorize(schedule.get_loops(padded)[-1])
    # Row by row where there are strips: then what is padded is in the nearest cache still.
    by_rows = geometry.side < geometry.outer[1]
    schedule.compute_at(wide, schedule.get_loops(padded)[-3] if by_rows else shared, preserve_unit_loops=True)
    place = schedule.get_loops(wide)[-2]
    tile = _divisors(_extent(schedule, place), WIDE_TILE // geometry.vectors)[-1]
    place_out, _ = schedule.split(place, [None, tile])
    schedule.compute_at(products, place_out, preserve_unit_loops=True)
    *_, tile_loop, vector, reduced = schedule.get_loops(products)
    schedule.reorder(reduced, tile_loop, vector)
    schedule.vectorize(vector)
    schedule.unroll(tile_loop)
    schedule.decompose_reduction(products, reduced)
    *_, tile_loop, vector = schedule.get_loops(wide)
    schedule.vectorize(vector)
    schedule.unroll(tile_loop)
    _accumulate(schedule, geometry, sums, column_out)
    _store(schedule, result, 4)


def _winograd(schedule: Any, geometry: Geometry, knobs: Knobs) -> None:
    """Three loops that threads share: inputs to tiles, the products of each position, and back."""
    pixels, columns, spread = (schedule.get_sblock(name) for name in geometry.prologues)
    *places, tile, channel = schedule.get_loops(spread)
    block, lane = schedule.split(channel, [None, _extent(schedule, schedule.get_loops(columns)[-1])])
    schedule.reorder(tile, block, *places, lane)
    _filter(schedule, schedule.fuse(tile, block), [columns], spread, knobs.parallel)
    across, down = schedule.get_loops(columns)[-2], schedule.get_loops(columns)[-3]
    schedule.reorder(across, down)
    schedule.compute_at(pixels, across, preserve_unit_loops=True)
    _store(schedule, pixels, 4)

    sums = schedule.get_sblock("sums")
    kept = schedule.cache_write(sums, 0, "global")
    *places, tile, feature, lane = schedule.get_loops(kept)
    tile_out, tile_in = schedule.split(tile, [None, knobs.column])
    panel, feature_in = schedule.split(feature, [None, knobs.blocks])
    schedule.reorder(*places, panel, tile_out, feature_in, tile_in, lane)
    shared = schedule.fuse(*places, panel)
    if knobs.parallel:
        schedule.parallel(shared)
    schedule.compute_at(sums, tile_out, preserve_unit_loops=True)
    loops = schedule.get_loops(sums)
    spatial, reduced = loops[2:-1], loops[-1]
    schedule.reorder(reduced, *spatial)
    schedule.vectorize(spatial[-1])
    for loop in spatial[:-1]:
        schedule.unroll(loop)
    schedule.decompose_reduction(sums, reduced)
    _store(schedule, kept, 2)

    result = schedule.get_sblock("result")
    *front, row, column, feature = schedule.get_loops(result)
    row_out, row_in = schedule.split(row, [None, geometry.side])
    column_out, column_in = schedule.split(column, [None, geometry.side])
    block, lane = schedule.split(feature, [None, geometry.block])
    schedule.reorder(*front, row_out, column_out, block, row_in, column_in, lane)
    back = [schedule.get_sblock(name) for name in geometry.stages]
    _filter(schedule, schedule.fuse(*front, row_out, column_out, block), back, result, knobs.parallel)


def _filter(schedule: Any, shared: Any, stages: Sequence[Any], last: Any, parallel: bool) -> None:
    """Small matrices times a tile, one stage after the other, all unrolled, features in a vector."""
    for stage in reversed(stages):
        schedule.compute_at(stage, shared, preserve_unit_loops=True)
    if parallel:
        schedule.parallel(shared)
    for stage in (*stages, last):
        _store(schedule, stage, 1)


def _tile(schedule: Any, geometry: Geometry, knobs: Knobs) -> Any:
    """Tiles the result; returns the loop below which a tile is computed."""
    result = schedule.get_sblock("result")
    *outer, feature = schedule.get_loops(result)
    block_out, block_in, lane = schedule.split(feature, [None, knobs.blocks, geometry.block])
    column_out, column_in = schedule.split(outer[-1], [None, knobs.column])
    front, rest, inner = outer[:-2], [column_out], [column_in]
    if len(outer) > 1:
        row_out, row_in = schedule.split(outer[-2], [None, knobs.row])
        rest, inner = [row_out, column_out], [row_in, column_in]
    strips = []
    if len(outer) == 1:
        strip, column_out = schedule.split(column_out, [None, _strip(geometry, knobs)])
        strips, rest = [strip], [column_out]
    schedule.reorder(*front, *strips, block_out, *rest, block_in, *inner, lane)
    shared = schedule.fuse(*front, *strips, block_out, *rest)
    if knobs.parallel:
        schedule.parallel(shared)
    return shared


def _has_groups_to_share(geometry: Geometry) -> bool:
    groups = geometry.blocks // geometry.together if geometry.together else 0
    return groups >= FEW_GROUPS and len(geometry.prologues) == 1 and len(geometry.outer) >= PLANE


def _by_group(schedule: Any, geometry: Geometry, knobs: Knobs) -> None:
    """A convolution in groups: threads share the groups, and the channels of one are padded where it begins."""
    result, sums = schedule.get_sblock("result"), schedule.get_sblock("sums")
    *outer, feature = schedule.get_loops(result)
    group, block_out, block_in, lane = schedule.split(
        feature, [None, geometry.together // knobs.blocks, knobs.blocks, geometry.block]
    )
    row_out, row_in = schedule.split(outer[-2], [None, knobs.row])
    column_out, column_in = schedule.split(outer[-1], [None, knobs.column])
    schedule.reorder(*outer[:-2], group, block_out, row_out, column_out, block_in, row_in, column_in, lane)
    shared, tile = schedule.fuse(*outer[:-2], group), schedule.fuse(block_out, row_out, column_out)
    schedule.compute_at(sums, tile, preserve_unit_loops=True)
    for name in geometry.prologues:
        stage = schedule.get_sblock(name)
        schedule.compute_at(stage, shared, preserve_unit_loops=True)
        schedule.vectorize(schedule.get_loops(stage)[-1])
    if knobs.parallel:
        schedule.parallel(shared)
    _accumulate(schedule, geometry, sums, tile)
    _store(schedule, result, 2)


def _strip(geometry: Geometry, knobs: Knobs) -> int:
    """How many tiles of rows take all features in turn before the next ones: what they read and write stays in the cache.

    Where the weights do not, each strip reads them from afar: as many tiles as make that and reading the rows cost least.
    """
    tiles = geometry.outer[-1] // knobs.column
    columns = geometry.blocks * geometry.block
    depth = geometry.work // (math.prod(geometry.outer) * columns)
    weights, tile = depth * columns * FLOAT_BYTES, depth * FLOAT_BYTES * knobs.column
    if weights <= NEAR_BYTES:
        return _divisors(tiles, max(1, STRIP_BYTES // (tile + columns * FLOAT_BYTES * knobs.column)))[-1]

    def far(strip: int) -> int:
        again = geometry.blocks // knobs.blocks if strip * tile > NEAR_BYTES else 1
        return tiles // strip * weights + again * tiles * tile

    return min(_divisors(tiles, tiles), key=far)


def _in_registers(schedule: Any, geometry: Geometry, tile: Any) -> None:
    sums = schedule.get_sblock("sums")
    # Without the unit loops the positions below would shift.
    schedule.compute_at(sums, tile, preserve_unit_loops=True)
    _accumulate(schedule, geometry, sums, tile)
    _store(schedule, schedule.get_sblock("result"), 1)


def _accumulate(schedule: Any, geometry: Geometry, sums: Any, tile: Any) -> None:
    """Reductions outside, the tile unrolled inside, features in a vector."""
    loops = schedule.get_loops(sums)
    depth = 1 + next(n for n, loop in enumerate(loops) if schedule.get(loop).same_as(schedule.get(tile)))
    spatial, reduced = loops[depth : len(loops) - geometry.reductions], loops[len(loops) - geometry.reductions :]
    schedule.reorder(*reduced, *spatial)
    schedule.vectorize(spatial[-1])
    for loop in spatial[:-1]:
        schedule.unroll(loop)
    schedule.decompose_reduction(sums, reduced[0])


def _store(schedule: Any, result: Any, outside: int) -> None:
    loops = schedule.get_loops(result)
    schedule.vectorize(loops[-1])
    for loop in loops[outside:-1]:
        schedule.unroll(loop)


def _elementwise(schedule: Any, block: Any, parallel: bool, grain: int) -> None:
    """Outer loops shared among threads, the innermost in vectors."""
    loops = schedule.get_loops(block)
    extent = _extent(schedule, loops[-1])
    width = _vector(math.gcd(extent, grain))
    *outer, last = loops
    if width == extent:
        vector = last
    else:
        rest, vector = schedule.split(last, [None, width])
        outer = [*outer, rest]
    if width > 1:
        schedule.vectorize(vector)
    if not outer:
        return
    shared = schedule.fuse(*outer) if len(outer) > 1 else outer[0]
    if parallel:
        schedule.parallel(shared)


def _vector(extent: int) -> int:
    """How many neighbours go together: the extent itself if short, else its largest divisor up to two vectors."""
    return extent if extent <= 32 else max(d for d in range(1, 33) if extent % d == 0)


def _extent(schedule: Any, loop: Any) -> int:
    return int(schedule.get(loop).extent)


def _map(schedule: Any, geometry: Geometry, knobs: Knobs) -> None:
    _elementwise(schedule, schedule.get_sblock("result"), knobs.parallel, geometry.grain)


def _window(schedule: Any, geometry: Geometry, knobs: Knobs) -> None:
    for name in geometry.prologues:
        _elementwise(schedule, schedule.get_sblock(name), knobs.parallel, geometry.grain)
    _gathered(schedule, geometry, knobs)


def _reduction(schedule: Any, geometry: Geometry, knobs: Knobs) -> None:
    if not geometry.stages:
        _gathered(schedule, geometry, knobs)
        return
    result, sums, parts = (schedule.get_sblock(name) for name in ("result", "sums", "parts"))
    loops = schedule.get_loops(result)
    shared = schedule.fuse(*loops) if len(loops) > 1 else loops[0]
    schedule.compute_at(sums, shared, preserve_unit_loops=True)
    schedule.compute_at(parts, shared, preserve_unit_loops=True)
    inner = schedule.get_loops(parts)
    reduced = inner[len(inner) - geometry.reductions :]
    lane = inner[len(inner) - geometry.reductions - 1]
    schedule.reorder(*reduced, lane)
    schedule.vectorize(lane)
    if knobs.parallel:
        schedule.parallel(shared)
    schedule.decompose_reduction(parts, reduced[0])


def _rows(schedule: Any, geometry: Geometry, knobs: Knobs) -> None:
    """Row by row: all stages of a row one after the other, each in vectors along it."""
    *outer, last = schedule.get_loops(schedule.get_sblock("result"))
    shared = schedule.fuse(*outer) if len(outer) > 1 else outer[0]
    for name in reversed(geometry.stages):
        stage = schedule.get_sblock(name)
        schedule.compute_at(stage, shared, preserve_unit_loops=True)
    if knobs.parallel:
        schedule.parallel(shared)
    for name in geometry.stages:
        stage = schedule.get_sblock(name)
        loops = schedule.get_loops(stage)
        if name.endswith("parts"):
            lane, reduced = loops[-2:]
            schedule.reorder(reduced, lane)
            schedule.vectorize(lane)
            schedule.decompose_reduction(stage, reduced)
        elif name.endswith("value"):
            _in_vectors(schedule, loops[-1])
    _in_vectors(schedule, last)


def _in_vectors(schedule: Any, loop: Any) -> None:
    extent = _extent(schedule, loop)
    width = _vector(extent)
    if width > 1:
        schedule.vectorize(loop if width == extent else schedule.split(loop, [None, width])[1])


def _gathered(schedule: Any, geometry: Geometry, knobs: Knobs) -> None:
    """A reduction that keeps the features: one vector of results at a time."""
    result, sums = schedule.get_sblock("result"), schedule.get_sblock("sums")
    *outer, last = schedule.get_loops(result)
    extent = _extent(schedule, last)
    rest, vector = schedule.split(last, [None, min(_vector(extent), 16) if extent % 16 == 0 or extent <= 16 else _vector(extent)])
    shared = schedule.fuse(*outer, rest) if outer else rest
    schedule.compute_at(sums, shared, preserve_unit_loops=True)
    loops = schedule.get_loops(sums)
    reductions = loops[len(loops) - geometry.reductions :]
    spatial = loops[1 : len(loops) - geometry.reductions]
    schedule.reorder(*reductions, *spatial)
    schedule.vectorize(spatial[-1])
    schedule.vectorize(vector)
    if knobs.parallel:
        schedule.parallel(shared)
    schedule.decompose_reduction(sums, reductions[0])


SCHEDULES: Mapping[str, Callable[[Any, Geometry, Knobs], None]] = {
    "contraction": _contraction,
    "depthwise": _depthwise,
    "turning": _turning,
    "expanded": _expanded,
    "winograd": _winograd,
    "window": _window,
    "reduction": _reduction,
    "rows": _rows,
    "map": _map,
}
