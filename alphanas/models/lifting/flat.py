"""A traced model as one flat list of steps whose sizes are functions of the batch.

The model is traced at two batch sizes; what differs between the traces is a multiple of the batch plus a constant, or the model
depends on its batch in a way that no graph can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from alphanas.errors import FAILED, UserError
from properties.jaxpr import Equation, Program, program
from synth.op import Value
from synth.programs import Json, NotEncodable, encode_constant, encode_value, known

BATCHES = (13, 17)
"""The batch sizes of the two traces: unlikely as sizes of anything else."""

MARK = "alphanas_layer_"
"""Calls of this name are layers that were recognised while tracing; a number follows."""

_INLINED = frozenset(
    {
        "jit",
        "pjit",
        "closed_call",
        "core_call",
        "custom_jvp_call",
        "custom_vjp_call",
        "custom_vjp_call_jaxpr",
        "remat2",
        "remat",
        "checkpoint",
    }
)
_NESTED = {"scan": ("jaxpr",), "while": ("cond_jaxpr", "body_jaxpr")}
_RANDOM = ("random_", "threefry", "rng_")
_IGNORED = frozenset({"_split_transpose", "linear", "out_sharding", "sharding"})


class DependsOnBatch(ValueError):
    """Two traces differ in a way that is not a multiple of the batch."""


@dataclass(frozen=True, eq=False)
class Constant:
    """An array that the program holds."""

    value: Any

    @cached_property
    def scalar(self) -> float | None:
        """Its value if it is one number."""
        array = np.asarray(self.value)
        return float(array) if array.size == 1 and array.dtype.kind in "fiub" else None


Ref = int | Constant


@dataclass(frozen=True, eq=False)
class Step:
    """One primitive: its name, its parameters as JSON, what it reads and the slots that it writes."""

    primitive: str
    params: Mapping[str, Json]
    operands: tuple[Ref, ...]
    results: tuple[int, ...]
    mark: int | None = None
    problem: str = ""
    source: str = ""


@dataclass(frozen=True, eq=False)
class Flat:
    """Steps in order. Slots number the inputs first; a type is (sizes, dtype), a size is a number or {"batch": [a, c]}."""

    input_count: int
    steps: tuple[Step, ...]
    outputs: tuple[Ref, ...]
    types: tuple[tuple[Json, str], ...]

    @cached_property
    def producers(self) -> Mapping[int, Step]:
        """The step that writes each slot."""
        return {slot: step for step in self.steps for slot in step.results}

    @cached_property
    def readers(self) -> Mapping[int, tuple[Step, ...]]:
        """The steps that read each slot."""
        found: dict[int, list[Step]] = {}
        for step in self.steps:
            for slot in dict.fromkeys(operand for operand in step.operands if isinstance(operand, int)):
                found.setdefault(slot, []).append(step)
        return {slot: tuple(steps) for slot, steps in found.items()}

    def value(self, slot: int) -> Value | None:
        """The type of a slot as a value of a graph; None if its first axis is not the batch, or another one is."""
        sizes, dtype = self.types[slot]
        if not sizes or sizes[0] != {"batch": [1, 0]} or not all(isinstance(size, int) for size in sizes[1:]):
            return None
        return Value((None, *sizes[1:]), dtype)


def flatten(first: Any, second: Any, keep: Callable[[int, Equation], bool] = lambda mark, equation: True) -> Flat:
    """The flat program of two closed jaxprs, traced at the two batch sizes. Raises UserError if they differ otherwise."""
    try:
        return _merge(*(_flat(program(closed), keep) for closed in (first, second)))
    except DependsOnBatch as error:
        raise UserError(
            "model",
            saw=f"it computes something else at another batch size: {error}",
            wanted="the first axis of every input is a batch of independent examples",
            exit_code=FAILED,
            cause="not_liftable",
        ) from error


def flat_of(closed: Any) -> Flat:
    """The flat program of one closed jaxpr, its sizes in numbers."""
    return _flat(program(closed), lambda mark, equation: False)


@dataclass
class _Flattener:
    keep: Callable[[int, Equation], bool]
    steps: list[Step] = field(default_factory=list)
    types: list[tuple[Json, str]] = field(default_factory=list)

    def slot(self, shape: Any) -> int:
        self.types.append((list(shape.shape), shape.dtype))
        return len(self.types) - 1

    def add(self, code: Program, inputs: Sequence[Ref]) -> list[Ref]:
        env: dict[int, Ref] = dict(zip(code.inputs, inputs, strict=True))
        env |= {slot: Constant(value) for slot, value in code.constants.items()}
        for equation in code.equations:
            operands = tuple(env[slot] for slot in equation.inputs)
            mark = _mark(equation)
            kept = mark is not None and self.keep(mark, equation)
            if equation.primitive in _INLINED and len(equation.programs) == 1 and not kept:
                results: list[Ref] = self.add(equation.programs[0], operands)
            else:
                params, problem = _encode(equation, kept)
                slots = [self.slot(shape) for shape in equation.output_types]
                name = "call" if kept else equation.primitive
                source = equation.source.rpartition("/")[2]
                step = Step(name, params, operands, tuple(slots), mark if kept else None, problem, source)
                self.steps.append(step)
                results = list(slots)
            env.update(zip(equation.outputs, results, strict=True))
        return [env[slot] for slot in code.outputs]


def _flat(code: Program, keep: Callable[[int, Equation], bool]) -> Flat:
    flattener = _Flattener(keep)
    inputs = [flattener.slot(code.types[slot]) for slot in code.inputs]
    outputs = flattener.add(code, inputs)
    return Flat(len(inputs), tuple(flattener.steps), tuple(outputs), tuple(flattener.types))


def _mark(equation: Equation) -> int | None:
    name = equation.params.get("name")
    if equation.primitive not in ("jit", "pjit") or not isinstance(name, str) or not name.startswith(MARK):
        return None
    return int(name.removeprefix(MARK))


def _encode(equation: Equation, kept: bool) -> tuple[dict[str, Json], str]:
    """An equation's parameters as JSON, or why they have no such form."""
    try:
        if kept:
            return {"program": _nested(equation.programs[0])}, ""
        if equation.primitive.startswith(_RANDOM):
            raise NotEncodable("random numbers are drawn in inference")
        if not known(equation.primitive):
            raise NotEncodable(f"the primitive {equation.primitive}")
        if equation.primitive == "cond":
            return {"branches": [{"program": _nested(branch)} for branch in equation.programs]}, ""
        nested = dict(zip(_NESTED.get(equation.primitive, ()), equation.programs, strict=False))
        plain = {name: value for name, value in equation.params.items() if name not in nested and name not in _IGNORED}
        ignored = {name: None for name in ("out_sharding", "sharding") if name in equation.params}
        params = {name: encode_value(value) for name, value in plain.items()}
        return params | ignored | {name: {"program": _nested(code)} for name, code in nested.items()}, ""
    except NotEncodable as error:
        return {}, str(error)


