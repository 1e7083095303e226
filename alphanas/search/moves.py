"""The ways to change a graph, each from a parent to another graph or a reason why not, by the generator they are given.

`region` is search in property space: a piece's properties are read, mutated into a target, and a new piece is synthesized that
meets it, with branches or without. `width` changes the shape property of whole groups of tied values, `resize` of all by their
worth. `drop` asks a piece to do nothing, `shallower` many of them; `compound` does so, lets poolings stride, and leaves the widths
to the limits. `rewire` attaches an operand of a merge elsewhere, or makes a merge. `duplicate` and `insert` are of blocks; `leap`
is several of these at once. The others ask no property (`alphanas.search.edits`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from alphanas.search import edits, resizing
from alphanas.search.proposal import Answer, Failure, New, label
from alphanas.search.regions import Attempt, Options, names_of, params_of, regions_of, spliced, widest
from alphanas.search.widths import WidthGroup, scaled, width_groups
from synth import Graph, Region, synthesize
from synth.analysis import macs, op_macs
from synth.budget import Budget, Interval
from synth.problem import Problem, widths_up_to
from synth.procedures import SEVERAL_ENDS
from synth.result import Found, GaveUp, Infeasible
from synth.rewiring import rewired
from synth.target import Change, Target

SEVERAL = 2
"""Inputs and outputs of a region that a program with branches replaces, at most."""

EXPANSION = 4
"""How much wider than the region a branch may be, as inverted residuals and feed-forward layers are."""

DEPTHS = (0.2, 0.9)
"""Shares of a network's depth that a shallower one is drawn between."""

POOLED = 0.75
"""How often poolings stride in a network that is scaled as a whole."""

LEAP = ("region", "region", "width", "drop", "resize")
"""The moves that a leap draws from, and where children are sized into their limits also those of `FILLING_LEAP`."""

FILLING_LEAP = ("shallower", "shallower", "pool", "pool")

__all__ = ["MOVES", "Attempt", "Move", "Options", "mutated_problem", "region_problem"]

Move = Callable[[Graph, np.random.Generator, Options], Attempt]


