"""Exact synthesis on targets whose answers are known: hidden programs, impossible targets, brute force, the ancestor's cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import jax
import numpy as np
import pytest

import properties
from experiments.bench.hidden import IMAGE, SMALL, everything, hidden_targets, impossible_targets, small_targets
from properties import RelationalProperty, Rules, Shape
from synth import (
    OPS,
    Budget,
    Found,
    GaveUp,
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
    verify,
    vocabulary,
)
from synth.effect import params
from synth.exact import solution_space
from synth.ops import AvgPool, BatchNorm, Conv, Dense, Relu
from synth.problem import params_of
from synth.product import Product


def meets_by_its_jaxpr(problem: Problem, result: object) -> bool:
    """Whether something was found whose whole jaxpr, traced and interpreted, meets the target."""
    if not isinstance(result, Found):
        return False
    graph = result.graph
    return problem.target.distance_of(verify(graph), graph.params, macs(graph)) == 0


def all_met(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    missed = [
        f"{family}: {problem.target}"
        for family, problem in hidden_targets(rng, count)
        if not meets_by_its_jaxpr(problem, synthesize(problem, rng=rng))
    ]
    assert missed == []


def test_what_a_hidden_program_has_is_found() -> None:
    all_met(0, 6)


@pytest.mark.slow
def test_what_many_hidden_programs_have_is_found() -> None:
    all_met(1, 120)


IMPOSSIBLE = dict(impossible_targets(np.random.default_rng(3), 9))


@pytest.mark.parametrize(("kind", "problem"), IMPOSSIBLE.items(), ids=list(IMPOSSIBLE))
def test_what_cannot_be_is_infeasible_by_a_smallest_core(kind: str, problem: Problem) -> None:
    result = synthesize(problem, rng=np.random.default_rng(0))
    assert isinstance(result, Infeasible), kind
    assert result.core
    named = {
        "deeper than the length allows": "depth at least",
        "a wider view than the length allows": "receptive field of at least 8",
        "more rank than there is": "rank",
        "a vocabulary that keeps the shape": "no op changes",
        "too few parameters for the width": "parameters",
        "too few multiply-adds for the width": "MACs",
        "two shapes": "shape",
    }
    assert named.get(kind, "output of") in " ".join(result.core)
    assert len(result.core) <= 2


def test_without_any_part_of_a_core_there_is_a_program() -> None:
    table = vocabulary(Conv, Relu)
    asked = [[0] * 4, [0, 2, 0, 0], [0, 0, 2, 0], [0] * 4]
    whole = {"depth": 3, "mixing": asked, "params": Interval(0, 40)}
    problem = Problem(Value((None, 6, 6, 4)), Target.asking((None, 6, 6, 8), **whole), 3, (4, 8), vocabulary=table)  # type: ignore[arg-type]
    result = synthesize(problem)
    assert isinstance(result, Infeasible)
    core = " ".join(result.core)
    assert "mixing" in core and "40 parameters" in core and "depth" not in core
    for name in ("mixing", "params"):
        rest = {key: value for key, value in whole.items() if key != name}
        target = Target.asking((None, 6, 6, 8), **rest)  # type: ignore[arg-type]
        assert isinstance(synthesize(Problem(problem.value, target, 3, (4, 8), vocabulary=table)), Found)


@pytest.mark.parametrize("seed", range(2))
def test_the_least_cost_is_that_of_brute_force(seed: int) -> None:
    for problem, least in small_targets(np.random.default_rng(seed), 25, length=3):
        result = synthesize(problem)
        assert isinstance(result, Found) and result.optimal
        assert result.proofs[0].params == least


@pytest.mark.slow
def test_the_least_cost_is_that_of_brute_force_up_to_length_four() -> None:
    for problem, least in small_targets(np.random.default_rng(9), 50):
        result = synthesize(problem)
        assert isinstance(result, Found)
        assert result.proofs[0].params == least


def test_draws_by_cost_have_their_odds() -> None:
    target, temperature = Target.asking((None, 6, 6, 4), depth=2), 40.0
    problem = Problem(IMAGE, target, 2, (), vocabulary=SMALL, prior=False, temperature=temperature)
    meeting = [known for known in everything(IMAGE, 2) if target.distance_of(known.inference, 0, 0) == 0]
    odds = np.exp(-np.array([known.params for known in meeting]) / temperature)
    odds /= odds.sum()
    space = solution_space(problem)
    assert isinstance(space, Product)
    favoured, rng = space.favouring(params_of, temperature), np.random.default_rng(0)
    draws = 20_000
    paths = Counter(favoured.sample(rng, weighted=True) for _ in range(draws))
    seen = {chain(IMAGE, path).hash: count for path, count in paths.items()}
    assert set(seen) <= {known.graph.hash for known in meeting}
    expected = draws * odds
    statistic = sum((seen.get(known.graph.hash, 0) - e) ** 2 / e for known, e in zip(meeting, expected, strict=True))
    assert abs(statistic - (len(meeting) - 1)) < 5 * np.sqrt(2 * (len(meeting) - 1))
    drawn = synthesize(problem, rng=rng, count=5)
    assert isinstance(drawn, Found) and all(target.distance(graph) == 0 for graph in drawn.graphs)


CIFAR = Value((None, 32, 32, 3))
NETWORK: list[Op] = [
    Conv(features=32),
    Relu(),
    AvgPool(),
    Conv(features=64),
    Relu(),
    AvgPool(),
]
"""The convolutional part of the ancestor's CIFAR network; its ops 4 to 6 are conv3-relu-pool on 16×16×32."""


