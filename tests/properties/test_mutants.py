"""The soundness harness notices when a rule is weakened: every mutant of a rule that changes a claim is killed by some program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import properties
from properties.inference import analyze_program, traced
from properties.interpreter import Context
from properties.jaxpr import Program as Traced
from properties.mixing import MIXING, Mixing
from properties.mixing.affine import Term
from properties.rules import Top
from tests.properties.oracle import Program, observed, unclaimed
from tests.properties.programs import PROGRAMS

pytestmark = pytest.mark.slow


def narrower(mixing: Mixing) -> Mixing | None:
    """Windows lose their last position."""
    return _each(mixing, lambda term: term._replace(windows=tuple((s, n - 1) for s, n in term.windows if n > 2)))


def earlier(mixing: Mixing) -> Mixing | None:
    """Windows lose their first position."""
    return _each(mixing, lambda term: narrowed._replace(offset=term.offset + sum(s for s, _ in term.windows))
                 if (narrowed := term._replace(windows=tuple((s, n - 1) for s, n in term.windows if n > 2))) else term)  # fmt: skip


def shifted(mixing: Mixing) -> Mixing | None:
    """Places that move with an index are off by one."""
    return _each(mixing, lambda term: term._replace(offset=term.offset + 1) if term.factors else term)


def pinned(mixing: Mixing) -> Mixing | None:
    """Whole axes are read at their first position only."""
    return _each(mixing, lambda term: term if term.factors else Term(guards=term.guards))


def stretched(mixing: Mixing) -> Mixing | None:
    """Guards exclude the first index they should allow."""
    return _each(mixing, lambda term: term._replace(guards=tuple((a, first + 1, end) for a, first, end in term.guards)))


def lost(mixing: Mixing) -> Mixing | None:
    """The operand is not read at all."""
    return None


MUTATIONS: tuple[Callable[[Mixing], Mixing | None], ...] = (narrower, earlier, shifted, pinned, stretched, lost)


def _each(mixing: Mixing, change: Callable[[Term], Term]) -> Mixing | None:
    from properties.mixing.lattice import mixing as normal

    changed = tuple(tuple(change(term) if size > 1 else term for term in terms)
                    for terms, size in zip(mixing.axes, mixing.input, strict=True))  # fmt: skip
    return mixing if changed == mixing.axes else normal(mixing.input, mixing.output, changed)


@dataclass(frozen=True)
class Mutant:
    """A rule whose answers for one operand (the first or the last) are changed."""

    primitive: str
    mutation: Callable[[Mixing], Mixing | None]
    last: bool

    def __str__(self) -> str:
        return f"{self.primitive} {self.mutation.__name__}{' in its last operand' if self.last else ''}"

    def property(self, log: list[bool]) -> properties.RelationalProperty:
        original = MIXING.rules[self.primitive]
        assert not isinstance(original, Top)

        def rule(context: Context, operand: int, output: int) -> Any:
            found = original(context, operand, output)
            chosen = max(k for k, data in enumerate(context.data) if data) if self.last else int(self.primitive == "select_n")
            if found is None or operand != chosen:
                return found
            changed = self.mutation(found)
            log.append(changed != found)
            return changed

        return replace(MIXING, rules=MIXING.rules.replacing(self.primitive, rule))


@functools.cache
def trace(program: Program) -> tuple[Traced, int]:
    with jax.enable_x64(True):
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float64) for shape in (*program.params, program.shape)]
        return traced(lambda params, x: program.function(*params, x), arguments[-1], params=tuple(arguments[:-1]))


def primitives(program: Traced) -> set[str]:
    found = {equation.primitive for equation in program.equations}
    return found.union(*(primitives(inner) for equation in program.equations for inner in equation.programs))


@functools.cache
def users() -> dict[str, list[Program]]:
    table: dict[str, list[Program]] = {}
    for program in PROGRAMS:
        for name in primitives(trace(program)[0]):
            table.setdefault(name, []).append(program)
    return table


WITHOUT_GRADIENT = {"argmax", "argmin", "eq", "ge", "gt", "is_finite", "le", "lt", "ne", "sign"}
"""What these pass on shows in no Jacobian."""


def mutants() -> Iterator[Mutant]:
    for name in sorted(users()):
        if name in MIXING.rules and name not in WITHOUT_GRADIENT and not isinstance(MIXING.rules[name], Top):
            for mutation in MUTATIONS:
                yield Mutant(name, mutation, last=False)
            yield Mutant(name, lost, last=True)


def violated(program: Program, each: properties.RelationalProperty) -> bool:
    inner, held = trace(program)
    inference = analyze_program(inner, params=held, properties=[each])
    pattern, _ = observed(program)
    return bool(unclaimed(inference.mixing[0, 0], pattern, inference.shape[0].shape, program.shape))


def test_every_mutant_is_killed() -> None:
    killed, equivalent, alive = [], [], []
    for mutant in mutants():
        log: list[bool] = []
        each = mutant.property(log)
        if any(violated(program, each) for program in users()[mutant.primitive]):
            killed.append(str(mutant))
        elif not any(log):
            equivalent.append(str(mutant))
        else:
            alive.append(str(mutant))
    assert len(killed) >= 30
    assert alive == [], f"{len(killed)} killed, {len(equivalent)} changed nothing"
