"""Ops that no row of the table covers, opaque ones above all, as source: the steps of their jaxpr as a person writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphanas.export import steps as programs
from alphanas.export.flax.statements import Step, body, fold
from alphanas.export.products import einsum_equation
from synth.op import Op, Value, state_of
from synth.programs import decode_constant

LARGEST_LITERAL = 64
"""Constants of more elements are not written out."""


class NoSource(Exception):
    """A step that has no readable form; the text says which."""


@dataclass(frozen=True)
class Piece:
    """The source of an op: a class where it owns weights, else a function. `{name}` in it is its name."""

    source: str
    is_class: bool


@dataclass(frozen=True)
class _Line:
    """An expression with `{0}`, `{1}` … for a step's operands, and `{batch}` for the size of the batch."""

    text: str
    infix: bool = False


@dataclass(frozen=True)
class _Place:
    step: programs.Step
    implicit: bool
    """Whether every reader repeats the value by itself."""

    @property
    def params(self) -> Mapping[str, Any]:
        return self.step.params

    @property
    def types(self) -> tuple[programs.Type, ...]:
        return self.step.operand_types

    @property
    def result(self) -> programs.Type:
        return self.step.result_types[0]

    def refuse(self, why: str = "") -> NoSource:
        return NoSource(f"{self.step.primitive} {why}".strip())


Print = Callable[[_Place], _Line]


def piece(op: Op, values: tuple[Value, ...]) -> Piece:
    """The source of an op on these inputs. Raises NoSource for a step that has none."""
    try:
        program, weights = programs.program_of(op, values)
        steps = programs.typed(program, op, values)
    except programs.NoProgram as error:
        raise NoSource(str(error)) from error
    names = ("x", "y", "z", "u", "v", "w")[: len(values)]
    written = _statements(steps, program["outputs"][0], len(values), weights, names)
    arguments = ", ".join(f"{name}: jax.Array" for name in names)
    said = f'"""{_said(op)}"""'
    if not weights:
        lines = [*fold(f"def {{name}}({arguments}) -> jax.Array:", 0), f"    {said}", *written(4)]
        return Piece("\n".join(lines) + "\n", is_class=False)
    owned = [*_owned("Param", op.weights(*values)), *_owned("BatchStat", state_of(op, values))]
    lines = ["class {name}(nnx.Module):", f"    {said}", "", "    def __init__(self, *, rngs: nnx.Rngs):"]
    lines += ["        del rngs  # its weights are loaded", *(line for text in owned for line in fold(text, 8)), ""]
    lines += [*fold(f"def __call__(self, {arguments}) -> jax.Array:", 4), *written(8)]
    return Piece("\n".join(lines) + "\n", is_class=True)


def _said(op: Op) -> str:
    primitives = getattr(op, "label", "") or op.kind()
    return f"What it was traced to: {primitives}."


def _owned(kind: str, weights: Mapping[str, Any]) -> list[str]:
    return [f"self.{name} = nnx.{kind}(jnp.zeros({weight.shape}, jnp.{weight.dtype}))" for name, weight in weights.items()]


def _statements(
    steps: Sequence[programs.Step], output: Any, inputs: int, weights: Sequence[str], names: Sequence[str]
) -> Callable[[int], list[str]]:
    if not isinstance(output, int):
        raise NoSource("a constant in the place of a result")
    held = {inputs + index: f"self.{name}[...]" for index, name in enumerate(weights)}
    implicit = _implicit(steps)
    lines = [line for step in steps for line in _lines(step, held, step.results[0] in implicit)]
    if not lines:
        lines = [Step(str(output), "{0}", ("0",))]
    given = [(str(slot), name) for slot, name in enumerate(names)]
    return lambda indent: body(lines, given, [str(output)], indent=indent)


def _implicit(steps: Sequence[programs.Step]) -> set[int]:
    """The repeated values that are only read beside another one of their full size, by what repeats them anyway."""
    repeated = {step.results[0]: step.result_types[0] for step in steps if step.primitive == "broadcast_in_dim"}
    explicit: set[int] = set()
    for step in steps:
        whole = {
            kind.sizes
            for operand, kind in zip(step.operands, step.operand_types, strict=True)
            if isinstance(operand, int) and operand not in repeated
        }
        for operand in step.operands:
            known = repeated.get(operand) if isinstance(operand, int) else None
            if known is not None and (step.primitive not in ELEMENTWISE or known.sizes not in whole):
                explicit.add(operand)
    return set(repeated) - explicit


