"""Shapes as formulas: at which input sizes a program is valid, and what comes out, for all batch and spatial sizes at once.

Divisibility is found by asking JAX at concrete sizes: for every name the smallest factor whose multiples, by primes, are accepted.
The formulas are then traced with sizes that are such multiples, which proves that they hold for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

PRIMES = (101, 103)
LARGEST_FACTOR = 1024
ROUND = 2**7 * 3**3 * 5 * 7
"""A size that most programs accept: a multiple of whatever they divide by."""


@dataclass(frozen=True)
class SymbolicShapes:
    """Output shapes as formulas of named sizes, and the conditions under which they are valid.

    `factors` says of which number a named size must be a multiple; `conditions` says it in words, with the constraints assumed.
    """

    outputs: tuple[tuple[Any, ...], ...]
    dtypes: tuple[str, ...]
    names: tuple[str, ...]
    factors: Mapping[str, int] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()

    @property
    def conditions(self) -> tuple[str, ...]:
        """What must hold of the sizes, such as `h % 4 == 0`."""
        found = [f"{name} % {factor} == 0" for name, factor in self.factors.items() if factor > 1]
        return (*found, *(text for text in self.constraints if not self._implied(text)))

    def _implied(self, text: str) -> bool:
        """Whether a constraint says no more than a factor does."""
        said = re.fullmatch(r"mod\((\w+), (\d+)\) == 0", text)
        return said is not None and self.factors.get(said[1], 1) % int(said[2]) == 0

    def at(self, **sizes: int) -> tuple[tuple[int, ...], ...]:
        """The output shapes at given sizes; ValueError for a size that is missing, or one at which the program is not valid."""
        missing = sorted(set(self.names) - set(sizes))
        if missing:
            raise ValueError(f"no size given for {', '.join(missing)}; the shapes depend on {', '.join(self.names)}")
        wrong = [
            f"{name} = {sizes[name]} is no multiple of {factor}" for name, factor in self.factors.items() if sizes[name] % factor
        ]
        wrong += [f"{text} does not hold" for text in self.constraints if not _holds(text, sizes)]
        if wrong:
            raise ValueError(f"the program is not valid at these sizes: {'; '.join(wrong)}")
        parts = {_part(name, factor): sizes[name] // factor for name, factor in self.factors.items()}
        return tuple(tuple(_evaluate(size, {**sizes, **parts}) for size in shape) for shape in self.outputs)

    def __str__(self) -> str:
        shapes = (f"{dtype}[{','.join(map(self._text, shape))}]" for dtype, shape in zip(self.dtypes, self.outputs, strict=True))
        return ", ".join(shapes) + (f" where {' and '.join(self.conditions)}" if self.conditions else "")

    def _text(self, size: Any) -> str:
        text = str(size)
        for name, factor in self.factors.items():
            if factor > 1:
                text = re.sub(rf"\b{_part(name, factor)}\b", f"({name}/{factor})", text)
        return text


def shapes(
    function: Callable[..., Any],
    *arguments: str,
    params: Any = None,
    dtypes: Sequence[Any] | None = None,
    constraints: Sequence[str] = (),
) -> SymbolicShapes:
    """Output shapes of `function` for arguments whose shapes are written with names, such as "b, h, w, 3".

    `constraints` are what may be assumed of the names, such as "h >= 8" or "mod(h, 4) == 0". What the program needs of divisibility
    is found, and is a part of the answer. Where no multiples make it valid, JAX's own error says what it cannot decide. Takes some
    abstract evaluations of the function for every name.
    """
    types = list(dtypes) if dtypes is not None else [jnp.float32] * len(arguments)
    names = tuple(dict.fromkeys(name for text in arguments for name in _names(text)))
    probe = _Probe(function, arguments, types, params, tuple(constraints))
    factors = probe.factors(names)
    parts = {name: _part(name, factor) for name, factor in factors.items() if factor > 1}

    def scaled(text: str) -> str:
        return re.sub(
            r"[A-Za-z_]\w*", lambda match: f"{factors[match[0]]}*{parts[match[0]]}" if match[0] in parts else match[0], text
        )

    kept = [text for text in constraints if not set(_names(text)) & parts.keys()]
    scope = export.SymbolicScope(tuple(kept))
    avals = [
        jax.ShapeDtypeStruct(export.symbolic_shape(scaled(text), scope=scope), dtype)
        for text, dtype in zip(arguments, types, strict=True)
    ]
    results = jax.tree.leaves(jax.eval_shape(function, *([] if params is None else [params]), *avals))
    outputs = tuple(tuple(result.shape) for result in results)
    return SymbolicShapes(
        outputs, tuple(str(result.dtype) for result in results), tuple(sorted(names)), factors, tuple(constraints)
    )


@dataclass(frozen=True)
class _Probe:
    """A function that is tried at concrete sizes."""

    function: Callable[..., Any]
    arguments: tuple[str, ...]
    dtypes: Sequence[Any]
    params: Any
    constraints: tuple[str, ...]

    def factors(self, names: Sequence[str]) -> dict[str, int]:
        """For every name the smallest factor that makes its multiples valid; 1 for all if there are none.

        In order: the names before are at multiples of their own factors, those after at a round size. So a condition on a product
        of sizes falls on the last of them.
        """
        found: dict[str, int] = {}
        for place, name in enumerate(names):
            rest = dict.fromkeys(names[place + 1 :], ROUND)
            for factor in _factors():
                tried = [{**{k: v * prime for k, v in found.items()}, **rest, name: factor * prime} for prime in PRIMES]
                if all(self._valid(sizes) for sizes in tried):
                    found[name] = factor
                    break
            else:
                return dict.fromkeys(names, 1)
        return found

    def _valid(self, sizes: Mapping[str, int]) -> bool:
        if not all(_holds(text, sizes) for text in self.constraints):
            return False
        avals = [
            jax.ShapeDtypeStruct(tuple(_evaluate(size.strip(), sizes) for size in text.split(",") if size.strip()), dtype)
            for text, dtype in zip(self.arguments, self.dtypes, strict=True)
        ]
        try:
            jax.eval_shape(self.function, *([] if self.params is None else [self.params]), *avals)
        except (TypeError, ValueError, ZeroDivisionError):
            return False
        return True


def _factors() -> Iterator[int]:
    return (factor for factor in range(1, LARGEST_FACTOR + 1) if ROUND % factor == 0 or factor & (factor - 1) == 0)


_FUNCTIONS: Mapping[str, Callable[..., int]] = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "max": max,
    "min": min,
}


def _part(name: str, factor: int) -> str:
    """The name of a size divided by its factor."""
    return f"{name}_over_{factor}"


def _names(size: Any) -> list[str]:
    return [name for name in re.findall(r"[A-Za-z_]\w*", str(size)) if name not in _FUNCTIONS]


def _holds(text: str, sizes: Mapping[str, int]) -> bool:
    return bool(eval(_python(text), {"__builtins__": {}, **_FUNCTIONS}, dict(sizes)))


def _evaluate(size: Any, sizes: Mapping[str, int]) -> int:
    """The value of a formula, from its text: JAX's own evaluation is not public."""
    return size if isinstance(size, int) else int(eval(_python(str(size)), {"__builtins__": {}, **_FUNCTIONS}, dict(sizes)))


def _python(text: str) -> str:
    """A formula as Python reads it: JAX writes powers with a caret."""
    return text.replace("^", "**")
