"""Idioms: functions that JAX inlines, recognised where they stand and put back as calls.

`jax.nn.gelu` and `jax.nn.softmax` leave no call behind, only their equations. The patterns are traced from the installed JAX
itself, so they follow its versions: an idiom is found where consecutive equations have the same primitives, wired in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from properties import jaxpr
from properties.jaxpr import Equation, Program

INLINED: dict[str, Callable[..., Any]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_exact": lambda x: jax.nn.gelu(x, approximate=False),
    "softmax": jax.nn.softmax,
    "softmax_last": lambda x: jax.nn.softmax(x, axis=1),
    "log_softmax": jax.nn.log_softmax,
    "logsumexp": jax.nn.logsumexp,
    "logsumexp_kept": lambda x: jax.nn.logsumexp(x, axis=1, keepdims=True),
    "logsumexp_axis": lambda x: jax.nn.logsumexp(x, axis=1),
}


@dataclass(frozen=True)
class Pattern:
    """The primitives of an idiom, and what each operand reads: an earlier (step, result), the input (-1), or a constant (None)."""

    name: str
    primitives: tuple[str, ...]
    wiring: tuple[tuple[Any, ...], ...]
    result: tuple[int, int]


@lru_cache(maxsize=1)
def patterns() -> dict[str, tuple[Pattern, ...]]:
    """The idioms by their first primitive, the longest first."""
    found: dict[tuple[Any, ...], Pattern] = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        for name, function in INLINED.items():
            argument = jax.ShapeDtypeStruct((2, 3), dtype)
            program = jaxpr.program(jaxpr.trace(function, argument)[0])
            if len(program.equations) > 1:
                pattern = _pattern(name.split("_")[0] if name.startswith("gelu") else name, program)
                found.setdefault((pattern.primitives, pattern.wiring), pattern)
    table: dict[str, list[Pattern]] = {}
    for pattern in sorted(found.values(), key=lambda pattern: -len(pattern.primitives)):
        table.setdefault(pattern.primitives[0], []).append(pattern)
    return {first: tuple(rows) for first, rows in table.items()}


def _pattern(name: str, program: Program) -> Pattern:
    made = {slot: (step, k) for step, equation in enumerate(program.equations) for k, slot in enumerate(equation.outputs)}
    wiring = tuple(
        tuple(-1 if slot < program.input_count else made.get(slot) for slot in equation.inputs) for equation in program.equations
    )
    primitives = tuple(equation.primitive for equation in program.equations)
    name = name.removesuffix("_last").removesuffix("_kept").removesuffix("_axis")
    return Pattern(name, primitives, wiring, made[program.outputs[0]])


def with_idioms(program: Program, done: dict[int, Program] | None = None) -> Program:
    """The program with its idioms as calls, here and in everything that it calls."""
    done = {} if done is None else done
    if id(program) in done:
        return done[id(program)]
    table = patterns()
    uses = _last_uses(program)
    equations: list[Equation] = []
    step = 0
    while step < len(program.equations):
        call = _match(program, step, table, uses)
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


def _match(program: Program, step: int, table: dict[str, tuple[Pattern, ...]], uses: dict[int, int]) -> Equation | None:
    for pattern in table.get(program.equations[step].primitive, ()):
        call = _call(program, step, pattern, uses)
        if call is not None:
            return call
    return None


def _call(program: Program, step: int, pattern: Pattern, uses: dict[int, int]) -> Equation | None:
    length = len(pattern.primitives)
    equations = program.equations[step : step + length]
    if tuple(equation.primitive for equation in equations) != pattern.primitives:
        return None
    argument = None
    for equation, wires in zip(equations, pattern.wiring, strict=True):
        if len(equation.inputs) != len(wires):
            return None
        for slot, wire in zip(equation.inputs, wires, strict=True):
            if wire is None:
                if slot not in program.constants:
                    return None
            elif wire == -1:
                argument = slot if argument is None else argument
                if slot != argument:
                    return None
            elif equations[wire[0]].outputs[wire[1]] != slot:
                return None
    result = equations[pattern.result[0]].outputs[pattern.result[1]]
    inner = {slot for equation in equations for slot in equation.outputs} - {result}
    if argument is None or any(uses.get(slot, -1) >= step + length for slot in inner):
        return None
    return _as_call(program, pattern.name, equations, argument, result)


def _as_call(program: Program, name: str, equations: tuple[Equation, ...], argument: int, result: int) -> Equation:
    number = {argument: 0}
    constants = {}
    types = [program.types[argument]]

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
        moved.append(replace(equation, inputs=inputs, outputs=tuple([renumber(slot) for slot in equation.outputs])))
    body = Program(1, tuple(types), constants, tuple(moved), (number[result],))
    first = equations[0]
    return Equation(
        "call", {"name": name}, (argument,), (result,), (types[0],), (program.types[result],), (body,), None, first._raw
    )
