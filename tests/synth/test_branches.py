"""Programs with branches: what is drawn is what the grammar says, published blocks are within it, bounds are stated and proven."""

from __future__ import annotations

import collections
import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest

from properties import DepthRequirement, ShapeRequirement
from synth import (
    Found,
    Graph,
    Infeasible,
    Input,
    Interval,
    Op,
    Problem,
    Target,
    Value,
    chain,
    synthesize,
    verify,
    vocabulary,
)
from synth.branches import derivable, goals_of, grammar_of, probability
from synth.branching import membership
from synth.branching.grammar import Grammar
from synth.branching.sizing import sizes_of
from synth.branching.story import sizeless
from synth.branching.term import Block, Body, Term, assembled, parsed
from synth.budget import Budget
from synth.effect import size_fields, with_size
from synth.graph import Node
from synth.ops import Add, BatchNorm, Concatenate, Conv, Dense, DepthwiseConv, GlobalAvgPool, Multiply, Relu, Sigmoid, Silu
from synth.procedures import METHODS
from synth.result import GaveUp
from tests.strategies import random_graph
from tests.synth.named import NAMED, WIDTHS

SMALL = vocabulary(Conv, DepthwiseConv, Relu, BatchNorm, Sigmoid, GlobalAvgPool, Add, Multiply, Concatenate)
TINY = vocabulary(Dense, Relu, Silu, Add, Multiply)
VECTOR = Value((None, 4))


def grammar(problem: Problem) -> Grammar:
    goals = goals_of(problem)
    assert not isinstance(goals, Infeasible)
    return grammar_of(problem, goals)


def small(**options: object) -> Problem:
    return Problem.of(chain(Value((None, 4, 4, 8)), [Conv(features=8), Relu()]), max_length=3, vocabulary=SMALL, **options)


@pytest.mark.parametrize("name", NAMED)
def test_published_blocks_are_reached_from_plain_ones(name: str) -> None:
    plain, block = NAMED[name]
    problem = Problem.of(plain, widths=WIDTHS)
    assert problem.target.distance_of(verify(block), block.params, 0) == 0
    assert 0 < probability(problem, block) < 1
    assert derivable(problem, block)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_published_blocks_are_not_reached_without_their_ops(name: str) -> None:
    plain, block = NAMED[name]
    merge = next(node.op.kind() for node in block.nodes if node.op.arity != 1)
    rest = {kind: op_type for kind, op_type in Problem.of(plain).vocabulary.items() if kind != merge}
    assert not derivable(Problem.of(plain, widths=WIDTHS, vocabulary=rest), block)
    assert not derivable(Problem.of(plain, widths=(24,)), block)


def test_programs_are_drawn_as_often_as_the_grammar_says() -> None:
    """Chi-square of draws against the probabilities that reading the drawn programs gives, the rare ones as one class."""
    problem = Problem(VECTOR, Target.asking((None, 4), depth=2), 2, (4,), vocabulary=TINY)
    drawn, rng = grammar(problem), np.random.default_rng(0)
    draws = 1200
    terms = [drawn.sample(rng) for _ in range(draws)]
    names = [_sizes_aside(term.trunk) for term in terms]
    counts, different = collections.Counter(names), dict(zip(names, terms, strict=True))
    odds = {name: membership.probability(drawn, term) for name, term in different.items()}
    usual = [name for name, p in odds.items() if p * draws >= 5]
    expected = np.array([odds[name] * draws for name in usual])
    seen = np.array([counts[name] for name in usual])
    rest = draws - expected.sum()
    assert len(usual) > 8 and rest > 5
    statistic = float(((seen - expected) ** 2 / expected).sum() + (draws - seen.sum() - rest) ** 2 / rest)
    assert statistic < len(usual) + 4 * np.sqrt(2 * len(usual))


def _sizes_aside(body: Body) -> str:
    """What the probability of a program is about: its ops without their sizes, commuting branches in any order."""
    steps = []
    for step in body:
        if isinstance(step, Block):
            inner = [_sizes_aside(branch) for branch in step.branches]
            steps.append(f"{step.merge}({sorted(inner) if step.merge.commutative else inner})")
        else:
            steps.append(str(sizeless(step)))
    return " → ".join(steps)


