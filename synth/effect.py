"""What an op does to a value's type and what that costs, at any number of channels, from a handful of traces.

Search asks this of thousands of channel counts. Most ops have a formula (`synth.formulas`). Of the others the output sizes,
parameters and multiply-adds are held to be polynomials in the channels that come in and the size the op is given: they are fitted
on a few traces and checked on one more; where they are none, every count is traced. What is finally returned is counted anew.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from properties import PROPERTIES, Inference, RelationalProperty
from synth.formulas import Kind, figures, formulas
from synth.memo import Memo
from synth.op import OUTPUTS, PROBE_BATCH, Op, ShapeMismatch, Value, output_value, size_of
from synth.op import size_fields as size_fields
from synth.op import with_size as with_size
from synth.shelf import is_kept, shelf
from synth.tracing import infer_op, trace

_CHANNELS = (16, 32, 48, 64)
_SIZES = (16, 32, 48)
_UNIT = 16
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Effect:
    """The type that comes out of an op, and what the op costs for one example."""

    value: Value
    params: int
    macs: int


_SUMMARIES: Memo[tuple[Op, tuple[Value, ...], tuple[RelationalProperty, ...]], Inference] = Memo(1 << 16)
_ASKED = tuple(PROPERTIES)


def summary(op: Op, inputs: tuple[Value, ...], asked: tuple[RelationalProperty, ...] = _ASKED) -> Inference:
    """The properties of one op on inputs of these types (at the probe's batch size); ShapeMismatch if they do not fit."""
    found = _SUMMARIES.get((op, inputs, asked))
    if found is not None:
        return found
    kept = len(inputs) == 1 and asked == _ASKED and is_kept(op)
    known: Inference | None = shelf().recall(inputs[0]).get(op) if kept else None
    found = _SUMMARIES.put((op, inputs, asked), known or infer_op(op, inputs, asked))
    if kept and known is None:
        shelf().note(inputs[0], op, found)
    return found


T = TypeVar("T", bool, int)


def recalled(trait: str, op: Op, value: Value, found: Callable[[], T]) -> T:
    """A trait of an op on a type: from disk, or as found."""
    if not is_kept(op):
        return found()
    page, key = ("traits", value), (trait, op)
    known: T | None = shelf().recall(page).get(key)
    if known is None:
        known = found()
        shelf().note(page, key, known)
    return known


def prepare(ops: Sequence[Op], value: Value, *, summaries: bool) -> None:
    """Finds out the outputs, or the summaries, of many ops on one type: by formula or from disk, the rest together in one trace."""
    inputs = (value,)
    if summaries:
        known = shelf().recall(value)
        trace([op for op in ops if (op, inputs, _ASKED) not in _SUMMARIES and op not in known], inputs)
        return
    missing = _without_formula([op for op in ops if (op, inputs) not in OUTPUTS], value)
    kept = shelf().recall(("outputs", value)) if missing else {}
    for op in missing:
        if op in kept:
            OUTPUTS.put((op, inputs), kept[op])
    missing = [op for op in missing if op not in kept]
    trace(missing, inputs)
    for op in filter(is_kept, missing):
        shelf().note(("outputs", value), op, OUTPUTS.get((op, inputs)))


def _without_formula(ops: Sequence[Op], value: Value) -> list[Op]:
    """Those ops whose outputs no formula tells; the outputs of the others are then known."""
    fitting, left = [], []
    for op in ops:
        try:
            op.check(value)
        except ShapeMismatch as error:
            OUTPUTS.put((op, (value,)), str(error))
            continue
        fitting.append(op)
    formulas([kind for op in fitting if (kind := Kind.of(op, value)) is not None])
    for op in fitting:
        found = figures(op, value)
        if found is None:
            left.append(op)
            continue
        OUTPUTS.put((op, (value,)), found[0])
    return left


@functools.lru_cache(maxsize=262144)
def effect(op: Op, value: Value) -> Effect:
    """The effect of an op of one input; ShapeMismatch if the value does not fit."""
    op.check(value)
    found = figures(op, value)
    if found is not None:
        return Effect(*found)
    fitted = _fitted(op, value)
    return fitted.at(op, value) if fitted is not None else exact_effect(op, (value,))


@dataclass(frozen=True, eq=False)
class Effects:
    """One op in every size that fits: the ops, the types that come out of them, and (parameters, MACs) of each."""

    ops: tuple[Op, ...]
    values: tuple[Value, ...]
    costs: np.ndarray


@functools.lru_cache(maxsize=65536)
def effects(op: Op, value: Value, sizes: tuple[int, ...]) -> Effects:
    """The op in every one of these sizes that fits the value; an op without sizes as it is."""
    fitting = tuple([each for each in _in_sizes(op, sizes) if _fits(each, value)])
    kind = Kind.of(op, value)
    formula = formulas([kind])[kind] if kind is not None else None
    if formula is None:
        fitted = _fitted(op, value)
        return fitted.of(fitting, value) if fitted is not None else _exact_effects(fitting, value)
    figures, says = formula.of_sizes(value, np.array([size_of(each) for each in fitting], dtype=np.int64))
    if not says.all():
        return _exact_effects(fitting, value)
    values = tuple([_value((None, *axes), channels, formula.dtype) for *axes, channels in figures[:, :-2].tolist()])
    return Effects(fitting, values, figures[:, -2:].astype(float))


def _exact_effects(ops: Sequence[Op], value: Value) -> Effects:
    found = []
    for each in ops:
        try:
            found.append((each, exact_effect(each, (value,))))
        except ShapeMismatch:
            continue
    costs = np.array([(result.params, result.macs) for _, result in found], dtype=float).reshape(-1, 2)
    return Effects(tuple([each for each, _ in found]), tuple([result.value for _, result in found]), costs)


@functools.lru_cache(maxsize=16384)
def _in_sizes(op: Op, sizes: tuple[int, ...]) -> tuple[Op, ...]:
    return tuple([with_size(op, size) for size in sizes]) if size_fields(type(op)) else (op,)


def _fits(op: Op, value: Value) -> bool:
    try:
        op.check(value)
    except ShapeMismatch:
        return False
    return True


def prepare_effects(ops: Sequence[Op], value: Value) -> None:
    """Finds out in few traces what the effects of ops on values like this one, of whatever channels, are fitted to.

    That is for ops without a formula.
    """
    if value.shape[-1:] in ((), (None,)):
        return
    kinds = {op: Kind.of(op, value) for op in ops}
    known = formulas([kind for kind in kinds.values() if kind is not None])
    unknown = [op for op in ops if op.fitted and (without_size(op), _open_channels(value)) not in _SAMPLED]
    unknown = [op for op in unknown if (kind := kinds[op]) is None or known[kind] is None]
    if not unknown:
        return
    for channels in _CHANNELS:
        here = replace(value, shape=(*value.shape[:-1], channels))
        sampled = [sized for op in unknown for sized in _sized(op) if channels in _channels(op)]
        prepare(sampled, here, summaries=True)
    _SAMPLED.update((without_size(op), _open_channels(value)) for op in unknown)


_SAMPLED: set[tuple[Op, Value]] = set()


def _open_channels(value: Value) -> Value:
    return replace(value, shape=(*value.shape[:-1], 0))


def _fitted(op: Op, value: Value) -> _Template | None:
    return _template(without_size(op), _open_channels(value)) if value.shape[-1:] not in ((), (None,)) else None


@functools.lru_cache(maxsize=65536)
def exact_effect(op: Op, inputs: tuple[Value, ...]) -> Effect:
    """The effect of an op, by formula or by counting."""
    found = figures(op, inputs[0]) if len(inputs) == 1 and _fits(op, inputs[0]) else None
    return Effect(*found) if found is not None else Effect(output_value(op, inputs), params(op, inputs), counted_macs(op, inputs))


def params(op: Op, inputs: Sequence[Value]) -> int:
    """Number of trained parameters of an op."""
    return sum(math.prod(weight.shape) for weight in op.weights(*inputs).values())


def macs(op: Op, inputs: tuple[Value, ...]) -> int:
    """Multiply-adds of an op for one example."""
    return exact_effect(op, inputs).macs


def counted_macs(op: Op, inputs: tuple[Value, ...]) -> int:
    """Multiply-adds of an op for one example, from its own trace."""
    return summary(op, inputs).capacity.macs // PROBE_BATCH


@dataclass(frozen=True)
class _Template:
    """An op's effect as polynomials in (channels, size): of the output's last axis, the parameters and the multiply-adds."""

    axes: tuple[int | None, ...]
    dtype: str
    polynomials: tuple[tuple[float, ...], ...]

    def at(self, op: Op, value: Value) -> Effect:
        terms = _monomials(value.channels, size_of(op))
        channels, params, macs = (round(sum(a * b for a, b in zip(row, terms, strict=True))) for row in self.polynomials)
        return Effect(Value((*self.axes, channels), self.dtype), params, macs)

    def of(self, ops: tuple[Op, ...], value: Value) -> Effects:
        """The effects of an op in several sizes."""
        terms = np.array([_monomials(value.channels, size_of(op)) for op in ops]).reshape(-1, 6)
        figures = np.rint(terms @ np.array(self.polynomials).T)
        values = tuple([_value(self.axes, channels, self.dtype) for channels in figures[:, 0].astype(int).tolist()])
        return Effects(ops, values, figures[:, 1:])


@functools.lru_cache(maxsize=65536)
def _value(axes: tuple[int | None, ...], channels: int, dtype: str) -> Value:
    return Value((*axes, channels), dtype)


def polynomials(op: Op, value: Value) -> tuple[tuple[float, ...], ...] | None:
    """An op's parameters and MACs as coefficients of (1, channels, size, channels·size, channels², size²), if they are such."""
    found = _template(without_size(op), replace(value, shape=(*value.shape[:-1], 0)))
    if found is None:
        return None
    scales = (1.0, _UNIT, _UNIT, _UNIT**2, _UNIT**2, _UNIT**2)
    return tuple(tuple(a / b for a, b in zip(row, scales, strict=True)) for row in found.polynomials[1:])


def _monomials(channels: int, size: int) -> tuple[float, ...]:
    a, b = channels / _UNIT, size / _UNIT
    return 1.0, a, b, a * b, a * a, b * b


@functools.lru_cache(maxsize=65536)
def without_size(op: Op) -> Op:
    """The op with a size of 0, if it has one: what it is in all of its sizes."""
    return with_size(op, 0) if size_fields(type(op)) else op


@functools.lru_cache(maxsize=16384)
def _template(op: Op, value: Value) -> _Template | None:
    """The polynomials of an op on values of this shape up to its channels; None if its effect is not of that form."""
    samples = _samples(op, value)
    if samples is None:
        return None
    axes = {effect.value.shape[:-1] for _, _, effect in samples}
    if len(axes) != 1 or samples[0][2].value.shape[-1:] in ((), (None,)):
        return None
    terms = np.array([_monomials(channels, size) for channels, size, _ in samples])
    wanted = np.array([(effect.value.channels, effect.params, effect.macs) for _, _, effect in samples], dtype=float)
    solution = np.linalg.lstsq(terms, wanted, rcond=None)[0]
    if np.abs(terms @ solution - wanted).max() > _ROUNDING * max(1.0, np.abs(wanted).max()):
        return None
    return _Template(axes.pop(), samples[0][2].value.dtype, tuple(map(tuple, solution.T.tolist())))


def _samples(op: Op, value: Value) -> list[tuple[int, int, Effect]] | None:
    named = size_fields(type(op))
    if len(named) > 1 or not op.fitted:
        return None
    samples = []
    for channels in _channels(op):
        here = replace(value, shape=(*value.shape[:-1], channels))
        for sized in _sized(op):
            try:
                samples.append((channels, size_of(sized), exact_effect(sized, (here,))))
            except ShapeMismatch:
                return None
    return samples


def _channels(op: Op) -> tuple[int, ...]:
    return _CHANNELS[:3] if size_fields(type(op)) else _CHANNELS


def _sized(op: Op) -> list[Op]:
    """The op in the sizes that are sampled."""
    return [with_size(op, size) for size in _SIZES] if size_fields(type(op)) else [op]
