"""Ops in training mode, run by NumPy from their programs: nothing is compiled, so that an op of a new shape costs what it computes.

A zero-cost score runs each op of a fresh candidate once. XLA compiles such an op for 20 to 60 ms, for each new width anew; its
program is read in 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from alphanas.scoring.compiled import training_value
from alphanas.scoring.shared import SharedValues, digest
from properties import jaxpr
from properties.jaxpr import Program
from synth import Graph, ModalOp, Node, Op
from synth.graph import Variables, weights_of
from synth.initializers import words_of
from synth.numeric import is_known, run

Array = np.ndarray[Any, Any]

SHARED = SharedValues()
"""What graphs scored by this process have in common."""


@functools.lru_cache(maxsize=4096)
def training_program(
    op: Op, weights: tuple[tuple[str, tuple[int, ...], str], ...], *inputs: tuple[tuple[int, ...], str]
) -> Program | None:
    """What an op computes in training, as a function of its weights by name and its inputs, as (shape, dtype) each.

    None where it takes a step that is not in the table, or draws by chance.
    """
    given = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape, dtype in weights}
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in inputs]

    def trained(given: Mapping[str, jax.Array], key: jax.Array, *arguments: jax.Array) -> jax.Array:
        # The form that differentiates faster is longer to trace, and to run.
        if isinstance(op, ModalOp) and not op.alike:
            return op.train(given, *arguments, key=key)[0]
        return op.apply(given, *arguments)

    program = jaxpr.program(jaxpr.trace(trained, given, _a_key(), *arguments)[0])
    return program if is_known(program) else None


@functools.cache
def _a_key() -> jax.ShapeDtypeStruct:
    key: jax.ShapeDtypeStruct = jax.eval_shape(lambda: jax.random.key(0))
    return key


def computed(program: Program, weights: Mapping[str, Array], inputs: Sequence[Array]) -> Array:
    """The value that a `training_program` gives; float32 as XLA computes it, to rounding."""
    chance = np.zeros(())  # in the place of the key, which no step in the table reads
    (found,) = run(program, [*(weights[name] for name in sorted(weights)), chance, *inputs])
    return found


def training_values(graph: Graph, variables: Variables, key: jax.Array, pictures: Array, names: Sequence[str]) -> dict[str, Array]:
    """Some values of a graph of one input as training computes them, by name: batch norms use the statistics of this batch.

    To rounding what `compiled.every_training_value` says; what these values do not hang on is not computed, and what another graph
    has computed from the same weights and pictures, in the same way, is taken from there.
    """
    numbered = _numbered(graph, variables, key, pictures, names)
    return _computed(graph, numbered, pictures, {name: numbered[name].number for name in names})


def of_training_values(
    function: Callable[[Array], Array], graph: Graph, variables: Variables, key: jax.Array, pictures: Array, names: Sequence[str]
) -> list[Array]:
    """A function of each of some `training_values`; a value is computed only where the function of it is not known either."""
    numbered = _numbered(graph, variables, key, pictures, names)
    numbers = {name: SHARED.number((function, numbered[name].number)) for name in names}
    missing = {name: numbered[name].number for name in names if numbers[name] not in SHARED}
    values = _computed(graph, numbered, pictures, missing)
    return [SHARED.of(numbers[name], partial(_applied, function, values, name)) for name in names]


def _applied(function: Callable[[Array], Array], values: Mapping[str, Array], name: str) -> Array:
    return function(values[name])


@dataclass(frozen=True)
class _Numbered:
    """A value that may be shared: its number, and how it is computed from what its node reads; an input is not computed."""

    number: int
    compute: Callable[[Sequence[Array]], Array] | None = None


def _numbered(graph: Graph, variables: Variables, key: jax.Array, pictures: Array, names: Sequence[str]) -> dict[str, _Numbered]:
    """What some values hang on, by name, in order; what is computed in the same way from equal numbers has equal numbers."""
    given = graph.inputs[0].name
    found = {given: _Numbered(SHARED.number(("pictures", digest({given: pictures}))))}
    for index, node in _ancestors(graph, names):
        weights = {name: np.asarray(array) for name, array in weights_of(variables, node).items()}
        types = [value.aval(len(pictures)) for value in graph.input_values(node)]
        program = _program(node.op, weights, types)
        # What is not in the table may draw by chance, which hangs on the key and on its place in the graph.
        place = None if program is not None else (index, words_of(key))
        number = SHARED.number((node.op, digest(weights), place, tuple(found[name].number for name in node.inputs)))
        found[node.name] = _Numbered(number, partial(_value, node.op, weights, key, index, program))
    return found


def _computed(graph: Graph, numbered: Mapping[str, _Numbered], pictures: Array, wanted: Mapping[str, int]) -> dict[str, Array]:
    """Some values, by name: what is not there is computed, and what that hangs on as far as it is not there."""
    known = {graph.inputs[0].name: pictures}
    missing, asked = list[Node](), set(wanted)
    for node in reversed(graph.nodes):
        if node.name not in asked:
            continue
        array = SHARED.get(numbered[node.name].number)
        if array is not None:
            known[node.name] = array
            continue
        asked.update(node.inputs)
        missing.append(node)
    for node in reversed(missing):
        number, compute = numbered[node.name].number, numbered[node.name].compute
        assert compute is not None, "only inputs are not computed"
        known[node.name] = SHARED.of(number, partial(compute, [known[name] for name in node.inputs]))
    return known


def _value(
    op: Op, weights: Mapping[str, Array], key: jax.Array, index: int, program: Program | None, inputs: Sequence[Array]
) -> Array:
    if program is not None:
        return computed(program, weights, inputs)
    return np.asarray(training_value(op, weights, key, index, *inputs))


def _program(op: Op, weights: Mapping[str, Array], inputs: Sequence[jax.ShapeDtypeStruct]) -> Program | None:
    types = tuple((name, array.shape, array.dtype.name) for name, array in sorted(weights.items()))
    return training_program(op, types, *((value.shape, value.dtype.name) for value in inputs))


def _ancestors(graph: Graph, names: Sequence[str]) -> list[tuple[int, Node]]:
    """The nodes that some values hang on, with their places, in order."""
    wanted, found = set(names), list[tuple[int, Node]]()
    for index, node in reversed(list(enumerate(graph.nodes))):
        if node.name in wanted:
            wanted.update(node.inputs)
            found.append((index, node))
    return found[::-1]
