"""Cuts of a flat program: the steps between some values and a result, as a program of their own that runs."""

from __future__ import annotations

from collections.abc import Sequence

from alphanas.models.lifting.flat import Constant, Flat, Ref, Step, encode_program
from synth.programs import Json


def between(flat: Flat, slot: int, stops: frozenset[int]) -> tuple[tuple[Step, ...], tuple[int, ...]]:
    """The steps that compute a slot from `stops`, in order, and the slots that they read and none of them writes."""
    steps: dict[int, Step] = {}
    reads: set[int] = set()
    waiting = [slot]
    while waiting:
        current = waiting.pop()
        step = flat.producers.get(current)
        if step is None or current in stops:
            reads.add(current)
        elif step.results[0] not in steps:
            steps[step.results[0]] = step
            waiting += [item for item in step.operands if isinstance(item, int)]
    return tuple(steps[first] for first in sorted(steps)), tuple(sorted(reads))


def encoded(steps: Sequence[Step], inputs: Sequence[int], output: int) -> Json:
    """Steps as the JSON that `synth.programs` runs, slots numbered from the inputs on. Raises NotEncodable."""
    numbers = {slot: index for index, slot in enumerate(inputs)}
    for step in steps:
        for made in step.results:
            numbers[made] = len(numbers)

    def renumbered(item: Ref) -> Ref:
        return item if isinstance(item, Constant) else numbers[item]

    moved = [
        Step(step.primitive, step.params, tuple(map(renumbered, step.operands)), tuple(numbers[made] for made in step.results))
        for step in steps
    ]
    return encode_program(len(inputs), moved, [numbers[output]])
