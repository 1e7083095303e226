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
from synth import Found, Infeasible, Interval, Problem, Target, Value, at_least, at_most, chain, infer, synthesize, vocabulary
from synth.memory import peak_bytes
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


def test_a_target_is_made_from_wishes_and_takes_the_shape_of_its_region() -> None:
    wished = Target(mixing=at_least([[0] * 4] * 3 + [[3] * 4]), depth=2, receptive_field=5, params=at_most(500), macs=at_least(10))
    graph = chain(IMAGE, [Conv(features=8)])
    assert Problem.of(graph, wished).target.output() == IMAGE
    asked = Target.asking(
        (None, 9, 9, 8),
        mixing=[[0] * 4] * 3 + [[3] * 4],
        depth=2,
        receptive_field=5,
        params=Interval(0, 500),
        macs=Interval(10),
    )
    assert set(Problem.of(graph, wished).target.requirements) == set(asked.requirements)
    assert wished.budget == asked.budget


TABLE = {"shape": [0, 9, 9, 8], "depth": 2}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"dept": 2}, "did you mean 'depth'"),
        ({"params": 0}, "params: a budget wants"),
        ({"macs": [500, 100]}, "macs: a budget wants.*500 to 100"),
        ({"peak_bytes": {"at_mots": 5}}, "did you mean 'at_most'"),
        ({"peak_bytes": {"at_least": 5}}, "upper bound only"),
        ({"depth": -1}, "depth is -1"),
        ({"mixing": [["none", "al"]]}, "did you mean 'all'"),
        ({"mixing": [[0, 1], [3, 0]]}, "2 columns together with an output of 4 axes"),
        ({"rank": 5000}, "rank is 5000 together with an output of only 1296 elements"),
        ({"shape": [0, -9, 9, 8]}, "sizes of at least 1"),
        ({"receptive_field": "5"}, "receptive_field"),
    ],
    ids=str,
)
def test_a_table_that_makes_no_sense_is_refused_with_what_contradicts(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Target.from_table(TABLE | table)


def test_bounds_of_a_table_are_written_in_three_ways() -> None:
    wanted = Target.asking((None, 9, 9, 8), depth=2, params=at_most(500))
    for way in ([0, 500], 500, {"at_most": 500}):
        assert Target.from_table(TABLE | {"params": way}) == wanted


def test_memory_is_kept_or_named() -> None:
    tight = Interval(0, 4 * 9 * 9 * (8 + 8))
    target = Target.asking((None, 9, 9, 8), depth=3, peak_bytes=tight)
    for rng in (None, np.random.default_rng(0)):
        result = synthesize(problem(target), rng=rng, count=5, time_limit=60)
        assert isinstance(result, Found)
        for graph, proof in zip(result.graphs, result.proofs, strict=True):
            assert proof.peak_bytes == peak_bytes(graph) <= tight.high
    none = synthesize(problem(Target.asking((None, 9, 9, 8), depth=3, peak_bytes=at_most(4 * 9 * 9 * 15))), time_limit=60)
    assert isinstance(none, Infeasible) and any("bytes alive at once" in line for line in none.core)