def _lines(step: programs.Step, held: Mapping[int, str], implicit: bool) -> list[Step]:
    """The steps of a body for one step of a program: one, or one for each part of a split."""
    row = PRINTERS.get(step.primitive)
    if step.primitive == "split":
        return _split(step, held)
    if row is None or len(step.results) != 1:
        raise NoSource(step.primitive)
    line = row(_Place(step, implicit))
    return [_filled(line, step, held, str(step.results[0]))]


def _filled(line: _Line, step: programs.Step, held: Mapping[int, str], output: str) -> Step:
    """The line with weights and constants written into it, and places for the values that it reads."""
    text = line.text
    reads: list[str] = []
    for number, operand in enumerate(step.operands):
        place = f"{{{number}}}"
        if place not in text:
            continue
        if isinstance(operand, int) and operand not in held:
            text = text.replace(place, f"\0{len(reads)}\1")
            reads.append(str(operand))
            continue
        shown = held[operand] if isinstance(operand, int) else _constant(operand)
        text = text.replace(place, shown)
    if "{batch}" in text:
        text = text.replace("{batch}", f"\0{len(reads)}\1.shape[0]")
        reads.append("0")
    text = text.replace("{", "{{").replace("}", "}}").replace("\0", "{").replace("\1", "}")
    return Step(output, text, tuple(reads), line.infix)


def _constant(data: Mapping[str, Any]) -> str:
    array = decode_constant(data)
    if array.size > LARGEST_LITERAL:
        raise NoSource(f"a constant of {array.size} numbers")
    if array.ndim == 0:
        value = array.item()
        return repr(value) if np.isfinite(value) else f"{'-' if value < 0 else ''}jnp.{'nan' if np.isnan(value) else 'inf'}"
    return f"jnp.array({array.tolist()}, jnp.{array.dtype.name})"


def _sizes(sizes: Sequence[int | None], unknown: str) -> str:
    shown = [unknown if size is None else str(size) for size in sizes]
    return f"({', '.join(shown)}{',' if len(shown) == 1 else ''})"


def _call(text: str) -> Print:
    return lambda place: _Line(text)


def _infix(text: str) -> Print:
    return lambda place: _Line(text, infix=True)


def _divided(place: _Place) -> _Line:
    whole = place.result.dtype.startswith(("int", "uint"))
    return _Line("jax.lax.div({0}, {1})") if whole else _Line("{0} / {1}", infix=True)


def _power(place: _Place) -> _Line:
    if place.params["y"] == 2:
        return _Line("jnp.square({0})")
    return _Line(f"{{0}} ** {place.params['y']}", infix=True)


def _converted(place: _Place) -> _Line:
    return _Line(f"{{0}}.astype(jnp.{place.result.dtype})")


def _reshaped(place: _Place) -> _Line:
    if sum(size is None for size in place.result.sizes) > 1:
        raise place.refuse("to two sizes that depend on the batch")
    return _Line(f"{{0}}.reshape({_sizes(place.result.sizes, '-1')[1:-1].rstrip(',')})")


def _squeezed(place: _Place) -> _Line:
    return _Line(f"{{0}}.squeeze({tuple(place.params['dimensions'])})")


def _transposed(place: _Place) -> _Line:
    return _Line(f"{{0}}.transpose({', '.join(map(str, place.params['permutation']))})")


ELEMENTWISE = frozenset({"add", "sub", "mul", "div", "max", "min", "pow", "eq", "ne", "lt", "le", "gt", "ge", "select_n", "atan2"})


def _broadcast(place: _Place) -> _Line:
    wanted, x = place.result.sizes, place.types[0].sizes
    placed: list[int | None] = [1] * len(wanted)
    for axis, size in zip(place.params["broadcast_dimensions"], x, strict=True):
        placed[axis] = size
    trailing = list(place.params["broadcast_dimensions"]) == list(range(len(wanted) - len(x), len(wanted)))
    if trailing:
        inserted = "{0}"
    else:
        index = ", ".join(":" if axis in place.params["broadcast_dimensions"] else "None" for axis in range(len(wanted)))
        inserted = f"{{0}}[{index}]"
    if placed == list(wanted) or place.implicit:
        return _Line(inserted)
    if not x and not isinstance(place.step.operands[0], int):
        value = _constant(place.step.operands[0])
        return _Line(f"jnp.full({_sizes(wanted, '{batch}')}, {value}, jnp.{place.result.dtype})")
    return _Line(f"jnp.broadcast_to({inserted}, {_sizes(wanted, '{batch}')})")


