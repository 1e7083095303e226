"""Products of arrays as the formats write them."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any


def einsum_equation(params: Mapping[str, Any], left_rank: int, right_rank: int) -> str | None:
    """The equation of a `dot_general` as einsum takes it; None for a product with a matrix on the right."""
    (left, right), (left_batch, right_batch) = params["dimension_numbers"]
    if not left_batch and list(left) == [left_rank - 1] and list(right) == [0] and right_rank == 2:
        return None
    letters = iter(string.ascii_lowercase)
    first = [next(letters) for _ in range(left_rank)]
    second = [next(letters) for _ in range(right_rank)]
    for mine, theirs in ((left, right), (left_batch, right_batch)):
        for a, b in zip(mine, theirs, strict=True):
            second[b] = first[a]
    kept = [first[axis] for axis in left_batch]
    kept += [letter for axis, letter in enumerate(first) if axis not in (*left, *left_batch)]
    kept += [letter for axis, letter in enumerate(second) if axis not in (*right, *right_batch)]
    return f"{''.join(first)},{''.join(second)}->{''.join(kept)}"
