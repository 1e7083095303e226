"""Enumerative synthesis as published (Jin et al., 2022): every sequence in order of length until one meets the target.

In `length` order sequences of equal length come in the order of the alphabet; in `random` order each length is shuffled, by a
permutation that is computed and never stored. Complete for the alphabet: every sequence of at most `max_length` ops is visited, so
what exists is found and, given the time, what does not is Infeasible, with all requirements and not a smallest set of them as its
reason. It assumes that composed summaries decide the requirements, and with `widths` that the sizes of one sequence are settled in
the time that they are given. The first program found is one of the shortest. Needs no finite state space.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from synth.growing import Growing
from synth.op import Op, ShapeMismatch, output_value
from synth.prefix import Prefix
from synth.problem import Problem
from synth.proving import answer
from synth.result import Infeasible, Result
from synth.space import Alphabet
from synth.target import describe

ORDERS = ("length", "random")


def synthesize(
    problem: Problem,
    *,
    rng: np.random.Generator | None = None,
    count: int = 1,
    time_limit: float | None = None,
    steps: float | None = None,
    order: str = "length",
) -> Result:
    """The first `count` programs that meet the target; `rng` shuffles the `random` order and draws sizes (without: seed 0)."""
    if order not in ORDERS:
        raise ValueError(f"no enumerative order is called {order!r}; known are {', '.join(ORDERS)}")
    run = Growing.of(problem, rng, time_limit, steps)
    prefixes = _in_order(problem, run.alphabet) if order == "length" else _shuffled(problem, run.alphabet, run.rng)
    core = (*map(describe, problem.target.requirements), str(problem.target.budget), f"at most {problem.max_length} ops")
    return answer(
        problem,
        run.programs(prefixes),
        count,
        run.clock,
        diverse=rng is not None,
        otherwise=lambda: Infeasible(core, run.clock.seconds),
    )


def _in_order(problem: Problem, alphabet: Alphabet) -> Iterator[Prefix]:
    for length in range(problem.max_length + 1):
        yield from _of_length(Prefix.empty(problem), alphabet, length)


def _of_length(prefix: Prefix, alphabet: Alphabet, left: int) -> Iterator[Prefix]:
    if not left:
        yield prefix
        return
    for longer in prefix.grown(alphabet):
        yield from _of_length(longer, alphabet, left - 1)


def _shuffled(problem: Problem, alphabet: Alphabet, rng: np.random.Generator) -> Iterator[Prefix]:
    letters = list(alphabet.letters)
    for length in range(problem.max_length + 1):
        for number in permuted(len(letters) ** length, rng):
            found = _spelled(problem, letters, number, length)
            if found is not None:
                yield found


def _spelled(problem: Problem, letters: list[Op], number: int, length: int) -> Prefix | None:
    """The sequence with this number among all of its length; None if some op does not fit."""
    here = Prefix.empty(problem)
    for _ in range(length):
        number, letter = divmod(number, len(letters))
        try:
            here = here.then(letters[letter], output_value(letters[letter], (here.value,)))
        except ShapeMismatch:
            return None
    return here


def permuted(size: int, rng: np.random.Generator) -> Iterator[int]:
    """The numbers below `size` in a random order, each once: a Feistel network over a power of two, walked along its cycles."""
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    keys = [int(key) for key in rng.integers(1, 1 << 62, size=6)]
    for start in range(size):
        number = start
        while True:
            left, right = number >> half, number & mask
            for key in keys:
                mixed = ((right ^ key) * 0x9E3779B97F4A7C15 + key) & ((1 << 64) - 1)
                left, right = right, left ^ ((mixed >> 29) & mask)
            number = left << half | right
            if number < size:
                break
        yield number
