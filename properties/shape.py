"""Shapes: the type of a value, exact because JAX computes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

_BITS = {"bool": 8, "float0": 0}


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes and element type of one array; `dtype` is JAX's name for it, such as `float32`."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes that the array takes; a dtype of no known width counts four bytes an element."""
        return (self.size * bits(self.dtype) + 7) // 8

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@cache
def bits(dtype: str) -> int:
    """Bits of one element of `dtype`, read from its name."""
    if dtype in _BITS:
        return _BITS[dtype]
    name = dtype.removeprefix("bfloat").removeprefix("complex").removeprefix("float")
    digits = ""
    for character in name.removeprefix("uint").removeprefix("int"):
        if not character.isdigit():
            break
        digits += character
    return int(digits) if digits else 32