def test_every_small_program_that_meets_the_target_is_derivable_and_no_other_is() -> None:
    """Brute force over all blocks of two branches of up to two ops, between up to one op before and after."""
    problem = Problem(VECTOR, Target.asking((None, 4), depth=3), 3, (4,), vocabulary=TINY)
    ops: tuple[Op, ...] = (Dense(features=4), Relu(), Silu())
    bodies = [body for length in range(3) for body in itertools.product(ops, repeat=length)]
    ends = [body for length in range(2) for body in itertools.product(ops, repeat=length)]
    rng, checked = np.random.default_rng(1), 0
    for merge, first, second in itertools.product((Add(), Multiply()), bodies, bodies):
        if not first and not second:
            continue
        before, after = (ends[int(index)] for index in rng.integers(len(ends), size=2))
        graph = assembled([VECTOR], Term((), (*before, Block(merge, (first, second)), *after)))
        assert (probability(problem, graph) > 0) == (problem.target.distance(graph) == 0), str(graph)
        checked += 1
    assert checked > 300


@pytest.mark.parametrize("seed", range(30))
def test_reading_a_graph_and_assembling_it_gives_it_back(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), nodes=7)
    term = parsed(graph)
    if term is not None:
        assert assembled([graph.inputs[0].value], term).hash == graph.hash


def test_what_is_drawn_can_be_read_again() -> None:
    drawn, rng = grammar(small()), np.random.default_rng(2)
    for _ in range(40):
        term = drawn.sample(rng)
        read = parsed(assembled([small().value], term))
        assert read is not None and membership.probability(drawn, read) > 0


def test_a_graph_whose_branches_share_a_node_is_not_series_parallel() -> None:
    x = Input("x", (None, 4))
    nodes = [Node("a", Relu(), ("x",)), Node("b", Silu(), ("x",)), Node("c", Add(), ("a", "b")), Node("d", Multiply(), ("a", "x"))]
    graph = Graph((x,), (*nodes, Node("e", Add(), ("c", "d"))), ("e",))
    assert parsed(graph) is None
    assert probability(Problem(x.value, Target.asking((None, 4)), 3, (4,)), graph) == 0


@pytest.mark.parametrize("budget", [Budget(), Budget(Interval(0, 400)), Budget(Interval(200, 700), Interval(0, 20_000))])
def test_what_is_found_has_branches_and_is_proven(budget: Budget) -> None:
    asked = small(widths=(4, 8, 16), target=small().target.within(budget))
    result = synthesize(asked, "branches", rng=np.random.default_rng(0), count=4, time_limit=60)
    assert isinstance(result, Found) and len(result.graphs) == 4
    for graph, proof in zip(result.graphs, result.proofs, strict=True):
        assert any(len(set(node.inputs)) > 1 for node in graph.nodes)
        assert proof.distance == 0 == asked.target.distance_of(verify(graph), proof.params, proof.macs)
        assert derivable(asked, graph)
        x = np.random.default_rng(0).standard_normal((2, 4, 4, 8)).astype(np.float32)
        assert np.isfinite(graph.apply(graph.init(jax.random.key(0)), x)).all()


def test_equal_generators_draw_equal_programs_and_none_is_needed() -> None:
    first, second = (synthesize(small(), "branches", rng=np.random.default_rng(5), count=2) for _ in range(2))
    assert isinstance(first, Found) and isinstance(second, Found)
    assert [graph.hash for graph in first.graphs] == [graph.hash for graph in second.graphs]
    least = synthesize(small(), "branches", count=2)
    assert isinstance(least, Found) and least.proofs[0].params <= least.proofs[1].params


# Several inputs and outputs


ENDS = {
    "a residual's tail": (((4, 4, 8), (4, 4, 8)), ((4, 4, 8),)),
    "operands of different widths": (((4, 4, 8), (4, 4, 4)), ((4, 4, 8),)),
    "three inputs": (((8,), (8,), (8,)), ((8,),)),
    "a U-Net's stage": (((4, 4, 8),), ((4, 4, 8), (2, 2, 8))),
    "two in, two out": (((4, 4, 8), (4, 4, 8)), ((4, 4, 8), (1, 1, 8))),
}