def replaced(first: int, last: int, *, keeps: set[str]) -> tuple[Problem, Found]:
    """Ops first … last of the network replaced by the shortest sequence that keeps some of their properties."""
    value = CIFAR if first == 0 else chain(CIFAR, NETWORK[:first]).values[f"{NETWORK[first - 1].kind()}{first - 1}"]
    piece = chain(value, NETWORK[first : last + 1])
    kinds = [requirement for requirement in Target.of(piece).requirements if requirement.to_json()["kind"] in keeps]
    problem = Problem.of(piece, Target(tuple(kinds)), cost="ops")
    result = synthesize(problem)
    assert isinstance(result, Found) and result.optimal
    assert meets_by_its_jaxpr(problem, result)
    return problem, result


def test_ancestor_replaces_a_convolution_by_shape_and_depth_with_one_layer() -> None:
    _, found = replaced(3, 3, keeps={"shape", "depth"})
    assert len(found.graph.nodes) == 1
    assert found.graph.nodes[0].op.weights(Value((None, 16, 16, 32)))


def test_ancestor_replaces_a_convolution_by_all_three_with_one_that_mixes_space() -> None:
    problem, found = replaced(3, 3, keeps={"shape", "depth", "mixing"})
    assert len(found.graph.nodes) == 1
    assert (infer(found.graph).mixing[0, 0].matrix >= np.array(problem.target.requirements[2].minimum)).all()  # type: ignore[attr-defined]


def test_ancestor_replaces_conv_relu_by_shape_and_depth_with_two_ops() -> None:
    _, found = replaced(3, 4, keeps={"shape", "depth"})
    assert len(found.graph.nodes) == 2


def test_ancestor_replaces_conv_relu_pool_by_shape_and_mixing_without_a_nonlinearity() -> None:
    _, found = replaced(3, 5, keeps={"shape", "mixing"})
    assert infer(found.graph).depth[0, 0] <= 1


def test_ancestors_disabled_case_conv_relu_pool_by_all_three_properties() -> None:
    problem, found = replaced(3, 5, keeps={"shape", "depth", "mixing"})
    assert len(problem.target.requirements) == 3
    drawn = synthesize(problem, rng=np.random.default_rng(0), count=20)
    assert isinstance(drawn, Found) and len(drawn.graphs) == 20
    for graph in (*found.graphs, *drawn.graphs):
        assert problem.target.distance_of(verify(graph), graph.params, macs(graph)) == 0
    assert infer(found.graph).depth[0, 0] >= 2


@pytest.mark.parametrize("interval", [(0, 0), (0, -5), (-1, 10), (20, 10)])
def test_budgets_of_nothing_or_less_are_refused(interval: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="budget wants 0 <= low"):
        Interval(*interval)


