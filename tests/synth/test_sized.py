"""Open sizes against brute force over all sized sequences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from synth import Budget, Interval, Op, Problem, Target, Value, vocabulary
from synth.clock import ENDLESS
from synth.effect import effect, params
from synth.exact import solution_space
from synth.ops import AvgPool, Conv, Dense, Flatten, Relu
from synth.product import Product
from synth.sized import Opened, open_sizes
from synth.space import Alphabet
from synth.target import at_least

VOCABULARY = vocabulary(Conv, Dense, Relu, AvgPool, Flatten)
IMAGE, SAME, FLAT = Value((None, 4, 4, 4)), Value((None, 4, 4, 4)), Value((None, 6))
LENGTH = 3


def opened(goal: Value, sizes: tuple[int, ...], widths: tuple[int, ...], **asked: object) -> tuple[Product, Opened]:
    problem = Problem(
        IMAGE,
        Target.asking(goal.shape, **asked),
        max_length=LENGTH,
        sizes=sizes,
        widths=widths,
        vocabulary=VOCABULARY,  # type: ignore[arg-type]
    )
    base = solution_space(problem)
    assert isinstance(base, Product)
    found = open_sizes(base, goal, widths, ENDLESS)
    assert found is not None
    return base, found


def costs(goal: Value, sizes: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    """Oracle: for every length (parameters, MACs) of each sequence from the image to the goal with these sizes."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(LENGTH + 1)]
    alphabet = Alphabet.of(VOCABULARY, sizes)

    def grow(here: Value, path: tuple[Op, ...], spent: tuple[int, int]) -> None:
        if here == goal:
            found[len(path)].append(spent)
        for op, after in alphabet.moves(here) if len(path) < LENGTH else ():
            assert effect(op, here).params == params(op, (here,))
            grow(after, (*path, op), (spent[0] + params(op, (here,)), spent[1] + effect(op, here).macs))

    grow(IMAGE, (), (0, 0))
    return found


@pytest.mark.parametrize("goal", [SAME, FLAT], ids=str)
def test_lengths_that_may_keep_a_budget_are_those_of_brute_force(goal: Value) -> None:
    sizes = tuple(sorted({goal.channels, 4, 8}))
    _, found = opened(goal, sizes, (4, 8))
    known = costs(goal, sizes)
    some = sorted({cost for rows in known for cost in rows})[:: max(1, sum(map(len, known)) // 40)]
    for (params_low, macs), (params_high, _) in itertools.product(some[::3], some[::2]):
        if not params_low <= params_high or not params_high or not macs:
            continue
        budget = Budget(Interval(params_low, params_high), Interval(0, macs))
        wanted = [
            bool(rows) and min(rows)[0] <= params_high and max(rows)[0] >= params_low and min(row[1] for row in rows) <= macs
            for rows in known
        ]
        assert found.lengths(budget).tolist() == wanted


def test_bounds_are_those_of_the_product_with_every_edge() -> None:
    """And a draw keeps its budget, and is among the paths of that product."""
    base, found = opened(
        SAME, (4, 8), (4, 6, 8), depth=2, mixing=at_least([[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 3]])
    )
    paths = {path: cost for cost, path in found.product.cheapest(params_of)}
    assert paths
    for length in range(LENGTH + 1):
        own = [cost for path, cost in paths.items() if len(path) == length]
        for high in sorted({1.0, *own} - {0.0})[:40]:
            assert found.lengths(Budget(Interval(0, high)))[length] == (bool(own) and min(own) <= high)
            assert found.lengths(Budget(Interval(high, np.inf)))[length] == (bool(own) and max(own) >= high)
    rng, middle = np.random.default_rng(0), float(np.median(list(paths.values())))
    budget = Budget(Interval(middle / 2, middle))
    lengths = found.lengths(budget).astype(float)
    drawn = [found.sample(base, rng, budget, lengths, weighted=False) for _ in range(50)]
    held = [path for path in drawn if path is not None]
    assert len(set(held)) > 10
    assert all(middle / 2 <= paths[path] <= middle for path in held)


def params_of(op: Op, value: Value) -> float:
    return params(op, (value,))


def test_a_nominal_size_that_is_no_width_is_for_the_op_that_has_it() -> None:
    _, found = opened(FLAT, (4, 5, 6), (8,))
    ops = {op for row in (row for rows in found.variants.rows for row in rows) for op in row.ops} if found.variants else set()
    assert {op.features for op in ops if isinstance(op, Conv)} == {4, 5, 6, 8}
    for value, rows in enumerate(found.variants.rows if found.variants else ()):
        for row in rows:
            for place, nominal in enumerate(row.nominal.tolist()):
                of, sized = found.base.ops[value][nominal], row.op(place)
                assert type(of) is type(sized)
                if isinstance(of, Conv | Dense) and isinstance(sized, Conv | Dense):
                    assert sized.features in {8, of.features}
