"""The body of a `__call__`: expressions nested as a person nests them, and few variable names, each reused once it is free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDTH = 88
DEEPEST = 3
"""Calls nested in one line at most: convolution, norm, activation."""

_NAMES = ("x", "y", "z", "u", "v", "w", "a", "b", "c", "d")


@dataclass(frozen=True)
class Step:
    """One value of a body: an expression with {0}, {1} … for the values that it reads."""

    output: str
    expression: str
    inputs: tuple[str, ...]
    infix: bool = False


def body(steps: Sequence[Step], inputs: Sequence[tuple[str, str]], outputs: Sequence[str], *, indent: int = 8) -> list[str]:
    """The statements that compute `outputs` from `inputs`, pairs of a value and the name of its variable."""
    lines = _Lines(steps, outputs)
    return lines.write(dict(inputs), indent)


class _Lines:
    def __init__(self, steps: Sequence[Step], outputs: Sequence[str]) -> None:
        self.steps = {step.output: step for step in steps}
        self.outputs = outputs
        self.uses = Counter(name for step in steps for name in step.inputs) + Counter(outputs)
        self.nested = self._nest()

    def _nest(self) -> dict[str, int]:
        """The values that are written inside the expression that reads them, with the depth of their own nesting."""
        nested: dict[str, int] = {}
        for step in self.steps.values():
            for place, name in enumerate(step.inputs):
                inner = self.steps.get(name)
                if inner is None or self.uses[name] > 1 or step.expression.count(f"{{{place}}}") > 1:
                    continue
                nested[name] = (not inner.infix) + max((nested.get(read, 0) for read in inner.inputs), default=0)
                text = self._text(step, nested, {})
                if nested[name] >= DEEPEST or len(text) > WIDTH - 20:
                    del nested[name]
        return nested

    def _text(self, step: Step, nested: dict[str, int], variables: dict[str, str]) -> str:
        operands = []
        for place, name in enumerate(step.inputs):
            if name not in nested:
                operands.append(variables.get(name, "x"))
                continue
            inner = self.steps[name]
            text = self._text(inner, nested, variables)
            bound = step.infix or f"{{{place}}}." in step.expression or f"{{{place}}}[" in step.expression
            operands.append(f"({text})" if inner.infix and bound else text)
        return step.expression.format(*operands)

    def _roots(self, step: Step) -> Iterator[str]:
        for name in step.inputs:
            if name in self.nested:
                yield from self._roots(self.steps[name])
            else:
                yield name

    def write(self, variables: dict[str, str], indent: int) -> list[str]:
        statements = [step for step in self.steps.values() if step.output not in self.nested]
        reads = [tuple(self._roots(step)) for step in statements]
        last = {name: place for place, names in enumerate(reads) for name in names} | {
            name: len(statements) for name in self.outputs
        }
        lines: list[str] = []
        for place, step in enumerate(statements):
            text = self._text(step, self.nested, variables)
            if place == len(statements) - 1 and list(self.outputs) == [step.output]:
                return [*lines, *fold(f"return {text}", indent)]
            live = {variables[name] for name in variables if last.get(name, -1) > place}
            dying = [variables[name] for name in reads[place] if variables[name] not in live]
            free = [name for name in (*_NAMES, *(f"x{number}" for number in range(len(statements)))) if name not in live]
            variables[step.output] = "x" if "x" in dying else (dying or free)[0]
            # A variable that is written anew no longer holds its older values.
            for name in [n for n, v in variables.items() if v == variables[step.output] and n != step.output]:
                del variables[name]
            lines += fold(f"{variables[step.output]} = {text}", indent)
        return [*lines, *fold(f"return {', '.join(variables[name] for name in self.outputs)}", indent)]


def fold(text: str, indent: int) -> list[str]:
    """A statement as lines of at most 88 columns, broken at its last brackets, one argument a line where they do not fit."""
    line = " " * indent + text
    start = _last_group(text)
    if len(line) <= WIDTH or start is None:
        return [line]
    close = _closing(text, start)
    head, inside, tail = text[: start + 1], text[start + 1 : close], text[close:]
    if len(inside) + indent + 4 <= WIDTH:
        return [" " * indent + head, " " * (indent + 4) + inside, " " * indent + tail]
    lines = [line for argument in _arguments(inside) for line in fold(f"{argument},", indent + 4)]
    return [" " * indent + head, *lines, " " * indent + tail]


def _closing(text: str, start: int) -> int:
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if not depth:
            return place
    raise ValueError(f"unbalanced brackets in {text!r}")


def _last_group(text: str) -> int | None:
    """Where the last outermost bracket with something inside opens."""
    found, place = None, 0
    while place < len(text):
        if text[place] in "([{":
            end = _closing(text, place)
            found = place if end > place + 1 else found
            place = end
        place += 1
    return found


def _arguments(inside: str) -> list[str]:
    parts, depth, begin = [], 0, 0
    for place, character in enumerate(inside):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append(inside[begin:place].strip())
            begin = place + 1
    return [part for part in [*parts, inside[begin:].strip()] if part]
