"""The inference trace of a function as a flat list of steps: calls inlined, loops unrolled, constants folded, dead steps gone.

Shapes are static here: the batch is fixed when a model is lowered. A primitive that has a decomposition is inlined as the simpler
primitives that it stands for. A condition that data decides becomes a choice between the results of all branches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from alphanas.hardware.decompositions import DECOMPOSITIONS
from alphanas.hardware.program import Flat, NotLowerable, Writer, place
from alphanas.hardware.refusals import REFUSED
from properties import jaxpr

GROWING = frozenset({"broadcast_in_dim", "iota", "tile"})
"""Primitives that make large arrays of small ones; they are computed where they are read and never folded into a constant."""
DTYPES = frozenset({"bool", "float16", "float32", "float64"} | {f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)})
UNROLLED = 8192
"""A loop of more steps than this, its rounds counted, is refused."""

Rule = Callable[[Writer, jaxpr.Equation, list[int]], list[int]]


def flatten(function: Callable[..., Any], *inputs: Any) -> Flat:
    """The flat program of `function` on inputs of these shapes (arrays or `ShapeDtypeStruct`s).

    Weights that the function closes over become constants. Raises NotLowerable for what has no rule, naming primitive and source.
    """
    closed, _ = jaxpr.trace(function, *inputs)
    traced = jaxpr.program(closed)
    writer = Writer()
    arguments = [writer.slot(traced.types[slot].shape, traced.types[slot].dtype) for slot in traced.inputs]
    return writer.flat(arguments, inline(writer, traced, arguments))


def inline(writer: Writer, program: jaxpr.Program, arguments: Sequence[int], *, ours: bool = False) -> list[int]:
    """Writes a program's steps on these slots; returns the slots of its outputs. The lines of a program of `ours` say nothing."""
    slots: dict[int, int] = dict(zip(program.inputs, arguments, strict=True))
    for slot, value in program.constants.items():
        slots[slot] = writer.constant(np.asarray(value).astype(program.types[slot].dtype))
    around, within = writer.origin, writer.source
    for equation in program.equations:
        operands = [slots[slot] for slot in equation.inputs]
        # Inside of a called function, the scope of the call says more than that of its body.
        writer.origin, writer.source = around or equation.scope, within if ours else equation.source or within
        slots.update(zip(equation.outputs, _results(writer, equation, operands), strict=True))
        writer.origin, writer.source = around, within
    return [slots[slot] for slot in program.outputs]


def _results(writer: Writer, equation: jaxpr.Equation, operands: list[int]) -> list[int]:
    if equation.primitive in RULES:
        return RULES[equation.primitive](writer, equation, operands)
    if equation.programs:
        (called,) = equation.programs
        return inline(writer, called, operands[len(operands) - called.input_count :])
    if all(slot in writer.constants for slot in operands) and not _grows(writer, equation, operands):
        if not writer.knows(operands):
            return [writer.placeholder(result.shape, result.dtype) for result in equation.output_types]
        return [writer.constant(value) for value in equation.evaluate([writer.constants[slot] for slot in operands])]
    if equation.primitive in REFUSED:
        raise NotLowerable(equation.primitive, REFUSED[equation.primitive], _here(writer))
    strange = {kind.dtype for kind in (*equation.input_types, *equation.output_types)} - DTYPES
    if strange:
        raise NotLowerable(equation.primitive, f"on {', '.join(sorted(strange))}, which has no rules", _here(writer))
    if equation.primitive in DECOMPOSITIONS:
        return _decomposed(writer, equation, operands)
    if len(equation.outputs) != 1:
        raise NotLowerable(equation.primitive, f"no rule for this primitive of {len(equation.outputs)} results", _here(writer))
    (result,) = equation.output_types
    return [writer.step(equation.primitive, operands, result.shape, result.dtype, equation.params)]


def _here(writer: Writer) -> str:
    return place(writer.origin, writer.source)


def _grows(writer: Writer, equation: jaxpr.Equation, operands: Sequence[int]) -> bool:
    size = sum(math.prod(result.shape) for result in equation.output_types)
    return equation.primitive in GROWING and size > max([1, *(writer.types[slot].size for slot in operands)])


def _decomposed(writer: Writer, equation: jaxpr.Equation, operands: Sequence[int]) -> list[int]:
    shapes = [jax.ShapeDtypeStruct(kind.shape, np.dtype(kind.dtype)) for kind in equation.input_types]
    rule = DECOMPOSITIONS[equation.primitive]
    closed, _ = jaxpr.trace(lambda *values: rule(*values, **equation.params), *shapes)
    return inline(writer, jaxpr.program(closed), operands, ours=True)


def _split(writer: Writer, equation: jaxpr.Equation, operands: list[int]) -> list[int]:
    axis, start, results = equation.params["axis"], 0, []
    for result in equation.output_types:
        results.append(_cut(writer, operands[0], axis, start, result.shape[axis]))
        start += result.shape[axis]
    return results


