"""How the time of the finish is divided: how many finalists are begun, and how many go on, so that the race can be finished.

All of them trained with all seeds would cost finalists × seeds trainings, and with little time only one or two could be begun; but
most are no answer, and one training often shows it: a short training tells little, the first full one much, later ones ever less.
So the race is budgeted as successive halving (Jamieson and Talwalkar, 2016): everyone has a first seed, half of them (rounded up) a
second one, half of these a third. The seed model, which all are held against, has them all. The race itself drops by probability,
not by halves; where it keeps more than there is time for, `affordable` keeps the likeliest answers, so that those that stay have
as many seeds as the choice asks for, instead of the time ending in the middle of the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

KEPT = 0.5
"""The share of the finalists that a seed is expected to leave in the race."""


def race_cost(seed: float, others: Sequence[float], rounds: int) -> float:
    """Seconds that so many rounds of a race are expected to cost, summed over workers: the dearest are taken to stay.

    `seed`, `others`: seconds of one training of the seed model and of each finalist that begins the first of these rounds.
    """
    left, total = sorted(others, reverse=True), 0.0
    for _ in range(rounds):
        total += seed + sum(left)
        left = left[: fewer(len(left))]
    return total


def fewer(count: int) -> int:
    """How many of so many are expected to stay after one more seed."""
    return -int(-count * KEPT // 1)


def affordable(chances: Mapping[int, float], costs: Mapping[int, float], *, seed: float, rounds: int, seconds: float) -> list[int]:
    """Those that go on for so many rounds within so many seconds: the likeliest answers, in the order of `chances`; at least one.

    The likeliest is always among them; another joins if the race is then still expected to fit, so that a small one may take the
    place that a large one has no time for.
    """
    kept: list[int] = []
    for one in sorted(chances, key=lambda one: (-chances[one], one)):
        if not kept or race_cost(seed, [costs[other] for other in (*kept, one)], rounds) <= seconds:
            kept.append(one)
    return [one for one in chances if one in kept]


def in_round(number: int, seed: int, costs: Mapping[int, float], *, asked: int) -> list[tuple[int, int]]:
    """(model, training seed) of a round of the race, counted from 0, in the order that they are begun; `costs` are the finalists'.

    All `asked` trainings of the seed model come in the first round: they hang on nothing, and fill workers that would wait for the
    last finalist. Rounds beyond those asked for have it again. Of finalists the dearest come first, so that no worker is left
    alone with one at the end.
    """
    finalists = [(one, number) for one in sorted(costs, key=lambda one: (-costs[one], one))]
    if 0 < number < asked:
        return finalists
    first, *later = [(seed, which) for which in (range(asked) if number == 0 else (number,))]
    return [first, *finalists, *later]
