"""Properties of graphs, composed from the summaries of their ops: analysing an edited graph costs the edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import properties
from properties import PROPERTIES, Capacity, Inference, RelationalProperty, Shape
from synth.effect import macs as op_macs
from synth.effect import summary
from synth.graph import Graph
from synth.op import PROBE_BATCH, Value, avals_of


def infer(graph: Graph, asked: tuple[RelationalProperty, ...] = PROPERTIES) -> Inference:
    """The properties of a graph at the probe's batch size, from its ops' summaries; relations compose and join along its edges.

    Errs on the side that the properties err on, and is never tighter than interpreting the whole jaxpr allows. The capacity is that
    of one example: `params` are the trained parameters, `state` is what else the ops hold.
    """
    reached = {item.name: _identities(index, item.value, asked) for index, item in enumerate(graph.inputs)}
    capacities: list[Capacity] = []
    unknown: set[str] = set()
    for node in graph.nodes:
        own = summary(node.op, graph.input_values(node), asked)
        reached[node.name] = _follow(own, [reached[name] for name in node.inputs])
        capacities.append(own.capacity)
        unknown.update(own.unknown)
    tables: dict[str, dict[tuple[int, int], Any]] = {each.name: {} for each in asked}
    for o, output in enumerate(graph.outputs):
        for name, by_input in reached[output].items():
            tables[name].update({(i, o): relation for i, relation in by_input.items()})
    inputs = tuple(type_of(item.value) for item in graph.inputs)
    outputs = tuple(type_of(graph.values[name]) for name in graph.outputs)
    total = replace(_total(graph, capacities).per_example(PROBE_BATCH), params=graph.params)
    return Inference.of(inputs, outputs, tables, total, sorted(unknown))


def verify(graph: Graph, asked: tuple[RelationalProperty, ...] = PROPERTIES) -> Inference:
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


def _total(graph: Graph, capacities: Sequence[Capacity]) -> Capacity:
    """The capacity of a graph from those of its nodes: work adds up, a node's memory comes on top of what waits outside of it."""
    last: dict[str, int] = {}
    for step, node in enumerate(graph.nodes):
        last |= dict.fromkeys((*node.inputs, node.name), step)
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    bytes_of = {name: type_of(value).bytes for name, value in graph.values.items()}
    alive = sum(bytes_of[item.name] for item in graph.inputs)
    peak, total = alive, Capacity()
    for step, (node, own) in enumerate(zip(graph.nodes, capacities, strict=True)):
        reads = set(node.inputs)
        peak = max(peak, alive - sum(bytes_of[name] for name in reads) + own.peak_bytes)
        alive += bytes_of[node.name] - sum(bytes_of[name] for name in {*reads, node.name} if last[name] == step)
        total = total + own
    return replace(total, peak_bytes=peak)


def _identities(index: int, value: Value, asked: tuple[RelationalProperty, ...]) -> dict[str, dict[int, Any]]:
    shape = type_of(value)
    return {each.name: {index: each.identity(shape)} for each in asked}


def _follow(own: Inference, operands: list[dict[str, dict[int, Any]]]) -> dict[str, dict[int, Any]]:
    """For every property the relation of each graph input to a node's result."""
    return {name: _follow_one(own, name, [operand[name] for operand in operands]) for name in operands[0]} if operands else {}


def _follow_one(own: Inference, name: str, operands: list[Mapping[int, Any]]) -> dict[int, Any]:
    result: dict[int, Any] = {}
    for position, by_input in enumerate(operands):
        step = own.relation(name, position, 0)
        if step is None:
            continue
        for index, relation in by_input.items():
            along = relation.then(step)
            if along is not None:
                result[index] = result[index].join(along) if index in result else along
    return result


def type_of(value: Value) -> Shape:
    """The type of a value at the probe's batch size, as properties know it."""
    aval = value.aval(PROBE_BATCH)
    return Shape(tuple(aval.shape), value.dtype)
