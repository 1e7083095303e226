"""Properties whose value depends on all operands at once: asked of one input at a time, by carrying abstract values along.

A relation says how one operand reaches a result whatever the others do. What becomes of `x + f(x)` when x is scaled, or when its
positions are moved, is no such thing: both terms must be known together. A `Question` names the abstract values to start from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from properties.interpreter import Analysis, interpret
from properties.jaxpr import Program
from properties.shape import Shape

if TYPE_CHECKING:
    from properties.inference import Inference
    from properties.property import Requirement


@dataclass(frozen=True)
class Question:
    """An abstract domain, and the values of the input that is asked about, of inputs that stay as they are, and of what is held."""

    analysis: Analysis[Any]
    asked: Any
    still: Any
    held: Any


@dataclass(frozen=True, eq=False)
class WalkedProperty:
    """A property by its name, the questions that are asked of an input of a given type, and the value that their answers make.

    All parts of a question are hashable. `demands` gives the requirements that a program of an inference meets, for an input and an
    output: what is asked of a piece that shall replace it.
    """

    name: str
    questions: Callable[[Shape], Sequence[Question]]
    read: Callable[[Shape, Sequence[Any]], Any]
    demands: Callable[[Inference, int, int], Sequence[Requirement]] | None = None

    def table(self, program: Program, held: int, unknown: set[str]) -> Mapping[tuple[int, int], Any]:
        """The values by (input, output) of a program whose first `held` inputs are no data."""
        shapes = [program.types[slot] for slot in program.inputs[held:]]
        found: dict[tuple[int, int], Any] = {}
        for i, shape in enumerate(shapes):
            answers = []
            for question in self.questions(shape):
                values = [question.held] * held + [question.still] * len(shapes)
                values[held + i] = question.asked
                answers.append(interpret(program, question.analysis, values))
            found |= {(i, o): self.read(shape, [answer[o] for answer in answers]) for o in range(len(program.outputs))}
        return found
