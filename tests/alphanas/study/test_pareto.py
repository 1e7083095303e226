"""Fronts against brute force and closed forms."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphanas.study import curve_distance, hypervolume, pareto_front


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


POINTS = st.integers(1, 4).flatmap(lambda size: st.lists(st.tuples(*[st.integers(0, 6).map(float)] * size), max_size=30))


@given(POINTS)
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, ...]]) -> None:
    expected = [
        index
        for index, point in enumerate(points)
        if not any(dominates(other, point) for other in points) and point not in points[:index]
    ]
    assert list(pareto_front(points)) == expected


def test_unknown_numbers_are_left_out() -> None:
    assert pareto_front([(math.nan, 0.0), (1.0, 1.0), (-math.inf, 2.0), (math.inf, 0.0)]) == (1,)
    assert pareto_front([]) == ()


# Case 22 of the published code's tests: minimise both, and maximise both (the signs turned).
MINIMISED = [(3.0, 1.0), (2.0, 2.0), (1.0, 3.0), (3.0, 3.0)]
MAXIMISED = [(-x, -y) for x, y in MINIMISED]


def test_the_published_fronts() -> None:
    assert pareto_front(MINIMISED) == (0, 1, 2)
    assert pareto_front(MAXIMISED) == (3,)


@pytest.mark.parametrize(
    ("point", "distance"),
    [
        ((3, 3), math.sqrt(2)),
        ((1, 1), -math.sqrt(2)),
        ((3, 1), 0),
        ((2, 2), 0),
        ((1, 3), 0),
        ((1.5, 2.5), 0),
        ((9, 1), 0),
        ((1, 9), 0),
    ],
)
def test_the_published_distances_when_both_are_minimised(point: tuple[float, float], distance: float) -> None:
    assert curve_distance(point, MINIMISED[:3]) == pytest.approx(distance, abs=1e-12)


@pytest.mark.parametrize(("point", "distance"), [((3, 1), 0), ((2, 2), 1), ((1, 3), 0), ((4, 4), -math.sqrt(2))])
def test_the_published_distances_when_both_are_maximised(point: tuple[float, float], distance: float) -> None:
    front = [MAXIMISED[index] for index in pareto_front(MAXIMISED)]
    assert curve_distance((-point[0], -point[1]), front) == pytest.approx(distance, abs=1e-12)


@settings(deadline=None)
@given(st.integers(1, 3).flatmap(lambda size: st.lists(st.tuples(*[st.integers(0, 5)] * size), min_size=1, max_size=6)))
def test_hypervolume_counts_the_unit_cells_that_are_covered(points: list[tuple[int, ...]]) -> None:
    size = len(points[0])
    cells = np.stack(np.meshgrid(*[np.arange(5)] * size, indexing="ij"), axis=-1).reshape(-1, size)
    covered = np.zeros(len(cells), dtype=bool)
    for point in points:
        covered |= (cells >= np.asarray(point)).all(axis=1)
    assert hypervolume(points, [5.0] * size) == pytest.approx(covered.sum())


def test_a_hundred_thousand_points_take_under_a_second() -> None:
    points = np.random.default_rng(0).random((100_000, 3))
    started = time.perf_counter()
    front = pareto_front(points)  # type: ignore[arg-type]
    assert time.perf_counter() - started < 1.0
    assert len(front) > 10
