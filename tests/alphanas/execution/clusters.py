"""A Ray cluster of several nodes on this machine, for tests; import it only where ray is installed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

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
