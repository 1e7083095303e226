"""The choices of the finish, as functions of what was trained: who is trained in full, who stays in the race, who is best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from alphanas.config import Finish
from alphanas.driver.pairing import Estimate, Trained, estimates
from alphanas.study import Candidate

LONG_SHOT = 0.1
"""A finalist leaves the race when it is the answer with a smaller probability than this."""
PICTURES = 1000
"""What a validation part counts as where nothing says how large it was."""


@dataclass(frozen=True)
class Point:
    """What the choice of finalists looks at: a candidate's error on the validation part, and its size."""

    id: int
    error: float
    params: int


def point(candidate: Candidate) -> Point | None:
    """A candidate's point, if it was trained."""
    if candidate.error is None or candidate.params is None:
        return None
    return Point(candidate.id, candidate.error, candidate.params)


def choose_finalists(seed: Point, trained: Sequence[Point], *, count: int, slack: float) -> list[int]:
    """Up to `count` ids, smaller first: the most accurate of each size, of those that err at most `slack` more than the seed.

    Sizes are `count` bands of equal ratio from the smallest such model to the seed; where some are empty, the most accurate others
    fill up, nearer ones first: a short training tells little, and the race drops long shots. Where none comes so near, the most
    accurate of all. A front would not do: errors after a short training are noisy, and one lucky small model dominates all that are
    larger.
    """

    def accurate(points: Iterable[Point]) -> list[Point]:
        return sorted(points, key=lambda point: (point.error, point.params, point.id))

    near = accurate(point for point in trained if point.error <= seed.error + slack + 1e-9 and point.params < seed.params)
    if not near:
        return [point.id for point in accurate(trained)[:count]]
    smallest = min(point.params for point in near)
    bands: dict[int, Point] = {}
    for point in near:
        bands.setdefault(int(count * math.log(point.params / smallest) / math.log(seed.params / smallest)), point)
    chosen = accurate(bands.values())
    smaller = accurate(point for point in trained if point.params < seed.params)
    chosen = list(dict.fromkeys([*chosen, *near, *smaller]))
    return [point.id for point in sorted(chosen[:count], key=lambda point: (point.params, point.error, point.id))]


def choose_best(seed: Candidate, chosen: Sequence[Candidate], finish: Finish) -> dict[str, Any]:
    """The smallest finalist that is as accurate as the seed, less `finish.tolerance`, with probability `finish.confidence`.

    {"candidate": its id, or the seed's if none is; "differences": {id: mean accuracy less the seed's, by the training seeds that
    both were trained with}; "seeds": {id: how many these are}; "estimates": {id: {"mean", "deviation", "chance"} of that difference
    in the light of all trainings}}.

    Who left the race is chosen only where nobody who stayed is good enough: left it has who was
    unlikely to be the smallest good one, which says little of larger ones once the smaller ones have failed.
    """
    bar, others = _trained(seed), [_trained(one) for one in chosen]
    known = estimates(bar, others, pictures=_pictures(seed))
    shared = {one.id: sorted(set(one.accuracies) & set(bar.accuracies)) for one in others if one.id in known}
    enough = min(finish.seeds, max(map(len, shared.values()), default=0))
    able = [one for one in others if one.id in known and len(shared[one.id]) >= enough]
    good = [one for one in others if one.id in known and known[one.id].chance(-finish.tolerance) >= finish.confidence]
    best = min([one for one in good if one in able] or good, key=_by_size).id if good else seed.id
    plain = {
        one.id: fmean(one.accuracies[name] for name in shared[one.id]) - fmean(bar.accuracies[name] for name in shared[one.id])
        for one in others
        if one.id in known
    }
    return {
        "candidate": best,
        "differences": {str(one): difference for one, difference in plain.items()},
        "seeds": {str(one): len(names) for one, names in shared.items()},
        "estimates": {str(one): _told(estimate, finish.tolerance) for one, estimate in known.items()},
    }


def still_racing(seed: Candidate, racing: Sequence[Candidate], finish: Finish, *, seeds: int) -> list[Candidate]:
    """Who is trained with one more seed after so many: those that may well turn out to be the smallest good one; at least one."""
    chances = answers(seed, racing, finish, seeds=seeds)
    bar = min(LONG_SHOT, max(chances.values(), default=0.0))
    return [one for one in racing if chances.get(one.id, -1.0) >= bar]


def answers(seed: Candidate, racing: Sequence[Candidate], finish: Finish, *, seeds: int) -> dict[int, float]:
    """The probability, after so many seeds, that each finalist is the smallest good one, by id; smaller ones first.

    That is: that it is good itself and that none that is smaller is, taken as independent. What later seeds said is left aside, so
    that a resumed race is run as it was. Those that share no training seed with the seed model are left out.
    """
    known = estimates(_trained(seed, seeds), [_trained(one, seeds) for one in racing], pictures=_pictures(seed))
    found: dict[int, float] = {}
    nobody_yet = 1.0
    for one in sorted((one for one in racing if one.id in known), key=_by_size):
        good = known[one.id].chance(-finish.tolerance)
        found[one.id] = nobody_yet * good
        nobody_yet *= 1 - good
    return found


def _by_size(one: Candidate | Trained) -> tuple[int, int]:
    return one.params or 0, one.id


def _told(estimate: Estimate, tolerance: float) -> dict[str, float]:
    return {"mean": estimate.mean, "deviation": estimate.deviation, "chance": estimate.chance(-tolerance)}


def _trained(candidate: Candidate, seeds: int | None = None) -> Trained:
    passed = [one for one in candidate.outcomes("full") if one.ok and (seeds is None or int(one.discriminator) < seeds)]
    return Trained(candidate.id, candidate.params or 0, {one.discriminator: fmean(one.values["accuracy"]) for one in passed})


def _pictures(seed: Candidate) -> int:
    return int(seed.values("full").get("validation_pictures") or PICTURES)
