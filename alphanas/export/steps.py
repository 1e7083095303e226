"""Any op as the typed steps of its own jaxpr, for formats that have no row for it. The batch stays free."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from alphanas.errors import UserError
from alphanas.models.lifting.flat import BATCHES, encode_program, flatten
from properties.jaxpr import trace
from synth import programs
from synth.op import Op, Value, weight_avals
from synth.ops.opaque import Opaque

Program = Mapping[str, Any]


class NoProgram(Exception):
    """An op whose jaxpr has no form in steps; the text says which step."""


@dataclass(frozen=True)
class Type:
    """Sizes, None where they depend on the batch, and dtype of a value."""

    sizes: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Step:
    """One primitive: its parameters as JSON, the slots or constants that it reads, the slots that it writes, and their types."""

    primitive: str
    params: Mapping[str, Any]
    operands: tuple[Any, ...]
    results: tuple[int, ...]
    operand_types: tuple[Type, ...]
    result_types: tuple[Type, ...]


def program_of(op: Op, values: Sequence[Value]) -> tuple[Program, tuple[str, ...]]:
    """An op on these inputs as a program (`synth.programs`), and the names of the weights that it reads behind them."""
    if isinstance(op, Opaque):
        return inlined(json.loads(op.program)), tuple(name for name, *_ in (*op.trained, *op.held))
    weights = weight_avals(op, values)

    def apply(*arrays: jax.Array) -> Any:
        owned = dict(zip(weights, arrays[len(values) :], strict=True))
        return op.apply(owned, *arrays[: len(values)])

    try:
        traces = [trace(apply, *(value.aval(batch) for value in values), *weights.values())[0] for batch in BATCHES]
        flat = flatten(traces[0], traces[1])
        troubled = next((step.problem for step in flat.steps if step.problem), None)
        if troubled is not None:
            raise NoProgram(troubled)
        return encode_program(flat.input_count, flat.steps, flat.outputs), tuple(weights)
    except (UserError, programs.NotEncodable) as error:
        raise NoProgram(str(error)) from error


def inlined(program: Program) -> Program:
    """The same program with the steps of the programs that it calls in the place of the calls."""
    steps: list[Any] = []
    numbers = itertools.count(program["inputs"])

    def add(inner: Program, arguments: Sequence[Any]) -> list[Any]:
        env: dict[int, Any] = dict(enumerate(arguments))

        def read(operand: Any) -> Any:
            return env[operand] if isinstance(operand, int) else operand

        for primitive, params, operands, results in inner["steps"]:
            given = [read(operand) for operand in operands]
            made = add(params["program"], given) if primitive == "call" else [next(numbers) for _ in results]
            if primitive != "call":
                steps.append([primitive, params, given, made])
            env.update(zip(results, made, strict=True))
        return [read(operand) for operand in inner["outputs"]]

    outputs = add(program, list(range(program["inputs"])))
    return {"inputs": program["inputs"], "steps": steps, "outputs": outputs}


def typed(program: Program, op: Op, values: Sequence[Value]) -> list[Step]:
    """The steps of an op's program with the types of what they read and write."""
    weights = list(weight_avals(op, values).values())
    types = [dict(enumerate([*(value.aval(batch) for value in values), *weights][: program["inputs"]])) for batch in BATCHES]
    return list(_typed(program, types))


def _typed(program: Program, types: list[dict[int, Any]]) -> list[Step]:
    steps = []
    for primitive, params, operands, results in program["steps"]:
        reads = [[_aval(operand, known) for operand in operands] for known in types]
        for known, inputs, batch in zip(types, reads, BATCHES, strict=True):
            known.update(zip(results, _results(primitive, params, inputs, len(results), batch), strict=True))
        made = [[known[slot] for slot in results] for known in types]
        steps.append(
            Step(primitive, params, tuple(operands), tuple(results), _types(*reads), _types(*made)),
        )
    return steps


def _results(primitive: str, params: Any, inputs: list[Any], count: int, batch: int) -> list[Any]:
    slots = list(range(len(inputs)))
    made = [len(inputs) + number for number in range(count)]
    alone = {"inputs": len(inputs), "steps": [[primitive, params, slots, made]], "outputs": made}
    return list(jax.eval_shape(lambda *arrays: programs.run(alone, arrays, batch), *inputs))


def _aval(operand: Any, known: Mapping[int, Any]) -> Any:
    if isinstance(operand, int):
        return known[operand]
    array = programs.decode_constant(operand)
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _types(first: Sequence[Any], second: Sequence[Any]) -> tuple[Type, ...]:
    return tuple(
        Type(tuple(x if x == y else None for x, y in zip(a.shape, b.shape, strict=True)), np.dtype(a.dtype).name)
        for a, b in zip(first, second, strict=True)
    )
