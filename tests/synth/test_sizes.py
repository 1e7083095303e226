"""Sizing of chains against brute force, and Z3 against enumeration."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from synth import Budget, Infeasible, Interval, Op, Value, chain, macs, sizes
from synth.budget import UNLIMITED
from synth.effect import effect, exact_effect, size_fields, with_size
from synth.op import ShapeMismatch
from synth.ops import AvgPool, BatchNorm, Conv, Dense, DepthwiseConv, Flatten, GlobalAvgPool, GroupNorm, MultiHeadAttention, Relu

IMAGE = Value((None, 8, 8, 16))
BOTTLENECK = (Conv(features=16, kernel=1), BatchNorm(), Relu(), Conv(features=16, groups=2), Relu(), Conv(features=32, kernel=1))
WIDTHS = (4, 8, 10, 16, 24, 32)


def brute(ops: tuple[Op, ...], value: Value, goal: Value, budget: Budget) -> set[tuple[Op, ...]]:
    domains = [
        [with_size(op, size) for size in sorted({*WIDTHS, *(getattr(op, name) for name in size_fields(type(op)))})]
        if size_fields(type(op))
        else [op]
        for op in ops
    ]
    found = set()
    for candidate in itertools.product(*domains):
        try:
            graph = chain(value, candidate)
        except ShapeMismatch:
            continue
        if graph.values[graph.outputs[0]] == goal and budget.distance(graph.params, macs(graph)) == 0:
            found.add(candidate)
    return found


BUDGETS = [
    UNLIMITED,
    Budget(Interval(500, 1500)),
    Budget(Interval(0, 800), Interval(0, 60_000)),
    Budget(Interval(10**6)),
    Budget(macs=Interval(0, 10)),
]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_all_solutions_are_those_of_brute_force(budget: Budget) -> None:
    goal = Value((None, 8, 8, 32))
    wanted = brute(BOTTLENECK, IMAGE, goal, budget)
    found = sizes.solve(IMAGE, BOTTLENECK, goal, widths=WIDTHS, budget=budget, rng=np.random.default_rng(0), count=10**6)
    if not wanted:
        assert isinstance(found, Infeasible)
        return
    assert isinstance(found, tuple)
    assert set(found) == wanted and len(found) == len(wanted)


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_z3_agrees_with_enumeration(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    goal = Value((None, 8, 8, 32))
    enumerated = sizes.solve(IMAGE, BOTTLENECK, goal, widths=WIDTHS, budget=budget)
    monkeypatch.setattr(sizes, "LARGEST_FRONTIER", 0)
    solved = sizes.solve(IMAGE, BOTTLENECK, goal, widths=WIDTHS, budget=budget, count=5, time_limit=20)
    assert isinstance(solved, type(enumerated))
    if isinstance(solved, tuple):
        assert set(solved) <= brute(BOTTLENECK, IMAGE, goal, budget)
        assert len(set(solved)) == len(solved)


def test_without_a_generator_the_fewest_parameters_come_first() -> None:
    goal = Value((None, 8, 8, 32))
    found = sizes.solve(IMAGE, BOTTLENECK, goal, widths=WIDTHS)
    assert isinstance(found, tuple)
    assert chain(IMAGE, found[0]).params == min(chain(IMAGE, ops).params for ops in brute(BOTTLENECK, IMAGE, goal, UNLIMITED))


def test_what_cannot_be_shaped_is_infeasible() -> None:
    assert isinstance(sizes.solve(IMAGE, (Relu(),), Value((None, 8, 8, 32)), widths=WIDTHS), Infeasible)


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (Conv(features=24, groups=4), (8, 8, 40)),
        (Conv(features=24, stride=2, use_bias=True), (7, 5, 12)),
        (DepthwiseConv(multiplier=2), (6, 6, 20)),
        (Dense(features=7), (6, 6, 20)),
        (Flatten(), (3, 4, 5)),
        (GlobalAvgPool(), (3, 4, 5)),
        (GroupNorm(groups=4), (3, 4, 8)),
        (AvgPool(), (7, 7, 3)),
        (MultiHeadAttention(heads=2), (6, 8)),
    ],
    ids=str,
)
def test_fitted_effects_are_the_counted_ones(op: Op, shape: tuple[int, ...]) -> None:
    value = Value((None, *shape))
    assert effect(op, value) == exact_effect(op, (value,))


def test_importing_synth_does_not_load_z3() -> None:
    code = "import sys, synth; sys.exit('z3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
