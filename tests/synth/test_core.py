"""The smallest contradiction: against brute force over all subsets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from synth.core import smallest_core


@pytest.mark.parametrize("seed", range(40))
def test_no_smaller_set_is_excluded(seed: int) -> None:
    """What excludes is any of some random sets, as contradictions are; the oracle tries every subset."""
    rng = np.random.default_rng(seed)
    parts = list(range(int(rng.integers(1, 8))))
    cores = [{int(part) for part in rng.choice(parts, int(rng.integers(1, len(parts) + 1)), replace=False)} for _ in range(4)]
    found = smallest_core(parts, lambda kept: any(core <= set(kept) for core in cores))
    excluded = (kept for size in range(len(parts) + 1) for kept in itertools.combinations(parts, size))
    least = next(len(kept) for kept in excluded if any(core <= set(kept) for core in cores))
    assert len(found) == least and found == sorted(found) and any(core <= set(found) for core in cores)


def test_what_is_excluded_by_nothing_has_an_empty_core() -> None:
    assert smallest_core([1, 2, 3], lambda kept: True) == []


@pytest.mark.parametrize("steps", range(12))
def test_a_late_answer_is_still_a_core(steps: int) -> None:
    asked = itertools.count()
    found = smallest_core(range(6), lambda kept: {0, 3} <= set(kept), is_late=lambda: next(asked) >= steps)
    assert {0, 3} <= set(found)