def test_unknown_requirements_are_named() -> None:
    with pytest.raises(ValueError, match="colour"):
        Target.from_table({"shape": [0, 6, 6, 4], "colour": 3})
    with pytest.raises(ValueError, match="colour"):
        Target.from_json({"requirements": [{"kind": "colour"}], "budget": Budget().to_json()})


def test_a_target_without_a_shape_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="output's shape"):
        synthesize(Problem(IMAGE, Target(()), 2, (), vocabulary=SMALL))


def test_no_program_at_all_fits_an_empty_vocabulary() -> None:
    empty = Problem(IMAGE, Target.asking((None, 3, 3, 4)), 3, (4,), vocabulary={})
    assert isinstance(synthesize(empty), Infeasible)
    unchanged = synthesize(Problem(IMAGE, Target.asking((None, 6, 6, 4)), 3, (4,), vocabulary={}))
    assert isinstance(unchanged, Found) and not unchanged.graph.nodes


def test_time_that_is_up_is_no_proof() -> None:
    target = Target.asking((None, 6, 6, 4), depth=2, params=Interval(1, 2))
    assert isinstance(synthesize(Problem(IMAGE, target, 3, (), vocabulary=SMALL), time_limit=0.0), GaveUp)


@dataclass(frozen=True, kw_only=True)
class Mirror(Op):
    """A user's op: the picture from right to left, and the sign of every element."""

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return -inputs[0][:, :, ::-1]


@dataclass(frozen=True, slots=True)
class Reversals:
    """A user's property: how many reversals lie on some path, at most."""

    count: int

    def then(self, following: Reversals) -> Reversals:
        return Reversals(self.count + following.count)

    def join(self, other: Reversals) -> Reversals:
        return Reversals(max(self.count, other.count))


def _none(*shapes: Shape) -> Reversals:
    return Reversals(0)


REVERSALS = RelationalProperty(
    name="reversals",
    identity=_none,
    top=_none,
    rules=Rules({"rev": lambda context, operand, output: Reversals(1)}, otherwise=lambda *_: Reversals(0)),
)


@dataclass(frozen=True)
class Reversed:
    """A user's requirement: an odd number of reversals."""

    kind = "reversed"

    def distance(self, inference: properties.Inference) -> float:
        found = inference.relation("reversals", 0, 0)
        return float(found is None or found.count % 2 == 0)

    def met(self, inference: properties.Inference) -> bool:
        return self.distance(inference) == 0

    def mutate(self, rng: np.random.Generator) -> Reversed:
        return self

    relax = mutate

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls()


@pytest.mark.parametrize("seeded", [False, True])
def test_a_users_op_and_property_join_without_a_change(seeded: bool) -> None:
    target = Target((*Target.asking((None, 6, 6, 8), depth=1).requirements, Reversed()))
    table = {**vocabulary(Conv, BatchNorm, Relu), **vocabulary(Mirror)}
    problem = Problem(IMAGE, target, 3, (8,), vocabulary=table, properties=(REVERSALS,))
    result = synthesize(problem, rng=np.random.default_rng(0) if seeded else None, count=4)
    assert isinstance(result, Found) and len(result.graphs) == 4
    for graph in result.graphs:
        assert sum(isinstance(node.op, Mirror) for node in graph.nodes) % 2 == 1
        assert Reversed().met(verify(graph, (*properties.PROPERTIES, REVERSALS)))
    without = Problem(IMAGE, target, 3, (8,), vocabulary=vocabulary(Conv, Relu), properties=(REVERSALS,))
    refused = synthesize(without)
    assert isinstance(refused, Infeasible) and any("reversed" in line for line in refused.core)


def test_a_price_list_of_the_user_decides_what_is_cheapest() -> None:
    def price(op: Op, value: Value) -> float:
        return 5.0 if isinstance(op, Conv) else 100.0 if isinstance(op, Dense) else 1.0 + params(op, (value,)) / 1e6

    problem = Problem(IMAGE, Target.asking((None, 6, 6, 8), depth=2), 3, (8,), vocabulary=dict(OPS), cost=price)
    result = synthesize(problem, count=6)
    assert isinstance(result, Found)
    assert sum(isinstance(node.op, Conv) for node in result.graph.nodes) == 1
    assert not any(isinstance(node.op, Dense) for graph in result.graphs for node in graph.nodes)
