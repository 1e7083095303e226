"""The cascade: what a stage says about the next one, and when it is of no use."""

from __future__ import annotations

import numpy as np
import pytest

from alphanas.scoring.cascade import Observed, Stage, between, table, useless

SCORE, SHORT = Stage("score", "one minibatch", rejecting=True), Stage("short", "5 epochs")


def observed(stage: Stage, numbers: list[float], *, first: int = 0) -> Observed:
    return Observed(stage, {first + index: number for index, number in enumerate(numbers)}, [0.5], len(numbers), 3)


def test_only_candidates_that_have_both_numbers_count() -> None:
    found = between(observed(SCORE, [1, 2, 3, 4]), observed(SHORT, [5, 6, 7], first=2))
    assert found.n == 2 and found.tau == pytest.approx(1)


def test_a_filter_that_does_not_rank_is_useless_once_it_has_seen_enough() -> None:
    rng = np.random.default_rng(0)
    chance, other = rng.standard_normal((2, 40)).tolist()
    assert useless(observed(SCORE, chance), observed(SHORT, other), pairs=24) is not None
    assert useless(observed(SCORE, chance), observed(SHORT, other), pairs=41) is None
    assert useless(observed(SCORE, chance), observed(SHORT, other), pairs=0) is None
    assert useless(observed(SCORE, chance), observed(SHORT, chance), pairs=24) is None
    assert useless(observed(SCORE, chance), observed(SHORT, [-one for one in chance]), pairs=24) is not None
    # All alike: no order at all, and so none of the next stage's.
    assert useless(observed(SCORE, [1.0] * 40), observed(SHORT, other), pairs=24) is not None


def test_what_turns_nobody_away_is_never_useless() -> None:
    rng = np.random.default_rng(0)
    chance, other = rng.standard_normal((2, 40)).tolist()
    assert useless(observed(SHORT, chance), observed(SCORE, other), pairs=24) is None


def test_the_table_says_null_for_what_was_not_measured() -> None:
    full = Observed(Stage("full", "30 epochs", "0"), {})
    score, short, last = table([observed(SCORE, [1, 2]), observed(SHORT, [1, 2]), full])
    assert score["turned_away"] == 3 and short["turned_away"] is None
    assert score["next"] == "short" and score["correlation"]["n"] == 2 and score["correlation"]["low"] is None
    assert short["correlation"]["kendall_tau"] is None
    assert last == {
        "stage": "full 0",
        "cost": "30 epochs",
        "seconds": None,
        "candidates": 0,
        "turned_away": None,
        "next": None,
        "correlation": None,
        "switched_off": None,
    }
