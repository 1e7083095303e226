"""Pareto fronts over numbers that are all to be minimised; pure functions of points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

EXACT = 4
"""Objectives up to which a hypervolume is exact."""

SAMPLES = 2**15


def pareto_front(points: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """Indices of the points that no other point dominates, ascending; of equal points the first stands for all.

    A point dominates another if it is nowhere larger and somewhere smaller. Points with a number that is not finite are left out.
    """
    if len(points) == 0:
        return ()
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"points must have one number per objective, saw the shape {values.shape}")
    kept = np.flatnonzero(np.isfinite(values).all(axis=1))
    # In lexicographic order nothing that comes later dominates what comes earlier, so that each pass settles the first one left.
    order = kept[np.lexsort((kept, *values[kept].T[::-1]))]
    front = []
    while len(order):
        first, order = order[0], order[1:]
        front.append(int(first))
        order = order[(values[order] < values[first]).any(axis=1)]
    return tuple(sorted(front))


def curve_distance(point: Sequence[float], front: Sequence[Sequence[float]]) -> float:
    """How far a point lies from the curve through a front of two objectives: above positive, below (better) negative, on it 0.

    The curve joins neighbouring points of the front by straight lines and runs on from its two ends along the axes, to ever larger
    values. Euclidean distance.
    """
    curve = np.unique(np.asarray(front, dtype=np.float64).reshape(-1, 2), axis=0)
    if len(curve) == 0:
        raise ValueError("the front has no point")
    x, y = (float(coordinate) for coordinate in point)
    distances = [np.hypot(*(_nearest_on_segment(x, y, *start, *end))) for start, end in pairwise(curve.tolist())]
    left, right = curve[0], curve[-1]
    distances.append(np.hypot(x - left[0], min(y - left[1], 0.0)))  # the line upwards from the left end
    distances.append(np.hypot(min(x - right[0], 0.0), y - right[1]))  # the line to the right from the right end
    below = x < left[0] or y < float(np.interp(x, curve[:, 0], curve[:, 1]))
    return -float(min(distances)) if below else float(min(distances))


def _nearest_on_segment(x: float, y: float, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float]:
    """From the nearest point of a segment to (x, y)."""
    along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
    share = min(max(along, 0.0), 1.0)
    return x - x0 - share * (x1 - x0), y - y0 - share * (y1 - y0)


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Volume between the points and a reference that they are to beat in every objective; what does not beat it adds nothing.

    By slicing along the last objective: exact, meant for fronts of up to some hundred points and up to four objectives. Of more
    objectives it is the share of 2¹⁵ fixed points of their box that are dominated, within about a hundredth of the box.
    """
    corner = np.asarray(reference, dtype=np.float64)
    values = np.asarray(points, dtype=np.float64).reshape(-1, len(corner))
    better = values[(values < corner).all(axis=1)]
    return _volume(better, corner) if len(corner) <= EXACT or len(better) == 0 else _sampled(better, corner)


def _sampled(values: np.ndarray, corner: np.ndarray) -> float:
    low = values.min(axis=0)
    drawn = low + (corner - low) * np.random.default_rng(0).random((SAMPLES, len(corner)))
    dominated = np.zeros(SAMPLES, np.bool_)
    for value in values:
        dominated |= (value <= drawn).all(axis=1)
    return float((corner - low).prod() * dominated.mean())


def _volume(values: np.ndarray, corner: np.ndarray) -> float:
    if len(values) == 0:
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - values.min())
    heights = np.unique(values[:, -1])
    tops = np.append(heights[1:], corner[-1])
    slices = (_volume(values[values[:, -1] <= low, :-1], corner[:-1]) * (top - low) for low, top in zip(heights, tops, strict=True))
    return float(sum(slices))
