"""How fast the machine is now: the seconds of fixed kernels, timed beside whatever is compared with what was timed at another time.

Shared machines run at another speed from minute to minute. Two products on one thread, one of what the registers and the nearest
cache hold and one that streams a matrix from the second cache, follow what networks do. What threads pay for reading what another
one wrote changes by itself: a virtual machine's cores are neighbours in one minute and far apart in another. A record holds both as
they were beside it, so that times of different minutes can be added. Imports TVM when it runs: only worker processes measure.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from alphanas.hardware.timing import settled_number

if TYPE_CHECKING:
    from alphanas.hardware.machine import Machine

TILE_ROWS, TILE_VECTORS = 6, 2
"""A product's tile: six rows, two vectors of columns."""
NEAR, FAR = (64, 192), (3072, 4)
"""(depth, turns) of the two products: about as many multiply-adds, on matrices of 4 to 8 and of 192 to 384 KiB."""
LINES, LINE_BYTES, FLOAT_BYTES, STEP = 256, 64, 4, 37
"""Of the exchange: cache lines that each thread writes, and the step (prime to their number) in which another one reads them."""
SMALLEST_SHARE = 0.05
REPEATS = 8
REPEAT_S = 0.001


def now(machine: Machine) -> float:
    """Seconds of one run of both products: the lower quartile, since what disturbs a repeat only ever adds."""
    return _quartile(runner(machine))


def exchange(machine: Machine) -> float:
    """Seconds more that threads take to read some lines that others wrote than their own, likewise; 0 with one thread."""
    if machine.threads == 1:
        return 0.0
    return more_than(*(_quartile(exchanger(machine, far=far)) for far in (True, False)))


def more_than(far: float, near: float) -> float:
    """What an exchange takes more, from both runs of it: no less than its clock can tell."""
    return max(far - near, SMALLEST_SHARE * near)


def _quartile(run: Callable[[], None]) -> float:
    run()
    number = settled_number(_seconds(run, 1), REPEAT_S)
    return float(np.percentile([_seconds(run, number) for _ in range(REPEATS)], 25))


@functools.lru_cache(maxsize=4)
def runner(machine: Machine) -> Callable[[], None]:
    """What runs both products once."""
    near, far = (product(machine, threads=1, depth=depth, turns=turns) for depth, turns in (NEAR, FAR))
    (first, of_first), (second, of_second) = ((module["product"], arrays) for module, arrays in (near, far))

    def run() -> None:
        first(*of_first)
        second(*of_second)

    return run


@functools.lru_cache(maxsize=8)
def exchanger(machine: Machine, *, far: bool) -> Callable[[], None]:
    """What makes each thread write lines, then read those of the next one; its own, if not `far`."""
    import tvm
    from tvm import s_tir, te

    shape = (machine.threads, LINES, LINE_BYTES // FLOAT_BYTES)
    source = te.placeholder(shape, "float32", "source")
    written = te.compute(shape, lambda t, line, place: source[t, line, place] + 1.0, "written")
    read = te.compute(shape, lambda t, line, place: written[(t + far) % shape[0], line * STEP % LINES, place], "read")
    schedule = s_tir.Schedule(te.create_prim_func([source, read]))
    for name in ("written", "read"):
        thread, _, place = schedule.get_loops(schedule.get_sblock(name))
        outer, inner = schedule.split(place, [None, math.gcd(machine.lanes, shape[-1])])
        schedule.unroll(outer)
        schedule.vectorize(inner)
        schedule.parallel(thread)
    function = schedule.mod["main"].with_attr("tirx.is_scheduled", True).with_attr("global_symbol", "exchange")
    compiled = tvm.compile(tvm.IRModule({"exchange": function}), target=machine.target).jit()["exchange"]
    arrays = [tvm.runtime.tensor(np.zeros(shape, np.float32)) for _ in range(2)]
    return lambda: compiled(*arrays)


def _seconds(run: Callable[[], None], number: int) -> float:
    begin = time.perf_counter()
    for _ in range(number):
        run()
    return (time.perf_counter() - begin) / number


def product(machine: Machine, *, threads: int, depth: int, turns: int) -> tuple[Any, list[Any]]:
    """(module, arrays) of `product`: on each thread a tile of sums over `depth`, `turns` times over, kept in registers."""
    import tvm
    from tvm import s_tir, te

    lanes = machine.lanes
    left = te.placeholder((threads, TILE_ROWS, depth), "float32", "left")
    right = te.placeholder((threads, depth, TILE_VECTORS, lanes), "float32", "right")
    turn, inner = te.reduce_axis((0, turns), "turn"), te.reduce_axis((0, depth), "depth")
    shape = (threads, TILE_ROWS, TILE_VECTORS, lanes)
    tile = te.compute(
        shape, lambda t, i, v, lane: te.sum(left[t, i, inner] * right[t, inner, v, lane], axis=[turn, inner]), "product"
    )
    schedule = s_tir.Schedule(te.create_prim_func([left, right, tile]))
    block = schedule.get_sblock("product")
    write = schedule.cache_write(block, 0, "local")
    thread, *spatial, outer, sums = schedule.get_loops(block)
    schedule.reverse_compute_at(write, thread)
    schedule.reorder(outer, sums, *spatial)
    if threads > 1:
        schedule.parallel(thread)
    schedule.vectorize(spatial[-1])
    for loop in spatial[:-1]:
        schedule.unroll(loop)
    schedule.decompose_reduction(block, outer)
    schedule.vectorize(schedule.get_loops(write)[-1])
    function = schedule.mod["main"].with_attr("tirx.is_scheduled", True).with_attr("global_symbol", "product")
    compiled = tvm.compile(tvm.IRModule({"product": function}), target=machine.target).jit()
    shapes = ((threads, TILE_ROWS, depth), (threads, depth, TILE_VECTORS, lanes), shape)
    return compiled, [tvm.runtime.tensor(np.ones(item, np.float32)) for item in shapes]
