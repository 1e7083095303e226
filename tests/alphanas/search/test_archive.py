"""Laws of the archive, against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from alphanas.search.archive import Archive, Member, Origin, Proposed, crowding, ranks, tournament
from synth import Graph, Op, Value, chain
from synth.ops import Dense, Gelu, GlobalAvgPool, MaxPool, Relu


def points(seed: int) -> np.ndarray:
    """Small integers, so that ties and repeated points occur."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 6, (int(rng.integers(1, 30)), int(rng.integers(1, 4)))).astype(float)


def dominates(one: np.ndarray, other: np.ndarray) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


def graph(features: int = 2) -> Graph:
    return chain(Value((None, 3)), [Dense(features=features), Dense(features=2)])


def archive(rows: np.ndarray) -> Archive:
    names = tuple(f"objective{index}" for index in range(rows.shape[1]))
    return Archive(names, tuple(Member(index, graph(), tuple(row)) for index, row in enumerate(rows.tolist())))


@pytest.mark.parametrize("seed", range(30))
def test_fronts_are_those_of_brute_force(seed: int) -> None:
    rows, left, rank = points(seed), set(range(len(points(seed)))), 0
    found = ranks(rows)
    while left:
        front = {one for one in left if not any(dominates(rows[other], rows[one]) for other in left)}
        assert front == set(np.flatnonzero(found == rank).tolist())
        left, rank = left - front, rank + 1
    assert archive(rows).front == tuple(member for member in archive(rows).members if found[member.id] == 0)


def test_crowding_in_closed_form() -> None:
    """Of four points, the inner ones have the distance of their neighbours as a share of the range, for each objective."""
    rows = np.array([[0.0, 3.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]])
    assert crowding(rows).tolist() == [np.inf, 3 / 4 + 2 / 3, 3 / 4 + 2 / 3, np.inf]


@pytest.mark.parametrize("seed", range(10))
def test_nobody_wins_a_tournament_over_a_better_front(seed: int) -> None:
    rows = points(seed)
    found, rng = archive(rows), np.random.default_rng(seed)
    everyone = tournament(found, rng, size=200)
    assert found.ranks[everyone.id] == 0
    among = [0]
    assert tournament(found, rng, among=among).id == 0


def test_equal_generators_choose_equal_parents() -> None:
    found = archive(points(3))
    drawn = [[tournament(found, rng).id for _ in range(20)] for rng in (np.random.default_rng(1), np.random.default_rng(1))]
    assert drawn[0] == drawn[1]


def test_what_was_proposed_before_is_told_with_the_reason() -> None:
    found = archive(np.zeros((1, 1)))
    assert found.repeats(graph()) == "has the canonical form of #0"
    assert found.repeats(graph(5)) is None
    assert found.knowing([Proposed(7, graph(5))]).repeats(graph(5)) == "has the canonical form of #7"


def test_other_words_for_a_program_are_a_repetition_unless_they_cost_less() -> None:
    value, layer = Value((None, 4, 4, 3)), Dense(features=5)
    known = [[layer, Relu(), MaxPool()], [layer, GlobalAvgPool()]]
    found = archive(np.zeros((1, 1))).knowing([Proposed(index, chain(value, ops)) for index, ops in enumerate(known, 1)])

    def repeats(*ops: Op) -> str:
        return found.repeats(chain(value, ops)) or "new"

    assert repeats(layer, Relu(), Relu(), MaxPool()) == "has the canonical form of #1"
    assert repeats(layer, MaxPool(), Relu()).startswith("computes the same as #1,")
    assert repeats(layer, MaxPool(), Gelu()) == "new"
    # The mean first: the same function for a sixteenth of the multiply-adds.
    assert repeats(GlobalAvgPool(), layer) == "new"
    cheap = found.knowing([Proposed(3, chain(value, [GlobalAvgPool(), Dense(features=5)]))])
    assert cheap.repeats(chain(value, [layer, GlobalAvgPool()])) == "has the canonical form of #2"


