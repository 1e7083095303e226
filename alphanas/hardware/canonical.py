"""Rewrites JAX's primitives to few canonical ones, so that lowering needs one form of each.

`contract(a, b)`     a [*batch, *rows, K], b [*batch, K, N] → [*batch, *rows, N]; parameters batch, rows (numbers of axes), and
                     depths: the sizes of the axes that K joins
`convolve(x, w)`     x [N, *spatial, C], w [*window, C / groups, O] → [N, *spatial, O]
`window(x)`          reduces overlapping windows by kind "sum", "max" or "min"
`reduce(x)`          reduces axes by kind, without keeping them
`reshape`, `transpose`, and everything else as JAX has it.

Layout steps cost nothing when lowered (they become index arithmetic), so a rule may add as many as it likes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from alphanas.hardware.program import Flat, NotLowerable, Step, Type, Writer, located

Rule = Callable[["Rewriter", Step, Sequence[int]], int]


class Rewriter(Writer):
    """A writer that also knows the layout steps, which vanish on constants and where they change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, Step] = {}
        """The step that wrote each slot."""

    def step(
        self, primitive: str, inputs: Iterable[int], shape: Sequence[int], dtype: str, params: Mapping[str, Any] | None = None
    ) -> int:
        slot = super().step(primitive, inputs, shape, dtype, params)
        self.made[slot] = self.steps[-1]
        return slot

    def again(self, step: Step, operands: Sequence[int], kind: Type) -> int:
        """Appends a step as it is, on these slots."""
        slot = len(self.types)
        self.types[slot] = kind
        self.made[slot] = Step(step.primitive, tuple(operands), slot, step.params, step.origin, step.source)
        self.steps.append(self.made[slot])
        return slot

    def held(self, value: np.ndarray, kind: Type) -> int:
        """A new slot that holds a constant of this type."""
        slot = len(self.types)
        self.types[slot], self.constants[slot] = kind, value
        return slot

    def type(self, slot: int) -> Type:
        return self.types[slot]

    def reshape(self, slot: int, shape: Sequence[int]) -> int:
        """The same elements in row-major order under another shape."""
        old = self.types[slot]
        if old.shape == tuple(shape):
            return slot
        if slot in self.constants:
            return self.constant(self.constants[slot].reshape(shape))
        return self.step("reshape", [slot], shape, old.dtype)

    def transpose(self, slot: int, permutation: Sequence[int]) -> int:
        """The axes in another order."""
        old = self.types[slot]
        if list(permutation) == sorted(permutation):
            return slot
        if slot in self.constants:
            return self.constant(self.constants[slot].transpose(permutation))
        shape = [old.shape[axis] for axis in permutation]
        return self.step("transpose", [slot], shape, old.dtype, {"permutation": tuple(permutation)})


def reopened(flat: Flat) -> Rewriter:
    """A writer that knows the values of a canonical program by their slots; its steps are to be written anew."""
    writer = Rewriter()
    writer.types, writer.constants = dict(flat.types), dict(flat.constants)
    return writer


def canonical(flat: Flat) -> Flat:
    """The same program in canonical steps. Raises NotLowerable for a form that none of them covers."""
    writer = Rewriter()
    slots: dict[int, int] = {}
    for slot in flat.inputs:
        slots[slot] = writer.slot(flat.types[slot].shape, flat.types[slot].dtype)
    for slot, value in flat.constants.items():
        slots[slot] = writer.held(value, flat.types[slot])
    for step in flat.steps:
        operands, rule = [slots[slot] for slot in step.inputs], RULES.get(step.primitive)
        kind = flat.types[step.output]
        slots[step.output] = _rewritten(writer, rule, _typed(step, kind), operands) if rule else writer.again(step, operands, kind)
    return writer.flat([slots[slot] for slot in flat.inputs], [slots[slot] for slot in flat.outputs])


def _rewritten(writer: Rewriter, rule: Rule, step: Step, operands: Sequence[int]) -> int:
    writer.origin, writer.source = step.origin, step.source
    return located(step, lambda: rule(writer, step, operands))


def _typed(step: Step, kind: Type) -> Step:
    params = {**step.params, "_shape": kind.shape, "_dtype": kind.dtype}
    return Step(step.primitive, step.inputs, step.output, params, step.origin, step.source)


