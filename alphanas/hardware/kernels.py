"""Which steps run together: every kernel has at most one anchor (a contraction, a reduction), and what surrounds it is fused.

Steps before an anchor are computed where they are read; element-wise steps after it become its epilogue, as long as one value alone
leaves the group. A value that is costly and read by several kernels gets a kernel of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from alphanas.hardware.program import Flat, Step

ANCHORS = frozenset({"contract", "convolve", "window", "reduce"})
LAYOUT = frozenset({"reshape", "transpose", "broadcast_in_dim", "slice", "pad", "concatenate", "rev", "iota", "tile", "gather"})
COSTS: Mapping[str, int] = {
    **dict.fromkeys(("exp", "exp2", "expm1", "log", "log1p", "pow", "tanh", "logistic", "erf", "erfc", "sin", "cos"), 10),
    **dict.fromkeys(("div", "sqrt", "rsqrt", "rem", "cbrt"), 4),
}
"""Rough cost of an element, in additions. A primitive that is missing here costs one; layout costs nothing."""
RECOMPUTED = 2
"""Up to this cost a value is computed again by each of its readers instead of being stored."""
LARGEST_EXPRESSION = 128
"""A longer expression is cut by storing a value."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """Computes the value `output` from stored values; `anchor` is the one step in it that reduces, if there is one.

    `before` are kernels that run inside this one, row by row (see `rows`) or by strips (`fusing`); nothing else reads what they
    compute.
    """

    output: int
    anchor: Step | None = None
    before: tuple[Kernel, ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """Kernels in order of execution; the values that are stored are the inputs, the constants and the kernels' outputs."""

    flat: Flat
    kernels: tuple[Kernel, ...]
    stored: frozenset[int]


def plan(flat: Flat, extra: frozenset[int] = frozenset()) -> Plan:
    """Groups the steps of a canonical program into kernels; `extra` values are stored whatever they cost."""
    readers = flat.readers
    anchors = epilogues(flat, readers)
    stored = set(flat.inputs) | set(anchors) | _kept(flat, readers, anchors, extra)
    order = {step.output: index for index, step in enumerate(flat.steps)}
    produced = sorted(stored - set(flat.inputs) - set(flat.constants), key=order.__getitem__)
    kernels = [Kernel(slot, anchors.get(slot)) for slot in produced]
    return Plan(flat, _scheduled(flat, kernels, stored), frozenset(stored))


def epilogues(flat: Flat, readers: Mapping[int, list[Step]]) -> dict[int, Step]:
    """For every value that an anchored kernel leaves behind, its anchor."""
    claimed: set[int] = set()
    anchors: dict[int, Step] = {}
    order = {step.output: index for index, step in enumerate(flat.steps)}
    for step in flat.steps:
        if step.primitive not in ANCHORS:
            continue
        group = _group(flat, step, order, readers, claimed)
        claimed.update(group)
        anchors[group[-1]] = step
    return anchors


def _group(flat: Flat, anchor: Step, order: Mapping[int, int], readers: Mapping[int, list[Step]], claimed: set[int]) -> list[int]:
    """The anchor's value and the values of its epilogue; only the last is read from outside."""
    size = flat.types[anchor.output].size
    group, tainted = [anchor.output], set[int]()
    reshapes: set[int] = set()
    # What depends on the anchor, in order of execution, as long as there is a reader of the group that could join it.
    waiting = [order[reader.output] for reader in readers[anchor.output]]
    heapq.heapify(waiting)
    near = set(waiting)
    while near:
        index = heapq.heappop(waiting)
        near.discard(index)
        step = flat.steps[index]
        if step.output in tainted or step.output == group[-1]:
            continue
        fusable = step.primitive not in ANCHORS and (step.primitive not in LAYOUT or step.primitive == "reshape")
        same = flat.types[step.output].size == size and step.output not in claimed
        following = [order[reader.output] for reader in readers[step.output]]
        for later in following:
            heapq.heappush(waiting, later)
        if not fusable or not same or tainted.intersection(step.inputs):
            tainted.add(step.output)
            continue
        group.append(step.output)
        near.update(following)
        if step.primitive == "reshape" and step.output not in flat.outputs:
            reshapes.add(step.output)
    # A reshape at the end is index arithmetic for whoever reads it: it stays outside.
    while len(group) > 1 and (group[-1] in reshapes or not _single_exit(flat, group, readers)):
        group.pop()
    return group


