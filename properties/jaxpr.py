"""JAX programs as plain values: the only file that touches `jax.core` and `jax.extend`.

A `Program` numbers the values of a jaxpr (its slots), so that an interpreter needs a list and no knowledge of JAX's classes.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.extend.core.primitives
import numpy as np
from jax.extend import core

from properties.shape import Shape

PRIMITIVES: Mapping[str, Any] = {
    value.name: value
    for value in (getattr(core.primitives, name) for name in dir(core.primitives))
    if hasattr(value, "multiple_results")
}
"""JAX's public primitives by name."""

LARGEST_CONSTANT = 1 << 20
"""Constants of more elements than this are never computed."""

SMALL = 1
"""Results are remembered of steps on operands of at most so many elements: the scalars that every layer computes again."""

_RESULTS: dict[Hashable, list[np.ndarray]] = {}

_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "call": "call_jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_lin": "call_jaxpr",
    "shard_map": "jaxpr",
}

STRUCTURAL = frozenset({*_CALLS, "cond", "scan", "while", "custom_linear_solve"})
"""Primitives that hold programs: the walker understands them, no property needs a rule for them."""


@dataclass(frozen=True, eq=False)
class Equation:
    """One step of a program: a primitive's name, its parameters, and the slots that it reads and writes."""

    primitive: str
    params: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_types: tuple[Shape, ...]
    output_types: tuple[Shape, ...]
    programs: tuple[Program, ...]
    _raw: Any

    @cached_property
    def key(self) -> int | None:
        """A number equal for equal equations; None for calls, and where a parameter cannot be hashed."""
        return None if self.programs else _key(self.primitive, self.params, self.input_types, self.output_types)

    @property
    def name(self) -> str:
        """The name of the called function, or the primitive's own name if it calls none."""
        name = self.params.get("name")
        return name if isinstance(name, str) else self.primitive

    @cached_property
    def source(self) -> str:
        """Where the equation comes from, as `file:line (function)`, or the empty string if JAX does not know."""
        frame = jax_frame(self._raw)
        return "" if frame is None else frame

    @property
    def scope(self) -> str:
        """The `jax.named_scope`s that the equation was made in, outermost first, with slashes between; empty for none."""
        return str(self._raw.source_info.name_stack)

    def at(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Equation:
        """The same step on other slots."""
        types = self.input_types, self.output_types
        return Equation(self.primitive, self.params, inputs, outputs, *types, self.programs, self._raw)

    def evaluate(self, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The equation's results on concrete operands, which must not be written to; those of small operands are remembered."""
        if self.key is None or any([operand.size > SMALL for operand in operands]):
            return self._evaluate(operands)
        key = self.key, tuple([(operand.dtype.str, operand.shape, operand.tobytes()) for operand in operands])
        found = _RESULTS.get(key)
        if found is None:
            found = _RESULTS[key] = self._evaluate(operands)
        return found

    def _evaluate(self, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
        with jax.ensure_compile_time_eval(), jax.enable_x64(True):
            results = self._raw.primitive.bind(*operands, **self._raw.params)
        many = self._raw.primitive.multiple_results
        return [np.asarray(result) for result in (results if many else [results])]


@dataclass(frozen=True, eq=False)
class Program:
    """A jaxpr with its values numbered: inputs first, then constants, then the rest in order of execution."""

    input_count: int
    types: tuple[Shape, ...]
    constants: Mapping[int, Any]
    equations: tuple[Equation, ...]
    outputs: tuple[int, ...]
    labels: Mapping[int, str] = field(default_factory=dict)

    @property
    def inputs(self) -> range:
        """The slots of the program's inputs."""
        return range(self.input_count)

    @cached_property
    def producers(self) -> Mapping[int, tuple[Equation, int]]:
        """For every computed slot the equation that computes it, and which of its results it is."""
        return {slot: (equation, k) for equation in self.equations for k, slot in enumerate(equation.outputs)}


def trace(function: Callable[..., Any], *arguments: Any) -> tuple[core.ClosedJaxpr, Any]:
    """The closed jaxpr of `function` on `arguments` (arrays or `ShapeDtypeStruct`s) and the structure of its output."""
    try:
        closed, structure = jax.make_jaxpr(function, return_shape=True)(*arguments)
    except Exception as error:
        error.add_note(_where(function, error))
        raise
    return closed, structure


def _where(function: Callable[..., Any], error: Exception) -> str:
    """What a function that does not trace was doing, and what may mend it."""
    skipped = ("/jax/", "/jaxlib/", str(Path(__file__).parent))
    places = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [place for place in places if not any(part in place[0].co_filename for part in skipped)]
    at = f" at {own[-1][0].co_filename}:{own[-1][1]} ({own[-1][0].co_name})" if own else ""
    name = getattr(function, "__name__", type(function).__name__)
    if isinstance(error, jax.errors.InconclusiveDimensionOperation):
        remedy = "give integer sizes, or ask properties.symbolic.shapes, which finds what the sizes must be multiples of"
    elif isinstance(error, jax.errors.ConcretizationTypeError):
        remedy = "take Python's decisions on values out of it, or write them with jax.numpy.where or jax.lax.cond"
    else:
        remedy = "give arrays, or jax.ShapeDtypeStructs, of the shapes that it takes, and its parameters as params=…"
    return f"while tracing {name}{at}: {remedy}"


def program(closed: core.ClosedJaxpr) -> Program:
    """The program of a closed jaxpr."""
    return _Reader().read(closed.jaxpr, closed.consts)


def parameter_count(tree: Any) -> int:
    """The number of arrays in a tree of parameters."""
    return len(jax.tree.leaves(tree))


def jax_frame(raw: Any) -> str | None:
    """The user's line that made an equation, if JAX kept it."""
    traceback = raw.source_info.traceback
    if traceback is None:
        return None
    for frame in traceback.frames:
        if "/jax/_src/" not in frame.file_name and "/jax/" not in frame.file_name:
            return f"{frame.file_name}:{frame.line_num} ({frame.function_name})"
    return None


class _Reader:
    """Reads jaxprs; one jaxpr object that is called many times becomes one program."""

    def __init__(self) -> None:
        self._programs: dict[int, Program] = {}
        self._shapes: dict[Any, Shape] = {}

    def read(self, jaxpr: Any, constants: Sequence[Any]) -> Program:
        types: list[Shape] = []
        slots: dict[Any, int] = {}
        values: dict[int, Any] = {}
        for variable in (*jaxpr.invars, *jaxpr.constvars):
            slots[variable] = len(types)
            types.append(self._type(variable.aval))
        for variable, value in zip(jaxpr.constvars, constants, strict=True):
            values[slots[variable]] = value

        literal = core.Literal

        def slot(atom: Any) -> int:
            if not isinstance(atom, literal):
                return slots[atom]
            values[len(types)] = atom.val
            types.append(self._type(atom.aval))
            return len(types) - 1

        equations = []
        for raw in jaxpr.eqns:
            name, params = raw.primitive.name, raw.params
            inputs = tuple([slot(atom) for atom in (raw.invars if name != "custom_linear_solve" else _read(raw))])
            first = len(types)
            for variable in raw.outvars:
                slots[variable] = len(types)
                types.append(self._type(variable.aval))
            input_types, output_types = tuple([types[k] for k in inputs]), tuple(types[first:])
            programs = self._called(name, params) if name in STRUCTURAL else ()
            outputs = tuple(range(first, len(types)))
            equations.append(Equation(name, params, inputs, outputs, input_types, output_types, programs, raw))
        results = tuple([slot(atom) for atom in jaxpr.outvars])
        return Program(len(jaxpr.invars), tuple(types), values, tuple(equations), results)

    def _called(self, name: str, params: Mapping[str, Any]) -> tuple[Program, ...]:
        if name == "cond":
            return tuple(self._memoised(branch) for branch in params["branches"])
        if name == "scan":
            return (self._memoised(params["jaxpr"]),)
        if name == "while":
            return self._memoised(params["cond_jaxpr"]), self._memoised(params["body_jaxpr"])
        if name == "custom_linear_solve":
            return (self._memoised(params["jaxprs"].solve),)
        return (self._memoised(params[_CALLS[name]]),)

    def _memoised(self, jaxpr: Any) -> Program:
        found = self._programs.get(id(jaxpr))
        if found is None:
            closed = isinstance(jaxpr, core.ClosedJaxpr)
            found = self.read(jaxpr.jaxpr, jaxpr.consts) if closed else self.read(jaxpr, ())
            self._programs[id(jaxpr)] = found
        return found

    def _type(self, aval: Any) -> Shape:
        sizes, dtype = getattr(aval, "shape", ()), getattr(aval, "dtype", None)
        found = self._shapes.get((sizes, dtype))
        if found is None:
            found = self._shapes[sizes, dtype] = Shape(tuple(sizes), str(dtype))
        return found


def _read(raw: Any) -> Sequence[Any]:
    """The operands that a linear solve computes its results from; the others serve its derivatives."""
    lengths = raw.params["const_lengths"]
    start = lengths.matvec + lengths.vecmat
    given = sum(lengths)
    return [*raw.invars[start : start + lengths.solve], *raw.invars[given:]]


_KEYS: dict[Hashable, int] = {}


def _key(name: str, params: Mapping[str, Any], inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> int | None:
    """A number equal for equal equations; none where a parameter cannot be hashed."""
    try:
        return _KEYS.setdefault((name, tuple(params.items()), inputs, outputs), len(_KEYS))
    except TypeError:
        return None


@dataclass(frozen=True, slots=True)
class Tap:
    """A place in a program where something is added: the output of a contraction with a parameter."""

    shape: tuple[int, ...]
    dtype: Any
    batch: int
    channel: int


def with_taps(closed: core.ClosedJaxpr, *, params: int) -> tuple[Callable[..., tuple[list[Any], list[Any]]], list[Tap]]:
    """A program with an addition behind every contraction that reads a parameter, outside of loops and conditionals.

    The function takes the list of what to add and the program's inputs, and returns the outputs and the contractions' results.
    """
    taps: list[Tap] = []

    def run(added: Sequence[Any] | None, *inputs: Any) -> tuple[list[Any], list[Any]]:
        results: list[Any] = []
        weights = [index < params for index in range(len(inputs))]
        outputs = _tapped(closed.jaxpr, closed.consts, inputs, weights, added, results, taps)[0]
        return outputs, results

    jax.eval_shape(lambda *inputs: run(None, *inputs)[0], *[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in closed.in_avals])
    return run, list(taps)


def _tapped(
    jaxpr: Any,
    constants: Sequence[Any],
    inputs: Sequence[Any],
    weights: Sequence[bool],
    added: Any,
    results: list[Any],
    taps: list[Tap],
) -> tuple[list[Any], list[bool]]:
    """Outputs of a jaxpr, and which of them depend on parameters only; `weights` says so of the inputs."""
    values = dict(zip((*jaxpr.invars, *jaxpr.constvars), (*inputs, *constants), strict=True))
    fixed = dict(zip((*jaxpr.invars, *jaxpr.constvars), (*weights, *[True] * len(constants)), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    def is_fixed(atom: Any) -> bool:
        return True if isinstance(atom, core.Literal) else fixed[atom]

    for raw in jaxpr.eqns:
        operands, flags = [read(atom) for atom in raw.invars], [is_fixed(atom) for atom in raw.invars]
        inner = raw.params.get(_CALLS.get(raw.primitive.name, ""))
        if inner is not None:
            body, consts = (inner.jaxpr, inner.consts) if isinstance(inner, core.ClosedJaxpr) else (inner, ())
            outputs, marks = _tapped(body, consts, operands, flags, added, results, taps)
        else:
            made = raw.primitive.bind(*operands, **raw.params)
            outputs = list(made) if raw.primitive.multiple_results else [made]
            marks = [all(flags)] * len(outputs)
        if raw.primitive.name in ("conv_general_dilated", "dot_general") and flags.count(True) == 1:
            if added is None:
                taps.append(_tap(raw))
            else:
                outputs = [outputs[0] + added[len(results)]]
                results.append(outputs[0])
        values.update(zip(raw.outvars, outputs, strict=True))
        fixed.update(zip(raw.outvars, marks, strict=True))
    return [read(atom) for atom in jaxpr.outvars], [is_fixed(atom) for atom in jaxpr.outvars]


def _tap(raw: Any) -> Tap:
    aval = raw.outvars[0].aval
    if raw.primitive.name == "dot_general":
        return Tap(tuple(aval.shape), aval.dtype, 0, len(aval.shape) - 1)
    batch, channel = raw.params["dimension_numbers"].out_spec[:2]
    return Tap(tuple(aval.shape), aval.dtype, batch, channel)
