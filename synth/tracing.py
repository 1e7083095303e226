"""Ops as programs: many of them traced at once, and whole graphs put together from the programs of their ops.

Starting a trace costs more than tracing a small op, so all ops that are tried on one type share a trace, out of which each is cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from properties import PROPERTIES, Inference, Property, jaxpr
from properties.idioms import with_idioms
from properties.inference import analyze_program
from properties.jaxpr import Program
from properties.shape import Shape
from properties.slicing import Assembly, sliced
from synth.formulas import output_of
from synth.graph import Graph
from synth.memo import Memo
from synth.op import OUTPUTS, PROBE_BATCH, Op, ShapeMismatch, Value, avals_of, fitted_output, misfit, state_of

Inputs = tuple[Value, ...]
Owned = tuple[dict[str, jax.ShapeDtypeStruct], dict[str, jax.ShapeDtypeStruct]]
"""The types of an op's parameters and of its state, by name."""


@dataclass(frozen=True, eq=False)
class Traced:
    """The program of an op or graph: its inputs are first the parameters, then the state, then the data."""

    program: Program
    params: int
    state: int


_TRACED: Memo[tuple[Op, Inputs], Traced] = Memo(8192)


Step = tuple[Op, Inputs]


def trace(ops: Sequence[Op], inputs: Inputs) -> None:
    """Traces all of these ops on inputs of these types that are not known yet; what does not fit is remembered as such."""
    trace_steps([(op, inputs) for op in ops])


def trace_steps(steps: Iterable[Step]) -> None:
    """As `trace`, for ops on inputs of several types."""
    missing = [step for step in dict.fromkeys(steps) if step not in _TRACED and not isinstance(OUTPUTS.get(step), str)]
    owned: dict[Step, Owned] = {}
    for op, inputs in missing:
        try:
            op.check(*inputs)
            owned[op, inputs] = avals_of(op.weights(*inputs)), avals_of(state_of(op, inputs))
        except (TypeError, ValueError) as error:
            OUTPUTS.put((op, inputs), misfit(op, inputs, error))
    if owned:
        _trace(owned)


def _trace(owned: dict[Step, Owned]) -> None:
    fitting: list[Step] = []
    place = {inputs: index for index, inputs in enumerate(dict.fromkeys(inputs for _, inputs in owned))}

    def run(held: list[Any], data: list[tuple[jax.Array, ...]]) -> list[jax.Array]:
        results = []
        for (op, inputs), (weights, state) in zip(owned, held, strict=True):
            try:
                results.append(op.apply({**weights, **state}, *data[place[inputs]]))
            except (TypeError, ValueError) as error:
                OUTPUTS.put((op, inputs), misfit(op, inputs, error))
                continue
            fitting.append((op, inputs))
        return results

    closed, shapes = jaxpr.trace(run, list(owned.values()), [tuple(value.aval() for value in inputs) for inputs in place])
    whole = jaxpr.program(closed)
    counts = [len(weights) + len(state) for weights, state in owned.values()]
    starts = dict(zip(owned, itertools.accumulate(counts, initial=0), strict=False))
    first = dict(zip(place, itertools.accumulate(map(len, place), initial=sum(counts)), strict=False))
    for (op, inputs), shape, output in zip(fitting, shapes, whole.outputs, strict=True):
        OUTPUTS.put((op, inputs), fitted_output(op, inputs, shape))
        weights, state = owned[op, inputs]
        start = starts[op, inputs]
        own = range(start, start + len(weights) + len(state))
        data = range(first[inputs], first[inputs] + len(inputs))
        _TRACED.put((op, inputs), Traced(sliced(whole, (*own, *data), output), len(weights), len(state)))


def traced(op: Op, inputs: Inputs) -> Traced:
    """The program of an op; ShapeMismatch if the inputs do not fit."""
    found = _TRACED.get((op, inputs))
    if found is None:
        trace((op,), inputs)
        found = _TRACED.get((op, inputs))
    if found is None:
        raise ShapeMismatch(str(OUTPUTS.get((op, inputs))))
    return found


def traced_path(value: Value, path: tuple[Op, ...]) -> tuple[Op, ...]:
    """The path, once all of its ops are traced: the types on the way and the proof then need no further trace."""
    steps: list[Step] = []
    here = value
    for op in path:
        steps.append((op, (here,)))
        here = output_of(op, (here,))
    trace_steps(steps)
    return path


def infer_op(op: Op, inputs: Inputs, asked: Sequence[Property] = PROPERTIES) -> Inference:
    """The properties of one op, by interpreting its program; ShapeMismatch if the inputs do not fit."""
    found = traced(op, inputs)
    return analyze_program(with_idioms(found.program), params=found.params, state=found.state, properties=asked)


def linked(graph: Graph) -> Traced:
    """The program of a whole graph, put together from the programs of its ops.

    The same as tracing `graph.apply`, up to the order of its parameters.
    """
    whole = Assembly()
    parts = [traced(node.op, tuple(graph.input_values(node))) for node in graph.nodes]
    params = [[whole.input(part.program.types[slot]) for slot in range(part.params)] for part in parts]
    states = [[whole.input(part.program.types[part.params + slot]) for slot in range(part.state)] for part in parts]
    slots = {item.name: whole.input(_shape(item.value)) for item in graph.inputs}
    for node, part, weights, state in zip(graph.nodes, parts, params, states, strict=True):
        number = dict(enumerate((*weights, *state, *(slots[name] for name in node.inputs))))
        (slots[node.name],) = whole.add(part.program, number)
    program = whole.program([slots[name] for name in graph.outputs])
    return Traced(program, sum(map(len, params)), sum(map(len, states)))


def interpret(graph: Graph, asked: Sequence[Property] = PROPERTIES) -> Inference:
    """The properties of a graph by interpreting its whole program, put together from the programs of its ops.

    The same as `synth.verify`, which traces the graph.
    """
    whole = linked(graph)
    found = analyze_program(with_idioms(whole.program), params=whole.params, state=whole.state, properties=asked)
    return replace(found, capacity=found.capacity.per_example(PROBE_BATCH))


def _shape(value: Value) -> Shape:
    aval = value.aval()
    return Shape(tuple(aval.shape), str(np.dtype(aval.dtype)))
