"""Laws of learning curves: what would end among the best goes on, and what would not is stopped."""

from __future__ import annotations

import numpy as np
import pytest

from alphanas.scoring.curves import Watch, drawn_out

SEED = (0.6, 0.5, 0.4, 0.2)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("epochs", [4, 8, 3])
def test_a_curve_of_the_seeds_shape_is_drawn_out_exactly(factor: float, epochs: int) -> None:
    shares = np.arange(1, epochs + 1) / epochs
    own = factor * np.interp(shares, np.arange(1, 5) / 4, SEED)
    for done in range(1, epochs):
        expected = drawn_out(own[:done].tolist(), epochs=epochs, seed=SEED)
        assert expected is None if shares[done - 1] < 0.25 else expected == pytest.approx(own[-1])


@pytest.mark.parametrize(
    ("bar", "margin", "stopped_after"),
    [(0.2, 0.25, None), (0.2, 0.11, None), (0.2, 0.09, 1), (0.05, 0.2, 1), (None, 0.01, None), (0.35, 0.01, None)],
)
def test_a_training_is_stopped_where_it_would_end_above_the_bar(
    bar: float | None, margin: float, stopped_after: int | None
) -> None:
    """The errors are one and a half times the seed's, so that 0.3 is expected."""
    watch = Watch.from_json({"margin": margin, "bar": bar, "seed": SEED})
    told = [watch.hopeless(1.5 * error, 4) for error in SEED]
    assert (told.index(True) + 1 if any(told) else None) == stopped_after
    assert not told[-1], "a training that is over is not stopped"
    assert watch.errors == [1.5 * error for error in SEED]


def test_a_seed_that_errs_no_more_says_nothing_against_others() -> None:
    assert drawn_out([0.3], epochs=2, seed=(0.0, 0.0)) == 0.3
    assert drawn_out([0.3], epochs=2, seed=()) is None
