"""Softmax, layer norm and their like as one kernel: several reductions over the last axis and what joins them, row by row.

A row value has the shape [*rows, C], or [*rows] or [*rows, 1] after a reduction. Steps between row values that keep the rows apart
may share a kernel, whatever number of reductions they pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from alphanas.hardware.fusing import fused
from alphanas.hardware.gates import scaled
from alphanas.hardware.kernels import ANCHORS, LAYOUT, Kernel, Plan, plan
from alphanas.hardware.program import Flat, Step
from alphanas.hardware.siblings import joined

LONGEST_ROW = 4096
"""Rows of a kernel's inner values are kept on the stack."""

Shape = tuple[int, ...]


def exits(flat: Flat, readers: Mapping[int, Sequence[Step]]) -> set[int]:
    """The values in which row computations end: they are worth storing, so that what comes before can be one kernel."""
    found: set[int] = set()
    for step in flat.steps:
        if not _reduces_rows(flat, step):
            continue
        shape = flat.types[step.inputs[0]].shape
        found |= {slot for slot in _downstream(flat, step, shape, readers) if _leaves(flat, slot, shape, readers)}
    return found


def _reduces_rows(flat: Flat, step: Step) -> bool:
    shape = flat.types[step.inputs[0]].shape if step.inputs else ()
    last = step.primitive == "reduce" and step.params["axes"] == (len(shape) - 1,)
    return last and len(shape) > 1 and shape[-1] <= LONGEST_ROW


def _keeps_rows(flat: Flat, step: Step, shape: Shape) -> bool:
    """Whether a row of the step's result depends on that row of its operands alone."""
    rows = shape[:-1]
    forms = (shape, rows, (*rows, 1))
    result = flat.types[step.output].shape
    operands = [flat.types[slot].shape for slot in step.inputs]
    if step.primitive == "reshape":
        return result in forms[1:] and operands[0] in forms[1:]
    if step.primitive == "broadcast_in_dim":
        straight = tuple(step.params["dimensions"]) == tuple(range(len(operands[0])))
        return straight and result == shape and operands[0] in forms[1:]
    return step.primitive not in LAYOUT | ANCHORS and result in forms


def _downstream(flat: Flat, start: Step, shape: Shape, readers: Mapping[int, Sequence[Step]]) -> set[int]:
    """The values of full rows that depend on a row reduction by steps that keep rows apart."""
    found: set[int] = set()
    seen, stack = {start.output}, [start.output]
    while stack:
        for step in readers[stack.pop()]:
            if step.output in seen or not _keeps_rows(flat, step, shape):
                continue
            seen.add(step.output)
            stack.append(step.output)
            if step.primitive not in LAYOUT and flat.types[step.output].shape == shape:
                found.add(step.output)
    return found


def _leaves(flat: Flat, slot: int, shape: Shape, readers: Mapping[int, Sequence[Step]]) -> bool:
    def stays(step: Step) -> bool:
        return _keeps_rows(flat, step, shape) or (_reduces_rows(flat, step) and flat.types[step.inputs[0]].shape == shape)

    return slot in flat.outputs or not all(stays(step) for step in readers[slot])


def planned(flat: Flat) -> Plan:
    """The kernels of a canonical program, row computations joined, and pairs of convolutions that are faster as one kernel."""
    flat = joined(scaled(flat))
    return fused(grouped(plan(flat, frozenset(exits(flat, flat.readers)))))


def grouped(planned: Plan) -> Plan:
    """The plan with row computations joined: a joined kernel lists in `before` those that it runs first."""
    flat = planned.flat
    producers = {step.output: step for step in flat.steps}
    by_output = {kernel.output: kernel for kernel in planned.kernels}
    reads = {kernel.output: _reads(planned, producers, kernel) for kernel in planned.kernels}
    readers: dict[int, set[int]] = {slot: set() for slot in by_output}
    for output, (near, far) in reads.items():
        for slot in (near | far) & set(by_output):
            readers[slot].add(output)
    taken: set[int] = set()
    joined: dict[int, Kernel] = {}
    for kernel in reversed(planned.kernels):
        shape = flat.types[kernel.output].shape
        if kernel.anchor is not None or kernel.output in taken or len(shape) < 2 or shape[-1] > LONGEST_ROW:
            continue
        group = _group(planned, kernel, by_output, reads, readers, taken)
        inner = [other for other in planned.kernels if other.output in group and other is not kernel]
        if any(other.anchor is not None for other in inner):
            taken |= group
            joined[kernel.output] = dataclasses.replace(kernel, before=tuple(inner))
    hidden = {kernel.output for whole in joined.values() for kernel in whole.before}
    kernels = tuple(joined.get(kernel.output, kernel) for kernel in planned.kernels if kernel.output not in hidden)
    return dataclasses.replace(planned, kernels=kernels)


def _group(
    planned: Plan,
    kernel: Kernel,
    by_output: Mapping[int, Kernel],
    reads: Mapping[int, tuple[set[int], set[int]]],
    readers: Mapping[int, set[int]],
    taken: set[int],
) -> set[int]:
    """The outputs of the kernels that can run row by row before this one: nothing else reads them."""
    flat = planned.flat
    shape = flat.types[kernel.output].shape
    group = {kernel.output}
    while True:
        near = set().union(*(reads[slot][0] for slot in group))
        far = set().union(*(reads[slot][1] for slot in group))
        fresh = {
            slot
            for slot in near - far - group - taken
            if slot in by_output
            and slot not in flat.outputs
            and readers[slot] <= group
            and _is_row_kernel(flat, by_output[slot], shape)
        }
        if not fresh:
            return group
        group |= fresh


def _is_row_kernel(flat: Flat, kernel: Kernel, shape: Shape) -> bool:
    if kernel.anchor is None:
        return flat.types[kernel.output].shape == shape
    return _reduces_rows(flat, kernel.anchor) and flat.types[kernel.anchor.inputs[0]].shape == shape


def _reads(planned: Plan, producers: Mapping[int, Step], kernel: Kernel) -> tuple[set[int], set[int]]:
    """The stored values that a kernel reads: by steps that keep rows apart, and otherwise."""
    flat = planned.flat
    anchor = kernel.anchor
    shape = flat.types[anchor.inputs[0] if anchor is not None and anchor.inputs else kernel.output].shape
    near: set[int] = set()
    far: set[int] = set()
    stack, seen = [(kernel.output, True)], set[tuple[int, bool]]()
    while stack:
        slot, kept = stack.pop()
        step = producers[slot]
        keeps = kept and (_keeps_rows(flat, step, shape) or (step is anchor and _reduces_rows(flat, step)))
        for source in step.inputs:
            if (source, keeps) in seen or source in flat.constants:
                continue
            seen.add((source, keeps))
            if source in planned.stored:
                (near if keeps else far).add(source)
            else:
                stack.append((source, keeps))
    return near, far
