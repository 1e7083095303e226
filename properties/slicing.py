"""Programs cut out of others and put together: plain renumbering, no JAX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from properties.jaxpr import Equation, Program
from properties.shape import Shape


def sliced(program: Program, inputs: Sequence[int], output: int) -> Program:
    """The equations that a value needs, as a program of the given inputs; it must need no other input."""
    needed, kept = {output}, []
    for equation in reversed(program.equations):
        if needed.intersection(equation.outputs):
            needed.update(equation.inputs)
            kept.append(equation)
    part = Assembly()
    number = {slot: part.input(program.types[slot]) for slot in inputs}
    part.add(replace(program, equations=tuple(kept[::-1]), outputs=(output,)), number)
    return part.program([number[output]])


@dataclass(eq=False)
class Assembly:
    """A program that is put together from parts, inputs first."""

    types: list[Shape] = field(default_factory=list)
    constants: dict[int, Any] = field(default_factory=dict)
    equations: list[Equation] = field(default_factory=list)
    inputs: int = 0

    def input(self, type_: Shape) -> int:
        """One more input; none may follow the first part."""
        assert not self.equations, "inputs come before parts"
        self.inputs += 1
        return self._new(type_)

    def add(self, part: Program, number: dict[int, int]) -> tuple[int, ...]:
        """One more part, `number` saying which slot each of its inputs is (and afterwards each of its slots); its outputs."""

        def moved(slot: int) -> int:
            if slot not in number:
                number[slot] = self._new(part.types[slot])
                if slot in part.constants:
                    self.constants[number[slot]] = part.constants[slot]
            return number[slot]

        for equation in part.equations:
            inputs = tuple([moved(slot) for slot in equation.inputs])
            outputs = tuple([moved(slot) for slot in equation.outputs])
            self.equations.append(equation.at(inputs, outputs))
        return tuple([moved(slot) for slot in part.outputs])

    def program(self, outputs: Sequence[int]) -> Program:
        """What has been put together."""
        return Program(self.inputs, tuple(self.types), self.constants, tuple(self.equations), tuple(outputs))

    def _new(self, type_: Shape) -> int:
        self.types.append(type_)
        return len(self.types) - 1
