"""Sizing of chains against brute force, and Z3 against enumeration."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from properties import DepthRequirement, RankRequirement
from synth import Budget, Infeasible, Interval, Op, Value, chain, infer, macs, sizes
from synth.budget import UNLIMITED
from synth.effect import effect, exact_effect, size_fields, with_size
from synth.memory import peak_bytes
from synth.op import ShapeMismatch
from synth.ops import AvgPool, BatchNorm, Conv, Dense, DepthwiseConv, Flatten, GlobalAvgPool, GroupNorm, MultiHeadAttention, Relu
from synth.requirements import ReceptiveFieldRequirement

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


FREE = (Conv(features=16, kernel=3), Relu(), Conv(features=16, kernel=3, stride=2))
FIELDS = {"kernel": (1, 3), "groups": (1, 4), "stride": (1, 2), "dilation": (1, 2)}


@functools.cache
def every_setting(value: Value, ops: tuple[Op, ...], widths: tuple[int, ...], goal: Value) -> list[tuple[Op, ...]]:
    """Oracle: all fields and sizes of all ops, those that lead to the goal."""
    found = []
    for settings in itertools.product(*(_settings(op, widths) for op in ops)):
        try:
            graph = chain(value, settings)
        except ShapeMismatch:
            continue
        found += [settings] if graph.values[graph.outputs[0]] == goal else []
    return found


def _settings(op: Op, widths: tuple[int, ...]) -> list[Op]:
    domains = {name: values for name, values in (FIELDS | {"features": widths}).items() if name in op.attributes()}
    return [replace(op, **dict(zip(domains, values, strict=True))) for values in itertools.product(*domains.values())]


@pytest.mark.parametrize("by_z3", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"budget": Budget(Interval(0, 900))},
        {"requirements": [ReceptiveFieldRequirement((0, 5, 5, 0))], "budget": Budget(macs=Interval(0, 40_000))},
        {"requirements": [RankRequirement(2 * 4 * 4 * 16)], "multiple": 16},
        {"budget": Budget(peak_bytes=Interval(0, 4 * (8 * 8 * 16 + 8 * 8 * 8)))},
    ],
    ids=["parameters", "window", "rank", "memory"],
)
def test_fields_and_sizes_together_are_those_of_brute_force(options: dict, by_z3: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_z3:
        monkeypatch.setattr(sizes, "LARGEST_FRONTIER", 0)
    value, goal, widths = Value((None, 8, 8, 16)), Value((None, 4, 4, 16)), (8, 16)
    budget, asked = options.get("budget", UNLIMITED), options.get("requirements", [])
    meeting = []
    for ops in every_setting(value, FREE, widths, goal):
        graph = chain(value, ops)
        found = infer(graph) if asked else None
        fits = all(each.met(found) for each in asked if found is not None)
        fits &= budget.distance(graph.params, macs(graph), peak_bytes(graph)) == 0
        fits &= all(op.features % options.get("multiple", 1) == 0 for op in ops if isinstance(op, Conv))
        meeting += [ops] if fits else []
    count = 4 if by_z3 else 10**6
    solved = sizes.solve(value, FREE, goal, widths=widths, fields=FIELDS, count=count, time_limit=60, **options)
    assert isinstance(solved, tuple) and meeting
    assert set(solved) <= set(meeting) and len(set(solved)) == len(solved)
    assert by_z3 or set(solved) == set(meeting)
    assert chain(value, solved[0]).params == min(chain(value, ops).params for ops in meeting)


@pytest.mark.parametrize("by_z3", [False, True])
def test_heads_and_widths_of_attention_are_those_of_brute_force(by_z3: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_z3:
        monkeypatch.setattr(sizes, "LARGEST_FRONTIER", 0)
    tokens, goal, widths, heads = Value((None, 6, 12)), Value((None, 6, 12)), (6, 8, 10, 12), (1, 2, 3, 4)
    budget = Budget(Interval(0, 700))
    wanted = set()
    for width, count in itertools.product(widths, heads):
        ops = (Dense(features=width), MultiHeadAttention(heads=count), Dense(features=12))
        if width % count == 0 and budget.params.holds(chain(tokens, ops).params):
            wanted.add(ops)
    ops = (Dense(features=12), MultiHeadAttention(heads=1), Dense(features=12))
    found = sizes.solve(tokens, ops, goal, widths=widths, fields={"heads": heads}, budget=budget, count=4 if by_z3 else 100)
    assert isinstance(found, tuple) and len(wanted) > 4
    narrow = {each for each in wanted if each[2].features == 12}
    assert set(found) <= narrow and (by_z3 or set(found) == narrow)


def test_the_cheapest_by_a_cost_of_the_caller_is_first_by_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    goal, cost = Value((None, 8, 8, 32)), lambda op, value: 1.5 + 100.0 / value.channels if isinstance(op, Conv) else 0.25
    by_enumeration = sizes.solve(IMAGE, BOTTLENECK, goal, widths=WIDTHS, cost=cost)
    monkeypatch.setattr(sizes, "LARGEST_FRONTIER", 0)
    by_z3 = sizes.solve(IMAGE, BOTTLENECK, goal, widths=WIDTHS, cost=cost, time_limit=20)
    assert isinstance(by_enumeration, tuple) and isinstance(by_z3, tuple)
    totals = [sum(cost(op, chain(IMAGE, ops[:k]).values[chain(IMAGE, ops[:k]).outputs[0]]) for k, op in enumerate(ops))
              for ops in (by_enumeration[0], by_z3[0])]  # fmt: skip
    assert totals[0] == pytest.approx(totals[1]) == pytest.approx(4.5 + 3 * 0.25 + 100 / 16 + 2 * 100 / 32)


def test_diverse_solutions_are_further_apart_than_the_cheapest_ones() -> None:
    goal = Value((None, 8, 8, 32))
    near = sizes.solve(IMAGE, BOTTLENECK, goal, widths=WIDTHS, count=4)
    far = sizes.solve(IMAGE, BOTTLENECK, goal, widths=WIDTHS, count=4, diverse=True)
    assert isinstance(near, tuple) and isinstance(far, tuple) and near[0] == far[0]
    assert spread(far) > spread(near)


def spread(solutions: tuple[tuple[Op, ...], ...]) -> float:
    """The least difference in features of any two."""
    features = [[op.features for op in ops if isinstance(op, Conv)] for ops in solutions]
    return min(sum(abs(a - b) for a, b in zip(x, y, strict=True)) for x, y in itertools.combinations(features, 2))


def test_what_sizes_cannot_decide_is_refused() -> None:
    goal = Value((None, 8, 8, 32))
    with pytest.raises(ValueError, match="kernal"):
        sizes.solve(IMAGE, BOTTLENECK, goal, widths=WIDTHS, fields=("kernal",))
    with pytest.raises(ValueError, match="depth"):
        sizes.solve(IMAGE, BOTTLENECK, goal, widths=WIDTHS, requirements=[DepthRequirement(3)])
    none = sizes.solve(IMAGE, BOTTLENECK, goal, widths=WIDTHS, requirements=[ReceptiveFieldRequirement((0, 5, 5, 0))])
    assert isinstance(none, Infeasible) and any("receptive field" in line for line in none.core)


def test_importing_synth_does_not_load_z3() -> None:
    code = "import sys, synth; sys.exit('z3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