def _single_exit(flat: Flat, group: list[int], readers: Mapping[int, list[Step]]) -> bool:
    inside = set(group)
    leaves = (slot in flat.outputs or any(step.output not in inside for step in readers[slot]) for slot in group[:-1])
    return not any(leaves)


def _kept(flat: Flat, readers: Mapping[int, list[Step]], anchors: Mapping[int, Step], extra: frozenset[int]) -> set[int]:
    """The values that are stored without being an anchor's: outputs, and what is too costly to compute twice."""
    inner = _inner(flat, anchors)
    kept = {slot for slot in flat.outputs if slot not in anchors} | (extra - set(anchors) - set(inner))
    cost: dict[int, int] = {}
    length: dict[int, int] = {}
    for step in flat.steps:
        own = 0 if step.primitive in LAYOUT else COSTS.get(step.primitive, 1)
        fresh = step.output in anchors or step.primitive in ANCHORS or step.output in kept
        cost[step.output] = 0 if fresh else own + sum(cost.get(slot, 0) for slot in step.inputs)
        length[step.output] = 1 if fresh else 1 + sum(length.get(slot, 1) for slot in step.inputs)
        if length[step.output] > LARGEST_EXPRESSION and step.output not in inner:
            kept.add(step.output)
            cost[step.output], length[step.output] = 0, 1
    users: dict[int, set[int]] = {}
    for step in reversed(flat.steps):
        slot = step.output
        used_by: set[int] = set()
        for reader in readers[slot]:
            stored = reader.output in anchors or reader.output in kept
            used_by |= {reader.output} if stored else users.get(reader.output, set())
        users[slot] = used_by
        if slot in inner:
            users[slot] = {inner[slot]}
            continue
        if slot in anchors or slot in kept or cost[slot] <= RECOMPUTED or step.primitive in LAYOUT:
            continue
        if len(used_by) > 1 or any(_repeats(flat, slot, reader) for reader in readers[slot]):
            kept.add(slot)
            users[slot] = {slot}
    return kept


def _inner(flat: Flat, anchors: Mapping[int, Step]) -> dict[int, int]:
    """Values inside an anchored kernel (its anchor's and those of its epilogue but the last), each with the kernel's output."""
    places = {step.output: place for place, step in enumerate(flat.steps)}
    inner: dict[int, int] = {}
    for output, anchor in anchors.items():
        if output == anchor.output:
            continue
        later = {step.output: step for step in flat.steps[places[anchor.output] + 1 : places[output] + 1]}
        reaches: dict[int, bool] = {anchor.output: True}
        _reaching(output, later, reaches)
        inner.update({slot: output for slot, yes in reaches.items() if yes and slot != output})
    return inner


def _reaching(slot: int, producers: Mapping[int, Step], reaches: dict[int, bool]) -> bool:
    """Fills in which of the values below `slot` depend on those already known to be reached."""
    stack = [slot]
    while stack:
        top = stack[-1]
        if top in reaches or top not in producers:
            reaches.setdefault(top, False)
            stack.pop()
            continue
        missing = [below for below in producers[top].inputs if below not in reaches]
        if missing:
            stack.extend(missing)
            continue
        reaches[top] = any(reaches[below] for below in producers[top].inputs)
        stack.pop()
    return reaches[slot]


def _repeats(flat: Flat, slot: int, reader: Step) -> bool:
    """Whether a reader would compute an element of the value more than once."""
    return reader.primitive not in ANCHORS and flat.types[reader.output].size > flat.types[slot].size


def _scheduled(flat: Flat, kernels: list[Kernel], stored: set[int]) -> tuple[Kernel, ...]:
    """The kernels in an order in which each finds what it reads: an epilogue may read values that come after its anchor."""
    producers = {step.output: step for step in flat.steps}
    by_output = {kernel.output: kernel for kernel in kernels}
    done: dict[int, Kernel] = {}

    def reads(kernel: Kernel) -> list[int]:
        found, seen, stack = [], {kernel.output}, [kernel.output]
        while stack:
            for slot in producers[stack.pop()].inputs:
                if slot in seen:
                    continue
                seen.add(slot)
                if slot in by_output:
                    found.append(slot)
                elif slot in producers and slot not in stored:
                    stack.append(slot)
        return found

    below = {kernel.output: reads(kernel) for kernel in kernels}
    for kernel in kernels:
        stack = [kernel.output]
        while stack:
            top = stack[-1]
            waiting = [slot for slot in below[top] if slot not in done]
            if waiting and top not in done:
                stack.extend(waiting)
                continue
            stack.pop()
            done.setdefault(top, by_output[top])
    return tuple(done.values())
