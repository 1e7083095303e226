"""Series-parallel programs as terms, from and to graphs.

A body is a sequence of steps; a step is an op of one input, or a block: a merge of the results of bodies that all read one value.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from synth.graph import Graph, Input, Node
from synth.op import Op, Value


@dataclass(frozen=True)
class Block:
    """`merge` of the results of all branches on one value; an empty branch is the value itself."""

    merge: Op
    branches: tuple[Body, ...]

    def __str__(self) -> str:
        bodies = (" → ".join(map(str, body)) or "identity" for body in self.branches)
        return f"{self.merge.kind()}({'; '.join(bodies)})"


Step = Op | Block
Body = tuple[Step, ...]


@dataclass(frozen=True)
class Join:
    """A further input joins: `merge` of bodies on the value so far and on the input, in this order."""

    merge: Op
    trunk: Body
    side: Body


@dataclass(frozen=True)
class Term:
    """A program: the first input, the others joining one by one, and a body from there to each output by way of a common trunk."""

    joins: tuple[Join, ...]
    trunk: Body
    outputs: tuple[Body, ...] = ((),)


def steps_of(term: Term) -> Iterator[Op]:
    """Every op of a term, merges among them."""
    for join in term.joins:
        yield from _ops((*join.trunk, *join.side))
        yield join.merge
    for body in (term.trunk, *term.outputs):
        yield from _ops(body)


def _ops(body: Body) -> Iterator[Op]:
    for step in body:
        if isinstance(step, Block):
            yield step.merge
            yield from _ops(tuple(itertools.chain.from_iterable(step.branches)))
        else:
            yield step


def assembled(values: Sequence[Value], term: Term, names: Sequence[str] = ()) -> Graph:
    """The graph of a term on inputs of these types."""
    named = tuple(names) or tuple("input" if not index else f"input{index}" for index in range(len(values)))
    nodes: list[Node] = []

    def add(op: Op, *inputs: str) -> str:
        nodes.append(Node(f"{op.kind()}{len(nodes)}", op, inputs))
        return nodes[-1].name

    def run(body: Body, last: str) -> str:
        for step in body:
            op, branches = (step.merge, step.branches) if isinstance(step, Block) else (step, ((),))
            last = add(op, *(run(branch, last) for branch in branches))
        return last

    last = named[0]
    for join, name in zip(term.joins, named[1:], strict=True):
        last = add(join.merge, run(join.trunk, last), run(join.side, name))
    last = run(term.trunk, last)
    outputs = tuple(run(body, last) for body in term.outputs)
    inputs = tuple(Input(name, value.shape, value.dtype) for name, value in zip(named, values, strict=True))
    return Graph(inputs, tuple(nodes), outputs).pruned()


def parsed(graph: Graph) -> Term | None:
    """The term of a graph of one input and one output, or None if the graph is not series-parallel."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return None
    reader = _Reader(graph)
    body = reader.body(graph.inputs[0].name, graph.outputs[0])
    if body is None:
        return None
    term = Term((), body)
    return term if assembled([graph.inputs[0].value], term).hash == graph.hash else None


class _Reader:
    """Reads bodies off a graph: between a value and one that it dominates."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.place = {name: index for index, name in enumerate(graph.values)}
        self.dominators: dict[str, frozenset[str]] = {item.name: frozenset((item.name,)) for item in graph.inputs}
        for node in graph.nodes:
            above = functools.reduce(frozenset.__and__, (self.dominators[name] for name in node.inputs))
            self.dominators[node.name] = above | {node.name}

    def body(self, first: str, last: str) -> Body | None:
        steps: list[Step] = []
        while last != first:
            node = self.graph.by_name.get(last)
            if node is None or first not in self.dominators[last]:
                return None
            if len(node.inputs) == 1:
                steps.append(node.op)
                last = node.inputs[0]
                continue
            fork = max(self.dominators[last] - {last}, key=self.place.__getitem__)
            branches = [self.body(fork, name) for name in node.inputs]
            if any(branch is None for branch in branches):
                return None
            steps.append(Block(node.op, tuple(branch for branch in branches if branch is not None)))
            last = fork
        return tuple(reversed(steps))
