"""A graph's kernels without its weights: what a latency depends on. Needs no TVM, and traces each op once.

The same kernels as lowering the graph with weights finds: no value of a weight decides over one, unless it is a single number.
"""

from __future__ import annotations

import functools

from alphanas.hardware import rows
from alphanas.hardware.canonical import canonical
from alphanas.hardware.flattening import inline
from alphanas.hardware.kernels import Plan
from alphanas.hardware.program import Flat, Writer
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
        program, owned = _traced(node.op, graph.input_values(node), batch)
        weights = [writer.placeholder(program.types[slot].shape, program.types[slot].dtype) for slot in range(owned)]
        writer.origin = node.name
        (slots[node.name],) = inline(writer, program, [*weights, *(slots[name] for name in node.inputs)])
    writer.origin = ""
    return writer.flat(inputs, [slots[name] for name in graph.outputs])


@functools.lru_cache(maxsize=4096)
def _traced(op: Op, inputs: tuple[Value, ...], batch: int) -> tuple[jaxpr.Program, int]:
    """(an op's program, how many of its inputs are weights)."""
    weights = {**avals_of(op.weights(*inputs)), **avals_of(state_of(op, inputs))}
    closed, _ = jaxpr.trace(lambda held, *values: op.apply(held, *values), weights, *(value.aval(batch) for value in inputs))
    return jaxpr.program(closed), len(weights)