def _cut(writer: Writer, slot: int, axis: int, start: int, length: int) -> int:
    """The elements from `start` on along an axis."""
    kind = writer.types[slot]
    begin, end = [0] * len(kind.shape), list(kind.shape)
    begin[axis], end[axis] = start, start + length
    shape = [b - a for a, b in zip(begin, end, strict=True)]
    if slot in writer.unknown:
        return writer.placeholder(shape, kind.dtype)
    if slot in writer.constants:
        return writer.constant(writer.constants[slot][tuple(slice(a, b) for a, b in zip(begin, end, strict=True))])
    return writer.step("slice", [slot], shape, kind.dtype, {"start_indices": begin, "limit_indices": end, "strides": None})


def _reshaped(writer: Writer, slot: int, shape: Sequence[int]) -> int:
    dtype = writer.types[slot].dtype
    if slot in writer.unknown:
        return writer.placeholder(shape, dtype)
    if slot in writer.constants:
        return writer.constant(writer.constants[slot].reshape(shape))
    return writer.step("reshape", [slot], shape, dtype, {"dimensions": None})


def _cond(writer: Writer, equation: jaxpr.Equation, operands: list[int]) -> list[int]:
    index, *given = operands
    if writer.knows([index]):
        chosen = int(np.clip(writer.constants[index], 0, len(equation.programs) - 1))
        return inline(writer, equation.programs[chosen], given)
    branches = [inline(writer, branch, given) for branch in equation.programs]
    if writer.types[index].dtype == "bool" or len(branches) == 1:
        return _chosen(writer, index, branches)
    last = writer.constant(np.asarray(len(branches) - 1, writer.types[index].dtype))
    first = writer.constant(np.asarray(0, writer.types[index].dtype))
    inside = writer.step("clamp", [first, index, last], (), writer.types[index].dtype)
    return _chosen(writer, inside, branches)


def _chosen(writer: Writer, which: int, branches: Sequence[Sequence[int]]) -> list[int]:
    results = []
    for cases in zip(*branches, strict=True):
        kind = writer.types[cases[0]]
        same = len(set(cases)) == 1
        results.append(cases[0] if same else writer.step("select_n", [which, *cases], kind.shape, kind.dtype))
    return results


def _scan(writer: Writer, equation: jaxpr.Equation, operands: list[int]) -> list[int]:
    """All rounds one after the other."""
    params, (body,) = equation.params, equation.programs
    length, fixed, carried = params["length"], params["num_consts"], params["num_carry"]
    _refuse_long(writer, "scan", length, body)
    consts, carry, rows = operands[:fixed], operands[fixed : fixed + carried], operands[fixed + carried :]
    order = reversed(range(length)) if params["reverse"] else range(length)
    kept: dict[int, list[int]] = {}
    for number in order:
        cuts = [_cut(writer, slot, 0, number, 1) for slot in rows]
        inputs = [_reshaped(writer, slot, writer.types[slot].shape[1:]) for slot in cuts]
        results = inline(writer, body, [*consts, *carry, *inputs])
        carry, kept[number] = results[:carried], results[carried:]
    stacked = []
    for which, kind in enumerate(equation.output_types[carried:]):
        stacked.append(_stacked(writer, [kept[number][which] for number in range(length)], kind.shape, kind.dtype))
    return [*carry, *stacked]


def _stacked(writer: Writer, slots: Sequence[int], shape: Sequence[int], dtype: str) -> int:
    """The values of all rounds along a new axis in front."""
    if writer.knows(slots):
        return writer.constant(np.stack([writer.constants[slot] for slot in slots]) if slots else np.zeros(shape, dtype))
    rows = [_reshaped(writer, slot, (1, *shape[1:])) for slot in slots]
    return rows[0] if len(rows) == 1 else writer.step("concatenate", rows, shape, dtype, {"dimension": 0})


def _while(writer: Writer, equation: jaxpr.Equation, operands: list[int]) -> list[int]:
    """Unrolled as long as the condition is a constant: the number of rounds must not depend on the data."""
    condition, body = equation.programs
    before, between = equation.params["cond_nconsts"], equation.params["body_nconsts"]
    asked, given, carry = operands[:before], operands[before : before + between], operands[before + between :]
    rounds = 0
    while True:
        (goes_on,) = inline(writer, condition, [*asked, *carry])
        if not writer.knows([goes_on]):
            raise NotLowerable("while", "the number of its rounds depends on the data", _here(writer))
        if not writer.constants[goes_on]:
            return list(carry)
        rounds += 1
        _refuse_long(writer, "while", rounds, body)
        carry = inline(writer, body, [*given, *carry])


def _refuse_long(writer: Writer, primitive: str, rounds: int, body: jaxpr.Program) -> None:
    if rounds * len(body.equations) > UNROLLED:
        seen = f"{rounds} rounds of {len(body.equations)} steps"
        raise NotLowerable(primitive, f"{seen} are more than the {UNROLLED} that are unrolled", _here(writer))


def _same(writer: Writer, equation: jaxpr.Equation, operands: list[int]) -> list[int]:
    return operands


RULES: Mapping[str, Rule] = {
    "split": _split,
    "cond": _cond,
    "scan": _scan,
    "while": _while,
    **dict.fromkeys(("device_put", "optimization_barrier", "sharding_constraint", "layout_constraint", "pvary"), _same),
}