def _unchanged(writer: Rewriter, step: Step, operands: Sequence[int]) -> int:
    params = {name: value for name, value in step.params.items() if name not in ("_shape", "_dtype")}
    return writer.step(step.primitive, operands, step.params["_shape"], step.params["_dtype"], params)


def _same_value(writer: Rewriter, step: Step, operands: Sequence[int]) -> int:
    return operands[0]


def _same_elements(writer: Rewriter, step: Step, operands: Sequence[int]) -> int:
    if step.params.get("dimensions") is not None and step.primitive == "reshape":
        raise NotLowerable("reshape", "with an order of dimensions")
    return writer.reshape(operands[0], step.params["_shape"])


def _transpose(writer: Rewriter, step: Step, operands: Sequence[int]) -> int:
    return writer.transpose(operands[0], step.params["permutation"])


def _dot_general(writer: Rewriter, step: Step, operands: Sequence[int]) -> int:
    left, right = operands
    if _is_nothing(writer, left) or _is_nothing(writer, right):
        return _nothing(writer, step)
    (left_sum, right_sum), (left_batch, right_batch) = step.params["dimension_numbers"]
    left_free = _others(writer.type(left).shape, (*left_sum, *left_batch))
    right_free = _others(writer.type(right).shape, (*right_sum, *right_batch))
    swap = not right_free or (bool(left_free) and _better_right(writer, left, right, left_free, right_free, bool(left_batch)))
    if swap:
        left, right = right, left
        left_sum, right_sum, left_batch, right_batch = right_sum, left_sum, right_batch, left_batch
        left_free, right_free = right_free, left_free
    a_shape, b_shape = writer.type(left).shape, writer.type(right).shape
    batch = [a_shape[axis] for axis in left_batch]
    rows = [a_shape[axis] for axis in left_free]
    columns = [b_shape[axis] for axis in right_free]
    depths = tuple(a_shape[axis] for axis in left_sum) or (1,)
    depth = math.prod(depths)
    a = writer.transpose(left, (*left_batch, *left_free, *left_sum))
    a = writer.reshape(a, (*batch, *rows, depth))
    b = writer.transpose(right, (*right_batch, *right_sum, *right_free))
    b = writer.reshape(b, (*batch, depth, math.prod(columns)))
    dtype = step.params["_dtype"]
    shape = (*batch, *rows, math.prod(columns))
    result = writer.step("contract", [a, b], shape, dtype, {"batch": len(batch), "rows": len(rows), "depths": depths})
    result = writer.reshape(result, (*batch, *rows, *columns))
    if not swap or not rows:
        return result
    first, middle = len(batch), len(batch) + len(rows)
    return writer.transpose(result, (*range(first), *range(middle, middle + len(columns)), *range(first, middle)))


def _multiply(writer: Rewriter, step: Step, operands: Sequence[int]) -> int:
    shape = step.params["_shape"]
    return (
        _nothing(writer, step)
        if shape and any(_is_nothing(writer, slot) for slot in operands)
        else _unchanged(writer, step, operands)
    )


def _nothing(writer: Rewriter, step: Step) -> int:
    """A repeated zero, as of a recurrent network's first state: of a product with it TVM would leave nothing to schedule."""
    zero = writer.constant(np.zeros((), step.params["_dtype"]))
    return writer.step("broadcast_in_dim", [zero], step.params["_shape"], step.params["_dtype"], {"dimensions": ()})


def _is_nothing(writer: Rewriter, slot: int) -> bool:
    """Whether a value is a repeated zero."""
    while slot in writer.made and writer.made[slot].primitive in ("broadcast_in_dim", "reshape", "transpose"):
        (slot,) = writer.made[slot].inputs
    value = writer.constants.get(slot)
    return value is not None and value.size == 1 and not value.any()


def _better_right(
    writer: Rewriter, left: int, right: int, left_free: Sequence[int], right_free: Sequence[int], batched: bool
) -> bool:
    """Whether the left operand of a product makes the better right one, which is packed: a constant is packed for free, and of two
    that are data the one whose columns lie side by side."""
    if left in writer.constants or right in writer.constants:
        return left in writer.constants and right not in writer.constants and not batched
    last_left, last_right = len(writer.type(left).shape) - 1, len(writer.type(right).shape) - 1
    return last_left in left_free and last_right not in right_free


