"""A whole search on a Ray cluster of two nodes, one of which is lost in its midst, ends as the same search on this machine."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from alphanas.driver import search
from alphanas.driver.replay import replay
from alphanas.report.progress import Snapshot
from alphanas.study import Study

pytest.importorskip("ray", reason="needs the extra ray")
from tests.alphanas.execution.clusters import cluster, node

__all__ = ["cluster"]
pytestmark = pytest.mark.slow
TINY: dict[str, Any] = {
    "model": "zoo:mlp",
    "search": {"generation": 3, "max_candidates": 3},
    "training": {"short_epochs": 1, "epochs": 1},
    "finish": {"finalists": 1, "seeds": 1},
    "hardware": {"backends": []},
    "time_limit": "60m",
}


def facts(study: Study) -> list[tuple[Any, ...]]:
    return [(one.id, one.parent, one.status, one.graph_hash, one.error, one.accuracies("full")) for one in study.candidates()]


class Axe:
    """Takes a node away, ungracefully, once candidates are being trained."""

    def __init__(self, cluster: Any, victim: Any) -> None:
        self.cluster, self.victim, self.notes = cluster, victim, list[str]()
        self.fell = threading.Event()

    def update(self, snapshot: Snapshot) -> None:
        if snapshot.stage == "searching" and len(snapshot.running) > 1 and not self.fell.is_set():
            self.fell.set()
            self.cluster.remove_node(self.victim, allow_graceful=False)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_search_on_a_cluster_that_loses_a_node_ends_as_one_on_this_machine(cluster: Any, tmp_path: Path) -> None:
    axe = Axe(cluster, node(cluster))
    node(cluster)
    engine = {"execution": {"engine": "ray", "address": cluster.address}}
    far = search({**TINY, **engine}, out=tmp_path / "far", progress=axe)
    assert axe.fell.is_set() and far.status() == "done"
    near = search(TINY, out=tmp_path / "near")
    assert facts(far) == facts(near)
    assert [one.id for one in far.pareto()] == [one.id for one in near.pareto()] and far.best().id == near.best().id
    assert replay(far.folder).differences == []
