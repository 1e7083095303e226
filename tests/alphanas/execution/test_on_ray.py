"""The pool on a Ray cluster of two nodes on this machine: values, failures, a node that is lost, and one that nobody replaces."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from alphanas.errors import UserError
from alphanas.execution import Completed, Failed

pytest.importorskip("ray", reason="needs the extra ray")
from tests.alphanas.execution.clusters import cluster, node

__all__ = ["cluster"]
pytestmark = pytest.mark.slow


def test_work_goes_on_when_a_node_is_lost_and_waits_when_all_are(cluster: Any, tmp_path: Path) -> None:
    from alphanas.execution.on_ray import RayPool

    first = node(cluster)
    told: list[str] = []
    with RayPool(2, address=cluster.address, tell=told.append, patience_s=1.0) as pool:
        assert pool.submit("sample_tasks:echo", {"a": [1, float("inf")]}).result(200) == Completed(
            {"a": [1, float("inf")]}, pytest.approx(0, abs=5)
        )
        failed = pool.submit("sample_tasks:segfault", None).result(200)
        assert isinstance(failed, Failed) and failed.cause == "crashed" and "before the crash" in failed.log_tail
        failed = pool.submit("sample_tasks:hang", None, limit_s=0.5).result(200)
        assert isinstance(failed, Failed) and failed.cause == "timeout"
        go = tmp_path / "go"
        slow = [pool.submit("sample_tasks:note_and_wait", [str(tmp_path / str(number)), str(go)]) for number in range(2)]
        second = node(cluster)
        deadline = time.monotonic() + 300
        # Both are begun, each on its node: a worker still on its way to one would count as without any.
        while not all((tmp_path / str(number)).exists() for number in range(2)) and time.monotonic() < deadline:
            time.sleep(0.1)
        cluster.remove_node(first, allow_graceful=False)
        while not any("is begun again" in text for text in told) and time.monotonic() < deadline:
            time.sleep(0.1)
        go.touch()
        waiting = list(slow)
        while waiting:
            waiting = pool.wait(waiting, timeout=90)[1]
        assert all(isinstance(handle.result(0), Completed) for handle in slow)
        assert any("is begun again on another node" in text for text in told)
        lost = [pool.submit("sample_tasks:note_and_wait", [str(tmp_path / "last"), str(tmp_path / "never")]) for _ in range(2)]
        cluster.remove_node(second, allow_graceful=False)
        with pytest.raises(UserError, match="no node has had room"):
            while lost:
                lost = pool.wait(lost, timeout=60)[1]
        assert any("no node of the Ray cluster has room" in text for text in told)


def test_a_node_that_does_not_see_the_run_folder_is_named(cluster: Any, tmp_path: Path) -> None:
    from alphanas.execution.on_ray import RayPool

    node(cluster)
    with RayPool(1, address=cluster.address, marks=[tmp_path / "nowhere"]) as pool, pytest.raises(UserError, match="does not see"):
        pool.wait([pool.submit("sample_tasks:echo", 1)], timeout=90)
