"""An op's output, parameters and multiply-adds as formulas of its input's sizes, from one trace for all sizes.

JAX traces an op with names in place of sizes; what comes out holds for every size that the names stand for. So one trace serves all
inputs of one rank, and it is kept on disk (`synth.shelf`); formulas of the built-in ops come with the package (`synth.shipping`).
Channels and the op's own size are traced as multiples of what the op's `check` says they must be divisible by. There is no formula
where JAX cannot decide something for all sizes, and none for ops that are not of `synth.ops`: code that compares a size for
equality would take the same branch for all.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from properties import capacity, jaxpr, shipped
from properties.slicing import sliced
from synth.op import (
    OUTPUTS,
    PROBE_BATCH,
    Op,
    ShapeMismatch,
    Value,
    alternatives,
    output_value,
    size_fields,
    size_of,
    weight_avals,
    with_size,
)
from synth.shelf import is_kept, shelf

AXES = ("p", "q", "r", "s", "t", "u")
"""The names of the sizes between batch and channels."""

LARGEST_FACTOR = 64
_PRIMES = 101, 103
_FUNCTIONS: Mapping[str, Callable[..., int]] = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "max": max,
    "min": min,
}


@dataclass(frozen=True)
class Formula:
    """What comes out of an input of sizes p, q, … between batch and channels, of `channels` · k channels, and a size of `size` · n.

    `figures` are the sizes of the output, the batch aside, then the op's parameters and its multiply-adds for one example.
    """

    channels: int
    size: int
    dtype: str
    names: tuple[str, ...]
    figures: tuple[str, ...]

    def at(self, value: Value, size: int) -> tuple[int, ...] | None:
        """The figures on an input, for an op of this size; None where the formula does not say."""
        *between, channels = value.shape[1:]
        assert channels is not None, "a formula is for inputs with channels"
        if channels % self.channels or size % self.size:
            return None
        return _function(self)(*between, channels // self.channels, size // self.size)

    def of_sizes(self, value: Value, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The figures on an input for ops of several sizes, (sizes, figures), and for which of them the formula says so."""
        *between, channels = value.shape[1:]
        assert channels is not None, "a formula is for inputs with channels"
        found = np.empty((len(sizes), len(self.figures)), dtype=np.int64)
        for place, column in enumerate(_function(self, of_arrays=True)(*between, channels // self.channels, sizes // self.size)):
            found[:, place] = column
        says = (found[:, :-2] >= 1).all(axis=1) & (sizes % self.size == 0)
        return found, says & (channels % self.channels == 0)


@functools.lru_cache(maxsize=4096)
def _function(formula: Formula, of_arrays: bool = False) -> Callable[..., tuple[Any, ...]]:
    text = f"({', '.join(formula.figures)},)"
    named = set(re.findall(r"[A-Za-z_]\w*", text))
    if not re.fullmatch(r"[\w\s+\-*(),]*", text) or not named <= {*formula.names, *_FUNCTIONS}:
        raise ValueError(f"{text} is no formula of {', '.join(formula.names)}")
    functions = {**_FUNCTIONS, "max": np.maximum, "min": np.minimum} if of_arrays else _FUNCTIONS
    made: Callable[..., tuple[Any, ...]] = eval(f"lambda {', '.join(formula.names)}: {text}", {"__builtins__": {}, **functions})
    return made


@dataclass(frozen=True)
class Kind:
    """What a formula is for: an op but for its size, on inputs of a rank and dtype."""

    op: Op
    rank: int
    dtype: str

    @staticmethod
    def of(op: Op, value: Value) -> Kind | None:
        """The kind of an op of one input on a value; None for what has no formula."""
        batch, *sizes = value.shape if value.shape else (1,)
        formulated = op.arity == 1 and op.fitted and is_kept(op) and len(size_fields(type(op))) <= 1
        if not formulated or batch is not None or not 0 < len(sizes) <= len(AXES) or None in sizes:
            return None
        return Kind(_bare(op), len(value.shape), value.dtype)


@functools.lru_cache(maxsize=65536)
def _bare(op: Op) -> Op:
    return with_size(op, 0) if size_fields(type(op)) else op


def figures(op: Op, value: Value) -> tuple[Value, int, int] | None:
    """The output of an op that fits the value, its parameters and multiply-adds; None where no formula says so."""
    kind = Kind.of(op, value)
    formula = formulas([kind])[kind] if kind is not None else None
    found = formula.at(value, size_of(op)) if formula is not None else None
    if formula is None or found is None or min(found[:-2], default=1) < 1:
        return None
    *sizes, params, macs = found
    return Value((None, *sizes), formula.dtype), params, macs


def output_of(op: Op, inputs: tuple[Value, ...]) -> Value:
    """The type of an op's output, by formula or else from its own trace; ShapeMismatch if the inputs do not fit."""
    if len(inputs) != 1 or (op, inputs) in OUTPUTS:
        return output_value(op, inputs)
    op.check(*inputs)
    told = figures(op, inputs[0])
    return told[0] if told is not None else output_value(op, inputs)


def formulas(kinds: Sequence[Kind]) -> Mapping[Kind, Formula | None]:
    """The formulas of some kinds, among others; None for a kind that has none."""
    known: Mapping[Kind, Formula | None] = shelf().recall(PAGE)
    missing = [kind for kind in dict.fromkeys(kinds) if kind not in known]
    if missing:
        come = _shipped()
        found = derived([kind for kind in missing if kind not in come])
        for kind in missing:
            shelf().note(PAGE, kind, come[kind] if kind in come else found[kind])
    return known


PAGE = "formulas"

SHIPPED = Path(__file__).parent / "formulas.json"
"""The formulas of the usual kinds, as they come with the package."""


def sources() -> Iterator[Path]:
    """What formulas are derived from."""
    here = Path(__file__).parent
    yield from (here / "op.py", here / "formulas.py", *(here / "ops").glob("*.py"), *(here.parent / "properties").rglob("*.py"))


@functools.cache
def _shipped() -> dict[Kind, Formula | None]:
    from synth.ops import OPS

    def op(kind: str, **attributes: Any) -> Op:
        return OPS[kind](**{name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()})

    rows = shipped.recalled(SHIPPED, sources()) or ()
    return {
        Kind(op(**attributes), rank, dtype): Formula(*figures[:3], *map(tuple, figures[3:])) if figures else None
        for attributes, rank, dtype, figures in rows
    }


def to_ship() -> Iterator[tuple[Any, ...]]:
    """The formulas of all built-in ops in all of their declared choices, on inputs of the usual ranks, as JSON."""
    from synth.ops import OPS

    ops = [op for op_type in OPS.values() if op_type.arity == 1 and op_type.taste > 0 for op in alternatives(op_type, (1,))]
    probes = [Value((None, *(2,) * (rank - 1)), "float32") for rank in RANKS]
    kinds = [kind for value in probes for op in ops if (kind := Kind.of(op, value)) is not None]
    for kind, formula in derived(list(dict.fromkeys(kinds))).items():
        figures = astuple(formula) if formula else None
        yield {"kind": kind.op.kind(), **kind.op.attributes()}, kind.rank, kind.dtype, figures


RANKS = (2, 3, 4, 5)
"""The numbers of axes of features, tokens, images and volumes."""


def derived(kinds: Sequence[Kind]) -> dict[Kind, Formula | None]:
    found: dict[Kind, Formula | None] = dict.fromkeys(kinds)
    alike: dict[tuple[int, str, int, int], list[Kind]] = defaultdict(list)
    for kind in kinds:
        factors = _factors(kind)
        if factors is not None:
            alike[kind.rank, kind.dtype, *factors].append(kind)
    for (rank, dtype, channels, size), members in alike.items():
        found |= _traced(members, rank, dtype, channels, size)
    return found


def _factors(kind: Kind) -> tuple[int, int] | None:
    """What the channels and the op's size must be multiples of, by the op's check; None if none is small enough."""
    for factor in range(1, LARGEST_FACTOR + 1):
        if all(_fits(with_size(kind.op, prime), _probe(kind, factor * other)) for prime, other in (_PRIMES, _PRIMES[::-1])):
            return factor, 1
        if all(_fits(with_size(kind.op, factor * prime), _probe(kind, factor * prime)) for prime in _PRIMES):
            return factor, factor
    return None


def _probe(kind: Kind, channels: int) -> Value:
    between = itertools.islice(itertools.cycle(_PRIMES), kind.rank - 2)
    return Value((None, *between, channels), kind.dtype)


def _fits(op: Op, value: Value) -> bool:
    try:
        op.check(value)
    except ShapeMismatch:
        return False
    return True


def _traced(kinds: Sequence[Kind], rank: int, dtype: str, channels: int, size: int) -> dict[Kind, Formula]:
    """The formulas of kinds on inputs alike, from one trace."""
    names = (*AXES[: rank - 2], "k", "n")
    sizes: Sequence[Any] = export.symbolic_shape(", ".join((*AXES[: rank - 2], f"{channels}*k", f"{size}*n")))
    *between, count, own = sizes
    value = Value((None, *between, count), dtype)
    ops = [with_size(kind.op, own) for kind in kinds]
    owned = [weight_avals(op, (value,)) for op in ops]
    fitting: list[int] = []

    def run(held: Sequence[Any], data: jax.Array) -> list[jax.Array]:
        results = []
        for place, op in enumerate(ops):
            try:
                results.append(op.apply(held[place], data))
            except UNDECIDED:
                continue
            fitting.append(place)
        return results

    closed, shapes = jaxpr.trace(run, owned, value.aval())
    whole = jaxpr.program(closed)
    starts = [0, *itertools.accumulate(map(len, owned))]
    found = {}
    for place, shape, output in zip(fitting, shapes, whole.outputs, strict=True):
        inputs = (*range(starts[place], starts[place + 1]), whole.input_count - 1)
        work = capacity.multiply_adds(sliced(whole, inputs, output), [False] * len(owned[place]) + [True])
        if work is not None:
            params = sum(math.prod(weight.shape) for weight in ops[place].weights(value).values())
            texts = [_text(figure) for figure in (*shape.shape[1:], params, work // PROBE_BATCH)]
            found[kinds[place]] = Formula(channels, size, str(shape.dtype), names, tuple(texts))
    return found


UNDECIDED = (TypeError, ValueError, jax.errors.InconclusiveDimensionOperation)
"""What JAX raises where something does not hold for all sizes, or where it cannot tell."""


def _text(figure: Any) -> str:
    """A size as Python reads it."""
    return str(figure).replace("^", "**")
