"""The Pareto plot: dots lie where their numbers are, the stairs are the front in two numbers, ticks are round."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphanas.report.plot import OTHER, SEED, Point, log_ticks, pareto_plot, ticks

numbers = st.tuples(st.integers(1, 10**8), st.floats(0, 1))


def draw(pairs: list[tuple[int, float]]) -> str:
    return pareto_plot([Point(x, y, OTHER, str(index)) for index, (x, y) in enumerate(pairs)], x_name="x", y_name="y")


def spots(picture: str) -> list[tuple[float, float]]:
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*data-tip="(\d+)"', picture)
    return [(float(x), float(y)) for x, y, _ in sorted(found, key=lambda spot: int(spot[2]))]


@given(st.lists(numbers, min_size=1, max_size=20))
def test_larger_numbers_lie_further_right_and_higher_and_all_inside(pairs: list[tuple[int, float]]) -> None:
    places = spots(draw(pairs))
    assert len(places) == len(pairs)
    assert all(0 < x < 1180 and 0 < y < 480 for x, y in places)
    for (x1, y1), (px1, py1) in zip(pairs, places, strict=True):
        for (x2, y2), (px2, py2) in zip(pairs, places, strict=True):
            assert x1 > x2 or px1 <= px2
            assert y1 > y2 or py1 >= py2


@given(st.lists(numbers, min_size=1, max_size=20))
def test_the_stairs_have_a_corner_at_every_point_that_none_beats(pairs: list[tuple[int, float]]) -> None:
    picture = draw(pairs)
    line = re.search(r'd="(M[^"]*)"[^>]*stroke-dasharray', picture)
    assert line is not None
    unbeaten = {
        (x, y) for x, y in pairs if not any(u <= x and v <= y and (u, v) != (x, y) for u, v in pairs)
    }  # fmt: skip
    assert line[1].count("V") + 1 == len(unbeaten)


@given(st.floats(0, 1), st.floats(1e-6, 1))
def test_ticks_are_even_and_span_the_numbers(low: float, span: float) -> None:
    found = ticks(low, low + span)
    steps = [b - a for a, b in pairwise(found)]
    assert found[0] <= low + 1e-9 and found[-1] >= low + span - 1e-9
    assert 2 <= len(found) <= 9 and max(steps) == pytest.approx(min(steps))


@given(st.floats(1, 1e9), st.floats(1.05, 1e4))
def test_logarithmic_ticks_lie_between_the_ends(low: float, factor: float) -> None:
    assert all(low <= tick <= low * factor for tick in log_ticks(low, low * factor))


def test_no_points_are_told_and_kinds_are_in_the_legend() -> None:
    assert "No candidate" in pareto_plot([], x_name="x", y_name="y")
    picture = pareto_plot([Point(10, 0.1, SEED, "<a>")], x_name="x", y_name="y")
    assert "</i>seed</span>" in picture and "</i>best</span>" not in picture and "&lt;a&gt;" in picture
