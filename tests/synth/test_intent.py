"""Targets from intent, and properties and requirements that synthesis was not written for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pytest

import properties
from properties import RelationalProperty, Shape
from properties.rules import Rules
from synth import Found, Infeasible, Interval, Problem, Target, Value, chain, infer, synthesize, vocabulary
from synth.ops import AvgPool, Conv, Dense, DepthwiseConv, LayerNorm, Relu

IMAGE = Value((None, 9, 9, 8))
VOCABULARY = vocabulary(Conv, DepthwiseConv, Dense, Relu, LayerNorm, AvgPool)


def problem(target: Target, length: int = 4, **options: Any) -> Problem:
    return Problem(IMAGE, target, length, (8, 16), vocabulary=VOCABULARY, **options)


def test_every_wish_of_an_intent_is_granted() -> None:
    target = Target.asking(
        (None, 9, 9, 8), depth=3, receptive_field=7, rank=9 * 9 * 8 * 2, mixing=[[0] * 4] * 3 + [[3] * 4], params=Interval(100, 900)
    )
    result = synthesize(problem(target))
    assert isinstance(result, Found)
    found, graph = result.proofs[0].inference, result.graph
    assert found.depth[0, 0] >= 3
    assert found.mixing[0, 0].positions(1) >= 7 and found.mixing[0, 0].positions(2) >= 7
    assert found.rank[0, 0] >= 9 * 9 * 8 * 2
    assert 100 <= graph.params <= 900


def test_a_table_says_the_same_as_code() -> None:
    table = {"shape": [0, 9, 9, 8], "depth": 2, "receptive_field": 5, "params": [0, 500]}
    assert Target.from_table(table) == Target.asking((None, 9, 9, 8), depth=2, receptive_field=5, params=Interval(0, 500))
    with pytest.raises(ValueError, match="dept"):
        Target.from_table({"shape": [0, 9, 9, 8], "dept": 2})


def test_a_receptive_field_beyond_reach_is_infeasible_and_named() -> None:
    result = synthesize(problem(Target.asking((None, 9, 9, 8), receptive_field=9), length=1))
    assert isinstance(result, Infeasible)
    assert any("receptive field" in line for line in result.core)


def test_json_keeps_every_kind_of_requirement() -> None:
    target = Target.asking((None, 9, 9, 8), depth=3, receptive_field=7, rank=4, mixing=[[0] * 4] * 4)
    assert Target.from_json(target.to_json()) == target


@dataclass(frozen=True, slots=True)
class Steps:
    """How many primitives lie on the longest path."""

    count: int

    def then(self, following: Steps) -> Steps:
        return Steps(self.count + following.count)

    def join(self, other: Steps) -> Steps:
        return Steps(max(self.count, other.count))


class _Each(Rules):
    def get(self, name: str, default: object = None) -> Any:
        return lambda context, operand, output: Steps(1)


def one(*shapes: Shape) -> Steps:
    return Steps(1)


LENGTH = RelationalProperty(
    name="length",
    identity=lambda shape: Steps(0),
    top=one,
    rules=_Each({}),
    calls=Rules({}),
    decide=one,
    unstack=one,
    stack=one,
    settle=lambda before, after, left: after,
)


@dataclass(frozen=True)
class Even:
    """The longest path has an even number of primitives, and at least so many: no bound of the built-in kind."""

    least: int
    kind = "even"

    def distance(self, inference: properties.Inference) -> float:
        steps = inference.relation("length", 0, 0)
        return float(steps is None or steps.count % 2 or steps.count < self.least)

    def met(self, inference: properties.Inference) -> bool:
        return self.distance(inference) == 0

    def mutate(self, rng: np.random.Generator) -> Even:
        return self

    relax = mutate

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "least": self.least}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["least"])


@pytest.mark.parametrize("least", [2, 6, 10])
def test_a_property_of_the_user_joins_without_a_change(least: int) -> None:
    wanted = Even(least)
    target = Target((*Target.asking((None, 9, 9, 8), depth=1).requirements, wanted))
    result = synthesize(problem(target, length=2, properties=(LENGTH,)), count=200)
    assert isinstance(result, Found)
    assert all(wanted.met(infer(graph, (LENGTH,))) for graph in result.graphs)
    everything = synthesize(problem(Target.asking((None, 9, 9, 8), depth=1), length=2), count=10_000)
    assert isinstance(everything, Found)
    meeting = [graph for graph in everything.graphs if wanted.met(infer(graph, (LENGTH,)))]
    assert len(meeting) == len(synthesize(problem(target, length=2, properties=(LENGTH,)), count=10_000).graphs)  # type: ignore[union-attr]


def test_the_empty_program_is_one() -> None:
    result = synthesize(problem(Target.of(chain(IMAGE, [Relu()]))))
    assert isinstance(result, Found)
    assert result.proofs[0].params == 0
