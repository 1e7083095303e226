"""Which candidates are trained in full."""

from __future__ import annotations

import pytest

from alphanas.driver.choice import Point, choose_finalists

SEED = Point(0, 0.02, 1600)
POINTS = [
    Point(index + 1, error, params)
    for index, (error, params) in enumerate(
        [(0.01, 1500), (0.02, 800), (0.015, 700), (0.02, 300), (0.024, 100), (0.05, 50), (0.06, 900)]
    )
]


def test_each_size_sends_its_most_accurate() -> None:
    assert choose_finalists(SEED, POINTS, count=4, slack=0.005) == [5, 4, 3, 1]


def test_fewer_places_go_to_wider_bands() -> None:
    assert choose_finalists(SEED, POINTS, count=2, slack=0.005) == [4, 1]
    assert choose_finalists(SEED, POINTS, count=1, slack=0.005) == [1]


def test_places_that_no_size_takes_go_to_the_most_accurate_others() -> None:
    assert choose_finalists(SEED, POINTS[:3], count=3, slack=0.005) == [3, 2, 1]


def test_places_that_nobody_near_takes_go_to_the_most_accurate_smaller_ones() -> None:
    assert choose_finalists(SEED, [POINTS[2], POINTS[5], POINTS[6]], count=2, slack=0.0) == [6, 3]


def test_what_is_no_smaller_than_the_seed_is_no_finalist_while_others_are() -> None:
    assert 9 not in choose_finalists(SEED, [*POINTS, Point(9, 0.0, 1600)], count=9, slack=0.005)


def test_where_none_comes_near_the_most_accurate_go_on() -> None:
    assert choose_finalists(Point(0, 0.001, 1600), POINTS, count=2, slack=0.0) == [1, 3]


def test_a_lucky_small_model_does_not_shut_out_larger_ones() -> None:
    lucky = Point(10, 0.0, 60)
    chosen = choose_finalists(SEED, [*POINTS, lucky], count=4, slack=0.005)
    assert lucky.id in chosen and len(chosen) == 4


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_trained_means_no_finalists(count: int) -> None:
    assert choose_finalists(SEED, [], count=count, slack=0.1) == []


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_never_more_than_asked_for_and_never_one_twice(count: int) -> None:
    chosen = choose_finalists(SEED, POINTS, count=count, slack=1.0)
    assert len(chosen) == len(set(chosen)) == count
