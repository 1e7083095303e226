"""Exact synthesis against brute force over all sequences."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from properties import DepthRequirement, ShapeRequirement
from synth import (
    OPS,
    Budget,
    Found,
    Graph,
    GraphError,
    Infeasible,
    Interval,
    Op,
    Problem,
    Target,
    Value,
    chain,
    infer,
    macs,
    synthesize,
    vocabulary,
)
from synth.effect import params
from synth.exact import solution_space
from synth.ops import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    DepthwiseConv,
    GlobalAvgPool,
    GroupNorm,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    Relu,
    Softmax,
)
from synth.product import Product
from synth.space import Alphabet
from synth.target import at_least

SMALL = vocabulary(Conv, DepthwiseConv, Relu, LayerNorm, AvgPool, Softmax)
IMAGE = Value((None, 6, 6, 4))


def sequences(alphabet: Alphabet, value: Value, goal: Value, length: int) -> list[tuple[Op, ...]]:
    """Every sequence of at most `length` ops from one type to another."""
    found: list[tuple[Op, ...]] = []

    def grow(here: Value, path: tuple[Op, ...]) -> None:
        if here == goal:
            found.append(path)
        if len(path) < length:
            for op, after in alphabet.moves(here):
                grow(after, (*path, op))

    grow(value, ())
    return found


def weight(path: tuple[Op, ...], value: Value) -> int:
    total = 0
    for op in path:
        total += params(op, (value,))
        value = next(iter(infer_values(chain(value, [op]))))
    return total


def infer_values(graph: Graph) -> list[Value]:
    return [graph.values[name] for name in graph.outputs]


def drawn(rng: np.random.Generator, alphabet: Alphabet, value: Value, length: int) -> tuple[Op, ...]:
    """A random sequence, to ask for what it has."""
    path: list[Op] = []
    for _ in range(length):
        op, value = alphabet.moves(value)[rng.integers(len(alphabet.moves(value)))]
        path.append(op)
    return tuple(path)


def problem(target: Target, length: int, **options: object) -> Problem:
    return Problem(IMAGE, target, max_length=length, sizes=(4, 8), vocabulary=SMALL, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def everything() -> dict[Value, list[tuple[tuple[Op, ...], object]]]:
    alphabet = Alphabet.of(SMALL, (4, 8))
    goals = {IMAGE, Value((None, 6, 6, 8)), Value((None, 3, 3, 8))}
    return {goal: [(path, infer(chain(IMAGE, path))) for path in sequences(alphabet, IMAGE, goal, 2)] for goal in goals}


@pytest.mark.parametrize("seed", range(12))
def test_the_cheapest_and_the_number_of_programs_are_those_of_brute_force(seed: int, everything: dict) -> None:
    rng = np.random.default_rng(seed)
    hidden = chain(IMAGE, drawn(rng, Alphabet.of(SMALL, (4, 8)), IMAGE, 2))
    goal = hidden.values[hidden.outputs[0]]
    if goal not in everything:
        return
    target = Target.of(hidden)
    meeting = [path for path, found in everything[goal] if target.distance_of(found, 0, 0) == 0]
    space = solution_space(problem(target, 2))
    assert isinstance(space, Product)
    assert sum(table[0] for table in space.counts(False)) == len(meeting)
    result = synthesize(problem(target, 2))
    assert isinstance(result, Found)
    assert result.proofs[0].params == min(weight(path, IMAGE) for path in meeting)


def test_the_k_cheapest_come_in_order_and_once_each(everything: dict) -> None:
    target = Target.of(chain(IMAGE, [Conv(features=4, groups=2), Relu()]))
    meeting = [path for path, found in everything[IMAGE] if target.distance_of(found, 0, 0) == 0]
    result = synthesize(problem(target, 2), count=1000)
    assert isinstance(result, Found)
    assert [proof.params for proof in result.proofs] == sorted(weight(path, IMAGE) for path in meeting)
    assert len({graph.hash for graph in result.graphs}) == len(meeting)


def test_budgets_cut_exactly(everything: dict) -> None:
    target = Target.of(chain(IMAGE, [Conv(features=4, groups=2)]), Budget(params=Interval(100, 200)))
    meeting = [path for path, found in everything[IMAGE] if target.within(Budget()).distance_of(found, 0, 0) == 0]
    result = synthesize(problem(target, 2), count=1000)
    assert isinstance(result, Found)
    wanted = sorted(cost for path in meeting if 100 <= (cost := weight(path, IMAGE)) <= 200)
    assert [proof.params for proof in result.proofs] == wanted


def test_uniform_draws_are_uniform() -> None:
    target = Target.of(chain(IMAGE, [DepthwiseConv(), Relu()]))
    space = solution_space(problem(target, 2, prior=False))
    assert isinstance(space, Product)
    total = int(sum(table[0] for table in space.counts(False)))
    rng = np.random.default_rng(0)
    draws = 40 * total
    seen = Counter(space.sample(rng, weighted=False) for _ in range(draws))
    statistic = sum((count - 40) ** 2 / 40 for count in seen.values()) + 40 * (total - len(seen))
    # A chi-square variable exceeds its mean by five of its standard deviations less than once in 10,000 runs.
    assert abs(statistic - (total - 1)) < 5 * np.sqrt(2 * (total - 1))


CASES = {
    "conv3-relu": (Value((None, 32, 32, 32)), [Conv(features=64), Relu()]),
    "conv3-relu-pool": (Value((None, 32, 32, 32)), [Conv(features=64), Relu(), AvgPool()]),
    "conv3-relu-maxpool": (Value((None, 16, 16, 32)), [Conv(features=64), Relu(), MaxPool()]),
    "conv-bn-relu": (Value((None, 16, 16, 64)), [Conv(features=64), BatchNorm(), Relu()]),
    "conv-bn-relu-conv-bn": (
        Value((None, 16, 16, 64)),
        [Conv(features=64), BatchNorm(), Relu(), Conv(features=64), BatchNorm()],
    ),
    "pooled-head": (Value((None, 8, 8, 32)), [Conv(features=32), Relu(), GlobalAvgPool(), Dense(features=10)]),
    "attention": (Value((None, 16, 32)), [LayerNorm(), MultiHeadAttention(heads=4)]),
    "group-norm": (Value((None, 8, 8, 16)), [GroupNorm(groups=4), Relu()]),
}


@pytest.mark.parametrize("name", CASES)
def test_replacements_meet_all_three_properties(name: str) -> None:
    value, ops = CASES[name]
    graph = chain(value, ops)
    asked = Problem.of(graph)
    for result in (synthesize(asked), synthesize(asked, rng=np.random.default_rng(1), count=5)):
        assert isinstance(result, Found)
        for found, proof in zip(result.graphs, result.proofs, strict=True):
            assert proof.distance == 0
            assert asked.target.distance(found) == 0
            assert len(found.nodes) <= len(graph.nodes) + 2


def test_hidden_programs_are_always_found() -> None:
    alphabet = Alphabet.of(OPS, (16, 32))
    value = Value((None, 8, 8, 16))
    rng = np.random.default_rng(5)
    for _ in range(15):
        hidden = chain(value, drawn(rng, alphabet, value, int(rng.integers(1, 5))))
        if len(hidden.values[hidden.outputs[0]].shape) < 2:
            continue
        asked = replace_length(Problem.of(hidden), len(hidden.nodes))
        assert isinstance(synthesize(asked, rng=rng), Found)


def replace_length(asked: Problem, length: int) -> Problem:
    return Problem(asked.value, asked.target, length, asked.sizes)


def test_what_excludes_what_is_named_and_minimal() -> None:
    target = Target((ShapeRequirement((None, 6, 6, 4)), DepthRequirement(9), at_least(np.eye(4, dtype=int).tolist())))
    result = synthesize(problem(target, 3))
    assert isinstance(result, Infeasible)
    assert any("depth at least 9" in line for line in result.core)
    assert not any("mixing" in line for line in result.core)


def test_a_budget_that_excludes_a_requirement_is_named_with_it() -> None:
    asked = [[0] * 4, [0, 2, 0, 0], [0, 0, 2, 0], [3, 3, 3, 3]]
    table = vocabulary(Conv, DepthwiseConv, Relu)
    target = Target.asking((None, 6, 6, 4), depth=2, mixing=asked, params=Interval(0, 10))
    result = synthesize(Problem(IMAGE, target, 3, (4, 8), widths=(4, 8), vocabulary=table))
    assert isinstance(result, Infeasible)
    assert any("at most 10 parameters" in line for line in result.core)
    assert any("mixing" in line for line in result.core)
    assert not any("depth" in line for line in result.core)


@pytest.mark.parametrize(
    ("shape", "length"),
    [((None, 12, 12, 4), 3), ((None, 6, 6, 5), 3), ((None, 3), 3)],
    ids=["larger picture", "a width that no op makes", "pooled without a pool"],
)
def test_shapes_that_no_sequence_reaches_are_infeasible(shape: tuple[int | None, ...], length: int) -> None:
    assert isinstance(synthesize(problem(Target((ShapeRequirement(shape),)), length)), Infeasible)


def test_a_region_of_two_inputs_is_refused() -> None:
    from synth import Builder
    from synth.ops import Add

    builder = Builder((4, 4, 4))
    graph = builder.graph(builder(Add(), builder.input, builder.input, name="sum"))
    two = Graph((*graph.inputs, *(type(graph.inputs[0])("other", (None, 4, 4, 4)),)), graph.nodes, graph.outputs)
    with pytest.raises(GraphError, match="exactly one input"):
        synthesize(Problem.of(two))


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="exact"):
        synthesize(problem(Target((ShapeRequirement((None, 6, 6, 4)),)), 2), method="magic")


def test_equal_seeds_draw_equal_programs() -> None:
    asked = Problem.of(chain(*CASES["conv-bn-relu"]))
    first, second = (synthesize(asked, rng=np.random.default_rng(3), count=4) for _ in range(2))
    assert isinstance(first, Found) and isinstance(second, Found)
    assert first.graphs == second.graphs


def test_with_open_sizes_the_cheapest_is_that_of_brute_force_over_all_widths() -> None:
    goal, widths = Value((None, 6, 6, 4)), (2, 4, 6, 8)
    target = Target.of(chain(IMAGE, [Conv(features=8, groups=2), Relu(), Conv(features=4)]))
    for budget in (Budget(), Budget(params=Interval(300, 350)), Budget(macs=Interval(20_000))):
        result = synthesize(problem(target.within(budget), 3, widths=widths))
        meeting = [
            graph.params
            for path in sequences(Alphabet.of(SMALL, widths), IMAGE, goal, 3)
            if budget.distance((graph := chain(IMAGE, path)).params, macs(graph)) == 0 and target.distance(graph) == 0
        ]
        assert isinstance(result, Found)
        assert result.proofs[0].params == min(meeting)


def test_a_sized_program_keeps_the_budget() -> None:
    graph = chain(Value((None, 8, 8, 32)), [Conv(features=32), BatchNorm(), Relu(), Conv(features=32), BatchNorm()])
    target = Target.of(graph).within(Budget(Interval(1000, graph.params // 3)))
    rng = np.random.default_rng(2)
    asked = Problem.of(graph, target, widths=(4, 8, 12, 16, 24, 32, 48))
    for _ in itertools.repeat(None, 8):
        result = synthesize(asked, rng=rng, time_limit=60)
        assert isinstance(result, Found)
        assert 1000 <= result.graph.params <= graph.params // 3
