"""Depth: how often linear and non-linear steps alternate along the longest path from an input to an output.

Linear: data times constant or parameter, sums, convolutions, means, batch norm in inference, layout moves. Non-linear:
activations, softmax, products of data with data, maxima and orderings, norms that use the data's own statistics, and whatever is
not understood. Broadcasting, adding or dropping axes of size 1, changes of the floating type and identities are no steps at all,
so that the depth does not depend on how an expression spells its broadcasts. αNAS counts max pooling, norms and products of data
as linear; here they are non-linear, because none of them is a linear function of its inputs. The input itself counts as
non-linear, so input → dense is 1, input → relu is 0, input → dense → relu is 2.

An activation of `jax.nn`, and any function named in `CALLS`, is one non-linear step however it is computed.
Depth errs upwards: an unknown primitive counts as a non-linear step.
"""

from __future__ import annotations

from dataclasses import dataclass

from properties.interpreter import Context
from properties.relation import RelationalProperty
from properties.rules import OUT_OF_REACH, Rules, rule

UNBOUNDED = 1 << 40
"""The depth of a loop whose number of iterations is not known; no sum exceeds it."""

_NEVER = -1


@dataclass(frozen=True, slots=True)
class Steps:
    """Largest numbers of alternations along a path, by the class of the step before it and of its last step.

    `from_linear` and `from_nonlinear` each hold (paths that end linear, paths that end non-linear); -1 where there is no such path.
    A max-plus matrix, so that it composes: a path's first step counts only if it differs from the step before.
    """

    from_nonlinear: tuple[int, int]
    from_linear: tuple[int, int]

    @property
    def depth(self) -> int:
        """The number of alternations, where what comes before counts as non-linear."""
        return max(self.from_nonlinear)

    def then(self, following: Steps) -> Steps:
        """The longest paths along this and then along `following`."""
        return _compose(self, following)

    def join(self, other: Steps) -> Steps:
        """The longest paths along either."""
        a, b = self.from_nonlinear, other.from_nonlinear
        c, d = self.from_linear, other.from_linear
        return Steps((max(a[0], b[0]), max(a[1], b[1])), (max(c[0], d[0]), max(c[1], d[1])))


IDENTITY = Steps(from_nonlinear=(_NEVER, 0), from_linear=(0, _NEVER))
LINEAR = Steps(from_nonlinear=(1, _NEVER), from_linear=(0, _NEVER))
NONLINEAR = Steps(from_nonlinear=(_NEVER, 0), from_linear=(_NEVER, 1))


def _compose(first: Steps, second: Steps) -> Steps:
    if second is IDENTITY:
        return first
    return Steps(_row(first.from_nonlinear, second), _row(first.from_linear, second))


def _row(row: tuple[int, int], second: Steps) -> tuple[int, int]:
    linear, nonlinear = row
    ends = []
    for k in (0, 1):
        best = _NEVER
        if linear >= 0 and second.from_linear[k] >= 0:
            best = linear + second.from_linear[k]
        if nonlinear >= 0 and second.from_nonlinear[k] >= 0:
            best = max(best, nonlinear + second.from_nonlinear[k])
        ends.append(min(best, UNBOUNDED))
    return ends[0], ends[1]


def is_identity(context: Context, operand: int, output: int) -> Steps:
    return IDENTITY


def is_identity_of_its_own(context: Context, operand: int, output: int) -> Steps | None:
    """Several values pass through side by side."""
    return IDENTITY if operand == output else None


def is_linear(context: Context, operand: int, output: int) -> Steps:
    return LINEAR


def is_nonlinear(context: Context, operand: int, output: int) -> Steps:
    return NONLINEAR


def is_linear_in_one_factor(context: Context, operand: int, output: int) -> Steps:
    """A product: linear if only one factor is data."""
    return LINEAR if sum(context.data) == 1 else NONLINEAR


def is_linear_in_the_numerator(context: Context, operand: int, output: int) -> Steps:
    return LINEAR if operand == 0 and not context.data[1] else NONLINEAR


def is_linear_in_its_cases(context: Context, operand: int, output: int) -> Steps:
    """A choice: linear if what decides is not data."""
    return NONLINEAR if context.data[0] else LINEAR


def is_linear_at_fixed_indices(context: Context, operand: int, output: int) -> Steps:
    """Reading and writing by index: linear if the indices are not data."""
    values = {"gather": 1, "dynamic_slice": 1, "dynamic_update_slice": 2}.get(context.equation.primitive, 0)
    if context.equation.primitive.startswith("scatter"):
        return LINEAR if not context.data[1] and operand != 1 else NONLINEAR
    return NONLINEAR if any(context.data[values:]) else LINEAR


def is_identity_between_floats(context: Context, operand: int, output: int) -> Steps:
    """A conversion: no step, unless it rounds."""
    before, after = context.equation.input_types[operand].dtype, context.equation.output_types[output].dtype
    rounds = _continuous(before) and not _continuous(after)
    return NONLINEAR if rounds else IDENTITY


def is_linear_power(context: Context, operand: int, output: int) -> Steps:
    return LINEAR if context.equation.params.get("y") == 1 else NONLINEAR


def is_linear_if_it_moves_elements(context: Context, operand: int, output: int) -> Steps:
    """A reshape: no step if it only adds or drops axes of size 1."""
    before, after = context.equation.input_types[operand].shape, context.equation.output_types[output].shape
    plumbing = [size for size in before if size != 1] == [size for size in after if size != 1]
    return IDENTITY if plumbing else LINEAR