def _convolution(writer: Rewriter, step: Step, operands: Sequence[int]) -> int:
    params = step.params
    if params["batch_group_count"] != 1:
        raise NotLowerable("conv_general_dilated", f"batch_group_count is {params['batch_group_count']}, only 1 is known")
    numbers = params["dimension_numbers"]
    x_spec, w_spec, out_spec = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    x = writer.transpose(operands[0], (x_spec[0], *x_spec[2:], x_spec[1]))
    w = writer.transpose(operands[1], (*w_spec[2:], w_spec[1], w_spec[0]))
    if w not in writer.constants:
        raise NotLowerable("conv_general_dilated", "its kernel depends on the data")
    shape = [params["_shape"][axis] for axis in (out_spec[0], *out_spec[2:], out_spec[1])]
    result = writer.step(
        "convolve",
        [x, w],
        shape,
        params["_dtype"],
        {
            "strides": tuple(params["window_strides"]),
            "pads": tuple(tuple(pair) for pair in params["padding"]),
            "dilation": tuple(params["rhs_dilation"]),
            "input_dilation": tuple(params["lhs_dilation"]),
            "groups": params["feature_group_count"],
        },
    )
    back = {axis: place for place, axis in enumerate((out_spec[0], *out_spec[2:], out_spec[1]))}
    return writer.transpose(result, [back[axis] for axis in range(len(shape))])


def _windows(kind: str) -> Rule:
    def rule(writer: Rewriter, step: Step, operands: Sequence[int]) -> int:
        params = step.params
        return writer.step(
            "window",
            operands,
            params["_shape"],
            params["_dtype"],
            {
                "kind": kind,
                "window": tuple(params["window_dimensions"]),
                "strides": tuple(params["window_strides"]),
                "pads": tuple(tuple(pair) for pair in params["padding"]),
                "dilation": tuple(params["window_dilation"]),
                "input_dilation": tuple(params["base_dilation"]),
            },
        )

    return rule


def _reduction(kind: str) -> Rule:
    def rule(writer: Rewriter, step: Step, operands: Sequence[int]) -> int:
        axes = tuple(step.params["axes"])
        shape = writer.type(operands[0]).shape
        if all(shape[axis] == 1 for axis in axes):
            return writer.reshape(operands[0], step.params["_shape"])
        return writer.step("reduce", operands, step.params["_shape"], step.params["_dtype"], {"kind": kind, "axes": axes})

    return rule


def _broadcast(writer: Rewriter, step: Step, operands: Sequence[int]) -> int:
    shape, dimensions = step.params["_shape"], step.params["broadcast_dimensions"]
    if len(operands) != 1:
        raise NotLowerable("broadcast_in_dim", "with a dynamic shape")
    if math.prod(shape) == writer.type(operands[0]).size:
        return writer.reshape(operands[0], shape)
    return writer.step("broadcast_in_dim", operands, shape, step.params["_dtype"], {"dimensions": tuple(dimensions)})


def _divide(writer: Rewriter, step: Step, operands: Sequence[int]) -> int:
    """By one number, or by one for a whole row: times its inverse, since a division costs as much as ten products."""
    x, y = operands
    shape, dtype = step.params["_shape"], step.params["_dtype"]
    if not dtype.startswith("float"):
        return _unchanged(writer, step, operands)
    if y in writer.constants and x not in writer.constants:
        with np.errstate(all="ignore"):
            return writer.step("mul", [x, writer.constant(1 / writer.constants[y])], shape, dtype)
    source = writer.made.get(y)
    if source is None or source.primitive != "broadcast_in_dim" or source.inputs[0] in writer.constants:
        return _unchanged(writer, step, operands)
    (few,) = source.inputs
    one = writer.constant(np.ones((), dtype))
    inverse = writer.step("div", [one, few], writer.type(few).shape, dtype)
    return writer.step("mul", [x, writer.step("broadcast_in_dim", [inverse], shape, dtype, source.params)], shape, dtype)


def _others(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    return [axis for axis in range(len(shape)) if axis not in axes]


RULES: Mapping[str, Rule] = {
    "div": _divide,
    "mul": _multiply,
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "reshape": _same_elements,
    "squeeze": _same_elements,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "copy": _same_value,
    "copy_p": _same_value,
    "stop_gradient": _same_value,
    "optimization_barrier": _same_value,
    "name": _same_value,
    **{f"reduce_window_{kind}": _windows(kind) for kind in ("sum", "max", "min")},
    **{f"reduce_{kind}": _reduction(kind) for kind in ("sum", "max", "min", "prod", "and", "or", "xor")},
}
