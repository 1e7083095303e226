"""Laws of the relations (composition, join) and of the requirements, user-made ones included."""

from __future__ import annotations

import json
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import properties
from properties import (
    CapacityRequirement,
    CausalityRequirement,
    DepthRequirement,
    EquivarianceRequirement,
    Inference,
    Mixing,
    MixingRequirement,
    RankRequirement,
    Requirement,
    ScaleRequirement,
    ShapeRequirement,
    requirement,
)
from properties.causality import lookahead
from tests.properties.compositions import build, choices
from tests.properties.oracle import Program, claim

LAWS = settings(max_examples=25, deadline=None, derandomize=True)
SOME = [[(k, 0, 0), (90, 1, 0), (k + 7, 1, 1), (3 * k % 35, 0, 0)] for k in range(35)]  # every step once or more, with a branch


@pytest.fixture(scope="module")
def inferences() -> list[Inference]:
    return [claim(build(drawn), properties.ALL) for drawn in SOME]


def sets(mixing: Mixing) -> list[list[np.ndarray]]:
    return [list(mixing.depends_on(index)) for index in np.ndindex(*mixing.output)]


@pytest.mark.parametrize("name", ["mixing", "depth", "rank"])
def test_identity_is_neutral_and_join_is_commutative_and_covers(inferences: list[Inference], name: str) -> None:
    for inference in inferences:
        relation = inference.relation(name, 0, 0)
        same = {each.name: each for each in properties.PROPERTIES}[name].identity
        assert same(inference.inputs[0]).then(relation) == relation
        assert relation.then(same(inference.shape[0])) == relation
        other = properties.infer(lambda x: x, jnp.ones(inference.inputs[0].shape)).relation(name, 0, 0)
        if inference.shape[0].shape == inference.inputs[0].shape:
            assert relation.join(other) == other.join(relation)
            if name == "mixing":
                joined = zip(sets(relation), sets(other), sets(relation.join(other)), strict=True)
                assert all((a <= c).all() and (b <= c).all() for x, y, z in joined for a, b, c in zip(x, y, z, strict=True))


@LAWS
@given(choices, choices)
def test_inference_of_a_composition_is_the_composition_of_inferences(first: list, second: list) -> None:
    """What is known of two pieces says of their sequence at least as much as sets composed element by element, and never less than
    interpreting the sequence as one program."""
    one = build(first)
    shape = claim(one).shape[0].shape
    two = build(second, shape)
    count = len(one.params)
    both = Program(
        "both", lambda *a: two.function(*a[count:-1], one.function(*a[:count], a[-1])), one.shape, (*one.params, *two.params)
    )
    parts = [claim(one), claim(two)]
    whole = claim(both)
    for name in ("depth", "rank"):
        a, b = (part.relation(name, 0, 0) for part in parts)
        expected = None if a is None or b is None else a.then(b)
        found = whole.relation(name, 0, 0)
        assert (found is None) == (expected is None)
        if name == "depth" and found is not None:
            assert found == expected
    a, b = (part.relation("mixing", 0, 0) for part in parts)
    if a is None or b is None:
        return
    composed, direct = a.then(b), whole.mixing[0, 0]
    assert (direct.matrix == composed.matrix).all() or (direct.matrix <= composed.matrix).all()
    if composed is not None and np.prod(composed.output) <= 120:
        inner = sets(a)
        order = {index: k for k, index in enumerate(np.ndindex(*a.output))}
        for index, claimed in zip(np.ndindex(*composed.output), sets(composed), strict=True):
            reads = [np.flatnonzero(axis) for axis in b.depends_on(index)]
            for middle in np.ndindex(*map(len, reads)):
                element = tuple(int(axis[k]) for axis, k in zip(reads, middle, strict=True))
                assert all((x <= y).all() for x, y in zip(inner[order[element]], claimed, strict=True))


KINDS = [
    lambda i: ShapeRequirement.of(i),
    lambda i: DepthRequirement.of(i),
    lambda i: MixingRequirement.of(i),
    lambda i: RankRequirement.of(i),
    lambda i: CausalityRequirement(1, max(0, lookahead(i.mixing[0, 0], 1))),
    lambda i: ScaleRequirement.of(i),
    lambda i: EquivarianceRequirement.of(i),
    lambda i: EquivarianceRequirement.of(i, group="permutation"),
    lambda i: CapacityRequirement.between(params=(0, i.capacity.params), macs=(0, i.capacity.macs)),
    lambda i: CapacityRequirement.between(macs=(i.capacity.macs / 2, 2 * i.capacity.macs)),
]


