"""A study in PostgreSQL: several studies in one database, a server that goes away, no password on disk."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphanas.config import Config
from alphanas.errors import UserError
from alphanas.study import Patience, Recorder, Superseded, create_study, open_study, resume_study

pytest.importorskip("psycopg", reason="needs the extra postgres")
from tests.alphanas.study.server import PASSWORD, Server, needs_postgres

pytestmark = needs_postgres
START: dict[str, Any] = {"config": {"seed": 3}, "config_toml": "seed = 3\n", "key": 3, "fingerprint": "print", "environment": {}}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def fill(recorder: Recorder, numbers: range) -> None:
    for number in numbers:
        recorder.candidate(number, graph_json=f'{{"n": {number}}}', graph_hash=f"h{number}", parent=0 if number else None)
        recorder.outcome(number, "cost", values={"params": 100 - number, "odd": float("nan")}, message="a\0b")


def test_a_study_in_a_database_is_read_gone_on_with_and_keeps_its_password_off_the_disk(server: Server, tmp_path: Path) -> None:
    with create_study(tmp_path / "one", **START, store=server.url) as recorder:
        fill(recorder, range(3))
        recorder.outcome(1, "short", values={"accuracy": 0.5}, artifacts={"weights/short": b"w"})
        assert recorder.outcome(1, "short", values={"accuracy": 0.9}).values == {"accuracy": 0.5}
        study = open_study(tmp_path / "one")
        assert study.status() == "running"
        with pytest.raises(UserError, match="cannot be written"), study._reading() as connection:
            connection.exec_driver_sql("DELETE FROM outcomes")
        with pytest.raises(ZeroDivisionError), recorder.transaction():
            recorder.candidate(9)
            _ = 1 / 0
        assert len(study.candidates()) == 3
        with pytest.raises(UserError, match="is writing to it"):
            resume_study(tmp_path / "one")
    with resume_study(tmp_path / "one") as recorder:
        fill(recorder, range(2, 5))
    again = open_study(tmp_path / "one")
    assert [one.params for one in again.candidates()] == [100, 99, 98, 97, 96]
    assert again.candidate(1).values("cost") == {"params": 99, "odd": None}
    assert again.candidate(1).graph_json() == '{"n": 1}'
    weights = again.candidate(1).weights()
    assert weights is not None and weights.read_bytes() == b"w"
    assert len(again.decisions("late_outcome")) == 2 and again.status() == "interrupted"
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert PASSWORD.encode() not in path.read_bytes(), path


def test_several_studies_share_a_database_and_a_name_is_taken_once(server: Server, tmp_path: Path) -> None:
    for name, count in (("a.b", 1), ("a-b", 2)):
        with create_study(tmp_path / name, **START, store=server.url) as recorder:
            fill(recorder, range(count))
    assert [len(open_study(tmp_path / name).candidates()) for name in ("a.b", "a-b")] == [1, 2]
    with pytest.raises(UserError, match=r"there is a study 'a\.b' in postgresql://user@127") as caught:
        create_study(tmp_path / "other", **START, store=server.url, name="a.b")
    assert PASSWORD not in str(caught.value)
    for store in (server.url, ""):
        with pytest.raises(UserError, match="it holds a study"):
            create_study(tmp_path / "a.b", **START, store=store)


def test_the_password_comes_from_the_environment(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alphanas.study import place

    with create_study(tmp_path / "one", **START, store=server.url, name="secret"):
        pass
    monkeypatch.setattr(place, "_given", {})
    with pytest.raises(UserError, match="no password supplied"):
        open_study(tmp_path / "one")
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(UserError, match="password authentication failed"):
        resume_study(tmp_path / "one")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert open_study(tmp_path / "one").candidates() == ()
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("ALPHANAS_STORE", server.url)
    assert open_study(tmp_path / "one").candidates() == ()


def test_a_lost_connection_is_made_again_and_a_lost_server_waited_for(server: Server, tmp_path: Path) -> None:
    told: list[str] = []
    with create_study(tmp_path / "one", **START, store=server.url, name="waits", patience=Patience(120.0, told.append)) as recorder:
        fill(recorder, range(2))
        assert server.cut() >= 1
        fill(recorder, range(2, 4))
        server.kill()
        with pytest.raises(UserError, match="cannot be reached") as caught:
            open_study(tmp_path / "one")
        assert PASSWORD not in str(caught.value)
        late = threading.Timer(1.0, server.start)
        late.start()
        fill(recorder, range(4, 6))
        recorder.decide("generation", {"number": 1})
        late.join()
        assert [entry.payload for entry in recorder.study.decisions("generation")] == [{"number": 1}]
    paused = [text for text in told if text.startswith("paused: ")]
    assert paused and "its database cannot be reached" in paused[-1] and told[-1].startswith("going on after a pause")
    assert not any(PASSWORD in text for text in told)
    study = open_study(tmp_path / "one")
    assert [one.id for one in study.candidates()] == list(range(6))
    assert all(len(one.outcomes()) == 2 for one in study.candidates()) and not study.decisions("late_outcome")


def test_a_lease_of_another_machine_keeps_and_ends_and_its_late_result_changes_nothing(server: Server, tmp_path: Path) -> None:
    with create_study(tmp_path / "one", **START, store=server.url, name="leases") as one:
        fill(one, range(1))
        shutil.copytree(tmp_path / "one", tmp_path / "two", ignore=shutil.ignore_patterns("study.lock"))
        with resume_study(tmp_path / "two") as two:
            first = one.lease(0, "short", seconds=0.5)
            assert first is not None and two.lease(0, "short") is None
            time.sleep(0.6)
            second = two.lease(0, "short")
            assert second is not None and second.token > first.token and one.lease(0, "short") is None
            with pytest.raises(Superseded):
                one.outcome(0, "short", values={"accuracy": 0.1}, lease=first)
            assert not one.done(0, "short")
            assert two.outcome(0, "short", values={"accuracy": 0.2}, lease=second).values == {"accuracy": 0.2}
            assert one.outcome(0, "short", values={"accuracy": 0.3}, lease=first).values == {"accuracy": 0.2}
            assert [entry.payload["token"] for entry in one.study.decisions("late_outcome")] == [first.token, first.token]
            assert one.decide("generation", {"number": 1}, once="generation 1")
            assert not two.decide("generation", {"number": 1}, once="generation 1")


def test_one_process_conducts_a_search_and_the_next_one_when_it_is_gone(server: Server, tmp_path: Path) -> None:
    with create_study(tmp_path / "one", **START, store=server.url, name="led") as one:
        one.lead()
        one.lead()
        shutil.copytree(tmp_path / "one", tmp_path / "two", ignore=shutil.ignore_patterns("study.lock"))
        with resume_study(tmp_path / "two") as two, pytest.raises(UserError, match="another process conducts its search") as caught:
            two.lead()
        assert caught.value.cause == "locked" and PASSWORD not in str(caught.value)
        one.lead()
    with resume_study(tmp_path / "two") as two:
        two.lead()


def test_what_is_no_address_of_a_database_is_refused_without_its_password(tmp_path: Path) -> None:
    for wrong in ("mysql://u:pw@h/d", "postgresql://u:pw@h:x/d", "postgresql://u:pw@h", "postgresql://u:pw@h/d?passfile=/x", 3):
        with pytest.raises(UserError, match=r"study\.store") as caught:
            Config.from_mapping({"study": {"store": wrong}})
        assert "pw" not in str(caught.value)
    config = Config.from_mapping({"study": {"store": "postgresql://u:pw@h/d"}})
    assert "pw" not in config.to_toml() and "pw" not in repr(config) and config.replace(seed=1).study.store.endswith(":pw@h/d")


@pytest.mark.slow
def test_two_hundred_lost_connections_lose_and_double_nothing(server: Server, tmp_path: Path) -> None:
    stop, cuts, chance = threading.Event(), [0], random.Random(4)

    def cutting() -> None:
        while cuts[0] < 200 and not stop.wait(chance.uniform(0.0, 0.05)):
            cuts[0] += server.cut()

    with create_study(tmp_path / "one", **START, store=server.url, name="cut", patience=Patience(60.0)) as recorder:
        cutter = threading.Thread(target=cutting)
        cutter.start()
        number = 0
        while cuts[0] < 200:
            fill(recorder, range(number, number + 1))
            recorder.decide("generation", {"number": number})
            number += 1
        stop.set()
        cutter.join()
    study = open_study(tmp_path / "one")
    assert [one.id for one in study.candidates()] == list(range(number))
    assert [entry.payload["number"] for entry in study.decisions("generation")] == list(range(number))
    assert all(len(one.outcomes()) == 2 for one in study.candidates())
    assert not study.decisions("late_outcome") and not study.decisions("late_candidate")