def replace_region(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """Reads a region's properties, mutates them into a target under a smaller budget, and synthesizes a piece that meets it."""
    branching = rng.random() < options.branches
    method = "branches" if branching else options.method
    asked = region_problem(graph, rng, options, ends=SEVERAL if method in SEVERAL_ENDS else 1)
    if asked is None:
        return Attempt((), (), Failure("nothing_to_change", "no region has parameters"))
    region, problem, changes = asked
    if branching:
        problem = replace(problem, widths=widths_up_to(EXPANSION * max(problem.widths, default=1)))
    answer = _synthesized(graph, region, problem, rng, replace(options, method=method))
    return Attempt(names_of(region), changes, answer, method)


def region_problem(
    graph: Graph, rng: np.random.Generator, options: Options, *, ends: int = 1
) -> tuple[Region, Problem, tuple[Change, ...]] | None:
    """A region drawn by its size, the problem of replacing it, and how that differs from it; None if none has parameters.

    It has at most `ends` inputs and outputs.
    """
    found = [region for region in regions_of(graph, options.region_max, ends) if len(region.names) >= options.region_min]
    weights = np.array([math.sqrt(params_of(region)) * _worth(region, options) for region in found])
    if not weights.any():
        return None
    region = found[int(rng.choice(len(found), p=weights / weights.sum()))]
    return region, *mutated_problem(region, rng, options)


def mutated_problem(region: Region, rng: np.random.Generator, options: Options) -> tuple[Problem, tuple[Change, ...]]:
    """The problem of replacing a region by what nearly has its properties, under a smaller budget; and how it differs."""
    piece = region.subgraph()
    now = Target.of(piece, properties=options.properties)
    drawn = [
        now.mutate(
            rng,
            params=piece.params,
            params_ratio=options.params_ratio,
            depth_p=options.mutation,
            mixing_p=options.mutation,
            further_p=options.property_mutation,
        )
        for _ in range(options.draws)
    ]
    worth = np.array([math.prod(options.worth_of_changes.get(label(change), 1.0) for change in one.changes) for one in drawn])
    mutation = drawn[int(rng.choice(len(drawn), p=worth / worth.sum()))] if len(drawn) > 1 else drawn[0]
    limit = Interval(0, max(1, math.ceil(options.macs_ratio * macs(piece))))
    target = mutation.target.within(Budget(mutation.target.budget.params, limit))
    widths = widths_up_to(widest(piece))
    problem = Problem.of(piece, target, max_length=options.max_length, widths=widths, properties=options.properties)
    return problem, mutation.changes


def _worth(region: Region, options: Options) -> float:
    """The mean over its nodes of what replacing them has been worth."""
    if not options.worth_of_nodes:
        return 1.0
    return sum(options.worth_of_nodes.get(name, 1.0) for name in region.names) / len(region.names)


def change_widths(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """Scales the widths of some groups of tied values, or of all, mostly down."""
    groups = width_groups(graph)
    if not groups:
        return Attempt((), (), Failure("nothing_to_change", "every width is tied to the inputs or outputs"))
    chosen = groups
    if rng.random() < 0.7:
        count = int(rng.integers(1, 1 + min(3, len(groups))))
        chosen = tuple(groups[index] for index in sorted(rng.choice(len(groups), count, replace=False)))
    low, high = (1.1, 1.5) if rng.random() < 0.1 else (0.4, 0.9)
    factor = math.exp(rng.uniform(math.log(low), math.log(high)))
    child = scaled(graph, factor, chosen)
    names = tuple(name for group in chosen for name in group.nodes)
    if child is None:
        return Attempt(names, (), Failure("unfit", f"no widths near {factor:.2f} times the present ones fit"))
    return Attempt(names, tuple(_width_change(graph, child, group) for group in chosen), New(child))


def drop_piece(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """Takes out a region whose output has its input's type, or all but one operand of a sum or product."""
    removals = _removals(graph, 2 * options.region_max)
    if not removals:
        return Attempt((), (), Failure("nothing_to_change", "no piece with parameters has the same type at both ends"))
    region, child = removals[int(rng.integers(len(removals)))]
    return Attempt(names_of(region), (Change("parameters", str(graph.params), str(child.params)),), New(child))


def shallower(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """Takes out one piece after the other, until a drawn share of the nodes that multiply is left."""
    wanted = rng.uniform(*DEPTHS) * _multiplying(graph)
    here, names = graph, list[str]()
    while _multiplying(here) > wanted and (removals := _removals(here, 2 * options.region_max)):
        region, here = removals[int(rng.integers(len(removals)))]
        names += [name for name in names_of(region) if name in graph.by_name]
    if here is graph:
        return Attempt((), (), Failure("nothing_to_change", "no piece with parameters has the same type at both ends"))
    change = Change("depth", str(_multiplying(graph)), str(_multiplying(here)))
    return Attempt(tuple(dict.fromkeys(names)), (change,), New(here))


def compound(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """Depth and places scaled at once: a shallower network, often with poolings that stride in place of its convolutions.

    Its widths are sized by the limits, as every child's are; so the three are scaled together (Tan and Le, 2019), by chance.
    """
    made = shallower(graph, rng, options)
    if not isinstance(made.answer, New) or rng.random() >= POOLED:
        return made
    pooled = edits.pool_strides(made.answer.graph, rng, options)
    if not isinstance(pooled.answer, New):
        return made
    return Attempt(made.region, (*made.changes, *pooled.changes), pooled.answer)


def _multiplying(graph: Graph) -> int:
    return sum(op_macs(node.op, graph.input_values(node)) > 0 for node in graph.nodes)


def resize_all(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """Sizes all widths, and residual blocks, at once for a smaller budget (see `alphanas.search.resizing`)."""
    return Attempt(*resizing.resized(graph, rng, options))


def rewire(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """Attaches an operand of a merge to another value, or merges a value with an earlier one."""
    found = rewired(graph, rng)
    if found is None:
        return Attempt((), (), Failure("nothing_to_change", "no two values can be merged"))
    at = found.node if found.node in graph.by_name else found.graph.by_name[found.node].inputs[0]
    return Attempt((at,), (Change(f"operand of {found.node}", found.before or "none", found.after),), New(found.graph))


def leap(graph: Graph, rng: np.random.Generator, options: Options) -> Attempt:
    """Two or three moves, one on what the other made: further than any of them, where small steps are within chance."""
    here, nodes = graph, list[str]()
    changes: list[Change] = []
    moves = (*LEAP, *FILLING_LEAP) if options.fill else LEAP
    answer: Answer = Failure("nothing_to_change", "no move could be made")
    for _ in range(int(rng.integers(2, 4))):
        made = MOVES[moves[int(rng.integers(len(moves)))]](here, rng, options)
        if not isinstance(made.answer, New):
            answer = answer if isinstance(answer, New) else made.answer
            continue
        here, answer = made.answer.graph, made.answer
        changes += made.changes
        nodes += [name for name in made.region if name in graph.by_name]
    return Attempt(tuple(dict.fromkeys(nodes)), tuple(changes), answer, options.method)


MOVES: Mapping[str, Move] = {
    "region": replace_region,
    "width": change_widths,
    "drop": drop_piece,
    "shallower": shallower,
    "compound": compound,
    "resize": resize_all,
    "rewire": rewire,
    "duplicate": edits.duplicate_block,
    "insert": edits.insert_block,
    "pool": edits.pool_strides,
    "leap": leap,
    "randomise": edits.randomise,
    "insert_op": edits.insert_op,
    "delete_op": edits.delete_op,
    "alter_op": edits.alter_op,
    "swap_ops": edits.swap_ops,
}


def _synthesized(graph: Graph, region: Region, problem: Problem, rng: np.random.Generator, options: Options) -> Answer:
    result = synthesize(problem, method=options.method, rng=rng, time_limit=options.time_limit, steps=options.steps)
    match result:
        case Found():
            return spliced(graph, region, result.graph)
        case Infeasible():
            return Failure("infeasible", str(result))
        case GaveUp():
            return Failure("gave_up", str(result))


@functools.lru_cache(maxsize=64)
def _removals(graph: Graph, largest: int) -> tuple[tuple[Region, Graph], ...]:
    """(region, what is left without it) of every region and every operand that can be taken out and takes parameters along.

    Not where a merge would then read one value twice: what is meant is there too, as the merge without that operand.
    """
    pieces = [(region, region.inputs[0]) for region in regions_of(graph, largest) if params_of(region)]
    for node in graph.nodes:
        reads = tuple(dict.fromkeys(node.inputs))
        if len(reads) > 1 and not node.op.weights(*graph.input_values(node)):
            pieces += [(Region(graph, frozenset({node.name})), name) for name in reads]
    found = []
    for region, kept in pieces:
        (made,) = region.outputs
        if graph.values[kept] != graph.values[made]:
            continue
        answer = spliced(graph, region, Graph(region.subgraph().inputs, (), (kept,)))
        if isinstance(answer, New) and answer.graph.params < graph.params and _doubled(answer.graph) <= _doubled(graph):
            found.append((region, answer.graph))
    return tuple(found)


def _doubled(graph: Graph) -> int:
    """How many ops read one value twice."""
    return sum(len(set(node.inputs)) < len(node.inputs) for node in graph.nodes)


def _width_change(before: Graph, after: Graph, group: WidthGroup) -> Change:
    name = group.nodes[0]
    return Change(f"width at {', '.join(group.nodes)}", str(before.values[name].channels), str(after.values[name].channels))
