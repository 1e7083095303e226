"""Targets: distances, mutations, JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from properties import DepthRequirement, MixingRequirement
from synth import Budget, Interval, Target, Value, chain
from synth.ops import AvgPool, Conv, Dense, Relu

IMAGE = Value((None, 8, 8, 4))
GRAPH = chain(IMAGE, [Conv(features=8), Relu(), AvgPool()])
TARGET = Target.of(GRAPH)


def test_a_graph_meets_what_was_read_off_it() -> None:
    assert TARGET.distance(GRAPH) == 0


@pytest.mark.parametrize(
    "ops",
    [
        [Conv(features=8), Relu()],
        [Conv(features=4), Relu(), AvgPool()],
        [Dense(features=8), Relu(), Conv(features=8, kernel=1, stride=2)],
        [AvgPool()],
    ],
    ids=["picture too large", "too few features", "window too small", "no features"],
)
def test_what_misses_a_requirement_is_at_a_distance(ops: list) -> None:
    assert 0 < TARGET.distance(chain(IMAGE, ops)) <= 1


def test_the_budget_counts() -> None:
    assert TARGET.within(Budget(params=Interval(0, GRAPH.params))).distance(GRAPH) == 0
    assert TARGET.within(Budget(params=Interval(0, GRAPH.params - 1))).distance(GRAPH) > 0


@pytest.mark.parametrize("seed", range(40))
def test_mutations_keep_the_shape_say_what_changed_and_keep_mixing_satisfied(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mutation = TARGET.mutate(rng, params=1000, params_ratio=(0.1, 0.8))
    before = {each.kind: each for each in TARGET.requirements}
    after = {each.kind: each for each in mutation.target.requirements}
    assert after["shape"] == before["shape"]
    assert {change.property for change in mutation.changes} == {"parameters"} | {
        kind for kind in before if before[kind] != after[kind]
    }
    depth, mixing = after["depth"], after["mixing"]
    assert isinstance(depth, DepthRequirement) and isinstance(mixing, MixingRequirement)
    assert abs(depth.minimum - 3) <= 2
    wanted = before["mixing"]
    assert isinstance(wanted, MixingRequirement)
    assert (np.array(mixing.minimum) <= np.array(wanted.minimum)).all()
    assert 100 <= mutation.target.budget.params.high <= 800


def test_json_gives_the_target_back() -> None:
    target = TARGET.mutate(np.random.default_rng(0), params=1000).target
    assert Target.from_json(json.loads(json.dumps(target.to_json()))) == target


@pytest.mark.parametrize("ends", [(-1, 5), (0, 0), (5, 4)])
def test_budgets_of_nothing_are_refused(ends: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="budget"):
        Interval(*ends)
