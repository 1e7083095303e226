"""Rank correlations against brute force over pairs, and what their intervals hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from alphanas.scoring.ranking import FEWEST, correlation


@pytest.mark.parametrize("seed", range(5))
def test_tau_counts_pairs_in_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.standard_normal(12), rng.standard_normal(12)
    pairs = list(itertools.combinations(range(12), 2))
    agree = sum((one[i] - one[j]) * (other[i] - other[j]) > 0 for i, j in pairs)
    assert correlation(one.tolist(), other.tolist()).tau == pytest.approx((2 * agree - len(pairs)) / len(pairs))


def test_orders_alone_count() -> None:
    values = [1.0, 2.0, 5.0, 9.0, 10.0, 11.0, 20.0, 21.0, float("inf")]
    found = correlation([float("-inf"), *values], [-3.0, *np.arange(9.0)])
    assert found.tau == pytest.approx(1) and found.rho == pytest.approx(1) and found.ranks


def test_the_interval_holds_the_true_tau_of_normal_pairs() -> None:
    """Greiner's relation: tau of a bivariate normal is 2/π · arcsin of its correlation. 95 in 100 intervals hold it."""
    rng, true, held = np.random.default_rng(0), 2 / np.pi * np.arcsin(0.6), 0
    for _ in range(200):
        pairs = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 30)
        found = correlation(pairs[:, 0].tolist(), pairs[:, 1].tolist())
        assert found.low is not None and found.high is not None
        held += found.low <= true <= found.high
    assert 180 <= held <= 200


def test_chance_does_not_rank_and_few_pairs_say_nothing() -> None:
    rng = np.random.default_rng(1)
    ranked = [correlation(rng.standard_normal(20).tolist(), rng.standard_normal(20).tolist()).ranks for _ in range(100)]
    assert sum(ranked) <= 8
    few = correlation(list(range(FEWEST - 1)), list(range(FEWEST - 1)))
    assert few.tau == 1 and few.low is None and not few.ranks
    assert correlation([1.0] * 9, list(range(9))).tau is None


def test_what_is_no_pair_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="pairs"):
        correlation([1.0, float("nan")], [1.0, 2.0])
