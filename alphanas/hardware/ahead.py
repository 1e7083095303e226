"""Weights from afar: those of the next blocks of features are asked for while these are multiplied.

Weights that no near cache holds come from memory in the first tile of places that needs them, faster than memory gives them; the
tiles after it find them near, and memory idles. Asking for the next ones a line at a time, all through, makes both overlap.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import te, tirx

from alphanas.hardware.emit import LINE

TILES, DEPTH = "alphanas.tiles", "alphanas.depth"
"""Attributes of the loops over tiles and over depth, while this module looks for them."""
READ, NEAREST, DATA = 0, 3, 1
"""What LLVM's prefetch is told: to read, into the first cache, data."""


def asked(schedule: Any, place: int, tiles: int, panels: int, panel: int) -> Any:
    """The function of a scheduled product whose outermost loop goes over `tiles` of each of `panels`, time and again.

    A panel is so many elements of the argument at this place, side by side. All of it is asked for within the tiles of the one
    before; nothing is, where those are too few to ask for a line at a time.
    """
    shared, depth, *_ = schedule.get_loops(schedule.get_sblock("sums_update"))
    extent, lines = int(schedule.get(depth).extent), -(-panel // LINE)
    steps = min((d for d in range(1, extent + 1) if extent % d == 0 and d * tiles >= lines), default=0)
    if not steps:
        return schedule.mod["main"]
    step, _ = schedule.split(depth, [steps, None])
    schedule.annotate(shared, TILES, True)
    schedule.annotate(step, DEPTH, True)
    function = schedule.mod["main"]
    weights = function.params[place]
    front = [0] * (len(weights.shape) - 1)

    def with_request(loop: Any, tile: Any) -> Any:
        line = te.min(tile % tiles * steps + loop.loop_var, lines - 1)
        address = tirx.address_of(tirx.BufferLoad(weights, [*front, (tile // tiles + 1) % panels * panel + line * LINE]))
        options = [tirx.const(option, "int32") for option in (READ, NEAREST, DATA)]
        request = tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, *options))
        return _copied(loop, tirx.SeqStmt([request, loop.body]))

    def with_requests(loop: Any) -> Any:
        if TILES not in loop.annotations:
            return loop
        inner = (tirx.For, lambda each: with_request(each, loop.loop_var) if DEPTH in each.annotations else each)
        return _copied(loop, tvm_ffi.structural_map(loop.body, inner))

    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.For, with_requests)))


def _copied(loop: Any, body: Any) -> Any:
    """The loop with another body, and without attributes."""
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)
