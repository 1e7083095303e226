"""Properties of a graph from those of its ops: relations compose along its edges and join where they meet; work adds up."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

from properties import Inference, RelationalProperty, Shape
from synth.effect import summary
from synth.graph import Graph
from synth.op import PROBE_BATCH, Value

Relations = Mapping[str, tuple[Any, ...]]
"""By property, the relations between one value and each of several others: the graph's inputs, or its outputs."""


@functools.lru_cache(maxsize=1 << 16)
def type_of(value: Value) -> Shape:
    """The type of a value at the probe's batch size, as properties know it."""
    aval = value.aval(PROBE_BATCH)
    return Shape(tuple(aval.shape), value.dtype)


def summaries_of(graph: Graph, asked: tuple[RelationalProperty, ...]) -> list[Inference]:
    """The summaries of a graph's nodes, in order; of what nodes share, each holds only its own."""
    found = [summary(node.op, graph.input_values(node), asked) for node in graph.nodes]
    for place, node in enumerate(graph.nodes):
        if node.shared:
            held = [sum(prod(weight.shape) for weight in own.values()) for own in graph.owned(node).values()]
            found[place] = replace(found[place], capacity=found[place].capacity.holding(*held))
    return found


def identities(asked: Iterable[RelationalProperty], value: Value, index: int, count: int) -> Relations:
    """The relations of a value to itself, which is number `index` of `count`."""
    shape = type_of(value)
    return {each.name: tuple([each.identity(shape) if k == index else None for k in range(count)]) for each in asked}


def forwards(graph: Graph, summaries: Sequence[Inference], start: Mapping[str, Relations]) -> dict[str, Relations]:
    """The relations to every value of a graph, from those to its inputs."""
    reached = dict(start)
    for node, own in zip(graph.nodes, summaries, strict=True):
        reached[node.name] = follow(own, [reached[name] for name in node.inputs])
    return reached


def follow(own: Inference, operands: Sequence[Relations]) -> Relations:
    """The relations to a node's result, from those to its operands."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, rows in own.relations:
        steps = [(operand[name], row[0]) for operand, row in zip(operands, rows, strict=True) if row[0] is not None]
        count = len(operands[0][name])
        found[name] = tuple([joined([then(before[k], step) for before, step in steps]) for k in range(count)])
    return found


def then(first: Any, second: Any) -> Any:
    """One relation after another; None if either is none."""
    return None if first is None or second is None else first.then(second)


def joined(relations: Iterable[Any]) -> Any:
    """The join of the relations that there are; None if there is none."""
    result = None
    for relation in relations:
        if relation is not None:
            result = relation if result is None else result.join(relation)
    return result


class Step(NamedTuple):
    """A node as memory sees it: what it makes and reads, the bytes of what it makes, and the bytes alive inside of it."""

    makes: Hashable
    reads: frozenset[Hashable]
    bytes: int
    inside: int


def steps_of(graph: Graph, summaries: Sequence[Inference]) -> list[Step]:
    """A graph's nodes as memory sees them."""
    made = [type_of(graph.values[node.name]).bytes for node in graph.nodes]
    return [
        Step(node.name, frozenset(node.inputs), size, own.capacity.peak_bytes)
        for node, size, own in zip(graph.nodes, made, summaries, strict=True)
    ]


def alive(steps: Sequence[Step], held: Mapping[Hashable, int], kept: Iterable[Hashable]) -> list[tuple[int, int]]:
    """For every step the bytes alive before it, and at most while it runs.

    `held` are the bytes of what is there at the start. What no step reads any more is dropped, unless it is among `kept`.
    """
    bytes_of = {**held, **{step.makes: step.bytes for step in steps}}
    last: dict[Hashable, int] = {}
    for place, step in enumerate(steps):
        last |= dict.fromkeys((*step.reads, step.makes), place)
    last |= dict.fromkeys(kept, len(steps))
    now, found = sum(held.values()), []
    for place, step in enumerate(steps):
        found.append((now, now - sum([bytes_of[name] for name in step.reads]) + step.inside))
        now += step.bytes - sum([bytes_of[name] for name in {*step.reads, step.makes} if last[name] == place])
    return found
