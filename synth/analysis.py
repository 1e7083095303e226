"""Properties of graphs, composed from the summaries of their ops, and of their whole programs; `edits` analyses edited graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import properties
from properties import PROPERTIES, Capacity, Inference, Property, RelationalProperty
from properties.idioms import with_idioms
from synth.composition import alive, forwards, identities, steps_of, summaries_of, type_of
from synth.effect import macs as op_macs
from synth.graph import Graph
from synth.op import PROBE_BATCH, avals_of
from synth.tracing import linked

__all__ = ["infer", "macs", "type_of", "verify"]


def infer(graph: Graph, asked: Sequence[Property] = PROPERTIES) -> Inference:
    """The properties of a graph at the probe's batch size, from its ops' summaries; relations compose and join along its edges.

    Properties that are no relations are read off the whole program.
    Errs on the side that the properties err on, and is never tighter than interpreting the whole jaxpr allows. The capacity is that
    of one example: `params` are the trained parameters, `state` is what else the ops hold.
    """
    composed = tuple(each for each in asked if isinstance(each, RelationalProperty))
    summaries = summaries_of(graph, composed)
    start = {item.name: identities(composed, item.value, k, len(graph.inputs)) for k, item in enumerate(graph.inputs)}
    reached = forwards(graph, summaries, start)
    tables: dict[str, Mapping[tuple[int, int], Any]] = {
        each.name: {(i, o): row for o, name in enumerate(graph.outputs) for i, row in enumerate(reached[name][each.name])}
        for each in composed
    }
    unknown = {name for own in summaries for name in own.unknown}
    others = [each for each in asked if not isinstance(each, RelationalProperty)]
    if others:
        whole = linked(graph)
        program = with_idioms(whole.program)
        tables |= {each.name: each.table(program, whole.params + whole.state, unknown) for each in others}
    inputs = {item.name: type_of(item.value) for item in graph.inputs}
    outputs = [type_of(graph.values[name]) for name in graph.outputs]
    memory = alive(steps_of(graph, summaries), {name: type_.bytes for name, type_ in inputs.items()}, graph.outputs)
    peak = max((during for _, during in memory), default=sum(type_.bytes for type_ in inputs.values()))
    capacity = replace(Capacity.total([own.capacity for own in summaries]), peak_bytes=peak)
    return Inference.of(tuple(inputs.values()), outputs, tables, capacity.per_example(PROBE_BATCH), sorted(unknown))


def verify(graph: Graph, asked: Sequence[Property] = PROPERTIES) -> Inference:
    """The properties of a graph by interpreting the jaxpr of its whole `apply`: what every claim is checked against."""
    weights = {node.name: avals_of(graph.owned(node)["params"]) for node in graph.nodes}
    state = {node.name: avals_of(graph.owned(node)["state"]) for node in graph.nodes}
    found = properties.infer(
        lambda params, state, *arrays: graph.apply({"params": params, "state": state}, *arrays),
        *(item.value.aval() for item in graph.inputs), params=weights, state=state, properties=asked,
    )  # fmt: skip
    return replace(found, capacity=found.capacity.per_example(PROBE_BATCH))


def macs(graph: Graph) -> int:
    """Multiply-adds of a graph for one example."""
    return sum(op_macs(node.op, graph.input_values(node)) for node in graph.nodes)
