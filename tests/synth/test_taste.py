"""The prior against its definition, and what is drawn by it."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from synth import Found, Op, Problem, ShapeMismatch, Target, Value, alternatives, chain, synthesize, vocabulary
from synth.canonical import canonical
from synth.equivalence import equivalent
from synth.exact import solution_space
from synth.op import output_value
from synth.ops import (
    OPS,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    PositionEmbedding,
    Relu,
    RmsNorm,
    Scale,
    Sigmoid,
    Silu,
    Softmax,
    SquaredRelu,
)
from synth.product import Product
from synth.space import Alphabet
from synth.taste import FACTORS, TAILS, Role, Tail, growth, lengths, role, roomiest, weight

IMAGE = Value((None, 4, 4, 4))
SMALL = vocabulary(Dense, Relu, LayerNorm, SquaredRelu, MaxPool)


def meeting(problem: Problem) -> dict[tuple[Op, ...], float]:
    """Every program of a problem with its weight: over its steps, how often the op is drawn times how well it goes there."""
    alphabet = Alphabet.of(problem.vocabulary, problem.sizes)
    found: dict[tuple[Op, ...], float] = {}

    def grow(value: Value, path: tuple[Op, ...], tail: Tail, product: float) -> None:
        if problem.target.distance(chain(problem.value, path)) == 0:
            found[path] = product
        if len(path) == problem.max_length:
            return
        for op, after in alphabet.moves(value):
            here = role(op, value)
            grow(after, (*path, op), tail.after(here), product * weight(op, len(problem.sizes)) * tail.factor(here))

    grow(problem.value, (), Tail(), 1.0)
    return found


def test_programs_are_drawn_as_the_prior_says() -> None:
    target = Target.of(chain(IMAGE, [Dense(features=4), Relu()]))
    problem = Problem(IMAGE, target, max_length=3, sizes=(4, 8), vocabulary=SMALL)
    expected = meeting(problem)
    space = solution_space(problem, prior=True)
    assert isinstance(space, Product)
    np.testing.assert_allclose(sum(table[0] for table in space.counts(True)), sum(expected.values()), rtol=1e-9)
    rng, draws, total = np.random.default_rng(0), 4000, sum(expected.values())
    seen = Counter(space.sample(rng, weighted=True) for _ in range(draws))
    assert set(seen) <= set(expected)
    # Pearson's statistic over the programs that are common enough, the others as one.
    means = {path: draws * each / total for path, each in expected.items()}
    common = [path for path, mean in means.items() if mean >= 5]
    rest = draws - sum(means[path] for path in common), draws - sum(seen[path] for path in common)
    cells = [(means[path], seen[path]) for path in common] + ([rest] if rest[0] > 1 else [])
    statistic = sum((count - mean) ** 2 / mean for mean, count in cells)
    assert statistic < len(cells) + 5 * math.sqrt(2 * len(cells))


def test_no_program_is_ruled_out_by_the_prior() -> None:
    assert (FACTORS > 0).all()
    assert set(itertools.chain.from_iterable((tail.after(step) for step in Role) for tail in TAILS)) <= set(TAILS)


ROLES: list[tuple[Op, tuple[int, ...], Role]] = [
    (Conv(features=4), (4, 4, 4), Role.LAYER),
    (Conv(features=8), (4, 4, 1), Role.LAYER),
    (DepthwiseConv(), (4, 4, 4), Role.LAYER),
    (Dense(features=4), (4,), Role.LAYER),
    (MultiHeadAttention(), (4, 4), Role.LAYER),
    (BatchNorm(), (4, 4, 4), Role.NORM),
    (BatchNorm(), (4, 4, 1), Role.NORM),
    (LayerNorm(), (4, 4, 4), Role.NORM),
    (LayerNorm(), (4, 4, 1), Role.VOID),
    (RmsNorm(), (1,), Role.VOID),
    (GroupNorm(groups=4), (4,), Role.VOID),
    (GroupNorm(groups=4), (4, 4, 4), Role.NORM),
    (Relu(), (4, 4, 4), Role.ACTIVATION),
    (Silu(), (4,), Role.ACTIVATION),
    (Sigmoid(), (4, 4, 4), Role.WARP),
    (Softmax(), (4, 4, 4), Role.WARP),
    (SquaredRelu(), (4,), Role.WARP),
    (MaxPool(), (4, 4, 4), Role.MOVE),
    (MaxPool(stride=1), (4, 4, 4), Role.MOVE),
    (MaxPool(stride=1), (1, 1, 4), Role.VOID),
    (AvgPool(window=1, stride=1), (4, 4, 4), Role.VOID),
    (Flatten(), (4, 4, 4), Role.MOVE),
    (Flatten(), (4,), Role.VOID),
    (GlobalAvgPool(), (4, 4, 4), Role.MOVE),
    (Dropout(), (4, 4, 4), Role.NEUTRAL),
    (Scale(), (4, 4, 4), Role.NEUTRAL),
    (PositionEmbedding(), (4, 4), Role.NEUTRAL),
]


@pytest.mark.parametrize(("op", "shape", "expected"), ROLES, ids=lambda each: str(each))
def test_what_a_step_is_follows_from_what_it_does(op: Op, shape: tuple[int, ...], expected: Role) -> None:
    assert role(op, Value((None, *shape))) is expected


@pytest.mark.parametrize(("op", "power"), [(Relu(), 1), (Silu(), 1), (SquaredRelu(), 2), (Sigmoid(), 0), (Softmax(), 0)])
def test_growth_is_measured_growth(op: Op, power: int) -> None:
    x = np.abs(np.random.default_rng(0).standard_normal((8, 4))).astype(np.float32) + 0.1
    small, large = (np.abs(op.apply({}, x * scale)).max() for scale in (1e3, 1e5))
    assert abs(math.log(float(large) / float(small)) / math.log(100) - power) < 0.01
    assert growth(op, Value((None, 4))) == power


def test_choices_of_an_op_share_its_taste() -> None:
    for op_type in OPS.values():
        every = list(alternatives(op_type, (4, 8, 16)))
        np.testing.assert_allclose(sum(weight(op, 3) for op in every), op_type.taste, rtol=1e-9, atol=1e-12)


def test_what_is_drawn_for_one_target_is_different_programs() -> None:
    target = Target.of(chain(IMAGE, [Conv(features=4), Relu(), MaxPool()]))
    named = vocabulary(Conv, DepthwiseConv, Relu, MaxPool)
    problem = Problem(IMAGE, target, max_length=4, sizes=(4,), vocabulary=named)
    result = synthesize(problem, rng=np.random.default_rng(1), count=12)
    assert isinstance(result, Found) and len(result.graphs) == 12
    assert len({canonical(graph).hash for graph in result.graphs}) == 12
    assert not any(equivalent(one, other) for one, other in itertools.combinations(result.graphs, 2))


def test_answers_are_canonical_unless_what_changes_nothing_is_what_meets_the_target() -> None:
    pooled = Value((None, 1, 1, 4))
    plain = Problem(pooled, Target.asking((None, 1, 1, 4), depth=0), max_length=3, vocabulary=vocabulary(Relu))
    for seed in range(3):
        result = synthesize(plain, rng=np.random.default_rng(seed))
        assert isinstance(result, Found) and len(result.graph.nodes) <= 1
    # A maximum of one element counts as a non-linear step, though it is none.
    deep = Problem(pooled, Target.asking((None, 1, 1, 4), depth=2), max_length=2, sizes=(4,), vocabulary=vocabulary(Dense, MaxPool))
    result = synthesize(deep, rng=np.random.default_rng(0))
    assert isinstance(result, Found) and result.proofs[0].distance == 0


def test_lengths_are_weighed_step_for_step() -> None:
    np.testing.assert_allclose(lengths(np.array([5.0, 3.0, 9.0, 0.0, 16.0])), [0.0, 3.0, 3.0, 0.0, 2.0])
    np.testing.assert_array_equal(lengths(np.array([1.0, 0.0])), [1.0, 0.0])


def test_the_roomiest_sizes_have_the_widest_narrowest_step() -> None:
    chains = [(Dense(features=narrow), Relu(), Dense(features=wide)) for narrow, wide in ((2, 64), (3, 8), (1, 8))]
    assert roomiest(IMAGE, chains) == chains[1]


def test_every_op_of_the_vocabulary_has_a_role_where_it_fits() -> None:
    for op_type in OPS.values():
        for shape in ((4, 4, 8), (4, 8), (8,)):
            for op in alternatives(op_type, (8,)):
                try:
                    output_value(op, (Value((None, *shape)),))
                except ShapeMismatch:
                    continue
                assert role(op, Value((None, *shape))) is not Role.START
