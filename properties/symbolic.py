"""Shapes as formulas: one analysis for all batch and spatial sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import export


@dataclass(frozen=True)
class SymbolicShapes:
    """Output shapes as formulas of named sizes, and the conditions under which they are valid."""

    outputs: tuple[tuple[Any, ...], ...]
    dtypes: tuple[str, ...]
    names: tuple[str, ...]

    def at(self, **sizes: int) -> tuple[tuple[int, ...], ...]:
        """The output shapes at given sizes."""
        missing = sorted(set(self.names) - set(sizes))
        if missing:
            raise ValueError(f"no size given for {', '.join(missing)}; the shapes depend on {', '.join(self.names)}")
        return tuple(tuple(_evaluate(size, sizes) for size in shape) for shape in self.outputs)

    def __str__(self) -> str:
        shapes = (f"{dtype}[{','.join(map(str, shape))}]" for dtype, shape in zip(self.dtypes, self.outputs, strict=True))
        return ", ".join(shapes)


def shapes(
    function: Callable[..., Any],
    *arguments: str,
    params: Any = None,
    dtypes: Sequence[Any] | None = None,
    constraints: Sequence[str] = (),
) -> SymbolicShapes:
    """Output shapes of `function` for arguments whose shapes are written with names, such as "b, h, w, 3".

    `constraints` are what may be assumed of the names, such as "h >= 8" or "mod(h, 4) == 0". Where the formulas need more of them,
    JAX raises an error that says what it cannot decide.
    """
    scope = export.SymbolicScope(tuple(constraints))
    types = list(dtypes) if dtypes is not None else [jnp.float32] * len(arguments)
    avals = [
        jax.ShapeDtypeStruct(export.symbolic_shape(text, scope=scope), dtype) for text, dtype in zip(arguments, types, strict=True)
    ]
    given = avals if params is None else [params, *avals]
    closed = jax.make_jaxpr(function)(*given)
    results = [variable.aval for variable in closed.jaxpr.outvars]
    names = sorted({name for aval in avals for size in aval.shape for name in _names(size)})
    outputs = tuple(tuple(result.shape) for result in results)
    return SymbolicShapes(outputs, tuple(str(result.dtype) for result in results), tuple(names))


_FUNCTIONS: Mapping[str, Callable[..., int]] = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "max": max,
    "min": min,
}


def _names(size: Any) -> set[str]:
    return set() if isinstance(size, int) else set(re.findall(r"[A-Za-z_]\w*", str(size))) - _FUNCTIONS.keys()


def _evaluate(size: Any, sizes: Mapping[str, int]) -> int:
    """The value of a formula, from its text: JAX's own evaluation is not public."""
    return size if isinstance(size, int) else int(eval(str(size), {"__builtins__": {}, **_FUNCTIONS}, dict(sizes)))
