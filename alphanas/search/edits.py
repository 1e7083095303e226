"""Edits of programs that ask no property: of single ops, of blocks put in, twice, or at random, and of who strides.

They are how Primer and AutoML-Zero search (So et al., 2021; Real et al., 2020), and what search in property space is compared with.
Each tries several places and takes the first whose result is a program of the same outputs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from alphanas.search.proposal import Failure, New
from alphanas.search.regions import Attempt, Options, names_of, regions_of, spliced, widest
from synth import Graph, GraphError, Region, ShapeMismatch, synthesize
from synth.budget import Budget, Interval
from synth.graph import Node
from synth.op import Op, alternatives
from synth.ops import OPS
from synth.ops.merge import Add
from synth.ops.pooling import MaxPool
from synth.problem import Problem, widths_up_to
from synth.result import Found, GaveUp, Infeasible
from synth.target import Change, Target

TRIES = 24
"""Places that an edit tries."""

INSERTED = 0.25
"""Parameters of an inserted block, at most this share of the network's."""

Edit = Callable[[Graph, np.random.Generator], "tuple[tuple[str, ...], Change, Graph] | None"]


def insert_op(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """A new op after some value."""

    def edit(graph: Graph, rng: np.random.Generator) -> tuple[tuple[str, ...], Change, Graph] | None:
        name = _drawn(graph, rng).name
        op = _random_op(graph, rng)
        made = Node(_free(f"{op.kind()}0", graph), op, (name,))
        return (name,), Change(f"op after {name}", "none", str(op)), inserted(graph, name, (made,), made.name)

    return _first(edit, graph, rng)


def delete_op(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """One op less: what read it reads one of its inputs."""

    def edit(graph: Graph, rng: np.random.Generator) -> tuple[tuple[str, ...], Change, Graph] | None:
        node = _drawn(graph, rng)
        instead = node.inputs[int(rng.integers(len(node.inputs)))]
        nodes = [each for each in graph.nodes if each is not node]
        return (node.name,), Change(f"op {node.name}", str(node.op), "none"), _read(graph, nodes, node.name, instead)

    return _first(edit, graph, rng)


def alter_op(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """One attribute of an op at another value."""

    def edit(graph: Graph, rng: np.random.Generator) -> tuple[tuple[str, ...], Change, Graph] | None:
        node = _drawn(graph, rng)
        others = [op for op in _alternatives(type(node.op), graph) if _differing(op, node.op) == 1]
        if not others:
            return None
        op = others[int(rng.integers(len(others)))]
        nodes = tuple(replace(each, op=op) if each is node else each for each in graph.nodes)
        return (node.name,), Change(f"op {node.name}", str(node.op), str(op)), replace(graph, nodes=nodes)

    return _first(edit, graph, rng)


def swap_ops(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """Two neighbouring ops in the other order."""

    def edit(graph: Graph, rng: np.random.Generator) -> tuple[tuple[str, ...], Change, Graph] | None:
        second = _drawn(graph, rng)
        first = graph.by_name.get(second.inputs[0])
        if first is None or len(second.inputs) != 1 or len(first.inputs) != 1 or first.op == second.op:
            return None
        ops = {first.name: second.op, second.name: first.op}
        nodes = tuple(replace(each, op=ops[each.name]) if each.name in ops else each for each in graph.nodes)
        change = Change("order", f"{first.op}, {second.op}", f"{second.op}, {first.op}")
        return (first.name, second.name), change, replace(graph, nodes=nodes)

    return _first(edit, graph, rng)


def duplicate_block(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """A region whose output has its input's type, with a copy of it behind."""

    def edit(graph: Graph, rng: np.random.Generator) -> tuple[tuple[str, ...], Change, Graph] | None:
        found = [region for region in regions_of(graph, 2 * options.region_max) if _same_ends(region)]
        if not found:
            return None
        region = found[int(rng.integers(len(found)))]
        child = spliced(graph, region, twice(region.subgraph()))
        change = Change("copies", "1", "2")
        return (names_of(region), change, child.graph) if isinstance(child, New) else None

    return _first(edit, graph, rng)


def insert_block(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """A small synthesized program after some value, in its place or added to it."""
    name = _drawn(graph, rng).name
    value = graph.values[name]
    target = Target.asking(value.shape, params=Interval(1, max(1, math.ceil(INSERTED * graph.params))))
    problem = Problem(value, target, max_length=min(4, options.max_length), sizes=tuple(sorted(_widths(graph))))
    match synthesize(problem, rng=rng, time_limit=options.time_limit, steps=options.steps):
        case Found(graph=piece):
            held, change = (
                _attached(graph, name, piece, added=bool(rng.random() < 0.5)),
                Change("block", "none", str(len(piece.nodes))),
            )
            answer = New(held) if held is not None else Failure("unfit", f"no program can follow {name}")
            return Attempt((name,), (change,), answer, "exact")
        case Infeasible() as no:
            return Attempt((name,), (), Failure("infeasible", str(no)), "exact")
        case GaveUp() as no:
            return Attempt((name,), (), Failure("gave_up", str(no)), "exact")


def randomise(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """A region becomes a random program of the same types: no property is read, and none is kept but the shape."""
    found = [region for region in regions_of(graph, options.region_max) if len(region.names) >= options.region_min]
    if not found:
        return Attempt((), (), Failure("nothing_to_change", "no region has one input and one output"))
    region = found[int(rng.integers(len(found)))]
    piece = region.subgraph()
    most = Interval(0, max(1, graph.params))
    problem = Problem.of(
        piece,
        Target.asking(piece.values[piece.outputs[0]].shape).within(Budget(most)),
        max_length=options.max_length,
        widths=widths_up_to(widest(piece)),
        prior=False,
    )
    match synthesize(problem, rng=rng, time_limit=options.time_limit, steps=options.steps):
        case Found(graph=program):
            return Attempt(names_of(region), (), spliced(graph, region, program), "exact")
        case Infeasible() as no:
            return Attempt(names_of(region), (), Failure("infeasible", str(no)), "exact")
        case GaveUp() as no:
            return Attempt(names_of(region), (), Failure("gave_up", str(no)), "exact")


def twice(piece: Graph) -> Graph:
    """A program of one input and one output of the same type, applied to its own result."""
    (start,), (end,) = piece.inputs, piece.outputs
    names = {start.name: end} | {node.name: f"{node.name}_again" for node in piece.nodes}
    return Graph(piece.inputs, (*piece.nodes, *(node.renamed(names) for node in piece.nodes)), (names[end],))


def pool_strides(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """Convolutions that stride, some or all, look at every place, and a max pooling behind strides: the same shapes, more work."""
    share = 0.5 if rng.random() < 0.5 else 1.0

    def edit(graph: Graph, rng: np.random.Generator) -> tuple[tuple[str, ...], Change, Graph] | None:
        chosen = [node for node in graph.nodes if _strides_over_windows(node.op) and rng.random() < share]
        taken, ends = dict.fromkeys(graph.values, ""), dict[str, str]()
        nodes: list[Node] = []
        for node in graph.nodes:
            reads = tuple(ends.get(name, name) for name in node.inputs)
            if node not in chosen:
                nodes.append(replace(node, inputs=reads))
                continue
            stride = node.op.attributes()["stride"]
            ends[node.name] = _free("max_pool0", taken)
            taken[ends[node.name]] = ""
            nodes.append(replace(node, op=_with(node.op, stride=1), inputs=reads))
            nodes.append(Node(ends[node.name], MaxPool(window=stride, stride=stride), (node.name,)))
        outputs = tuple(ends.get(name, name) for name in graph.outputs)
        change = Change("striding", "convolutions", f"pooling behind {len(chosen)}")
        return (tuple(ends), change, Graph(graph.inputs, tuple(nodes), outputs)) if chosen else None

    return _first(edit, graph, rng)


def _with(op: Op, **values: Any) -> Op:
    return replace(op, **values)


def _strides_over_windows(op: Op) -> bool:
    values = op.attributes()
    return values.get("kernel") not in (None, 1) and isinstance(values.get("stride"), int) and values["stride"] > 1


def inserted(graph: Graph, name: str, nodes: Sequence[Node], end: str) -> Graph:
    """The graph with nodes right after a value, and `end` read in its place by all that came after it."""
    place = 1 + [node.name for node in graph.nodes].index(name) if name in graph.by_name else 0
    after = [replace(node, inputs=_moved(node.inputs, name, end)) for node in graph.nodes[place:]]
    return Graph(graph.inputs, (*graph.nodes[:place], *nodes, *after), _moved(graph.outputs, name, end)).pruned()


def _attached(graph: Graph, name: str, piece: Graph, *, added: bool) -> Graph | None:
    taken = dict.fromkeys(graph.values, name)
    names = {piece.inputs[0].name: name}
    for node in piece.nodes:
        names[node.name] = _free(node.name, taken)
        taken[names[node.name]] = name
    nodes, end = [node.renamed(names) for node in piece.nodes], names[piece.outputs[0]]
    if added:
        nodes.append(Node(_free("add0", taken), Add(), (name, end)))
        end = nodes[-1].name
    return _sound(graph, lambda: inserted(graph, name, nodes, end))


def _first(edit: Edit, graph: Graph, rng: np.random.Generator) -> Attempt:
    for _ in range(TRIES):
        found: list[tuple[tuple[str, ...], Change]] = []

        def make() -> Graph | None:
            made = edit(graph, rng)
            found.extend([] if made is None else [made[:2]])  # noqa: B023
            return None if made is None else made[2]

        child = _sound(graph, make)
        if child is not None and child != graph:
            region, change = found[0]
            return Attempt(region, (change,), New(child))
    return Attempt((), (), Failure("unfit", f"none of {TRIES} places gave a program of the same outputs"))


def _sound(graph: Graph, make: Callable[[], Graph | None]) -> Graph | None:
    """What is made, if it is a program of the graph's outputs."""
    try:
        child = make()
        if child is None or [child.values[name] for name in child.outputs] != [graph.values[name] for name in graph.outputs]:
            return None
        return child
    except (ShapeMismatch, GraphError):
        return None


def _drawn(graph: Graph, rng: np.random.Generator) -> Node:
    return graph.nodes[int(rng.integers(len(graph.nodes)))]


def _random_op(graph: Graph, rng: np.random.Generator) -> Op:
    kinds = [kind for kind in OPS.values() if kind.arity == 1 and kind.taste > 0 and told_by_choices(kind)]
    found = _alternatives(kinds[int(rng.integers(len(kinds)))], graph)
    return found[int(rng.integers(len(found)))]


def _alternatives(kind: type[Op], graph: Graph) -> list[Op]:
    """Every op of a type that can be told by its choices and channel counts; none of a type that wants more."""
    return list(alternatives(kind, _widths(graph))) if told_by_choices(kind) else []


def told_by_choices(kind: type[Op]) -> bool:
    """Whether every field of an op's type has a default, choices, or is a size."""
    return all(
        field.default is not dataclasses.MISSING or {"size", "choices"} & set(field.metadata) for field in dataclasses.fields(kind)
    )


def _widths(graph: Graph) -> tuple[int, ...]:
    """The channel counts of a graph, halved and doubled."""
    counts = {value.shape[-1] for value in graph.values.values()} - {None}
    return tuple(sorted({each for count in counts if count for each in (max(1, count // 2), count, 2 * count)}))


def _differing(one: Op, other: Op) -> int:
    mine, theirs = one.attributes(), other.attributes()
    return sum(mine[name] != theirs[name] for name in mine)


def _same_ends(region: Region) -> bool:
    (start,), (end,) = region.inputs, region.outputs
    values = region.graph.values
    return values[start] == values[end] and any(node.op.weights(*region.graph.input_values(node)) for node in region.nodes)


def _read(graph: Graph, nodes: Sequence[Node], old: str, new: str) -> Graph:
    moved = tuple(replace(node, inputs=_moved(node.inputs, old, new)) for node in nodes)
    return Graph(graph.inputs, moved, _moved(graph.outputs, old, new)).pruned()


def _moved(names: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    return tuple(new if name == old else name for name in names)


def _free(name: str, graph: Graph | dict[str, str]) -> str:
    taken = graph.values if isinstance(graph, Graph) else graph
    stem = name.rstrip("0123456789") or name
    return next(found for number in range(len(taken) + 1) if (found := f"{stem}{number}") not in taken)
