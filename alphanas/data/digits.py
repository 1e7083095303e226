"""The handwritten digits that scikit-learn ships: 1,797 real pictures of 8×8 grey levels 0..16, no download."""

from __future__ import annotations

import numpy as np

from alphanas.data.raw import Raw


def read(argument: str) -> Raw:
    """All digits; they have no test part of their own."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Raw("digits", digits.images.astype(np.float32), digits.target.astype(np.int64), scale=16.0)
