"""The pool on a Ray cluster of two nodes on this machine: values, failures, a node that is lost, and one that nobody replaces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphanas.errors import UserError
from alphanas.execution import Completed, Failed

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
STORE = 80 * 2**20


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without processors, and two nodes of one."""
    from ray._private import services
    from ray.cluster_utils import Cluster

    plain = services.get_node

    def patient(*arguments: Any) -> Any:
        """Ray gives a new node half a minute, which is short on a machine that has other things to do."""
        for left in range(60, -1, -1):
            try:
                return plain(*arguments)
            except RuntimeError:
                if not left:
                    raise
                time.sleep(2.0)

    monkeypatch.setattr(services, "get_node", patient)
    monkeypatch.syspath_prepend(str(HERE))
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False},
        shutdown_at_exit=False,
    )
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=STORE)


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
        deadline = time.monotonic() + 200
        while not (tmp_path / "0").exists() and time.monotonic() < deadline:
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