def is_linear_unless_product(context: Context, operand: int, output: int) -> Steps:
    """A scatter that multiplies is linear in what is not multiplied by data."""
    return LINEAR if sum(context.data) == 1 and operand != 1 else NONLINEAR


def _continuous(dtype: str) -> bool:
    return "float" in dtype or "complex" in dtype


RULES: Rules = (
    rule(is_identity_of_its_own, "optimization_barrier", "device_put")
    | rule(
        is_identity,
        "copy",
        "copy_p",
        "stop_gradient",
        "reduce_precision",
        "sharding_constraint",
        "mesh_cast",
        "layout_constraint",
        "name",
        "pvary",
        "broadcast_in_dim",
        "squeeze",
        "expand_dims",
    )
    | rule(is_identity_between_floats, "convert_element_type")
    | rule(is_linear_if_it_moves_elements, "reshape")
    | rule(
        is_linear,
        "add",
        "sub",
        "neg",
        "add_any",
        "reduce_sum",
        "cumsum",
        "transpose",
        "slice",
        "pad",
        "concatenate",
        "rev",
        "split",
        "tile",
        "real",
        "imag",
        "conj",
        "complex",
        "fft",
        "reduce_window_sum",
        "stack",
        "unstack",
    )
    | rule(
        is_linear_in_one_factor,
        "mul",
        "dot_general",
        "conv_general_dilated",
        "triangular_solve",
        "ragged_dot",
        "ragged_dot_general",
    )
    | rule(is_linear_in_the_numerator, "div")
    | rule(is_linear_in_its_cases, "select_n", "select_and_gather_add")
    | rule(
        is_linear_at_fixed_indices,
        "gather",
        "dynamic_slice",
        "dynamic_update_slice",
        "scatter",
        "scatter-add",
        "scatter_add",
        "scatter-sub",
        "scatter_sub",
    )
    | rule(is_linear_unless_product, "scatter-mul", "scatter_mul")
    | rule(is_linear_power, "integer_pow")
    | rule(
        is_nonlinear,
        "abs",
        "acos",
        "acosh",
        "and",
        "argmax",
        "argmin",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "bessel_i0e",
        "bessel_i1e",
        "bitcast_convert_type",
        "cbrt",
        "ceil",
        "clamp",
        "clz",
        "cos",
        "cosh",
        "cumlogsumexp",
        "cummax",
        "cummin",
        "cumprod",
        "digamma",
        "eq",
        "eq_to",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "igamma",
        "igamma_grad_a",
        "igammac",
        "is_finite",
        "le",
        "le_to",
        "lgamma",
        "log",
        "log1p",
        "logistic",
        "lt",
        "lt_to",
        "max",
        "min",
        "ne",
        "nextafter",
        "not",
        "or",
        "polygamma",
        "population_count",
        "pow",
        "random_gamma_grad",
        "reduce",
        "reduce_and",
        "reduce_max",
        "reduce_min",
        "reduce_or",
        "reduce_prod",
        "reduce_xor",
        "reduce_window",
        "reduce_window_max",
        "reduce_window_min",
        "regularized_incomplete_beta",
        "rem",
        "round",
        "rsqrt",
        "scatter-max",
        "scatter-min",
        "scatter_max",
        "scatter_min",
        "select_and_scatter",
        "select_and_scatter_add",
        "shift_left",
        "shift_right_arithmetic",
        "shift_right_logical",
        "sign",
        "sin",
        "sinh",
        "sort",
        "sqrt",
        "square",
        "tan",
        "tanh",
        "top_k",
        "approx_top_k",
        "xor",
        "zeta",
        "mulhi",
        "lu_pivots_to_permutation",
        "cholesky",
        "eig",
        "eigh",
        "lu",
        "lu_solve",
        "qr",
        "geqrf",
        "geqp3",
        "householder_product",
        "schur",
        "svd",
        "tridiagonal",
        "tridiagonal_solve",
        "hessenberg",
        "ormqr",
    )
    | OUT_OF_REACH
)

CALLS: Rules = rule(
    is_nonlinear, "relu", "relu6", "silu", "swish", "gelu", "sigmoid", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "leaky_relu", "elu", "celu", "selu", "softplus", "soft_sign", "log_sigmoid", "mish", "squareplus", "sparse_plus",
    "sparse_sigmoid", "squared_relu", "softmax", "_softmax", "log_softmax", "logsumexp", "logaddexp", "standardize",
    "layer_norm", "group_norm", "rms_norm", "instance_norm",
)  # fmt: skip
"""Functions that count as one non-linear step, by the names that JAX gives their calls."""


def _settle(before: Steps, after: Steps, left: int | None) -> Steps:
    """The depth after `left` more iterations that each add as much as the last one did."""
    if left is None:  # any number of iterations
        return Steps((UNBOUNDED, UNBOUNDED), (UNBOUNDED, UNBOUNDED))

    def grow(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        return b[0] + left * (b[0] - a[0]), b[1] + left * (b[1] - a[1])

    return Steps(grow(before.from_nonlinear, after.from_nonlinear), grow(before.from_linear, after.from_linear))


DEPTH = RelationalProperty(
    name="depth",
    identity=lambda shape: IDENTITY,
    top=lambda before, after: NONLINEAR,
    rules=RULES,
    calls=CALLS,
    decide=lambda decision, result: NONLINEAR,
    unstack=lambda stacked, part: IDENTITY,
    stack=lambda part, stacked: IDENTITY,
    settle=_settle,
)
