"""Idioms: functions that JAX inlines, recognised where they stand and put back as calls.

`jax.nn.gelu` and `jax.nn.softmax` leave no call behind, only their equations, and neither do Flax's norms. The patterns are traced
with the installed JAX, so they follow its versions (they come with the package, and are used with the JAX that they were traced
with): an idiom is found where consecutive equations have the same primitives, wired in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from properties import jaxpr, shipped
from properties.jaxpr import Equation, Program

Function = Callable[..., Any]


def _flax_norm(fast: bool, expand: Function, centred: bool = True) -> Function:
    """A norm as Flax spells it: statistics over the last axis, then their reciprocal root times a scale."""

    def norm(x: Any, *scale: Any) -> Any:
        if not centred:
            variance = jnp.square(x).mean(-1)
            mean = jnp.zeros(x.shape[:-1], x.dtype)
        elif fast:
            square = jnp.square(x)
            mean, square = x.mean(-1), square.mean(-1)
            variance = jnp.maximum(0.0, square - jnp.square(mean))
        else:
            mean = x.mean(-1)
            variance = jnp.square(x - jnp.expand_dims(mean, -1)).mean(-1)
        mean, variance = expand(mean), expand(variance)
        centre = x - mean
        factor = jax.lax.rsqrt(variance + 1e-6)
        for weight in scale:
            factor = factor * weight.reshape(1, -1)
        return centre * factor

    return norm


def _flax_group_norm(x: Any, *scale: Any) -> Any:
    """As `_flax_norm`, over two groups of the last axis."""
    groups = x.reshape(x.shape[0], x.shape[1], 2, -1)
    square = jnp.square(groups)
    mean, square = groups.mean((1, 3)), square.mean((1, 3))
    variance = jnp.maximum(0.0, square - jnp.square(mean))
    mean, variance = (jnp.repeat(each, groups.shape[-1], axis=1) for each in (mean, variance))
    mean, variance = jnp.expand_dims(mean, 1), jnp.expand_dims(variance, 1)
    centre = x - mean
    factor = jax.lax.rsqrt(variance + 1e-6)
    for weight in scale:
        factor = factor * weight.reshape(1, 1, -1)
    return centre * factor


def _reshaped(x: Any) -> Any:
    return x.reshape(*x.shape, 1)


def _broadcast(x: Any) -> Any:
    return jnp.expand_dims(x, -1)


INLINED: tuple[tuple[str, Function, int, frozenset[str]], ...] = (
    ("gelu", lambda x: jax.nn.gelu(x, approximate=True), 0, frozenset({"tanh"})),
    ("gelu", lambda x: jax.nn.gelu(x, approximate=False), 0, frozenset({"erfc"})),
    ("softmax", jax.nn.softmax, 0, frozenset({"exp", "reduce_sum"})),
    ("log_softmax", jax.nn.log_softmax, 0, frozenset({"exp", "reduce_sum", "log"})),
    ("logsumexp", jax.nn.logsumexp, 0, frozenset({"exp", "reduce_sum", "log"})),
    ("logsumexp", lambda x: jax.nn.logsumexp(x, axis=1), 0, frozenset({"exp", "reduce_sum", "log"})),
    ("logsumexp", lambda x: jax.nn.logsumexp(x, axis=1, keepdims=True), 0, frozenset({"exp", "reduce_sum", "log"})),
    *(
        ("layer_norm" if centred else "rms_norm", _flax_norm(fast, expand, centred), scales, frozenset({"rsqrt", "reduce_sum"}))
        for fast, centred in ((True, True), (False, True), (True, False))
        for expand in (_reshaped, _broadcast)
        for scales in (0, 1)
    ),
    *(("group_norm", _flax_group_norm, scales, frozenset({"rsqrt", "reduce_sum"})) for scales in (0, 1)),
)
"""Functions that leave no call behind: name, definition, the number of weights that they take after the data, and some of their
primitives: where those are not, neither is the idiom, and it need not be traced.
"""

CAST = "convert_element_type"
"""The primitive by which the patterns at half precision differ from those at full precision."""


@dataclass(frozen=True)
class Pattern:
    """The primitives of an idiom, and what each operand reads: an earlier (step, result), input -1, -2 …, or a constant (None)."""

    name: str
    primitives: tuple[str, ...]
    wiring: tuple[tuple[Any, ...], ...]
    result: tuple[int, int]


def patterns(among: Collection[str] | None = None) -> dict[str, tuple[Pattern, ...]]:
    """The idioms by their first primitive, the longest first: those that a program of these primitives can have, or all."""
    found: dict[tuple[Any, ...], Pattern] = {}
    for idiom, (*_, needed) in enumerate(INLINED):
        if among is None or needed <= set(among):
            for pattern in _alternatives(idiom, half=among is None or CAST in among):
                found.setdefault((pattern.primitives, pattern.wiring), pattern)
    table: dict[str, list[Pattern]] = {}
    for pattern in sorted(found.values(), key=lambda pattern: -len(pattern.primitives)):
        table.setdefault(pattern.primitives[0], []).append(pattern)
    return {first: tuple(rows) for first, rows in table.items()}


SHIPPED = Path(__file__).parent / "idioms.json"
"""The patterns of all idioms, as they come with the package."""

SOURCES = tuple(Path(__file__).parent / name for name in ("idioms.py", "jaxpr.py"))
"""What they are derived from."""


@lru_cache(maxsize=1)
def _shipped() -> dict[tuple[int, bool], tuple[Pattern, ...]]:
    rows = shipped.recalled(SHIPPED, SOURCES) or ()
    return {(idiom, half): tuple(map(_from_json, found)) for idiom, half, found in rows}


def to_ship() -> Iterator[tuple[int, bool, tuple[Any, ...]]]:
    """Every idiom by number, at full precision or at half precision too, and its patterns as JSON."""
    for idiom in range(len(INLINED)):
        for half in (False, True):
            yield idiom, half, tuple((each.name, each.primitives, each.wiring, each.result) for each in derived(idiom, half=half))


def _from_json(row: tuple[Any, ...]) -> Pattern:
    name, primitives, wiring, result = row
    wires = tuple(tuple(tuple(wire) if isinstance(wire, list) else wire for wire in step) for step in wiring)
    return Pattern(name, tuple(primitives), wires, (result[0], result[1]))


@lru_cache(maxsize=2 * len(INLINED))
def _alternatives(idiom: int, *, half: bool) -> tuple[Pattern, ...]:
    found = _shipped().get((idiom, half))
    return found if found is not None else derived(idiom, half=half)


def derived(idiom: int, *, half: bool) -> tuple[Pattern, ...]:
    """The patterns of one idiom at full precision, and at half precision too, from traces of it."""
    name, function, weights, _ = INLINED[idiom]
    shape = (2, 5, 4) if name == "group_norm" else (2, 4)
    found = []
    for dtype in (jnp.float32, jnp.bfloat16) if half else (jnp.float32,):
        arguments = [jax.ShapeDtypeStruct(shape, dtype), *[jax.ShapeDtypeStruct((4,), dtype)] * weights]
        program = jaxpr.program(jaxpr.trace(function, *arguments)[0])
        if len(program.equations) > 1:
            found.append(_pattern(name, program))
    return tuple(found)


def _pattern(name: str, program: Program) -> Pattern:
    made = {slot: (step, k) for step, equation in enumerate(program.equations) for k, slot in enumerate(equation.outputs)}
    wiring = tuple(
        tuple(-1 - slot if slot < program.input_count else made.get(slot) for slot in equation.inputs)
        for equation in program.equations
    )
    primitives = tuple(equation.primitive for equation in program.equations)
    return Pattern(name, primitives, wiring, made[program.outputs[0]])


_TELLING = frozenset({CAST}).union(*(needed for *_, needed in INLINED))


@lru_cache(maxsize=1024)
def _table(among: frozenset[str]) -> dict[str, tuple[Pattern, ...]]:
    return patterns(among)


def with_idioms(program: Program, done: dict[int, Program] | None = None) -> Program:
    """The program with its idioms as calls, here and in everything that it calls."""
    done = {} if done is None else done
    if id(program) in done:
        return done[id(program)]
    uses = _last_uses(program)
    primitives = tuple([equation.primitive for equation in program.equations])
    table = _table(frozenset(primitives) & _TELLING)
    equations: list[Equation] = []
    step = 0
    while step < len(primitives):
        alike = [each for each in table.get(primitives[step], ()) if primitives[step : step + len(each.wiring)] == each.primitives]
        call = _match(program, step, alike, uses)
        if call is not None:
            equations.append(call)
            step += len(call.programs[0].equations)
            continue
        equation = program.equations[step]
        if equation.programs:
            equation = replace(equation, programs=tuple(with_idioms(called, done) for called in equation.programs))
        equations.append(equation)
        step += 1
    result = replace(program, equations=tuple(equations))
    done[id(program)] = result
    return result


def _last_uses(program: Program) -> dict[int, int]:
    last: dict[int, int] = {}
    for step, equation in enumerate(program.equations):
        for slot in equation.inputs:
            last[slot] = step
    for slot in program.outputs:
        last[slot] = len(program.equations)
    return last


def _match(program: Program, step: int, patterns: Sequence[Pattern], uses: dict[int, int]) -> Equation | None:
    for pattern in patterns:
        call = _call(program, step, pattern, uses)
        if call is not None:
            return call
    return None


def _call(program: Program, step: int, pattern: Pattern, uses: dict[int, int]) -> Equation | None:
    """The call in place of equations that have the pattern's primitives, if they are wired like it."""
    length = len(pattern.primitives)
    equations = program.equations[step : step + length]
    reads: dict[int, int] = {}
    for equation, wires in zip(equations, pattern.wiring, strict=True):
        if len(equation.inputs) != len(wires):
            return None
        for slot, wire in zip(equation.inputs, wires, strict=True):
            if wire is None:
                if slot not in program.constants:
                    return None
            elif isinstance(wire, int):
                if reads.setdefault(wire, slot) != slot:
                    return None
            elif equations[wire[0]].outputs[wire[1]] != slot:
                return None
    result = equations[pattern.result[0]].outputs[pattern.result[1]]
    inner = {slot for equation in equations for slot in equation.outputs} - {result}
    if inner & set(reads.values()) or any(uses.get(slot, -1) >= step + length for slot in inner):
        return None
    arguments = tuple([reads[wire] for wire in sorted(reads, reverse=True)])
    return _as_call(program, pattern.name, equations, arguments, result)


def _as_call(program: Program, name: str, equations: tuple[Equation, ...], arguments: tuple[int, ...], result: int) -> Equation:
    number = {slot: k for k, slot in enumerate(arguments)}
    constants = {k: program.constants[slot] for slot, k in number.items() if slot in program.constants}
    types = [program.types[slot] for slot in arguments]

    def renumber(slot: int) -> int:
        if slot not in number:
            number[slot] = len(types)
            types.append(program.types[slot])
            if slot in program.constants:
                constants[number[slot]] = program.constants[slot]
        return number[slot]

    moved = []
    for equation in equations:
        inputs = tuple([renumber(slot) for slot in equation.inputs])
        moved.append(equation.at(inputs, tuple([renumber(slot) for slot in equation.outputs])))
    body = Program(len(arguments), tuple(types), constants, tuple(moved), (number[result],))
    given, made = tuple(types[: len(arguments)]), (program.types[result],)
    return Equation("call", {"name": name}, arguments, (result,), given, made, (body,), equations[0]._raw)
