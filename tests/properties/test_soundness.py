"""What is claimed covers what Jacobians show, and equals it but for the cases that say why not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.properties.oracle import Program, claim, matrix, observed, unclaimed
from tests.properties.programs import PROGRAMS

THIRD = [
    pytest.param(program, marks=[pytest.mark.slow] if index % 3 else [], id=program.name) for index, program in enumerate(PROGRAMS)
]


@pytest.mark.parametrize("program", THIRD)
def test_mixing_and_rank_cover_the_jacobian(program: Program) -> None:
    inference = claim(program)
    pattern, jacobian = observed(program)
    mixing, outputs = inference.mixing[0, 0], inference.shape[0].shape
    seen = matrix(pattern, outputs, program.shape)
    assert not unclaimed(mixing, pattern, outputs, program.shape)
    assert (seen <= mixing.matrix).all(), f"seen\n{seen}\nclaimed\n{mixing.matrix}"
    assert np.linalg.matrix_rank(jacobian) <= inference.rank[0, 0]
    exact = (seen == mixing.matrix).all()
    assert exact != bool(program.inexact), f"{program.inexact or 'not named inexact'}: seen\n{seen}\nclaimed\n{mixing.matrix}"
