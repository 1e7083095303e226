"""The score filter turns away what scores below most models no larger than it, and nothing else."""

from __future__ import annotations

import numpy as np

from alphanas.scoring.reject import ENOUGH, ScoreFilter

SEEN = [(100 * size, (float(size),)) for size in range(1, 11)]


def test_a_low_score_for_the_size_is_rejected() -> None:
    screen = ScoreFilter(SEEN, 0.5)
    assert screen.rejects((2.0,), 1000)
    assert not screen.rejects((9.0,), 1000)


def test_a_small_model_is_not_held_against_larger_ones() -> None:
    screen = ScoreFilter(SEEN, 0.5)
    assert not screen.rejects((3.0,), 500)
    assert not screen.rejects((0.1,), 100 * (ENOUGH - 1))


def test_a_higher_score_or_a_smaller_model_is_never_worse_off() -> None:
    screen = ScoreFilter(SEEN, 0.3)
    for params in range(0, 1200, 50):
        verdicts = [screen.rejects((score / 4,), params) for score in range(50)]
        assert verdicts == sorted(verdicts, reverse=True)


def test_a_share_of_zero_rejects_only_what_is_below_all() -> None:
    screen = ScoreFilter(SEEN, 0.0)
    assert not screen.rejects((1.0,), 1000)
    assert screen.rejects((0.5,), 1000)


def test_an_undefined_score_is_rejected() -> None:
    assert ScoreFilter([], 0.5).rejects(None, 10)


def test_several_scores_are_ranked_together() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((40, 2))
    screen = ScoreFilter([(100, tuple(row)) for row in table.tolist()], 0.5)
    assert screen.rejects((-9.0, -9.0), 100) and not screen.rejects((9.0, 9.0), 100)
    assert not ScoreFilter([(100, tuple(row)) for row in table.tolist()], 0.3).rejects((9.0, -9.0), 100)
    grown = ScoreFilter([(100, (first, 1000 * second)) for first, second in table.tolist()], 0.5)
    for first, second in rng.standard_normal((30, 2)).tolist():
        assert screen.rejects((first, second), 100) == grown.rejects((first, 1000 * second), 100)
