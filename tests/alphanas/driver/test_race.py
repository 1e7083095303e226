"""The race of the finalists: who is trained with another seed, and who can be chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, cast

import pytest

from alphanas.config import Finish
from alphanas.driver.choice import choose_best, still_racing
from alphanas.study import Candidate


@dataclass(frozen=True)
class Row:
    discriminator: str
    values: dict[str, Any]
    ok: bool = True


@dataclass(frozen=True)
class Fake:
    """What a choice reads of a candidate."""

    id: int
    params: int
    accuracies: tuple[float, ...]
    pictures: int = field(default=2000)

    def outcomes(self, stage: str) -> list[Row]:
        assert stage == "full"
        return [Row(str(seed), {"accuracy": [value]}) for seed, value in enumerate(self.accuracies)]

    def values(self, stage: str) -> dict[str, Any]:
        return {"validation_pictures": self.pictures} if stage == "full" else {}


def models(*rows: tuple[int, tuple[float, ...]]) -> list[Candidate]:
    return [cast(Candidate, Fake(one, params, accuracies)) for one, (params, accuracies) in enumerate(rows)]


FINISH = Finish(tolerance=0.005, confidence=0.6)
SEED = (10_000, (0.90, 0.91, 0.90))


def ids(chosen: list[Candidate]) -> list[int]:
    return [one.id for one in chosen]


def test_the_smallest_good_one_is_chosen_and_its_difference_told() -> None:
    seed, *others = models(SEED, (8000, (0.90, 0.91, 0.90)), (4000, (0.905, 0.91, 0.90)), (900, (0.80, 0.82, 0.81)))
    told = choose_best(seed, others, FINISH)
    assert told["candidate"] == 2
    assert told["differences"]["3"] == pytest.approx(fmean([0.80, 0.82, 0.81]) - fmean(SEED[1]))
    assert told["estimates"]["2"]["chance"] > 0.6 > told["estimates"]["3"]["chance"]


def test_none_as_good_means_the_seed() -> None:
    seed, *others = models(SEED, (8000, (0.80, 0.81, 0.80)), (4000, (0.79, 0.80, 0.80)))
    assert choose_best(seed, others, FINISH)["candidate"] == 0
    assert choose_best(seed, [], FINISH)["candidate"] == 0


def test_who_left_the_race_is_not_chosen() -> None:
    seed, *others = models(SEED, (8000, (0.90, 0.91, 0.90)), (900, (0.93,)))
    assert choose_best(seed, others, FINISH)["candidate"] == 1


def test_where_all_that_stayed_failed_who_left_is_chosen() -> None:
    seed, *others = models((10_000, (0.90,) * 3), (8000, (0.93,)), (900, (0.86, 0.85, 0.86)), (7000, (0.80,)))
    told = choose_best(seed, others, FINISH)
    assert told["candidate"] == 1 and told["seeds"] == {"1": 1, "2": 3, "3": 1}


def test_a_race_that_time_cut_short_is_decided_by_what_there_is() -> None:
    seed, *others = models((10_000, (0.90,)), (8000, (0.92,)), (4000, (0.92,)))
    assert choose_best(seed, others, FINISH)["candidate"] in (1, 2)


def test_clearly_worse_ones_leave_and_close_ones_stay() -> None:
    seed, *others = models(SEED, (8000, (0.90, 0.91, 0.90)), (4000, (0.895, 0.905, 0.90)), (900, (0.70, 0.72, 0.71)))
    assert 3 not in ids(still_racing(seed, others, FINISH, seeds=1))
    assert 2 in ids(still_racing(seed, others, FINISH, seeds=3))


def test_larger_ones_leave_when_a_smaller_one_is_clearly_good() -> None:
    seed, *others = models((10_000, (0.90,) * 6), (8000, (0.90,) * 6), (4000, (0.96,) * 6))
    assert ids(still_racing(seed, others, FINISH, seeds=6)) == [2]


def test_one_always_stays() -> None:
    seed, *others = models(SEED, (8000, (0.5, 0.5, 0.5)), (4000, (0.4, 0.4, 0.4)))
    assert len(still_racing(seed, others, FINISH, seeds=3)) >= 1
    assert still_racing(seed, [], FINISH, seeds=3) == []


def test_later_seeds_do_not_change_an_earlier_round() -> None:
    early = models((10_000, (0.90,)), (8000, (0.90,)), (4000, (0.88,)), (2000, (0.87,)))
    late = models((10_000, (0.90, 0.5)), (8000, (0.90, 0.1)), (4000, (0.88, 0.99)), (2000, (0.87,)))
    first, again = (still_racing(rows[0], rows[1:], FINISH, seeds=1) for rows in (early, late))
    assert ids(first) == ids(again)
