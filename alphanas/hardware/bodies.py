"""From a kernel of the plan to a function: by its anchor where it has one, else element by element or row by row."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

from alphanas.hardware import contractions, expanded, products, reductions, turning, winograd
from alphanas.hardware.emit import Emitted, Emitter, Geometry
from alphanas.hardware.kernels import Kernel, Plan
from alphanas.hardware.program import Step, Storage


def _convolve(emitter: Emitter, step: Step) -> Emitted:
    return (turning if turning.block_of(emitter, step) else contractions).convolve(emitter, step)


ANCHORS: Mapping[str, Callable[[Emitter, Step], Emitted]] = {
    "contract": products.contract,
    "convolve": _convolve,
    "window": reductions.window,
    "reduce": reductions.reduce,
}


def emit(plan: Plan, producers: Mapping[int, Step], storages: Mapping[int, Storage], kernel: Kernel, lanes: int) -> Emitted:
    """The kernel's function for vectors of so many lanes. Raises NotLowerable where a step has no rule."""
    if kernel.anchor is not None and kernel.before:
        return expanded.convolve(Emitter(plan, producers, storages, kernel, lanes), kernel)
    if kernel.anchor is not None:
        return _anchored(lambda: Emitter(plan, producers, storages, kernel, lanes), kernel.anchor)
    body = _rows if kernel.before else _map
    emitter = Emitter(plan, producers, storages, kernel, lanes)
    emitted = body(emitter, kernel)
    if not emitter.clamped:
        return emitted
    # A wider row is no gain where an operand is not as wide: its reads would be clamped one by one.
    return body(Emitter(plan, producers, storages, kernel, lanes, fill=False), kernel)


def _anchored(fresh: Callable[[], Emitter], anchor: Step) -> Emitted:
    """The kernel of a step that reduces, with its other forms."""
    emitted = ANCHORS[anchor.primitive](fresh(), anchor)
    if anchor.primitive != "convolve":
        return emitted
    forms = {f"winograd{m}": winograd.convolve(fresh(), anchor, m) for m in winograd.sizes(fresh(), anchor)}
    alike = {name: form for name, form in forms.items() if form.storage == emitted.storage}
    return dataclasses.replace(emitted, forms=alike)


def _map(emitter: Emitter, kernel: Kernel) -> Emitted:
    shape = emitter.type(kernel.output).shape
    return emitter.finish(shape, emitter.wide(shape), Geometry("map", outer=shape, work=math.prod(shape)))


def _rows(emitter: Emitter, kernel: Kernel) -> Emitted:
    """Several reductions over the last axis, and what joins them."""
    shape = emitter.type(kernel.output).shape
    names: list[str] = []
    for number, part in enumerate(kernel.before):
        emitter.join(part)
        own, filled = shape, emitter.wide(shape)
        if part.anchor is not None:
            own, _ = reductions.sums_of(emitter, part.anchor, f"s{number}_", names)
            filled = own
        names.append(f"s{number}_value")
        emitter.keep(own, filled, names[-1])
    emitter.join(kernel)
    work = math.prod(shape) * (1 + len(names))
    return emitter.finish(shape, emitter.wide(shape), Geometry("rows", outer=shape, work=work, stages=tuple(names)))
