"""What the procedures that grow sequences op by op share: their alphabet, their clock, and how a sequence becomes a program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from synth.clock import Clock
from synth.graph import Graph
from synth.prefix import Prefix
from synth.problem import Problem
from synth.space import Alphabet


@dataclass(frozen=True)
class Growing:
    """One run of such a procedure: draws are those of seed 0 unless a generator is given."""

    problem: Problem
    alphabet: Alphabet
    rng: np.random.Generator
    clock: Clock

    @staticmethod
    def of(problem: Problem, rng: np.random.Generator | None, time_limit: float | None, steps: float | None) -> Growing:
        """A run that starts now."""
        alphabet = Alphabet.of(problem.vocabulary, problem.sizes)
        return Growing(problem, alphabet, rng if rng is not None else np.random.default_rng(0), Clock.of(time_limit, steps))

    def programs(self, prefixes: Iterable[Prefix | None]) -> Iterator[Graph]:
        """Those sequences that meet the requirements, as programs that keep the budget, while there is time."""
        for prefix in prefixes:
            if not self.clock.take():
                return
            meets = prefix is not None and prefix.distance(self.problem) == 0
            graph = prefix.finished(self.problem, self.rng) if prefix is not None and meets else None
            if graph is not None:
                yield graph