@pytest.mark.parametrize("objectives", [(1.0,), (1.0, float("nan")), (1.0, float("inf"))])
def test_members_without_finite_objectives_are_refused(objectives: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="finite"):
        Archive(("error", "params"), (Member(0, graph(), objectives),))
    with pytest.raises(ValueError, match="seed"):
        Archive(("error",), ())


def test_what_breaks_constraints_is_behind_all_that_does_not() -> None:
    """Feasible members have the fronts that they have alone; the others follow by how much they break."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 6, (20, 2)).astype(float)
    excess = np.where(np.arange(20) % 3 == 0, rng.random(20), 0.0)
    names = ("params", "macs")
    members = tuple(Member(index, graph(), tuple(row), excess=float(excess[index])) for index, row in enumerate(rows.tolist()))
    found = Archive(names, members)
    assert found.ranks[excess == 0].tolist() == ranks(rows[excess == 0]).tolist()
    assert found.ranks[excess > 0].min() > found.ranks[excess == 0].max()
    assert np.argsort(excess[excess > 0]).tolist() == np.argsort(found.ranks[excess > 0]).tolist()
    assert all(member.excess == 0 for member in found.front)
    assert [member.id for member in Archive(names, members[:1]).front] == [0]


def test_hypervolume_in_closed_form() -> None:
    """The seed dominates nothing of the box; half of its cost at its error, half of half of it."""

    def volume(*rows: tuple[float, float], excess: float = 0.0) -> float:
        points = ((0.02, 100.0), *rows)
        members = (Member(index, graph(), row, excess=excess if index else 0.0) for index, row in enumerate(points))
        return Archive(("error", "params"), tuple(members)).hypervolume

    assert volume() == 0
    assert volume((0.02, 50.0)) == pytest.approx(0.25)
    assert volume((0.0, 1e-9)) == pytest.approx(1.0)
    assert volume((0.05, 1.0)) == 0
    assert volume((0.02, 50.0), (0.03, 20.0)) == pytest.approx((1.0 * 0.5 + 0.5 * 0.3) / 2)
    assert volume((0.02, 50.0), excess=0.1) == 0


def test_errors_that_cannot_be_told_apart_leave_the_choice_to_size() -> None:
    rows = [(0.02, 100.0), (0.012, 90.0), (0.024, 30.0), (0.06, 5.0)]
    found = Archive(("error", "params"), tuple(Member(index, graph(), row) for index, row in enumerate(rows)))
    near = found.nearly(0.01, 0.005)
    assert [member.id for member in near.members] == [0, 1, 2]
    assert [member.id for member in near.front] == [2]
    assert {member.id for member in found.front} == {1, 2, 3}


def test_where_nothing_that_keeps_the_limits_comes_near_the_seed_the_best_of_it_is_the_bar() -> None:
    def near(*others: Member) -> list[int]:
        return [one.id for one in Archive(("error", "params"), (seed, *others)).nearly(0.02, 0.0).members]

    seed, beyond = Member(0, graph(), (0.1, 50.0), excess=2.0), Member(1, graph(), (0.11, 40.0), excess=1.0)
    far, better, best = (Member(id, graph(), (error, 10.0)) for id, error in ((2, 0.5), (3, 0.31), (4, 0.3)))
    assert near(beyond) == [0, 1]
    assert near(beyond, far, better, best) == [3, 4]
    assert near(far, Member(5, graph(), (0.115, 9.0))) == [5]


def test_where_a_candidate_comes_from_is_read_from_its_proposal() -> None:
    changes = [
        {"property": "depth", "before": "depth at least 3", "after": "depth at least 2"},
        {"property": "width at a, b", "before": "8", "after": "4"},
        {"property": "mixing", "before": "x", "after": "y"},
    ]
    found = Origin.from_json({"kind": "region", "region": ["a", "b"], "changes": changes})
    assert found == Origin("region", ("a", "b"), ("depth down", "width", "mixing"))
    assert Origin.from_json({}) == Origin()