@pytest.mark.parametrize("name", ENDS)
def test_several_inputs_and_outputs(name: str) -> None:
    sources, goals = (tuple(Value((None, *shape)) for shape in shapes) for shapes in ENDS[name])
    asked = [ShapeRequirement(goal.shape, output) for output, goal in enumerate(goals)]
    depth = [DepthRequirement(1 + output, source, output) for source in range(len(sources)) for output in range(len(goals))]
    target = Target((*asked, *depth))
    used = SMALL | vocabulary(Dense)
    problem = Problem(sources[0], target, 3, (8,), others=sources[1:], vocabulary=used)
    result = synthesize(problem, "branches", rng=np.random.default_rng(1), count=3, time_limit=60)
    assert isinstance(result, Found) and len(result.graphs) == 3
    for graph in result.graphs:
        assert tuple(item.value for item in graph.inputs) == sources
        assert tuple(graph.values[output] for output in graph.outputs) == goals
        assert target.distance_of(verify(graph), 0, 0) == 0


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"branches"}))
def test_sequences_of_several_ends_are_refused(method: str) -> None:
    problem = Problem(VECTOR, Target.asking((None, 4)), 2, (4,), others=(VECTOR,))
    with pytest.raises(ValueError, match="exactly one input and one output; this piece has 2 and 1"):
        synthesize(problem, method)


# What cannot be


def test_what_no_program_of_the_bounds_meets_is_infeasible_with_the_reason() -> None:
    impossible = Target.asking((None, 4), depth=90)
    result = synthesize(Problem(VECTOR, impossible, 3, (4,), vocabulary=TINY), "branches")
    assert isinstance(result, Infeasible)
    assert result.core[-1] == "depth at least 90" and "branches of at most" in result.core[1]


def test_contradictory_shapes_and_shapes_out_of_reach_are_infeasible() -> None:
    image = Value((None, 8, 8, 16))
    shapes = Target((*Target.asking((None, 8, 8, 16)).requirements, *Target.asking((None, 4, 4, 16)).requirements))
    assert isinstance(synthesize(Problem(image, shapes, 2, (16,)), "branches"), Infeasible)
    wider = synthesize(Problem(VECTOR, Target.asking((None, 4, 4)), 2, (4,), vocabulary=TINY), "branches")
    assert isinstance(wider, Infeasible)


def test_a_budget_below_what_the_requirements_cost_is_infeasible_with_the_smallest_contradiction() -> None:
    asked = small(widths=(8,), target=small().target.within(Budget(Interval(0, 1), Interval(0, 10**9))))
    result = synthesize(asked, "branches", rng=np.random.default_rng(0))
    assert isinstance(result, Infeasible)
    assert result.core[2:] == ("mixing of input axis 3 at least (all all all all)", "at most 1 parameters")


def test_a_budget_that_was_not_met_is_no_proof() -> None:
    """Relu and norms have an even number of parameters, which no bound on sums sees."""
    three = Target.asking((None, 4, 4, 8)).within(Budget(Interval(3, 3)))
    asked = Problem(Value((None, 4, 4, 8)), three, 2, (8,), vocabulary=vocabulary(Relu, BatchNorm, Add))
    assert isinstance(synthesize(asked, "branches", rng=np.random.default_rng(0)), GaveUp)


# Widths


@pytest.mark.parametrize("seed", range(20))
def test_groups_of_widths_can_change(seed: int) -> None:
    """Oracle: the graph's own types at twice the width."""
    graph = random_graph(np.random.default_rng(seed), nodes=8)
    for group in sizes_of(graph).groups:
        nodes = tuple(_doubled(node) if node.name in group else node for node in graph.nodes)
        other = replace(graph, nodes=nodes)
        assert all(other.values[name] == graph.values[name] for name in graph.outputs)


def _doubled(node: Node) -> Node:
    (name,) = size_fields(type(node.op))
    return replace(node, op=with_size(node.op, 2 * getattr(node.op, name)))
