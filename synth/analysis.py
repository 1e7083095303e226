"""Properties of graphs, composed from the summaries of their ops: analysing an edited graph costs the edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import properties
from properties import PROPERTIES, Capacity, Inference, RelationalProperty, Shape
from synth.effect import macs as op_macs
from synth.effect import summary
from synth.graph import Graph
from synth.op import PROBE_BATCH, Value, state_of


def infer(graph: Graph, asked: tuple[RelationalProperty, ...] = PROPERTIES) -> Inference:
    """The properties of a graph at the probe's batch size, from its ops' summaries; relations compose and join along its edges.

    Errs on the side that the properties err on, and is never tighter than interpreting the whole jaxpr allows.
    """
    reached = {item.name: _identities(index, item.value, asked) for index, item in enumerate(graph.inputs)}
    total = Capacity()
    unknown: set[str] = set()
    for node in graph.nodes:
        own = summary(node.op, graph.input_values(node), asked)
        reached[node.name] = _follow(own, [reached[name] for name in node.inputs])
        total, unknown = total + own.capacity, unknown | set(own.unknown)
    tables: dict[str, dict[tuple[int, int], Any]] = {each.name: {} for each in asked}
    for o, output in enumerate(graph.outputs):
        for name, by_input in reached[output].items():
            tables[name].update({(i, o): relation for i, relation in by_input.items()})
    inputs = tuple(type_of(item.value) for item in graph.inputs)
    outputs = tuple(type_of(graph.values[name]) for name in graph.outputs)
    return Inference.of(inputs, outputs, tables, total, sorted(unknown))


def verify(graph: Graph, asked: tuple[RelationalProperty, ...] = PROPERTIES) -> Inference:
    """The properties of a graph by interpreting the jaxpr of its whole `apply`: what every claim is checked against."""
    weights: dict[str, dict[str, dict[str, jax.ShapeDtypeStruct]]] = {"params": {}, "state": {}}
    for node in graph.nodes:
        inputs = graph.input_values(node)
        for collection, owned in (("params", node.op.weights(*inputs)), ("state", state_of(node.op, inputs))):
            if owned:
                weights[collection][node.name] = {
                    name: jax.ShapeDtypeStruct(weight.shape, np.dtype(weight.dtype)) for name, weight in owned.items()
                }
    return properties.infer(graph.apply, *(item.value.aval() for item in graph.inputs), params=weights, properties=asked)


def macs(graph: Graph) -> int:
    """Multiply-adds of a graph for one example."""
    return sum(op_macs(node.op, graph.input_values(node)) for node in graph.nodes)


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