@pytest.mark.parametrize("kind", KINDS)
def test_requirements(inferences: list[Inference], kind: object) -> None:
    rng = np.random.default_rng(0)
    for inference in inferences:
        start: Requirement = kind(inference)  # type: ignore[operator]
        assert isinstance(start, Requirement)
        assert start.met(inference) and start.distance(inference) == 0
        asked = start
        for _ in range(6):
            mutated = asked.mutate(rng)
            relaxed = mutated.relax(rng)
            tightened = mutated.tighten(rng)  # type: ignore[attr-defined]
            for each in (mutated, relaxed, tightened):
                assert requirement(json.loads(json.dumps(each.to_json()))) == each
                assert len({each, requirement(each.to_json())}) == 1
            for candidate in inferences[::4]:
                distance = mutated.distance(candidate)
                assert 0 <= distance <= 1
                assert mutated.met(candidate) == (distance == 0)
                assert relaxed.distance(candidate) <= distance <= tightened.distance(candidate) + 1e-12
            asked = mutated


def test_mutation_is_a_function_of_its_generator() -> None:
    asked = MixingRequirement.from_matrix([[1, 0], [3, 3]])
    assert asked.mutate(np.random.default_rng(5)) == asked.mutate(np.random.default_rng(5))
    assert len({asked.mutate(np.random.default_rng(seed)) for seed in range(30)}) > 3


@LAWS
@given(st.integers(0, 5), st.integers(0, 5))
def test_a_deeper_program_is_never_farther(depth: int, more: int) -> None:
    def net(layers: int) -> Inference:
        def run(w: jax.Array, x: jax.Array) -> jax.Array:
            for _ in range(layers):
                x = jax.nn.relu(x @ w)
            return x

        return properties.infer(run, jnp.ones((2, 3)), params=jnp.ones((3, 3)))

    asked = DepthRequirement(6)
    assert asked.distance(net(depth + more)) <= asked.distance(net(depth))


@pytest.mark.parametrize("each", [properties.CAUSALITY, properties.SCALE, properties.EQUIVARIANCE], ids=lambda each: each.name)
def test_what_a_property_demands_is_met_by_what_has_it(inferences: list[Inference], each: properties.Property) -> None:
    assert each.demands is not None
    demanded = [requirement for inference in inferences for requirement in each.demands(inference, 0, 0)]
    assert demanded
    for inference in inferences:
        assert all(requirement.met(inference) for requirement in each.demands(inference, 0, 0))
    refused = [one for one in demanded for inference in inferences if not one.met(inference)]
    assert refused, "what every program has says nothing"


def test_distances_are_the_documented_ones() -> None:
    dense = properties.infer(lambda w, x: x @ w, jnp.ones((4, 8, 8, 6)), params=jnp.ones((6, 6)))
    relu = properties.infer(jax.nn.relu, jnp.ones((4, 8, 8, 6)))
    assert MixingRequirement.of(dense).distance(relu) == pytest.approx(4 / 7)
    assert ShapeRequirement((4, 16, 16, 6)).distance(relu) == 0.5
    assert ShapeRequirement((4, None, 16, 6)).distance(relu) == 0.25
    assert ShapeRequirement((4, 8)).distance(relu) == 1.0
    assert CapacityRequirement.between(params=(0, 9)).distance(dense) == pytest.approx(1 - 9 / 36)
    assert CapacityRequirement.between(params=(72, 99)).distance(dense) == pytest.approx(1 - 36 / 72)
    asked = (properties.SCALE, properties.EQUIVARIANCE)
    cubed = properties.infer(lambda w, x: (x @ w) ** 3, jnp.ones((4, 8, 8, 6)), params=jnp.ones((6, 6)), properties=asked)
    assert ScaleRequirement(Fraction(1)).distance(cubed) == pytest.approx(1 - 1 / 3)
    assert ScaleRequirement(Fraction(3), homogeneous=True).distance(cubed) == 0
    exponential = properties.infer(jnp.exp, jnp.ones((4, 8)), properties=asked)
    assert ScaleRequirement(Fraction(1)).distance(exponential) == 1
    assert ScaleRequirement(Fraction(1), homogeneous=True).distance(exponential) == 1
    assert EquivarianceRequirement((0, 1, 2), "permutation").distance(cubed) == 0
    assert EquivarianceRequirement((1, 2, 3), "permutation").distance(cubed) == pytest.approx(1 / 3)
