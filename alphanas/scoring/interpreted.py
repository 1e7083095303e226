"""Ops in training mode, run by NumPy from their programs: nothing is compiled, so that an op of a new shape costs what it computes.

A zero-cost score runs each op of a fresh candidate once. XLA compiles such an op for 20 to 60 ms, for each new width anew; its
program is read in 2. Products go to BLAS, as XLA's do; windows are laid out as columns of a matrix for it, some pictures at a time.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from scipy import special  # type: ignore[import-untyped]

from alphanas.scoring.compiled import training_value
from alphanas.scoring.shared import SharedValues, digest
from properties import jaxpr
from properties.jaxpr import Equation, Program
from synth import Graph, ModalOp, Node, Op
from synth.evaluating import COMPUTED
from synth.graph import Variables, weights_of
from synth.initializers import words_of

Array = np.ndarray[Any, Any]
Step = Callable[[Equation, Sequence[Array]], Array]

SHARED = SharedValues()
"""What graphs scored by this process have in common."""

COLUMN_ELEMENTS = 1 << 22
"""Windows of so many elements are laid out at once: 16 MiB, most of which a cache holds."""


@functools.lru_cache(maxsize=4096)
def training_program(
    op: Op, weights: tuple[tuple[str, tuple[int, ...], str], ...], *inputs: tuple[tuple[int, ...], str]
) -> Program | None:
    """What an op computes in training, as a function of its weights by name and its inputs, as (shape, dtype) each.

    None where it takes a step that is not in the table, or draws by chance.
    """
    given = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape, dtype in weights}
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in inputs]
    key = jax.eval_shape(lambda: jax.random.key(0))

    def run(given: Mapping[str, jax.Array], key: jax.Array, *arguments: jax.Array) -> jax.Array:
        return op.train(given, *arguments, key=key)[0] if isinstance(op, ModalOp) else op.apply(given, *arguments)

    program = jaxpr.program(jaxpr.trace(run, given, key, *arguments)[0])
    return program if _known(program) else None


def computed(program: Program, weights: Mapping[str, Array], inputs: Sequence[Array]) -> Array:
    """The value that a `training_program` gives; float32 as XLA computes it, to rounding."""
    chance = np.zeros(())  # in the place of the key, which no step in the table reads
    with np.errstate(all="ignore"):
        (found,) = _run(program, [*(weights[name] for name in sorted(weights)), chance, *inputs])
    return found


def training_values(graph: Graph, variables: Variables, key: jax.Array, pictures: Array, names: Sequence[str]) -> dict[str, Array]:
    """Some values of a graph of one input as training computes them, by name: batch norms use the statistics of this batch.

    To rounding what `compiled.every_training_value` says; what these values do not hang on is not computed, and what another graph
    has computed from the same weights and pictures, in the same way, is taken from there.
    """
    given = graph.inputs[0].name
    known = {given: SHARED.of(("pictures", digest({given: pictures})), lambda: pictures)}
    for index, node in _ancestors(graph, names):
        weights = {name: np.asarray(array) for name, array in weights_of(variables, node).items()}
        inputs, compute = [known[name] for name in node.inputs], partial(_value, node.op, weights, key, index)
        program = _program(node.op, weights, [array for _, array in inputs])
        # What is not in the table may draw by chance, which hangs on the key and on its place in the graph.
        place = None if program is not None else (index, words_of(key))
        source = (node.op, digest(weights), place, tuple(number for number, _ in inputs))
        known[node.name] = SHARED.of(source, partial(compute, program, [array for _, array in inputs]))
    return {name: array for name, (_, array) in known.items()}


def _value(
    op: Op, weights: Mapping[str, Array], key: jax.Array, index: int, program: Program | None, inputs: Sequence[Array]
) -> Array:
    if program is not None:
        return computed(program, weights, inputs)
    return np.asarray(training_value(op, weights, key, index, *inputs))


def _program(op: Op, weights: Mapping[str, Array], inputs: Sequence[Array]) -> Program | None:
    types = tuple((name, array.shape, str(array.dtype)) for name, array in sorted(weights.items()))
    return training_program(op, types, *((array.shape, str(array.dtype)) for array in inputs))


def _ancestors(graph: Graph, names: Sequence[str]) -> list[tuple[int, Node]]:
    """The nodes that some values hang on, with their places, in order."""
    wanted, found = set(names), list[tuple[int, Node]]()
    for index, node in reversed(list(enumerate(graph.nodes))):
        if node.name in wanted:
            wanted.update(node.inputs)
            found.append((index, node))
    return found[::-1]


def _known(program: Program) -> bool:
    return all(
        _known(equation.programs[0]) if equation.primitive in CALLS else _computes(equation) for equation in _needed(program)
    )


def _computes(equation: Equation) -> bool:
    condition = CONDITIONS.get(equation.primitive)
    return equation.primitive in STEPS and (condition is None or condition(equation))


@functools.cache
def _needed(program: Program) -> tuple[Equation, ...]:
    """The equations that an output hangs on, in order: running statistics are not asked for."""
    wanted, found = set(program.outputs), list[Equation]()
    for equation in reversed(program.equations):
        if wanted.intersection(equation.outputs):
            wanted.update(equation.inputs)
            found.append(equation)
    return tuple(reversed(found))


def _run(program: Program, operands: Sequence[Array]) -> list[Array]:
    values: dict[int, Any] = dict(enumerate(operands))
    values.update({slot: np.asarray(constant, program.types[slot].dtype) for slot, constant in program.constants.items()})
    for equation in _needed(program):
        read = [values[slot] for slot in equation.inputs]
        if equation.primitive in CALLS:
            values.update(zip(equation.outputs, _run(equation.programs[0], read), strict=True))
            continue
        (output,) = equation.outputs
        values[output] = np.asarray(STEPS[equation.primitive](equation, read), equation.output_types[0].dtype)
    return [values[slot] for slot in program.outputs]


def _each(function: Callable[..., Any]) -> Step:
    return lambda equation, operands: function(*operands)


def _power(equation: Equation, operands: Sequence[Array]) -> Array:
    return np.asarray(operands[0] ** equation.params["y"])


def _select(equation: Equation, operands: Sequence[Array]) -> Array:
    which, no, *yes = operands
    return np.where(which, yes[0], no) if yes else no


def _broadcast(equation: Equation, operands: Sequence[Array]) -> Array:
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    sides = [1] * len(shape)
    for side, axis in zip(operands[0].shape, axes, strict=True):
        sides[axis] = side
    return np.broadcast_to(operands[0].reshape(sides), shape)


def _counted(equation: Equation, operands: Sequence[Array]) -> Array:
    shape, axis = equation.params["shape"], equation.params["dimension"]
    return np.broadcast_to(np.arange(shape[axis]).reshape([-1 if place == axis else 1 for place in range(len(shape))]), shape)


def _reshaped(equation: Equation, operands: Sequence[Array]) -> Array:
    return operands[0].reshape(equation.output_types[0].shape)


def _transposed(equation: Equation, operands: Sequence[Array]) -> Array:
    return operands[0].transpose(equation.params["permutation"])


def _joined(equation: Equation, operands: Sequence[Array]) -> Array:
    return np.concatenate(operands, equation.params["dimension"])


def _cut(equation: Equation, operands: Sequence[Array]) -> Array:
    params = equation.params
    steps = params["strides"] or (1,) * operands[0].ndim
    return operands[0][tuple(slice(*ends) for ends in zip(params["start_indices"], params["limit_indices"], steps, strict=True))]


def _padded(equation: Equation, operands: Sequence[Array]) -> Array:
    edges = [(low, high) for low, high, _ in equation.params["padding_config"]]
    return np.pad(operands[0], edges, constant_values=operands[1].item())


def _total(equation: Equation, operands: Sequence[Array]) -> Array:
    """A sum; over all axes but the last ones it is a product with ones, which is fast and rounds less than adding up in turn."""
    (x,), axes = operands, tuple(equation.params["axes"])
    if x.dtype != np.float32 or axes != tuple(range(len(axes))) or x.ndim == len(axes):
        return np.asarray(x.sum(axes, dtype=x.dtype))
    rest = x.shape[len(axes) :]
    flat = x.reshape(-1, int(np.prod(rest)))
    return (np.ones(len(flat), np.float32) @ flat).reshape(rest)


def _extreme(function: Callable[..., Any]) -> Step:
    return lambda equation, operands: function(operands[0], axis=tuple(equation.params["axes"]))


def _product(equation: Equation, operands: Sequence[Array]) -> Array:
    (contracted, batched), (left, right) = equation.params["dimension_numbers"], operands
    frees = [
        [axis for axis in range(side.ndim) if axis not in (*inner, *outer)]
        for side, inner, outer in zip(operands, contracted, batched, strict=True)
    ]
    outer, inner = ([side.shape[axis] for axis in axes] for side, axes in ((left, batched[0]), (left, contracted[0])))
    one = left.transpose(*batched[0], *frees[0], *contracted[0]).reshape(*outer, -1, int(np.prod(inner)))
    two = right.transpose(*batched[1], *contracted[1], *frees[1]).reshape(*outer, int(np.prod(inner)), -1)
    return (one @ two).reshape(equation.output_types[0].shape)


def _windows(combine: Callable[..., Any], empty: float) -> Step:
    """Windows of sums and extremes, one axis after the other."""

    def step(equation: Equation, operands: Sequence[Array]) -> Array:
        params, x = equation.params, operands[0]
        x = np.pad(x, params["padding"], constant_values=empty)
        for axis, (side, stride) in enumerate(zip(params["window_dimensions"], params["window_strides"], strict=True)):
            count = (x.shape[axis] - side) // stride + 1
            places = [x[(slice(None),) * axis + (slice(first, first + (count - 1) * stride + 1, stride),)] for first in range(side)]
            x = functools.reduce(combine, places)
        return x

    return step


def _convolved(equation: Equation, operands: Sequence[Array]) -> Array:
    params, (x, kernel) = equation.params, operands
    window, groups, shape = kernel.shape[:-2], params["feature_group_count"], equation.output_types[0].shape
    x = np.pad(x, ((0, 0), *params["padding"], (0, 0))) if any(map(any, params["padding"])) else x
    taps = [
        (
            slice(None),
            *(
                slice(place * dilation, place * dilation + (count - 1) * stride + 1, stride)
                for place, dilation, count, stride in zip(
                    places, params["rhs_dilation"], shape[1:-1], params["window_strides"], strict=True
                )
            ),
        )
        for places in itertools.product(*map(range, window))
    ]
    if kernel.shape[-2] == 1 and groups == x.shape[-1]:
        return _depthwise(x, kernel.reshape(len(taps), groups, -1), taps, shape)
    if len(taps) == 1:
        return _grouped(x[taps[0]].reshape(-1, 1, x.shape[-1]), kernel, groups).reshape(shape)
    once = max(1, COLUMN_ELEMENTS // int(np.prod(shape[1:-1]) * len(taps) * x.shape[-1]))
    found = np.empty(shape, np.float32)
    for first in range(0, len(x), once):
        some = x[first : first + once]
        columns = np.empty((len(some), *shape[1:-1], len(taps), x.shape[-1]), x.dtype)
        for number, tap in enumerate(taps):
            columns[..., number, :] = some[tap]
        rows = columns.reshape(-1, len(taps), x.shape[-1])
        found[first : first + once] = _grouped(rows, kernel, groups).reshape(len(some), *shape[1:])
    return found


def _grouped(rows: Array, kernel: Array, groups: int) -> Array:
    """(places, window, channels) by a kernel of (…window, channels / groups, features): (places, features)."""
    count, taps, channels = rows.shape
    if groups == 1:
        return rows.reshape(count, -1) @ kernel.reshape(-1, kernel.shape[-1])
    parted = rows.reshape(count, taps, groups, -1).transpose(2, 0, 1, 3).reshape(groups, count, -1)
    each = kernel.reshape(taps * (channels // groups), groups, -1).transpose(1, 0, 2)
    return (parted @ each).transpose(1, 0, 2).reshape(count, -1)


def _depthwise(x: Array, kernel: Array, taps: Sequence[Any], shape: tuple[int, ...]) -> Array:
    """Every channel by itself: a multiple of the picture for each place of the window. `kernel`: (window, channels, multiplier)."""
    found = np.zeros((*shape[:-1], *kernel.shape[1:]), x.dtype)
    for tap, factor in zip(taps, kernel, strict=True):
        found += x[tap][..., None] * factor
    return found.reshape(shape)


def _plain_convolution(equation: Equation) -> bool:
    """Features last, no gaps in the input, nothing cut off at the edges, in float32."""
    params, last = equation.params, len(equation.input_types[0].shape) - 1
    spatial = tuple(range(1, last))
    numbers = params["dimension_numbers"]
    return (
        (numbers.lhs_spec, numbers.out_spec) == ((0, last, *spatial),) * 2
        and numbers.rhs_spec == (last, last - 1, *range(last - 1))
        and set(params["lhs_dilation"]) <= {1}
        and params["batch_group_count"] == 1
        and min((edge for pair in params["padding"] for edge in pair), default=0) >= 0
        and equation.output_types[0].dtype == "float32"
    )


def _plain_window(equation: Equation) -> bool:
    params = equation.params
    return {*params["base_dilation"], *params["window_dilation"]} <= {1} and sum(params["window_dimensions"]) <= 64


def _plain_padding(equation: Equation) -> bool:
    return all(low >= 0 and high >= 0 and not inner for low, high, inner in equation.params["padding_config"])


CALLS = frozenset({"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"})
"""Primitives whose one program computes their results from their operands."""

ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    **COMPUTED,
    "and": np.logical_and,
    "convert_element_type": lambda x: x,
    "copy": lambda x: x,
    # Of arrays, and not of a few numbers.
    "erf": special.erf,
    "erfc": special.erfc,
    "logistic": special.expit,
    "stop_gradient": lambda x: x,
}
"""What works on each element; the result is then of the type that the program says."""

STEPS: Mapping[str, Step] = {
    **{name: _each(function) for name, function in ELEMENTWISE.items()},
    "broadcast_in_dim": _broadcast,
    "concatenate": _joined,
    "conv_general_dilated": _convolved,
    "dot_general": _product,
    "expand_dims": _reshaped,
    "integer_pow": _power,
    "iota": _counted,
    "pad": _padded,
    "reduce_max": _extreme(np.max),
    "reduce_min": _extreme(np.min),
    "reduce_sum": _total,
    "reduce_window_max": _windows(np.maximum, -np.inf),
    "reduce_window_sum": _windows(np.add, 0.0),
    "reshape": _reshaped,
    "select_n": _select,
    "slice": _cut,
    "squeeze": _reshaped,
    "transpose": _transposed,
}
"""What one result of a primitive is, by its name."""

CONDITIONS: Mapping[str, Callable[[Equation], bool]] = {
    "and": lambda equation: equation.output_types[0].dtype == "bool",
    "conv_general_dilated": _plain_convolution,
    "convert_element_type": lambda equation: equation.input_types[0].dtype in ("bool", "float32", "int32"),
    "pad": _plain_padding,
    "reduce_window_max": _plain_window,
    "reduce_window_sum": _plain_window,
    "reshape": lambda equation: equation.params["dimensions"] is None,
    "select_n": lambda equation: equation.input_types[0].dtype == "bool",
}
"""Where a step holds only for some parameters: which."""
