"""Which candidates are trained in full."""

from __future__ import annotations

import pytest

from alphanas.driver.finish import Point, choose_finalists

SEED = Point(0, 0.02, 1000)
FRONT = [
    Point(index + 1, error, params) for index, (error, params) in enumerate([(0.01, 900), (0.02, 500), (0.025, 300), (0.05, 100)])
]


def test_the_smallest_and_the_largest_of_those_near_the_seed_are_there() -> None:
    assert choose_finalists(SEED, FRONT, count=2, slack=0.006) == [3, 1]
    assert choose_finalists(SEED, FRONT, count=3, slack=0.006) == [3, 2, 1]
    assert choose_finalists(SEED, FRONT, count=9, slack=0.006) == [3, 2, 1]


def test_one_finalist_is_the_smallest_that_errs_no_more_than_the_seed() -> None:
    assert choose_finalists(SEED, FRONT, count=1, slack=0.006) == [2]
    assert choose_finalists(Point(0, 0.005, 1000), FRONT, count=1, slack=0.02) == [1]


def test_what_is_no_smaller_than_the_seed_is_no_finalist_while_others_are() -> None:
    assert choose_finalists(SEED, [*FRONT, Point(9, 0.0, 1000)], count=9, slack=0.006) == [3, 2, 1]


def test_where_none_comes_near_the_most_accurate_go_on() -> None:
    assert choose_finalists(Point(0, 0.001, 1000), FRONT, count=2, slack=0.0) == [1, 2]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_empty_front_has_no_finalists(count: int) -> None:
    assert choose_finalists(SEED, [], count=count, slack=0.1) == []


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_never_more_than_asked_for_and_never_one_twice(count: int) -> None:
    chosen = choose_finalists(SEED, FRONT, count=count, slack=1.0)
    assert len(chosen) == len(set(chosen)) == count
