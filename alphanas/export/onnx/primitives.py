"""How each JAX primitive reads in ONNX: for ops that the vocabulary's table has no row for, opaque ones above all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphanas.export.onnx.writer import Site
from alphanas.export.products import einsum_equation
from alphanas.export.steps import NoProgram, Step, Type, program_of, typed
from synth.op import Op
from synth.programs import decode_constant

Sizes = Sequence[int | None]


class NoOnnx(Exception):
    """A step that ONNX has no word for; the text says which."""


@dataclass(frozen=True)
class Place:
    """Where a step is written: its site, its operands as ONNX names, and the step."""

    site: Site
    step: Step
    operands: tuple[str, ...]

    @property
    def types(self) -> tuple[Type, ...]:
        """The types of the operands."""
        return self.step.operand_types

    @property
    def result(self) -> Type:
        """The type of the first result."""
        return self.step.result_types[0]

    @property
    def params(self) -> Mapping[str, Any]:
        """The primitive's parameters."""
        return self.step.params

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node of one output."""
        return self.site.add(kind, *inputs, name=self.step.primitive, **attributes)

    def sizes(self, values: Sequence[int]) -> str:
        """A list of whole numbers."""
        return self.site.sizes(f"{self.step.primitive}_sizes", values)

    def number(self, value: float) -> str:
        """One number of the first operand's type."""
        return self.site.array(f"{self.step.primitive}_number", np.asarray(value, self.types[0].dtype))

    def refuse(self, why: str) -> NoOnnx:
        """The error that names this step."""
        return NoOnnx(f"{self.step.primitive} {why}".strip())


Emit = Callable[[Place], str | list[str]]


def emit(op: Op, site: Site) -> str:
    """An op as the primitives of its jaxpr. Raises NoOnnx for one that has no row."""
    try:
        program, weights = program_of(op, site.values)
        steps = typed(program, op, site.values)
    except NoProgram as error:
        raise NoOnnx(str(error)) from error
    env: dict[int, str] = dict(enumerate([*site.inputs, *(site.weight(name) for name in weights)]))

    def name(operand: Any) -> str:
        return env[operand] if isinstance(operand, int) else site.array("constant", decode_constant(operand))

    for step in steps:
        row = PRIMITIVES.get(step.primitive)
        if row is None:
            raise NoOnnx(step.primitive)
        made = row(Place(site, step, tuple(name(operand) for operand in step.operands)))
        env.update(zip(step.results, [made] if isinstance(made, str) else made, strict=True))
    return name(program["outputs"][0])


def _same(kind: str, **attributes: Any) -> Emit:
    return lambda place: place.add(kind, *place.operands, **attributes)


def _negated(kind: str) -> Emit:
    return lambda place: place.add("Not", place.add(kind, *place.operands))


def _with_number(kind: str, value: float, *, before: bool = False, after: str = "", wrap: str = "") -> Emit:
    """`kind` of the operand and a number, applied to the operand first or to the result of `wrap`."""

    def emit_it(place: Place) -> str:
        x = place.add(wrap, *place.operands) if wrap else place.operands[0]
        constant = place.number(value)
        made = place.add(kind, constant, x) if before else place.add(kind, x, constant)
        return place.add(after, made) if after else made

    return emit_it


def square(place: Place) -> str:
    """The product with itself."""
    return place.add("Mul", place.operands[0], place.operands[0])


def rsqrt(place: Place) -> str:
    """One over the root."""
    return place.add("Reciprocal", place.add("Sqrt", place.operands[0]))


def integer_pow(place: Place) -> str:
    """A power; the square as a product."""
    return square(place) if place.params["y"] == 2 else place.add("Pow", place.operands[0], place.number(place.params["y"]))


def select(place: Place) -> str:
    """One of two by a truth value."""
    if len(place.operands) != 3 or place.types[0].dtype != "bool":
        raise place.refuse("among more than two")
    which, no, yes = place.operands
    return place.add("Where", which, yes, no)


def clamp(place: Place) -> str:
    """Within two bounds."""
    low, x, high = place.operands
    return place.add("Min", place.add("Max", x, low), high)


