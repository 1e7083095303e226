"""Windows: convolutions and pooling, by receptive-field arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from properties.interpreter import Context
from properties.mixing.affine import Factor, Term, at, whole
from properties.mixing.lattice import Mixing, mixing
from properties.rules import Rules, rule


def window(axis: int, *, size: int, stride: int, pad: int, dilation: int = 1, base_dilation: int = 1) -> Term:
    """The positions that a window over one axis reads for output index q[axis]; `pad` is the padding before the axis."""
    if base_dilation == 1:
        return Term(-pad, (Factor(stride, axis),), ((dilation, size),))
    # only every base_dilation-th place holds a position: from ceil(first / base_dilation) on
    count = (size - 1) * dilation // base_dilation + 1
    return Term(0, (Factor(1, axis, stride, base_dilation - 1 - pad, base_dilation),), ((1, count),))


def convolves(context: Context, operand: int, output: int) -> Mixing | None:
    """A convolution with groups, strides and dilations, in any layout."""
    equation, params = context.equation, context.equation.params
    numbers = params["dimension_numbers"]
    before, after = equation.input_types[operand].shape, equation.output_types[output].shape
    if operand == 1:
        return _from_kernel(before, after, numbers)
    kernel = equation.input_types[1].shape
    out_batch, out_feature = numbers.out_spec[:2]
    groups, batch_groups = params["feature_group_count"], params["batch_group_count"]
    axes: list[tuple[Term, ...]] = [()] * len(before)
    batch_axis, feature_axis = numbers.lhs_spec[:2]
    axes[batch_axis] = (_grouped(out_batch, out_feature, after, before[batch_axis], batch_groups),)
    axes[feature_axis] = (_group_window(out_feature, after, before[feature_axis], groups),)
    for k, axis in enumerate(numbers.lhs_spec[2:]):
        axes[axis] = (
            window(
                numbers.out_spec[2 + k],
                size=kernel[numbers.rhs_spec[2 + k]],
                stride=params["window_strides"][k],
                pad=params["padding"][k][0],
                dilation=params["rhs_dilation"][k],
                base_dilation=params["lhs_dilation"][k],
            ),
        )
    return mixing(before, after, tuple(axes))


def _group_window(axis: int, after: tuple[int, ...], size: int, groups: int) -> Term:
    """The input features of the group that an output feature belongs to."""
    if groups == 1:
        return whole(size)
    each = size // groups
    return Term(0, (Factor(each, axis, divisor=after[axis] // groups),), ((1, each),))


def _grouped(batch: int, feature: int, after: tuple[int, ...], size: int, groups: int) -> Term:
    """The input's batch index; with batch groups, the output feature says which part of the batch is read."""
    if groups == 1:
        return at(batch)
    return Term(0, (Factor(1, batch), Factor(size // groups, feature, divisor=after[feature] // groups)))


def _from_kernel(before: tuple[int, ...], after: tuple[int, ...], numbers: object) -> Mixing | None:
    rhs_spec, out_spec = numbers.rhs_spec, numbers.out_spec  # type: ignore[attr-defined]
    axes = [(whole(size),) for size in before]
    axes[rhs_spec[0]] = (at(out_spec[1]),)
    return mixing(before, after, tuple(axes))


def pools(context: Context, operand: int, output: int) -> Mixing | None:
    """A reduction over windows; an initial value, a scalar, reaches everything."""
    equation, params = context.equation, context.equation.params
    before, after = equation.input_types[operand].shape, equation.output_types[output].shape
    if not before and after:
        return Mixing.of((), after, ())
    ones = (1,) * len(before)
    sizes = params["window_dimensions"]
    axes = tuple(
        [
            (
                window(
                    axis,
                    size=sizes[axis],
                    stride=params["window_strides"][axis],
                    pad=params["padding"][axis][0],
                    dilation=_given(params, "window_dilation", ones)[axis],
                    base_dilation=_given(params, "base_dilation", ones)[axis],
                ),
            )
            for axis in range(len(before))
        ]
    )
    return mixing(before, after, axes)


def _given(params: object, name: str, otherwise: Sequence[int]) -> Sequence[int]:
    return params.get(name) or otherwise  # type: ignore[attr-defined, no-any-return]


RULES: Rules = rule(convolves, "conv_general_dilated") | rule(
    pools, "reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min"
)