def _sliced(place: _Place) -> _Line:
    strides = place.params["strides"] or [1] * len(place.types[0].sizes)
    bounds = zip(place.params["start_indices"], place.params["limit_indices"], strides, place.types[0].sizes, strict=True)
    return _Line(f"{{0}}[{', '.join(_span(place, *bound) for bound in bounds)}]")


def _span(place: _Place, start: Any, limit: Any, stride: int, size: int | None) -> str:
    if limit == size or (size is None and limit == {"batch": [1, 0]}):
        limit = ""
    if not isinstance(start, int) or isinstance(limit, Mapping):
        raise place.refuse("along the batch")
    return f"{start or ''}:{limit}" + (f":{stride}" if stride != 1 else "")


def _split(step: programs.Step, held: Mapping[int, str]) -> list[Step]:
    begin, found = 0, []
    for result, kind in zip(step.results, step.result_types, strict=True):
        size = kind.sizes[step.params["axis"]]
        if size is None:
            raise NoSource("split along the batch")
        index = ", ".join([*[":"] * step.params["axis"], f"{begin}:{begin + size}"])
        found.append(_filled(_Line(f"{{0}}[{index}]"), step, held, str(result)))
        begin += size
    return found


def _reduction(function: str) -> Print:
    def text(place: _Place) -> _Line:
        axes = tuple(place.params["axes"])
        return _Line(f"{function}({{0}}, axis={axes if len(axes) > 1 else axes[0]})")

    return text


def _matmul(place: _Place) -> _Line:
    equation = einsum_equation(place.params, *(len(kind.sizes) for kind in place.types))
    return _Line("{0} @ {1}", infix=True) if equation is None else _Line(f'jnp.einsum("{equation}", {{0}}, {{1}})')


def _convolved(place: _Place) -> _Line:
    params, specs = place.params, place.params["dimension_numbers"]["fields"]
    rank = len(specs["lhs_spec"])
    spatial = {3: "W", 4: "HW", 5: "DHW"}.get(rank)
    if spatial is None or params["batch_group_count"] != 1:
        raise place.refuse("of this rank, or in groups of the batch")
    layouts = ", ".join(f'"{_letters(specs[name], letters + spatial)}"' for name, letters in _SPECS)
    arguments = [f"{tuple(params['window_strides'])}", f"{[tuple(pair) for pair in params['padding']]}"]
    for name in ("lhs_dilation", "rhs_dilation"):
        if any(step != 1 for step in params[name]):
            arguments.append(f"{name}={tuple(params[name])}")
    arguments.append(f"dimension_numbers=({layouts})")
    if params["feature_group_count"] != 1:
        arguments.append(f"feature_group_count={params['feature_group_count']}")
    return _Line(f"jax.lax.conv_general_dilated({{0}}, {{1}}, {', '.join(arguments)})")


_SPECS = (("lhs_spec", "NC"), ("rhs_spec", "OI"), ("out_spec", "NC"))


def _letters(spec: Sequence[int], letters: str) -> str:
    return "".join(letter for _, letter in sorted(zip(spec, letters, strict=True)))


def _window(start: str, function: str) -> Print:
    def text(place: _Place) -> _Line:
        params = place.params
        arguments = f"{tuple(params['window_dimensions'])}, {tuple(params['window_strides'])}"
        arguments += f", {[tuple(pair) for pair in params['padding']]}"
        for name in ("base_dilation", "window_dilation"):
            if any(step != 1 for step in params[name]):
                arguments += f", {name}={tuple(params[name])}"
        return _Line(f"jax.lax.reduce_window({{0}}, {start}, {function}, {arguments})")

    return text


def _padded(place: _Place) -> _Line:
    return _Line(f"jax.lax.pad({{0}}, {{1}}, {[tuple(entry) for entry in place.params['padding_config']]})")


def _reversed(place: _Place) -> _Line:
    return _Line(f"jnp.flip({{0}}, axis={tuple(place.params['dimensions'])})")


def _running(function: str) -> Print:
    def text(place: _Place) -> _Line:
        backwards = ", reverse=True" if place.params["reverse"] else ""
        return _Line(f"jax.lax.{function}({{0}}, axis={place.params['axis']}{backwards})")

    return text


