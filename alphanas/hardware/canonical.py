"""Rewrites JAX's primitives to few canonical ones, so that lowering needs one form of each.

`contract(a, b)`     a [*batch, *rows, K], b [*batch, K, N] → [*batch, *rows, N]; parameters batch, rows (numbers of axes)
`convolve(x, w)`     x [N, *spatial, C], w [*window, C / groups, O] → [N, *spatial, O]
`window(x)`          reduces overlapping windows by kind "sum", "max" or "min"
`reduce(x)`          reduces axes by kind, without keeping them
`reshape`, `transpose`, and everything else as JAX has it.

Layout steps cost nothing when lowered (they become index arithmetic), so a rule may add as many as it likes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from alphanas.hardware.program import Flat, NotLowerable, Step, Type, Writer

Rule = Callable[["Rewriter", Step, Sequence[int]], int]


class Rewriter(Writer):
    """A writer that also knows the layout steps, which vanish on constants and where they change nothing."""

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


def canonical(flat: Flat) -> Flat:
    """The same program in canonical steps. Raises NotLowerable for a form that none of them covers."""
    writer = Rewriter()
    slots: dict[int, int] = {}
    for slot in flat.inputs:
        slots[slot] = writer.slot(flat.types[slot].shape, flat.types[slot].dtype)
    for slot, value in flat.constants.items():
        slots[slot] = writer.constant(value)
    for step in flat.steps:
        operands = [slots[slot] for slot in step.inputs]
        writer.origin = step.origin
        slots[step.output] = RULES.get(step.primitive, _unchanged)(writer, _typed(step, flat), operands)
    return writer.flat([slots[slot] for slot in flat.inputs], [slots[slot] for slot in flat.outputs])


def _typed(step: Step, flat: Flat) -> Step:
    result = flat.types[step.output]
    return Step(
        step.primitive, step.inputs, step.output, {**step.params, "_shape": result.shape, "_dtype": result.dtype}, step.origin
    )


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
    (left_sum, right_sum), (left_batch, right_batch) = step.params["dimension_numbers"]
    left_free = _others(writer.type(left).shape, (*left_sum, *left_batch))
    right_free = _others(writer.type(right).shape, (*right_sum, *right_batch))
    # The second operand is the one that is packed for vectors: it must have columns, and a constant is packed for free.
    constant_left = left in writer.constants and right not in writer.constants and not left_batch
    swap = not right_free or (constant_left and bool(left_free))
    if swap:
        left, right = right, left
        left_sum, right_sum, left_batch, right_batch = right_sum, left_sum, right_batch, left_batch
        left_free, right_free = right_free, left_free
    a_shape, b_shape = writer.type(left).shape, writer.type(right).shape
    batch = [a_shape[axis] for axis in left_batch]
    rows = [a_shape[axis] for axis in left_free]
    columns = [b_shape[axis] for axis in right_free]
    depth = math.prod(a_shape[axis] for axis in left_sum)
    a = writer.transpose(left, (*left_batch, *left_free, *left_sum))
    a = writer.reshape(a, (*batch, *rows, depth))
    b = writer.transpose(right, (*right_batch, *right_sum, *right_free))
    b = writer.reshape(b, (*batch, depth, math.prod(columns)))
    dtype = step.params["_dtype"]
    shape = (*batch, *rows, math.prod(columns))
    result = writer.step("contract", [a, b], shape, dtype, {"batch": len(batch), "rows": len(rows)})
    result = writer.reshape(result, (*batch, *rows, *columns))
    if not swap or not rows:
        return result
    first, middle = len(batch), len(batch) + len(rows)
    return writer.transpose(result, (*range(first), *range(middle, middle + len(columns)), *range(first, middle)))


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


def _others(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    return [axis for axis in range(len(shape)) if axis not in axes]


RULES: Mapping[str, Rule] = {
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "reshape": _same_elements,
    "squeeze": _same_elements,
    "expand_dims": _same_elements,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "copy": _same_value,
    "copy_p": _same_value,
    "stop_gradient": _same_value,
    "optimization_barrier": _same_value,
    "name": _same_value,
    **{f"reduce_window_{kind}": _windows(kind) for kind in ("sum", "max", "min")},
    **{f"reduce_{kind}": _reduction(kind) for kind in ("sum", "max", "min", "prod", "and", "or")},
}
