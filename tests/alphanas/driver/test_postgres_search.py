"""A search whose study is in PostgreSQL ends as one in SQLite does, also when the database is gone for a while in its midst."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from alphanas.driver import search
from alphanas.driver.replay import replay
from alphanas.report.progress import Snapshot
from alphanas.study import Study

pytest.importorskip("psycopg", reason="needs the extra postgres")
from tests.alphanas.study.server import PASSWORD, Server, needs_postgres

pytestmark = [needs_postgres, pytest.mark.slow]
TINY: dict[str, Any] = {
    "model": "zoo:mlp",
    "search": {"generation": 2, "max_candidates": 2},
    "training": {"short_epochs": 1, "epochs": 1},
    "finish": {"finalists": 1, "seeds": 1},
    "hardware": {"backends": []},
    "time_limit": "20m",
}


def facts(study: Study) -> list[tuple[Any, ...]]:
    return [(one.id, one.parent, one.status, one.graph_hash, one.error, one.accuracies("full")) for one in study.candidates()]


class Breaker:
    """Kills the server when the search has begun, and starts it again some seconds later."""

    def __init__(self, server: Server) -> None:
        self.server, self.notes, self.broken = server, list[str](), False

    def update(self, snapshot: Snapshot) -> None:
        if snapshot.stage == "searching" and not self.broken:
            self.broken = True
            self.server.kill()
            threading.Thread(target=lambda: (time.sleep(3.0), self.server.start())).start()

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_search_waits_for_its_database(tmp_path: Path) -> None:
    server = Server()
    try:
        breaker = Breaker(server)
        remote = search({**TINY, "study": {"store": server.url, "name": "tiny"}}, out=tmp_path / "remote", progress=breaker)
        assert breaker.notes[0].startswith("paused: ") and breaker.notes[1].startswith("going on")
        assert facts(remote) == facts(search(TINY, out=tmp_path / "local"))
        assert not remote.decisions("late_outcome") and replay(remote.folder, proposals=False).differences == []
        for path in (path for path in remote.folder.rglob("*") if path.is_file()):
            assert PASSWORD.encode() not in path.read_bytes(), path
    finally:
        server.close()
