"""Soundness and precision over random compositions of steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.properties.compositions import Choice, build, choices
from tests.properties.oracle import claim, matrix, observed, unclaimed

FEW = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def shortfall(drawn: list[Choice]) -> tuple[int, int]:
    """How many entries of a composition's matrix are larger than observed, of how many; it must never be smaller."""
    program = build(drawn)
    inference = claim(program)
    pattern, jacobian = observed.__wrapped__(program)
    mixing, outputs = inference.mixing[0, 0], inference.shape[0].shape
    seen = matrix(pattern, outputs, program.shape)
    assert not unclaimed(mixing, pattern, outputs, program.shape)
    assert (seen <= mixing.matrix).all(), f"{program}: seen\n{seen}\nclaimed\n{mixing.matrix}"
    assert np.linalg.matrix_rank(jacobian) <= inference.rank[0, 0]
    return int((seen < mixing.matrix).sum()), seen.size


@FEW
@given(choices)
def test_mixing_and_rank_cover_the_jacobian(drawn: list[Choice]) -> None:
    shortfall(drawn)


@pytest.mark.slow
def test_precision_over_many_compositions() -> None:
    totals = np.zeros(2, dtype=int)

    @MANY
    @given(choices)
    def count(drawn: list[Choice]) -> None:
        totals[:] += shortfall(drawn)

    count()
    assert totals[0] / totals[1] <= 0.03, f"{totals[0]} of {totals[1]} entries exceed what is observed"
