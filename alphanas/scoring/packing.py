"""Nested weights as one vector and back. An optimizer step on one vector compiles faster than one on a hundred arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

Nested = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Packing:
    """Where each weight of each node lies in the vector."""

    shapes: tuple[tuple[str, str, tuple[int, ...]], ...]

    @staticmethod
    def of(nested: Nested) -> Packing:
        """The packing of float32 arrays by node and weight, in that order."""
        rows = ((node, name, tuple(array.shape)) for node, arrays in nested.items() for name, array in arrays.items())
        return Packing(tuple(sorted(rows)))

    def pack(self, nested: Nested) -> np.ndarray[Any, Any]:
        """The vector, outside of compiled functions."""
        parts = [np.asarray(nested[node][name], np.float32).ravel() for node, name, _ in self.shapes]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def pack_traced(self, nested: Nested) -> jax.Array:
        """The vector, inside of a compiled function."""
        parts = [nested[node][name].ravel() for node, name, _ in self.shapes]
        return jax.numpy.concatenate(parts) if parts else jax.numpy.zeros(0)

    def unpack(self, vector: Any) -> dict[str, dict[str, Any]]:
        """The arrays of a vector; traced in a compiled function, NumPy's outside of one."""
        sizes = [math.prod(shape) for _, _, shape in self.shapes]
        nested: dict[str, dict[str, Any]] = {}
        if not sizes:
            return nested
        traced = isinstance(vector, jax.Array)
        parts: list[Any] = list(jax.lax.split(vector, sizes) if traced else np.split(vector, np.cumsum(sizes)[:-1]))
        for (node, name, shape), part in zip(self.shapes, parts, strict=True):
            nested.setdefault(node, {})[name] = part.reshape(shape)
        return nested
