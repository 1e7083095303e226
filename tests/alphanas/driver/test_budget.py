"""How the finish's time is divided: against every race there could be, counted one by one."""

from __future__ import annotations

from itertools import combinations

import pytest

from alphanas.driver.budget import affordable, fewer, in_round, race_cost


def test_one_round_costs_all_of_it_and_nobody_costs_the_seed_alone() -> None:
    assert race_cost(5.0, [1.0, 2.0, 3.0], 1) == 11.0
    assert race_cost(5.0, [], 3) == 15.0


@pytest.mark.parametrize("times", [(1.0,), (1.0, 4.0), (3.0, 1.0, 2.0, 5.0, 4.0)])
def test_a_race_is_budgeted_for_the_dearest_half_that_may_stay(times: tuple[float, ...]) -> None:
    """The oracle: the dearest of all choices of whom each round leaves."""

    def dearest(left: tuple[float, ...], rounds: int) -> float:
        rest = (
            max((dearest(few, rounds - 1) for few in combinations(left, (len(left) + 1) // 2)), default=0.0) if rounds > 1 else 0.0
        )
        return 7.0 + sum(left) + rest

    for rounds in (1, 2, 3):
        assert race_cost(7.0, times, rounds) == pytest.approx(dearest(times, rounds))


def test_one_always_stays_of_one_and_none_of_none() -> None:
    assert [fewer(count) for count in range(7)] == [0, 1, 1, 2, 2, 3, 3]


def test_more_are_begun_than_there_is_time_to_finish() -> None:
    """Five finalists of a second each fit where 3 × (1 + 5) seconds for all with all seeds are not there."""
    assert race_cost(1.0, [1.0] * 5, 3) == 3 + 5 + 3 + 2 < 18


CHANCES = {5: 0.2, 3: 0.5, 1: 0.1, 4: 0.15}
COSTS = {5: 2.0, 3: 8.0, 1: 1.0, 4: 4.0}


def test_the_likeliest_go_on_as_far_as_time_reaches() -> None:
    assert affordable(CHANCES, COSTS, seed=1.0, rounds=2, seconds=1000.0) == [5, 3, 1, 4]
    assert affordable(CHANCES, COSTS, seed=1.0, rounds=1, seconds=11.0) == [5, 3]
    assert affordable(CHANCES, COSTS, seed=1.0, rounds=1, seconds=10.0) == [3, 1]
    assert affordable(CHANCES, COSTS, seed=1.0, rounds=1, seconds=0.0) == [3]
    assert affordable({}, COSTS, seed=1.0, rounds=1, seconds=10.0) == []


@pytest.mark.parametrize("seconds", [0.0, 5.0, 12.0, 20.0, 40.0, 100.0])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_who_goes_on_fits_the_time_or_is_one_alone(seconds: float, rounds: int) -> None:
    kept = affordable(CHANCES, COSTS, seed=1.0, rounds=rounds, seconds=seconds)
    assert kept and (len(kept) == 1 or race_cost(1.0, [COSTS[one] for one in kept], rounds) <= seconds)


def test_all_rounds_together_train_everyone_with_every_seed_once() -> None:
    begun = [training for number in range(5) for training in in_round(number, 0, COSTS, asked=3)]
    assert sorted(begun) == [(one, number) for one in (0, 1, 3, 4, 5) for number in range(5)]


def test_the_seed_model_waits_for_nobody_and_the_dearest_finalist_for_few() -> None:
    assert in_round(0, 0, COSTS, asked=3) == [(0, 0), (3, 0), (4, 0), (5, 0), (1, 0), (0, 1), (0, 2)]
    assert in_round(2, 0, COSTS, asked=3) == [(3, 2), (4, 2), (5, 2), (1, 2)]
    assert in_round(4, 0, {}, asked=3) == [(0, 4)]