def convert(place: Place) -> str:
    """Another type."""
    return _cast(place, place.operands[0], place.result.dtype)


def _cast(place: Place, name: str, dtype: str) -> str:
    from onnx import helper

    return place.add("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def reshape(place: Place) -> str:
    """Another shape; one size may depend on the batch."""
    return _reshaped(place, place.operands[0], place.result.sizes)


def _reshaped(place: Place, name: str, sizes: Sizes) -> str:
    if sum(size is None for size in sizes) > 1:
        raise place.refuse("to two sizes that depend on the batch")
    return place.add("Reshape", name, place.sizes([-1 if size is None else size for size in sizes]))


def transpose(place: Place) -> str:
    """The axes in another order."""
    return place.add("Transpose", place.operands[0], perm=place.params["permutation"])


def broadcast(place: Place) -> str:
    """Axes of size one put in, then repeated."""
    wanted, x = place.result.sizes, place.types[0].sizes
    placed: list[int | None] = [1] * len(wanted)
    for axis, size in zip(place.params["broadcast_dimensions"], x, strict=True):
        placed[axis] = size
    shaped = _reshaped(place, place.operands[0], placed) if tuple(placed) != tuple(x) else place.operands[0]
    if tuple(placed) == tuple(wanted):
        return shaped
    # An axis that has its size is asked for one, which keeps it.
    needed = [1 if size == there else size for size, there in zip(wanted, placed, strict=True)]
    if None not in needed:
        return place.add("Expand", shaped, place.sizes([int(size or 1) for size in needed]))
    batch = place.add("Shape", place.site.inputs[0], start=0, end=1)
    parts = [batch if size is None else place.sizes([size]) for size in needed]
    return place.add("Expand", shaped, place.add("Concat", *parts, axis=0) if len(parts) > 1 else batch)


def slice_(place: Place) -> str:
    """Every stride-th element between two bounds; an axis that is kept whole is left out."""
    strides = place.params["strides"] or [1] * len(place.types[0].sizes)
    spans = list(zip(place.params["start_indices"], place.params["limit_indices"], strides, place.types[0].sizes, strict=True))
    cut = [axis for axis, (start, limit, stride, size) in enumerate(spans) if start != 0 or stride != 1 or not _whole(limit, size)]
    if any(not isinstance(bound, int) for axis in cut for bound in spans[axis][:2]):
        raise place.refuse("along the batch")
    bounds = [place.sizes([int(spans[axis][number] or 0) for axis in cut]) for number in (0, 1)]
    return place.add("Slice", place.operands[0], *bounds, place.sizes(cut), place.sizes([spans[axis][2] for axis in cut]))


def _whole(limit: Any, size: int | None) -> bool:
    return limit == size if size is not None else limit == {"batch": [1, 0]}


def reverse(place: Place) -> str:
    """Axes backwards."""
    axes = place.params["dimensions"]
    ends = (place.sizes([value] * len(axes)) for value in (-1, -(1 << 62)))
    return place.add("Slice", place.operands[0], *ends, place.sizes(axes), place.sizes([-1] * len(axes)))


def pad(place: Place) -> str:
    """A border of one number."""
    lows, highs, inner = zip(*place.params["padding_config"], strict=True)
    if any(inner):
        raise place.refuse("between elements")
    return place.add("Pad", place.operands[0], place.sizes([*lows, *highs]), place.operands[1])


def _reduction(kind: str) -> Emit:
    return lambda place: place.add(kind, place.operands[0], place.sizes(place.params["axes"]), keepdims=0)


def _extreme(kind: str) -> Emit:
    def emit_it(place: Place) -> str:
        index = place.add(kind, place.operands[0], axis=place.params["axes"][0], keepdims=0)
        return _cast(place, index, place.result.dtype)

    return emit_it


def concatenate(place: Place) -> str:
    """One after the other."""
    return place.add("Concat", *place.operands, axis=place.params["dimension"])


def dot_general(place: Place) -> str:
    """A product of matrices where it is one, else a sum over named axes."""
    equation = einsum_equation(place.params, *(len(kind.sizes) for kind in place.types))
    if equation is None:
        return place.add("MatMul", *place.operands)
    return place.add("Einsum", *place.operands, equation=equation)


def convolution(place: Place) -> str:
    """A convolution between transpositions; one of a spread-out input is a transposed convolution."""
    params = place.params
    specs = params["dimension_numbers"]["fields"]
    lhs, rhs, out = (list(specs[name]) for name in ("lhs_spec", "rhs_spec", "out_spec"))
    if params["batch_group_count"] != 1:
        raise place.refuse("in groups of the batch")
    spatial = [place.types[1].sizes[axis] or 1 for axis in rhs[2:]]
    x = _permuted(place, place.operands[0], lhs)
    made = _plain_convolution(place, x, rhs, spatial) if not any(step != 1 for step in params["lhs_dilation"]) else None
    made = made or _spread_convolution(place, x, rhs, spatial)
    return _permuted(place, made, [out.index(axis) for axis in range(len(out))])


def _plain_convolution(place: Place, x: str, rhs: list[int], window: list[int]) -> str:
    params = place.params
    lows, highs = zip(*params["padding"], strict=True)
    kernel = _permuted(place, place.operands[1], rhs)
    return place.add(
        "Conv",
        x,
        kernel,
        kernel_shape=window,
        strides=params["window_strides"],
        dilations=params["rhs_dilation"],
        pads=[*lows, *highs],
        group=params["feature_group_count"],
    )


def _spread_convolution(place: Place, x: str, rhs: list[int], window: list[int]) -> str:
    params = place.params
    if params["feature_group_count"] != 1 or any(step != 1 for step in params["window_strides"]):
        raise place.refuse("of a spread-out input, in groups or with strides")
    axes = range(2, 2 + len(window))
    kernel = _permuted(place, place.operands[1], [rhs[1], rhs[0], *rhs[2:]])
    ends = (place.sizes([value] * len(window)) for value in (-1, -(1 << 62)))
    flipped = place.add("Slice", kernel, *ends, place.sizes(list(axes)), place.sizes([-1] * len(window)))
    reach = [(side - 1) * step for side, step in zip(window, params["rhs_dilation"], strict=True)]
    cuts = [(far - low, far - high) for far, (low, high) in zip(reach, params["padding"], strict=True)]
    if any(low < 0 or -high >= step for (low, high), step in zip(cuts, params["lhs_dilation"], strict=True)):
        raise place.refuse("of a spread-out input, with so much padding")
    return place.add(
        "ConvTranspose",
        x,
        flipped,
        kernel_shape=window,
        strides=params["lhs_dilation"],
        dilations=params["rhs_dilation"],
        pads=[*(low for low, _ in cuts), *(max(0, high) for _, high in cuts)],
        output_padding=[max(0, -high) for _, high in cuts],
    )


def _permuted(place: Place, name: str, order: list[int]) -> str:
    return name if order == sorted(order) else place.add("Transpose", name, perm=order)


def _window(kind: str, *, scaled: bool = False) -> Emit:
    """A pool over the axes between batch and features."""

    def emit_it(place: Place) -> str:
        params = place.params
        window, strides, pads = params["window_dimensions"], params["window_strides"], params["padding"]
        spread = [*params["base_dilation"], *params["window_dilation"]]
        if any(step != 1 for step in spread) or (window[0], window[-1]) != (1, 1) or len(window) < 3:
            raise place.refuse("over batch or features, or dilated")
        lows, highs = zip(*pads[1:-1], strict=True)
        rank = len(window)
        x = place.add("Transpose", place.operands[0], perm=[0, rank - 1, *range(1, rank - 1)])
        more = {"count_include_pad": 1} if scaled else {}
        made = place.add(kind, x, kernel_shape=window[1:-1], strides=strides[1:-1], pads=[*lows, *highs], **more)
        made = place.add("Mul", made, place.number(float(np.prod(window)))) if scaled else made
        return place.add("Transpose", made, perm=[0, *range(2, rank), 1])

    return emit_it


def cumulative(place: Place) -> str:
    """Running sums."""
    axis = place.site.array("axis", np.asarray(place.params["axis"], np.int64))
    return place.add("CumSum", place.operands[0], axis, reverse=int(place.params["reverse"]))


def gather(place: Place) -> str:
    """Rows of a table by number."""
    numbers = place.params["dimension_numbers"]["fields"]
    table, indices = (kind.sizes for kind in place.types)
    rows = numbers["collapsed_slice_dims"] == numbers["start_index_map"] == [0] and indices[-1] == 1
    whole = list(place.params["slice_sizes"]) == [1, *table[1:]]
    last = list(numbers["offset_dims"]) == list(range(len(indices) - 1, len(place.result.sizes)))
    if not (rows and whole and last) or numbers.get("operand_batching_dims"):
        raise place.refuse("of something else than rows")
    return place.add("Gather", place.operands[0], _reshaped(place, place.operands[1], indices[:-1]), axis=0)


def iota(place: Place) -> str:
    """Counting along an axis, as an array."""
    sizes = place.result.sizes
    if any(size is None for size in sizes):
        raise place.refuse("along the batch")
    shape = [size or 1 for size in sizes]
    axis = place.params["dimension"]
    counted = np.arange(shape[axis]).reshape([-1 if number == axis else 1 for number in range(len(shape))])
    return place.site.array("iota", np.broadcast_to(counted, shape).astype(place.result.dtype))


def split(place: Place) -> list[str]:
    """Parts along an axis."""
    sizes = place.params["sizes"]
    if not all(isinstance(size, int) for size in sizes):
        raise place.refuse("along the batch")
    name = f"{place.site.node.name}/split"
    operands = [place.operands[0], place.sizes(sizes)]
    return place.site.writer.add("Split", operands, name, outputs=len(sizes), axis=place.params["axis"])


def tile(place: Place) -> str:
    """Repeated along its axes."""
    if not all(isinstance(size, int) for size in place.params["reps"]):
        raise place.refuse("along the batch")
    return place.add("Tile", place.operands[0], place.sizes(place.params["reps"]))


def copy(place: Place) -> str:
    """The same value."""
    return place.operands[0]


RENAMED = {
    **{"add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow"},
    **{"neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "sqrt": "Sqrt", "erf": "Erf"},
    **{"exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid", "sin": "Sin", "cos": "Cos", "tan": "Tan"},
    **{"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"},
    **{"and": "And", "or": "Or", "xor": "Xor", "not": "Not"},
}
"""Primitives that ONNX has under another name."""

PRIMITIVES: Mapping[str, Emit] = {
    **{name: _same(kind) for name, kind in RENAMED.items()},
    "ne": _negated("Equal"),
    "rem": _same("Mod", fmod=1),
    "log1p": _with_number("Add", 1.0, after="Log"),
    "expm1": _with_number("Sub", 1.0, wrap="Exp"),
    "exp2": _with_number("Pow", 2.0, before=True),
    "erfc": _with_number("Sub", 1.0, before=True, wrap="Erf"),
    "square": square,
    "rsqrt": rsqrt,
    "integer_pow": integer_pow,
    "select_n": select,
    "clamp": clamp,
    "convert_element_type": convert,
    "reshape": reshape,
    "squeeze": reshape,
    "expand_dims": reshape,
    "transpose": transpose,
    "broadcast_in_dim": broadcast,
    "slice": slice_,
    "rev": reverse,
    "pad": pad,
    "reduce_sum": _reduction("ReduceSum"),
    "reduce_max": _reduction("ReduceMax"),
    "reduce_min": _reduction("ReduceMin"),
    "reduce_prod": _reduction("ReduceProd"),
    "argmax": _extreme("ArgMax"),
    "argmin": _extreme("ArgMin"),
    "concatenate": concatenate,
    "dot_general": dot_general,
    "conv_general_dilated": convolution,
    "reduce_window_sum": _window("AveragePool", scaled=True),
    "reduce_window_max": _window("MaxPool"),
    "cumsum": cumulative,
    "gather": gather,
    "iota": iota,
    "split": split,
    "tile": tile,
    "copy": copy,
    "copy_p": copy,
    "stop_gradient": copy,
    "optimization_barrier": copy,
}
