"""Equivariance: which axes of the output move along when positions of an input axis are moved.

A claim holds for every value of the parameters and inputs. `symmetries.py` says what the two groups mean, and has the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self, get_args

import numpy as np

from properties.inference import Inference, data_place, traced
from properties.interpreter import interpret
from properties.property import Property
from properties.shape import Shape
from properties.symmetries import FIXED, Group, Symmetry, SymmetryAnalysis
from properties.walked import Question, WalkedProperty

GROUPS: tuple[Group, ...] = get_args(Group)


def symmetry(
    function: Callable[..., Any],
    *arguments: Any,
    axis: int,
    group: Group = "translation",
    input: int = 0,
    params: Any = None,
) -> tuple[Symmetry, ...]:
    """For every output how it moves when positions along `axis` of one data input are moved and the other inputs stay."""
    if group not in GROUPS:
        raise ValueError(f"the group {group!r} asked for; wanted {' or '.join(map(repr, GROUPS))}")
    program, held = traced(function, *arguments, params=params)
    place = data_place(program, held, input)
    shape = program.types[place].shape
    if not 0 <= axis < len(shape):
        raise ValueError(f"axis {axis} of input {input} asked for, but its shape is {shape}")
    values = [FIXED] * program.input_count
    values[place] = Symmetry(((axis, 1),))
    return tuple(interpret(program, SymmetryAnalysis(group), values))


@dataclass(frozen=True, slots=True)
class Equivariance:
    """How an output moves when positions along each axis of an input are permuted, or shifted."""

    permutation: tuple[Symmetry, ...]
    translation: tuple[Symmetry, ...]

    def under(self, group: Group) -> tuple[Symmetry, ...]:
        """By input axis, for the group of this name."""
        return self.permutation if group == "permutation" else self.translation

    def __str__(self) -> str:
        return "; ".join(f"{group}: {', '.join(map(str, self.under(group)))}" for group in GROUPS)


@dataclass(frozen=True, slots=True)
class EquivarianceRequirement:
    """Moving positions along each of these axes of an input moves the output along, or leaves it as it is.

    Distance: the share of the axes for which that is not known, of as many as were asked for before any was dropped.
    """

    axes: tuple[int, ...]
    group: Group = "translation"
    input: int = 0
    output: int = 0
    asked: int = 0
    kind = "equivariance"

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"equivariance under {self.group!r} asked for; wanted {' or '.join(map(repr, GROUPS))}")
        object.__setattr__(self, "asked", max(len(self.axes), self.asked))

    @classmethod
    def of(cls, inference: Inference, input: int = 0, output: int = 0, group: Group = "translation") -> Self:
        """What a program already has."""
        known = inference.relation("equivariance", input, output).under(group)
        return cls(tuple(axis for axis, symmetry in enumerate(known) if symmetry.known), group, input, output)

    def reads(self) -> tuple[Property, ...]:
        return (EQUIVARIANCE,)

    def distance(self, inference: Inference) -> float:
        if not self.axes:
            return 0.0
        found = inference.relation("equivariance", self.input, self.output).under(self.group)
        missing = [axis for axis in self.axes if axis >= len(found) or not found[axis].known]
        return len(missing) / self.asked

    def met(self, inference: Inference) -> bool:
        return self.distance(inference) == 0

    def mutate(self, rng: np.random.Generator) -> EquivarianceRequirement:
        """One axis dropped, or the other group."""
        if rng.random() < 0.5:
            return self.relax(rng)
        return replace(self, group="permutation" if self.group == "translation" else "translation")

    def relax(self, rng: np.random.Generator) -> EquivarianceRequirement:
        """One axis dropped."""
        if not self.axes:
            return self
        dropped = int(rng.choice(self.axes))
        return replace(self, axes=tuple(axis for axis in self.axes if axis != dropped))

    def tighten(self, rng: np.random.Generator) -> EquivarianceRequirement:
        """Itself: the axes that were not asked for may be known or not."""
        return self

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self), "axes": list(self.axes)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        places = data.get("input", 0), data.get("output", 0)
        return cls(tuple(data["axes"]), data.get("group", "translation"), *places, data.get("asked", 0))


def _questions(shape: Shape) -> list[Question]:
    starts = [(SymmetryAnalysis(group), Symmetry(((axis, 1),))) for group in GROUPS for axis in range(len(shape.shape))]
    return [Question(analysis, moved, still=FIXED, held=FIXED) for analysis, moved in starts]


def _read(shape: Shape, answers: Sequence[Symmetry]) -> Equivariance:
    rank = len(shape.shape)
    return Equivariance(tuple(answers[:rank]), tuple(answers[rank:]))


def _demands(inference: Inference, input: int, output: int) -> tuple[EquivarianceRequirement, ...]:
    found = (EquivarianceRequirement.of(inference, input, output, group) for group in GROUPS)
    return tuple(requirement for requirement in found if requirement.axes)


EQUIVARIANCE = WalkedProperty(name="equivariance", questions=_questions, read=_read, demands=_demands)
"""How each output moves when positions along an axis of an input are moved and the other inputs stay."""
