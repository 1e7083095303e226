"""The curve of the hypervolume, the table of changes, the tree and the pages of candidates, against what the study says."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from alphanas.errors import UserError
from alphanas.report import tree
from alphanas.report.history import ROOM, hypervolumes, paid
from alphanas.report.page import candidate_html
from alphanas.study import Study
from tests.alphanas.report.fakes import STEPS, fake_study

OBJECTIVES = ("error", "params", "macs")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return fake_study(tmp_path_factory.mktemp("runs") / "digits")


def test_the_hypervolume_grows_to_the_share_that_random_points_hit(study: Study) -> None:
    """Oracle: the share of random points of the reference box that some candidate dominates."""
    grown = hypervolumes(study)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(grown))
    trained = [one for one in study.candidates() if one.error is not None]
    assert grown[-1][0] == len(trained) - 1
    values = np.array([[one.objective(name) for name in OBJECTIVES] for one in trained], float)
    corner = np.array([max(2 * values[0, 0], values[0, 0] + ROOM), *values[0, 1:]])
    points = np.random.default_rng(0).random((20_000, 3)) * corner
    hit = (values[:, None, :] <= points).all(-1).any(0).mean()
    assert grown[-1][1] == pytest.approx(hit, abs=0.015)


def test_the_hypervolume_of_one_objective_is_how_far_it_fell(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(study), "config", {"search": {"objectives": ["error"]}})
    errors = [one.error for one in study.candidates() if one.error is not None]
    assert hypervolumes(study)[-1][1] == pytest.approx(1 - min(errors) / max(2 * errors[0], errors[0] + ROOM), abs=1e-6)


def test_the_table_of_changes_counts_what_the_study_has(study: Study) -> None:
    page = paid(study)
    proposed = sum(one.parent is not None for one in study.candidates())
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr.*?</tr>", page)][1:]
    nothing = [row for row in rows if row[1] == "nothing"]
    named = {row[1]: int(row[2]) for row in rows if row[1] in ("params", "depth")}
    assert named == {"params": len(STEPS), "depth": len(STEPS)}
    assert sum(int(row[2]) for row in nothing) == proposed - len(STEPS)
    assert sum(int(row[-1]) for row in nothing) <= len(study.pareto())


def test_the_tree_holds_the_front_and_its_ancestors(study: Study) -> None:
    shown = set(map(int, re.findall(r'data-candidate="(\d+)"', tree.family(study))))
    assert shown == {one.id for member in (study.best(), *study.pareto()) for one in member.lineage()}


def test_a_tree_that_is_too_large_keeps_the_best(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST", 4)
    shown = set(map(int, re.findall(r'data-candidate="(\d+)"', tree.family(study))))
    assert {one.id for one in study.best().lineage()} <= shown
    assert len(shown) < len({one.id for member in study.pareto() for one in member.lineage()})


def test_every_candidate_has_a_page(study: Study) -> None:
    outcomes = [outcome for one in study.candidates() for outcome in one.outcomes()]
    for one in study.candidates():
        page = candidate_html(study, one.id)
        assert f"<h1>Candidate {one.id}" in page
        assert ("<h2>Program</h2>" in page) == (one.graph_hash is not None)
        assert ("<h2>How it came about</h2>" in page) == (one.parent is not None)
    diverged = next(outcome.candidate for outcome in outcomes if outcome.cause == "diverged")
    assert "diverged" in candidate_html(study, diverged)
    with pytest.raises(UserError, match="not in this study"):
        candidate_html(study, 4711)
