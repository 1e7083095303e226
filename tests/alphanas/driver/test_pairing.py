"""Differences to the seed in the light of all trainings: what the estimates must do, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from alphanas.driver.pairing import SCATTER, SLOPE, Estimate, Trained, estimates


def trained(one: int, params: int, accuracies: list[float]) -> Trained:
    return Trained(one, params, {str(seed): value for seed, value in enumerate(accuracies)})


def test_many_pictures_and_seeds_leave_the_plain_difference() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(0.8, 0.01, 12)
    drops = {1: -0.03, 2: 0.02, 3: -0.005}
    models = [trained(one, 1000 // one, list(level + drop + rng.normal(0, 1e-4, 12))) for one, drop in drops.items()]
    found = estimates(trained(0, 2000, list(level)), models, pictures=10_000_000)
    for one, drop in drops.items():
        assert found[one].mean == pytest.approx(drop, abs=1e-3)
        assert found[one].deviation < 1e-3


def test_what_few_pictures_say_is_drawn_towards_what_all_models_say() -> None:
    seed = trained(0, 1000, [0.90])
    models = [trained(1, 500, [0.905]), trained(2, 400, [0.90]), trained(3, 300, [0.93])]
    found = estimates(seed, models, pictures=400)
    assert 0 <= found[3].mean < 0.03 / 2
    surer = estimates(seed, models, pictures=40_000)
    assert found[3].mean < surer[3].mean <= 0.03
    assert found[3].deviation > surer[3].deviation


def test_the_same_accuracy_is_believed_less_of_a_smaller_model_where_size_pays() -> None:
    seed = trained(0, 8000, [0.95, 0.95])
    line = [trained(one, 8000 // 2**one, [0.95 - 0.01 * one] * 2) for one in (1, 2, 3, 4)]
    large, small = trained(8, 8000, [0.95, 0.95]), trained(9, 500, [0.95, 0.95])
    found = estimates(seed, [*line, large, small], pictures=1000)
    assert found[9].mean < found[8].mean


def test_smaller_models_that_do_better_are_not_taken_for_a_law() -> None:
    seed = trained(0, 8000, [0.90])
    rising = [trained(one, 8000 // 2**one, [0.90 + 0.004 * one]) for one in (1, 2, 3)]
    tiny = trained(9, 8, [0.90])
    assert estimates(seed, [*rising, tiny], pictures=1000)[9].mean < 0.004


def test_only_shared_seeds_count() -> None:
    seed = trained(0, 1000, [0.9, 0.8])
    stranger = Trained(1, 500, {"7": 0.99})
    partly = Trained(2, 500, {"1": 0.8, "7": 0.99})
    found = estimates(seed, [stranger, partly], pictures=100_000)
    assert set(found) == {2} and abs(found[2].mean) < 0.01
    assert estimates(seed, [], pictures=100) == {}


def test_a_perfect_score_is_not_certain() -> None:
    found = estimates(trained(0, 1000, [1.0]), [trained(1, 500, [1.0])], pictures=100)
    assert found[1].deviation > 0 and 0.5 < found[1].chance(-0.02) < 1


def test_the_believed_chance_comes_true() -> None:
    """Calibration in worlds as the model takes them to be: of what is believed good with 80%, about 80% is."""
    rng = np.random.default_rng(1)
    believed, true = [], []
    sizes = np.array([32_000 // 2**one for one in range(6)])
    for _ in range(400):
        scatter, slope = 0.01 * rng.choice(SCATTER), abs(rng.normal(0, SLOPE))
        drops = -slope * np.log(sizes[0] / sizes) + rng.normal(0, scatter, 6)
        scores = 0.8 + rng.normal(0, 0.02, 3) + drops[:, None] + rng.normal(0, 0.01, (6, 3))
        models = [trained(one, int(sizes[one]), list(scores[one])) for one in range(6)]
        found = estimates(models[0], models[1:], pictures=1500)
        believed += [found[one].chance(-0.01) for one in range(1, 6)]
        true += [float(drops[one] - drops[0] >= -0.01) for one in range(1, 6)]
    chances, came = np.array(believed), np.array(true)
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):
        inside = (chances >= low) & (chances < high)
        assert came[inside].mean() == pytest.approx(chances[inside].mean(), abs=0.08)


def test_a_certain_estimate_has_a_chance_of_0_or_1() -> None:
    assert Estimate(0.0, 0.0).chance(-0.1) == 1 and Estimate(-0.2, 0.0).chance(-0.1) == 0
