"""A prior over op sequences: how likely a sequence is one that a person would train.

What a step is, is read off its summary and its weights, never its name; how often a type is drawn, it declares itself (`Op.taste`).
A sequence's weight is the product over its steps of taste and of how the step goes with what came before it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from dataclasses import dataclass

import numpy as np

from synth.effect import summary
from synth.op import Op, Value


class Role(enum.IntEnum):
    """What a step is in a sequence."""

    START = 0
    LAYER = 1
    NORM = 2
    ACTIVATION = 3
    MOVE = 4
    NEUTRAL = 5


@functools.lru_cache(maxsize=65536)
def role(op: Op, value: Value) -> Role:
    """What an op is on a value.

    A layer learns a map of several elements; an activation is non-linear and keeps the shape; a move has no weights and changes
    the shape or the mixing; what does none of that is neutral.
    """
    if op.normalizes:
        return Role.NORM
    found = summary(op, (value,))
    steps, mixing = found.relation("depth", 0, 0), found.relation("mixing", 0, 0)
    nonlinear = steps is not None and steps.from_nonlinear[0] < 0
    keeps_shape = mixing is not None and mixing.input == mixing.output
    if keeps_shape and np.array_equal(mixing.matrix, np.eye(len(mixing.input))):
        return Role.ACTIVATION if nonlinear else Role.NEUTRAL
    if any(len(weight.shape) > 1 for weight in op.weights(value).values()):
        return Role.LAYER
    return Role.ACTIVATION if nonlinear and keeps_shape and not op.weights(value) else Role.MOVE


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
        if step is Role.NEUTRAL:
            return Tail(step, self.open, self.normalized)
        if step is Role.LAYER:
            return Tail(step, True, False)
        return Tail(step, self.open and step is not Role.ACTIVATION, self.normalized or step is Role.NORM)

    def factor(self, step: Role) -> float:
        """How well a step goes with what came before it, relative to 1."""
        match step:
            case Role.ACTIVATION:
                return {Role.ACTIVATION: 0.01, Role.START: 0.3, Role.LAYER: 2.0, Role.NORM: 3.0}.get(self.last, 0.5)
            case Role.NORM:
                return 0.01 if self.normalized else {Role.LAYER: 3.0, Role.START: 0.3}.get(self.last, 0.3)
            case Role.LAYER:
                return 0.25 if self.open else 2.0
            case Role.MOVE:
                return 0.05 if self.last is Role.MOVE else 0.5
            case _:
                return 0.02 if self.last is Role.NEUTRAL else 0.3


_FLAGS = (False, True)
TAILS: tuple[Tail, ...] = tuple(Tail(last, is_open, normalized) for last in Role for is_open in _FLAGS for normalized in _FLAGS)
FACTORS = np.array([[tail.factor(step) for step in Role] for tail in TAILS])
FOLLOWING = np.array([[TAILS.index(tail.after(step)) for step in Role] for tail in TAILS])
START = TAILS.index(Tail())