def _extreme(function: str) -> Print:
    return lambda place: _Line(f"{function}({{0}}, axis={place.params['axes'][0]}).astype(jnp.{place.result.dtype})")


def _joined(place: _Place) -> _Line:
    parts = ", ".join(f"{{{number}}}" for number in range(len(place.step.operands)))
    return _Line(f"jnp.concatenate([{parts}], axis={place.params['dimension']})")


def _rows(place: _Place) -> _Line:
    numbers = place.params["dimension_numbers"]["fields"]
    table, indices = (kind.sizes for kind in place.types)
    rows = numbers["collapsed_slice_dims"] == numbers["start_index_map"] == [0] and indices[-1] == 1
    whole = list(place.params["slice_sizes"]) == [1, *table[1:]]
    last = list(numbers["offset_dims"]) == list(range(len(indices) - 1, len(place.result.sizes)))
    if not (rows and whole and last):
        raise place.refuse("of something else than rows")
    return _Line("jnp.take({0}, {1}[..., 0], axis=0)")


def _counted(place: _Place) -> _Line:
    sizes = _sizes(place.result.sizes, "{batch}")
    return _Line(f"jax.lax.broadcasted_iota(jnp.{place.result.dtype}, {sizes}, {place.params['dimension']})")


def _tiled(place: _Place) -> _Line:
    if not all(isinstance(size, int) for size in place.params["reps"]):
        raise place.refuse("along the batch")
    return _Line(f"jnp.tile({{0}}, {tuple(place.params['reps'])})")


SIGNS = {
    **{"add": "+", "add_any": "+", "sub": "-", "mul": "*", "pow": "**", "and": "&", "or": "|", "xor": "^"},
    **{"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="},
}
NUMPY = (
    "exp",
    "log",
    "log1p",
    "expm1",
    "exp2",
    "tanh",
    "sqrt",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "abs",
    "sign",
    "floor",
    "ceil",
)
LAX = ("rsqrt", "erf", "erfc", "erf_inv", "stop_gradient", "cbrt", "is_finite")

PRINTERS: Mapping[str, Print] = {
    **{name: _infix(f"{{0}} {sign} {{1}}") for name, sign in SIGNS.items()},
    **{name: _call(f"jnp.{name}({{0}})") for name in (*NUMPY, "floor", "ceil", "square")},
    **{name: _call(f"jax.lax.{name}({{0}})") for name in LAX},
    "max": _call("jnp.maximum({0}, {1})"),
    "min": _call("jnp.minimum({0}, {1})"),
    "rem": _call("jax.lax.rem({0}, {1})"),
    "neg": _call("jnp.negative({0})"),
    "not": _call("jnp.logical_not({0})"),
    "logistic": _call("nnx.sigmoid({0})"),
    "atan2": _call("jnp.arctan2({0}, {1})"),
    "select_n": _call("jnp.where({0}, {2}, {1})"),
    "clamp": _call("jnp.clip({1}, {0}, {2})"),
    "copy": _call("{0}"),
    "copy_p": _call("{0}"),
    "div": _divided,
    "integer_pow": _power,
    "convert_element_type": _converted,
    "reshape": _reshaped,
    "squeeze": _squeezed,
    "expand_dims": _reshaped,
    "transpose": _transposed,
    "broadcast_in_dim": _broadcast,
    "slice": _sliced,
    "pad": _padded,
    "rev": _reversed,
    "reduce_sum": _reduction("jnp.sum"),
    "reduce_max": _reduction("jnp.max"),
    "reduce_min": _reduction("jnp.min"),
    "reduce_prod": _reduction("jnp.prod"),
    "reduce_and": _reduction("jnp.all"),
    "reduce_or": _reduction("jnp.any"),
    "argmax": _extreme("jnp.argmax"),
    "argmin": _extreme("jnp.argmin"),
    "dot_general": _matmul,
    "conv_general_dilated": _convolved,
    "reduce_window_max": _window("-jnp.inf", "jax.lax.max"),
    "reduce_window_sum": _window("0.0", "jax.lax.add"),
    "cumsum": _running("cumsum"),
    "cumprod": _running("cumprod"),
    "cummax": _running("cummax"),
    "cummin": _running("cummin"),
    "concatenate": _joined,
    "gather": _rows,
    "iota": _counted,
    "tile": _tiled,
}
