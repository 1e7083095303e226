"""A prior over op sequences: how likely a sequence is one that a person would train.

What a step is, is read off its summary and its weights, never its name; how often a type is drawn, it declares itself (`Op.taste`).
A sequence's weight is the product over its steps of taste and of how the step goes with what came before it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from properties import SCALE, Mixing, Scale
from synth.canonical import neutral
from synth.effect import effect, recalled, summary
from synth.op import Op, Value
from synth.tracing import infer_op


class Role(enum.IntEnum):
    """What a step is in a sequence."""

    START = 0
    LAYER = 1
    NORM = 2
    ACTIVATION = 3
    WARP = 4
    MOVE = 5
    NEUTRAL = 6
    VOID = 7


@functools.lru_cache(maxsize=65536)
def role(op: Op, value: Value) -> Role:
    """What an op is on a value.

    A layer learns a map of several elements; an activation is non-linear, element by element; what does not grow as its input does
    (it saturates, or is of a higher degree) is a warp; a move has no weights and changes the shape or the mixing; what changes
    nothing, or is a norm of single elements and so forgets them, is void; what is none of that is neutral.
    """
    return Role(recalled("role", op, value, lambda: int(_role(op, value))))


def _role(op: Op, value: Value) -> Role:
    found = summary(op, (value,))
    steps, mixing = found.relation("depth", 0, 0), found.relation("mixing", 0, 0)
    nonlinear = steps is not None and steps.from_linear[0] != 0
    keeps_shape = mixing is not None and mixing.input == mixing.output
    elementwise = keeps_shape and _mixes_nothing(mixing)
    if op.normalizes:
        return Role.VOID if nonlinear and elementwise else Role.NORM
    if not (nonlinear and elementwise and _is_elementwise_anywhere(op, value)) and neutral(op, value):
        return Role.VOID
    if not elementwise and any(len(weight.shape) > 1 for weight in op.weights(value).values()):
        return Role.LAYER
    if elementwise and not nonlinear:
        return Role.NEUTRAL
    if nonlinear and not op.weights(value) and growth(op, value) != 1:
        return Role.WARP
    return Role.ACTIVATION if elementwise and nonlinear else Role.MOVE


def _mixes_nothing(mixing: Mixing) -> bool:
    return np.array_equal(mixing.matrix, Mixing.identity(mixing.input).matrix)


def _is_elementwise_anywhere(op: Op, value: Value) -> bool:
    """Whether an op that mixes nothing on a value would mix nothing without axes of size one: an activation, and no window."""
    wide = replace(value, shape=tuple(3 if size == 1 else size for size in value.shape))
    mixing = summary(op, (wide,)).relation("mixing", 0, 0) if wide != value else None
    return mixing is None or _mixes_nothing(mixing)


@functools.lru_cache(maxsize=65536)
def growth(op: Op, value: Value) -> Fraction:
    """By which power, at most, an op's output grows with its input: the `scale` property, 0 where it saturates."""
    found: Scale = infer_op(op, (value,), (SCALE,)).relation("scale", 0, 0)
    return found.growth


@functools.lru_cache(maxsize=65536)
def weight(op: Op, sizes: int) -> float:
    """How likely an op is among all: its type's taste, half of it for each choice's default, the rest for the other values."""
    likely = op.taste
    for field in dataclasses.fields(op):
        choices = field.metadata.get("choices", ())
        if len(choices) > 1:
            likely *= 0.5 if getattr(op, field.name) == field.default else 0.5 / (len(choices) - 1)
        if field.metadata.get("size"):
            likely /= sizes
    return likely


@dataclass(frozen=True)
class Tail:
    """What the prior remembers: the last step, and whether the last layer was made non-linear and normalized since."""

    last: Role = Role.START
    open: bool = False
    normalized: bool = False

    def after(self, step: Role) -> Tail:
        """The tail one step later."""
        match step:
            case Role.NEUTRAL | Role.VOID:
                return Tail(step, self.open, self.normalized)
            case Role.LAYER:
                return Tail(step, True, False)
            case Role.ACTIVATION | Role.WARP:
                return Tail(step, False, self.normalized)
            case _:
                return Tail(step, self.open, self.normalized or step is Role.NORM)

    def factor(self, step: Role) -> float:
        """How well a step goes with what came before it, relative to 1.

        Two layers want a non-linearity between them, or one could do for both; every layer a norm, or scales multiply up. A warp
        wants an input of known scale: it flattens what is large, or blows it up.
        """
        match step:
            case Role.ACTIVATION:
                return {Role.ACTIVATION: 0.01, Role.WARP: 0.01, Role.START: 0.3, Role.LAYER: 2.0, Role.NORM: 3.0}.get(
                    self.last, 0.5
                )
            case Role.WARP:
                return 1.0 if self.last is Role.NORM else 0.1 * Tail(self.last).factor(Role.ACTIVATION)
            case Role.NORM:
                return 0.01 if self.normalized else {Role.LAYER: 6.0, Role.START: 0.3}.get(self.last, 0.3)
            case Role.LAYER:
                return (0.25 if self.open else 2.0) * (1.0 if self.normalized or self.last is Role.START else 0.5)
            case Role.MOVE:
                return 0.05 if self.last is Role.MOVE else 0.5
            case Role.VOID:
                return 0.001
            case _:
                return 0.02 if self.last is Role.NEUTRAL else 0.3


_FLAGS = (False, True)
TAILS: tuple[Tail, ...] = tuple(Tail(last, is_open, normalized) for last in Role for is_open in _FLAGS for normalized in _FLAGS)
FACTORS = np.array([[tail.factor(step) for step in Role] for tail in TAILS])
FOLLOWING = np.array([[TAILS.index(tail.after(step)) for step in Role] for tail in TAILS])
START = TAILS.index(Tail())


def lengths(totals: np.ndarray) -> np.ndarray:
    """How likely each length is, given the weights of all programs of it together: by the geometric mean over the steps.

    So lengths compare step for step, and one that only awkward programs have is rare. No step at all is likely only where it is all
    that there is.
    """
    means = np.array([0.0, *(total ** (1 / length) for length, total in enumerate(totals[1:].tolist(), 1))])
    return means if means.any() else totals


SIZINGS = 3
"""How often the sizes of a drawn sequence are drawn, for the roomiest of them to be taken."""


def roomiest(value: Value, chains: Sequence[tuple[Op, ...]]) -> tuple[Op, ...]:
    """The chain whose narrowest value is widest: what finds no room there, no later step can bring back."""
    return max(chains, key=lambda ops: _narrowest(value, ops))


def _narrowest(value: Value, ops: Sequence[Op]) -> float:
    least, here = math.inf, value
    for op in ops[:-1]:
        here = effect(op, here).value
        least = min(least, here.channels)
    return least
