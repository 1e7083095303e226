"""One suite over all procedures: what each returns meets the target, and what each claims holds."""

from __future__ import annotations

import numpy as np
import pytest

from synth import (
    METHODS,
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
    enumerative,
    progressive,
    synthesize,
    verify,
    vocabulary,
)
from synth.enumerative import permuted
from synth.ops import AvgPool, BatchNorm, Conv, Dense, DepthwiseConv, GroupNorm, LayerNorm, MultiHeadAttention, Relu, Softmax

SMALL = vocabulary(Conv, DepthwiseConv, Dense, Relu, LayerNorm, AvgPool, Softmax)
PIECES: dict[str, tuple[Value, list[Op]]] = {
    "conv": (Value((None, 16, 16, 32)), [Conv(features=32)]),
    "conv-relu": (Value((None, 16, 16, 32)), [Conv(features=32), Relu()]),
    "conv-relu-pool": (Value((None, 16, 16, 32)), [Conv(features=32), Relu(), AvgPool()]),
    "conv-bn-relu": (Value((None, 16, 16, 64)), [Conv(features=64), BatchNorm(), Relu()]),
    "group-norm": (Value((None, 9, 9, 16)), [GroupNorm(groups=4)]),
    "attention": (Value((None, 9, 16)), [LayerNorm(), MultiHeadAttention(heads=4)]),
}
methods = pytest.mark.parametrize("method", [method for method in METHODS if method != "branches"])


@methods
@pytest.mark.parametrize("piece", PIECES)
def test_what_is_found_meets_the_target_by_its_own_jaxpr(method: str, piece: str) -> None:
    asked = Problem.of(chain(*PIECES[piece]), longer=1)
    result = synthesize(asked, method, rng=np.random.default_rng(3), count=2, time_limit=20)
    assert isinstance(result, Found)
    for graph, proof in zip(result.graphs, result.proofs, strict=True):
        assert proof.inference == verify(graph)
        assert asked.target.distance_of(verify(graph), proof.params, proof.macs) == proof.distance == 0
        assert proof.params == graph.params
    assert len({graph.hash for graph in result.graphs}) == len(result.graphs)


@methods
def test_budgets_are_kept(method: str) -> None:
    target = Target.of(chain(*PIECES["conv"]), Budget(params=Interval(500, 3000)))
    asked = Problem.of(chain(*PIECES["conv"]), target, widths=(4, 8, 16, 32))
    result = synthesize(asked, method, rng=np.random.default_rng(4), time_limit=20)
    if isinstance(result, GaveUp) and method == "progressive":
        return
    assert isinstance(result, Found)
    assert 500 <= result.graph.params <= 3000


@methods
def test_the_impossible_is_never_found(method: str) -> None:
    image = Value((None, 6, 6, 4))
    asked = Problem(image, Target.asking((None, 6, 6, 4), depth=5), 2, (4,), vocabulary=vocabulary(Conv, Relu))
    assert isinstance(synthesize(asked, method, rng=np.random.default_rng(0), time_limit=20), Infeasible | GaveUp)


@methods
def test_out_of_time_is_given_up(method: str) -> None:
    asked = Problem.of(chain(*PIECES["conv-relu"]), Target.of(chain(*PIECES["conv-relu"]), Budget(params=Interval(1, 2))))
    assert isinstance(synthesize(asked, method, rng=np.random.default_rng(0), time_limit=0.0), GaveUp)


def test_enumeration_finds_nothing_exactly_where_exact_finds_nothing() -> None:
    image = Value((None, 6, 6, 4))
    for depth in range(5):
        for positions in (1, 3, 5, 6):
            target = Target.asking((None, 6, 6, 4), depth=depth, receptive_field=positions)
            asked = Problem(image, target, 2, (4,), vocabulary=vocabulary(Conv, Relu, AvgPool))
            answers = [synthesize(asked, method) for method in ("exact", "enumerative")]
            assert type(answers[0]) is type(answers[1])


@pytest.mark.parametrize("mode", progressive.MODES)
def test_every_mode_meets_an_easy_target(mode: str) -> None:
    result = progressive.synthesize(Problem.of(chain(*PIECES["conv-relu"])), rng=np.random.default_rng(0), mode=mode)
    assert isinstance(result, Found)


@pytest.mark.parametrize("order", enumerative.ORDERS)
def test_the_enumerated_program_is_one_of_the_shortest(order: str) -> None:
    asked = Problem(Value((None, 6, 6, 4)), Target.asking((None, 6, 6, 4), depth=3), 4, (4,), vocabulary=SMALL)
    result = enumerative.synthesize(asked, rng=np.random.default_rng(0), order=order)
    assert isinstance(result, Found)
    shortest = next(length for length in range(5) if isinstance(synthesize(_of_length(asked, length)), Found))
    assert len(result.graph.nodes) == shortest


def _of_length(asked: Problem, length: int) -> Problem:
    return Problem(asked.value, asked.target, length, asked.sizes, vocabulary=asked.vocabulary)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
def test_a_shuffle_visits_every_number_once(size: int) -> None:
    seen = list(permuted(size, np.random.default_rng(size)))
    assert sorted(seen) == list(range(size))
    assert size < 10 or seen != sorted(seen)


def test_modes_and_orders_that_do_not_exist_are_named() -> None:
    asked = Problem.of(chain(*PIECES["conv"]))
    with pytest.raises(ValueError, match="greedy"):
        progressive.synthesize(asked, mode="magic")
    with pytest.raises(ValueError, match="length"):
        enumerative.synthesize(asked, order="magic")
