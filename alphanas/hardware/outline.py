"""A graph's kernels without its weights: what a latency depends on. Needs no TVM, and traces each op once.

The same kernels as lowering the graph with weights finds: no value of a weight decides over one, unless it is a single number.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from alphanas.hardware import rows
from alphanas.hardware.canonical import canonical
from alphanas.hardware.flattening import inline
from alphanas.hardware.kernels import Plan
from alphanas.hardware.program import Flat, NotLowerable, Step, Writer
from properties import jaxpr
from synth.graph import Graph
from synth.op import Op, Value, avals_of, state_of


def outline(graph: Graph, batch: int) -> Plan:
    """The plan of a graph's kernels at a batch size. Raises NotLowerable for what has no rule."""
    return rows.planned(canonical(flat(graph, batch)))


def flat(graph: Graph, batch: int) -> Flat:
    """The graph's steps at a batch size, its weights placeholders."""
    writer = Writer()
    slots: dict[str, int] = {}
    for item in graph.inputs:
        aval = item.value.aval(batch)
        slots[item.name] = writer.slot(aval.shape, str(aval.dtype))
    inputs = list(slots.values())
    for node in graph.nodes:
        writer.origin = node.name
        slots[node.name] = _written(writer, node.op, graph.input_values(node), batch, [slots[name] for name in node.inputs])
    writer.origin = ""
    return writer.flat(inputs, [slots[name] for name in graph.outputs])


def _written(writer: Writer, op: Op, inputs: tuple[Value, ...], batch: int, given: Sequence[int]) -> int:
    """Writes an op's steps on these slots; returns the slot of its result."""
    if any(slot in writer.constants for slot in given):
        return _inlined(writer, op, inputs, batch, given)  # more may be folded than where it reads data
    try:
        fragment = _fragment(op, inputs, batch)
    except NotLowerable:
        return _inlined(writer, op, inputs, batch, given)  # raised again, with the node's name
    (output,) = fragment.outputs
    return _inlined(writer, op, inputs, batch, given) if output in fragment.constants else _copied(writer, fragment, given)


def _inlined(writer: Writer, op: Op, inputs: tuple[Value, ...], batch: int, given: Sequence[int]) -> int:
    program, owned = _traced(op, inputs, batch)
    weights = [writer.placeholder(program.types[slot].shape, program.types[slot].dtype) for slot in range(owned)]
    (result,) = inline(writer, program, [*weights, *given])
    return result


def _copied(writer: Writer, fragment: Flat, given: Sequence[int]) -> int:
    """Writes a program's steps once more, on these slots and as the writer's origin's; returns the slot of its result."""
    slots = dict(zip(fragment.inputs, given, strict=True))

    def again(slot: int) -> int:
        slots[slot] = len(writer.types)
        writer.types[slots[slot]] = fragment.types[slot]
        return slots[slot]

    for slot, value in fragment.constants.items():
        writer.constants[again(slot)] = value
    for step in fragment.steps:
        operands = tuple([slots[slot] for slot in step.inputs])
        writer.steps.append(Step(step.primitive, operands, again(step.output), step.params, writer.origin, step.source))
    return slots[fragment.outputs[0]]


@functools.lru_cache(maxsize=4096)
def _fragment(op: Op, inputs: tuple[Value, ...], batch: int) -> Flat:
    """An op's steps by themselves. Raises NotLowerable for what has no rule."""
    writer = Writer()
    given = [writer.slot(aval.shape, str(aval.dtype)) for aval in (value.aval(batch) for value in inputs)]
    return writer.flat(given, [_inlined(writer, op, inputs, batch, given)])


@functools.lru_cache(maxsize=4096)
def _traced(op: Op, inputs: tuple[Value, ...], batch: int) -> tuple[jaxpr.Program, int]:
    """(an op's program, how many of its inputs are weights)."""
    weights = {**avals_of(op.weights(*inputs)), **avals_of(state_of(op, inputs))}
    closed, _ = jaxpr.trace(lambda held, *values: op.apply(held, *values), weights, *(value.aval(batch) for value in inputs))
    return jaxpr.program(closed), len(weights)
