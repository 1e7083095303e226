"""Progressive synthesis as published (Jin et al., 2022): grow a sequence op by op towards the target.

At every step each op of the alphabet is tried as the next one, and the next is chosen by the distance that the longer sequence has:
`greedy` uniformly among the nearest, `uniform` an op type and then one of its ops whatever their distance (but a finished sequence
if there is one), `weighted` with weights (distance + epsilon)^-exponent, the type by its best op and then the op. The distance is
the sum over the requirements. A sequence is done when its distance is 0 and it has `min_length` ops; then it still goes on with
probability `p` if two more ops fit. There is no backtracking.

Complete only in this sense: under `uniform` or `weighted` every sequence of the alphabet up to `max_length` whose proper prefixes
do not end the procedure has positive probability, so that repeated attempts find an existing program with probability 1. It
assumes that composed summaries decide the requirements. A single attempt may miss, and no number of attempts shows that there is
nothing to find: the answer is then GaveUp. Needs no finite state space, so it serves properties for which `exact` has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from synth.growing import Growing
from synth.prefix import Prefix
from synth.problem import Problem
from synth.proving import answer
from synth.result import GaveUp, Result

ATTEMPTS = 10

AN_OP = 50
"""Steps that it takes to choose one more op."""

Choose = Callable[[Sequence[Prefix], np.ndarray], int]
MODES = ("greedy", "uniform", "weighted")


def synthesize(
    problem: Problem,
    *,
    rng: np.random.Generator | None = None,
    count: int = 1,
    time_limit: float | None = None,
    steps: float | None = None,
    mode: str = "weighted",
    epsilon: float = 0.1,
    exponent: float = 2.0,
    p: float = 0.2,
    min_length: int = 0,
    attempts: int = ATTEMPTS,
) -> Result:
    """`count` programs that meet the target, from up to `attempts` attempts each; without `rng` the draws are those of seed 0."""
    if mode not in MODES:
        raise ValueError(f"no progressive mode is called {mode!r}; known are {', '.join(MODES)}")
    run = Growing.of(problem, rng, time_limit, steps)

    def choose(candidates: Sequence[Prefix], distances: np.ndarray) -> int:
        return _choose(candidates, distances, run.rng, mode, epsilon, exponent)

    tried = (_attempt(run, choose, p, min_length) for _ in range(attempts * count))
    reason = f"none of {attempts} attempts of at most {problem.max_length} ops met the target"
    return answer(
        problem,
        run.programs(tried),
        count,
        run.clock,
        diverse=rng is not None,
        otherwise=lambda: GaveUp(reason, run.clock.seconds),
    )


def _attempt(run: Growing, choose: Choose, p: float, min_length: int) -> Prefix | None:
    """One sequence, or None if it is too long or too late and its distance is not 0."""
    problem, rng = run.problem, run.rng
    here = Prefix.empty(problem)
    distance = here.distance(problem)
    while run.clock.take(AN_OP):
        length = len(here.ops)
        if length >= min_length and distance == 0 and (length > problem.max_length - 2 or rng.random() >= p):
            return here
        if length == problem.max_length:
            return None
        longer = list(here.grown(run.alphabet))
        if not longer:
            return None
        distances = np.array([each.distance(problem) for each in longer])
        chosen = choose(longer, distances)
        here, distance = longer[chosen], distances[chosen]
    return None


def _choose(
    candidates: Sequence[Prefix], distances: np.ndarray, rng: np.random.Generator, mode: str, epsilon: float, exponent: float
) -> int:
    kinds = np.array([candidate.ops[-1].kind() for candidate in candidates])
    allowed = np.arange(len(candidates))
    if mode == "greedy":
        allowed = np.flatnonzero(distances == distances.min())
    elif mode == "uniform" and (distances == 0).any():
        allowed = np.flatnonzero(distances == 0)
    weights = (distances + epsilon) ** -exponent if mode == "weighted" else np.ones(len(candidates))
    best = {kind: weights[allowed][kinds[allowed] == kind].max() for kind in dict.fromkeys(kinds[allowed])}
    odds = np.array(list(best.values()))
    kind = list(best)[int(rng.choice(len(best), p=odds / odds.sum()))]
    members = allowed[kinds[allowed] == kind]
    return int(rng.choice(members, p=weights[members] / weights[members].sum()))