def _nested(code: Program) -> Json:
    flat = _flat(code, lambda mark, equation: False)
    troubled = next((step for step in flat.steps if step.problem), None)
    if troubled is not None:
        raise NotEncodable(troubled.problem)
    return encode_program(flat.input_count, flat.steps, flat.outputs)


def encode_program(input_count: int, steps: Sequence[Step], outputs: Sequence[Ref]) -> Json:
    """Steps as the JSON that `synth.programs` runs. Raises NotEncodable."""
    return {
        "inputs": input_count,
        "steps": [[step.primitive, step.params, [_operand(item) for item in step.operands], list(step.results)] for step in steps],
        "outputs": [_operand(item) for item in outputs],
    }


def _operand(operand: Ref) -> Json:
    return encode_constant(operand.value) if isinstance(operand, Constant) else operand


def _merge(first: Flat, second: Flat) -> Flat:
    if [step.primitive for step in first.steps] != [step.primitive for step in second.steps]:
        raise DependsOnBatch("its steps are others")
    steps = [
        Step(
            a.primitive,
            _both(a.params, b.params, a),
            tuple(_same(x, y, a) for x, y in zip(a.operands, b.operands, strict=True)),
            a.results,
            a.mark,
            a.problem,
            a.source,
        )
        for a, b in zip(first.steps, second.steps, strict=True)
    ]
    types = [(_both(a[0], b[0], None), a[1]) for a, b in zip(first.types, second.types, strict=True)]
    return Flat(first.input_count, tuple(steps), first.outputs, tuple(types))


def _same(first: Ref, second: Ref, step: Step) -> Ref:
    if not isinstance(first, Constant) or not isinstance(second, Constant):
        if first != second:
            raise DependsOnBatch(_where(step))
        return first
    equal = first.value is second.value or (first.scalar is not None and first.scalar == second.scalar)
    if not equal and not _identical(first.value, second.value):
        raise DependsOnBatch(f"a constant of {_where(step)}")
    return first


def _identical(first: Any, second: Any) -> bool:
    if getattr(first, "dtype", None) != getattr(second, "dtype", None) or np.shape(first) != np.shape(second):
        return False
    a, b = np.asarray(first), np.asarray(second)
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def _both(first: Json, second: Json, step: Step | None) -> Json:
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return {name: _both(first[name], second[name], step) for name in first}
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [_both(a, b, step) for a, b in zip(first, second, strict=True)]
    if first == second and type(first) is type(second):
        return first
    small, large = BATCHES
    if type(first) is int and type(second) is int and (second - first) % (large - small) == 0:
        factor = (second - first) // (large - small)
        return {"batch": [factor, first - factor * small]}
    raise DependsOnBatch(_where(step))


def _where(step: Step | None) -> str:
    if step is None:
        return "the size of a value"
    return f"{step.primitive} at {step.source}" if step.source else step.primitive
