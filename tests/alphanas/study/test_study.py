"""Laws of a study: facts are recorded once, read back as they were, and stay with the folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alphanas.errors import UserError
from alphanas.study import Recorder, create_study, environment, open_study, resume_study, write_atomic

CONFIG = {"search": {"objectives": ["error", "params"]}, "finish": {"tolerance": 0.01}, "seed": 3}
START: dict[str, Any] = {
    "config": CONFIG,
    "config_toml": "seed = 3\n",
    "key": 3,
    "fingerprint": "print",
    "environment": {"cores": 2},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "one"


def trained(recorder: Recorder, number: int, *, params: int, accuracy: float, **more: Any) -> None:
    recorder.candidate(number, graph_json=f'{{"n": {number}}}', graph_hash=f"h{number}", parent=0 if number else None, **more)
    recorder.outcome(number, "cost", values={"params": params, "macs": 10 * params})
    recorder.outcome(number, "short", values={"accuracy": accuracy})


def test_facts_are_read_back_as_they_were(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        recorder.candidate(0, graph_json="{}", graph_hash="a", method="seed")
        one = recorder.candidate(
            4,
            graph_json='{"b": 1}',
            graph_hash="b",
            parent=0,
            generation=2,
            proposal={"region": ["x"]},
            method="exact",
            seconds=0.5,
        )
        recorder.outcome(4, "score", "rejected", values={"score": 1.5}, cause="low", message="low score", started=1.0, ended=2.5)
        assert (one.id, one.parent, one.generation, one.status, one.method, one.seconds) == (4, 0, 2, "ok", "exact", 0.5)
        recorder.finish()
    study = open_study(folder)
    again = study.candidate(4)
    assert again == one
    assert (again.proposal, again.graph_json()) == ({"region": ["x"]}, '{"b": 1}')
    (score,) = again.outcomes("score")
    assert (score.status, score.cause, score.message, score.values, score.started, score.ended) == (
        "rejected",
        "low",
        "low score",
        {"score": 1.5},
        1.0,
        2.5,
    )
    assert [outcome.stage for outcome in again.outcomes()] == ["synthesis", "score"]
    assert (study.config, study.key, study.fingerprint, study.environment) == (CONFIG, 3, "print", {"cores": 2})
    assert (folder / "config.toml").read_text() == "seed = 3\n"


def test_numbers_of_numpy_and_what_is_not_finite_are_json(folder: Path) -> None:
    values = {"a": np.float32(0.5), "b": np.int64(3), "c": float("nan"), "d": [np.inf, 1], "e": np.arange(2), "f": (True, None)}
    with create_study(folder, **START) as recorder:
        recorder.candidate(0)
        recorder.outcome(0, "cost", values=values)
        assert recorder.study.seed().values("cost") == {"a": 0.5, "b": 3, "c": None, "d": [None, 1], "e": [0, 1], "f": [True, None]}


def test_a_known_graph_is_a_duplicate_and_shows_the_graph_it_repeats(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        recorder.candidate(0, graph_json="{}", graph_hash="a")
        twin = recorder.candidate(1, graph_json="{}", graph_hash="a", parent=0)
        assert (twin.status, twin.duplicate_of, twin.graph_json()) == ("duplicate", 0, "{}")
        assert [outcome.status for outcome in twin.outcomes("synthesis")] == ["duplicate"]
        without = [recorder.candidate(number, status="infeasible", parent=0) for number in (2, 3)]
        assert [one.status for one in without] == ["infeasible", "infeasible"]
        assert without[0].graph_json() is None


def test_nothing_is_done_twice(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        first = recorder.candidate(0, graph_json="{}", graph_hash="a")
        assert recorder.candidate(0, graph_json="[]", graph_hash="b") == first
        assert not recorder.done(0, "short", 7)
        kept = recorder.outcome(0, "short", values={"accuracy": 0.5}, discriminator=7)
        assert (
            recorder.outcome(0, "short", "failed", values={"accuracy": 0.9}, discriminator=7)
            == kept
            == recorder.find(0, "short", "7")
        )
        recorder.outcome(0, "short", values={"accuracy": 0.7}, discriminator=8)
        assert recorder.study.seed().accuracies("short") == (0.5, 0.7)
        late = recorder.study.decisions("late_outcome")
        assert [entry.payload["values"] for entry in late] == [{"accuracy": 0.9}]
        assert len(recorder.study.decisions("late_candidate")) == 1


def test_a_transaction_is_recorded_as_a_whole_or_not_at_all(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        trained(recorder, 0, params=10, accuracy=0.9)
        with pytest.raises(ZeroDivisionError), recorder.transaction():
            recorder.candidate(1, graph_json="{}", graph_hash="b", artifacts={"weights/short": b"w"})
            recorder.decide("generation", {"number": 1})
            assert [one.id for one in recorder.study.candidates()] == [0, 1]
            assert open_study(folder).candidates()[-1].id == 0
            _ = 1 / 0
        assert [one.id for one in recorder.study.candidates()] == [0]
        assert recorder.study.decisions("generation") == ()
        with recorder.transaction():
            recorder.candidate(1, graph_json="{}", graph_hash="b")
            recorder.decide("generation", {"number": 1})
        assert [one.id for one in open_study(folder).candidates()] == [0, 1]


def test_a_word_that_is_none_and_an_unknown_candidate_are_the_callers_errors(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        with pytest.raises(ValueError, match="stage 'shrot'"):
            recorder.outcome(0, "shrot")
        with pytest.raises(ValueError, match="status 'fine'"):
            recorder.candidate(0, status="fine")
        with pytest.raises(Exception, match="FOREIGN KEY"):
            recorder.outcome(9, "cost")
        with pytest.raises(UserError, match="candidate 9: not in this study"):
            recorder.study.candidate(9)


def test_the_front_and_the_best(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        study = recorder.study
        trained(recorder, 0, params=100, accuracy=0.90)
        assert study.best().id == 0
        trained(recorder, 1, params=50, accuracy=0.895)  # within the tolerance of 0.01
        trained(recorder, 2, params=20, accuracy=0.80)
        trained(recorder, 3, params=60, accuracy=0.80)
        recorder.candidate(4, status="gave_up", parent=0)
        assert [one.id for one in study.pareto()] == [0, 1, 2]
        assert [one.id for one in study.pareto(["params"])] == [2]
        assert study.best().id == 1
        for number, accuracies in ((0, [0.95, 0.97]), (1, [0.90, 0.91]), (2, [0.951, 0.952])):
            recorder.outcome(number, "full", values={"accuracy": accuracies})
        assert study.best().id == 2
        recorder.decide("best", {"candidate": 1})
        assert study.best().id == 1


def test_the_summary_is_that_of_the_contract(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        trained(recorder, 0, params=100, accuracy=0.9)
        trained(recorder, 1, params=50, accuracy=0.9)
        recorder.outcome(1, "score", values={"score": 2.0})
        recorder.candidate(2, status="infeasible", parent=0)
        recorder.candidate(3, graph_json="{}", graph_hash="h1", parent=0)
        recorder.candidate(4, graph_json="{}", graph_hash="h4", parent=0)
        recorder.outcome(4, "score", "rejected", values={"score": 0.0})
        recorder.candidate(5, graph_json="{}", graph_hash="h5", parent=0)
        recorder.outcome(5, "score", values={"score": 1.0})
        recorder.outcome(5, "short", "failed", cause="diverged")
        for seed, accuracy in enumerate((0.5, 0.7)):
            recorder.outcome(1, "test", values={"accuracy": accuracy}, discriminator=seed)
        measured = {"median_ms": 2.0, "spread_ms": 0.1, "backend": "tvm", "tuned": False, "trials": 0, "threads": 2}
        ratio = {"name": "0", "ratio": 1.5, "interval": [1.4, 1.6], "verdict": "faster"}
        recorder.outcome(1, "measure", values=measured | {"ratio_to": ratio, "p50_ms": 2.0}, discriminator="tvm")
        recorder.finish("done")
        summary = recorder.study.summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["status"] == "done"
    assert summary["counts"] == {
        "proposed": 5,
        "synthesized": 3,
        "duplicates": 1,
        "scored": 3,
        "rejected": 1,
        "trained": 1,
        "measured": 1,
        "failed": {"diverged": 1, "infeasible": 1},
    }
    assert summary["seed"]["params"] == 100
    assert summary["seed"]["accuracy"] is summary["seed"]["latency_ms"] is None
    best = summary["best"]
    assert (best["id"], best["accuracy"]) == (1, {"mean": 0.6, "per_seed": [0.5, 0.7]})
    wanted = {"median": 2.0, "spread": 0.1, "backend": "tvm", "tuned": False, "trials": 0, "threads": 2}
    wanted |= {"ratio_to_seed": ratio, "p50": 2.0, "p99": None, "quartiles": None}
    assert {key: best["latency_ms"][key] for key in wanted} == wanted
    assert [one["id"] for one in summary["pareto"]] == [1]
    assert summary["environment"] == {"cores": 2}


def test_latency_is_the_predicted_one_where_there_is_one(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        trained(recorder, 0, params=100, accuracy=0.9)
        recorder.outcome(0, "measure", values={"median_ms": 2.0}, discriminator="tvm")
        assert recorder.study.seed().objective("latency") == 2.0
        recorder.outcome(0, "predict", values={"latency_ms": 1.5, "known": 3, "unknown": 0})
        trained(recorder, 1, params=50, accuracy=0.9)
        assert recorder.study.seed().objective("latency") == recorder.study.seed().predicted_ms == 1.5
        assert recorder.study.seed().latency_ms == 2.0
        assert recorder.study.candidate(1).objective("latency") is None


def test_lineage_runs_from_the_seed(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        for number, parent in enumerate((None, 0, 0, 2)):
            recorder.candidate(number, parent=parent)
        assert [one.id for one in recorder.study.candidate(3).lineage()] == [0, 2, 3]


def test_the_winner_is_saved_with_the_weights_that_were_trained_last(folder: Path, tmp_path: Path) -> None:
    with create_study(folder, **START) as recorder:
        trained(recorder, 0, params=1, accuracy=0.5)
        recorder.artifact(0, "weights/short", b"first")
        late = recorder.scratch("w.safetensors")
        late.write_bytes(b"last")
        recorder.outcome(0, "full", values={"accuracy": 0.6}, artifacts={"weights/full": late, "model.py": b"pass\n"})
        assert not late.exists()
        recorder.candidate(1, status="infeasible", parent=0)
        with pytest.raises(UserError, match="candidate 1: no graph"):
            recorder.study.candidate(1).save(tmp_path / "none")
    saved = open_study(folder).best().save(tmp_path / "deep" / "out")
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == {
        "graph.json": b'{"n": 0}',
        "weights.safetensors": b"last",
        "model.py": b"pass\n",
    }


def test_the_log_of_a_search_is_read_in_order(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        for number in range(3):
            recorder.decide("generation", {"number": number})
        assert [entry.payload["number"] for entry in recorder.study.decisions("generation")] == [0, 1, 2]


def test_the_status_says_how_it_ended(folder: Path) -> None:
    with create_study(folder, **START):
        assert open_study(folder).status() == "running"
    assert open_study(folder).status() == "interrupted"
    with resume_study(folder) as recorder:
        assert recorder.study.status() == "running"
        recorder.finish("stopped")
    assert open_study(folder).status() == "stopped"


def test_a_reader_sees_what_is_committed_and_cannot_write(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        study = open_study(folder)
        assert study.candidates() == ()
        trained(recorder, 0, params=1, accuracy=0.5)
        assert [one.id for one in study.candidates()] == [0]
        assert study.seed().error == 0.5
        with pytest.raises(UserError, match="cannot be written"), study._reading() as connection:
            connection.exec_driver_sql("DELETE FROM outcomes")


def test_a_folder_can_be_moved_even_after_a_crash(folder: Path, tmp_path: Path) -> None:
    recorder = create_study(folder, **START)
    trained(recorder, 0, params=1, accuracy=0.5, artifacts={"weights/short": b"w"})
    assert (folder / "study.sqlite-wal").stat().st_size > 0
    shutil.copytree(folder, tmp_path / "moved")  # as it would lie there if the process had died now
    recorder.close()
    shutil.rmtree(folder)
    weights = open_study(tmp_path / "moved").seed().weights()
    assert weights is not None and weights.read_bytes() == b"w"
    with resume_study(tmp_path / "moved") as again:
        trained(again, 1, params=1, accuracy=0.5)
        assert len(again.study.candidates()) == 2


def test_after_a_clean_end_one_file_holds_all(folder: Path, tmp_path: Path) -> None:
    with create_study(folder, **START) as recorder:
        trained(recorder, 0, params=1, accuracy=0.5)
    assert {path.name for path in folder.iterdir()} == {"config.toml", "study.sqlite", "study.lock", "scratch"}
    open_study(folder).summary()
    assert not list(folder.glob("study.sqlite-*"))
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "study.sqlite", alone)
    assert len(open_study(alone).candidates()) == 1


def test_a_reader_stays_with_a_study_that_ends_and_goes_on(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        study = open_study(folder)
        for number in range(3):
            trained(recorder, number, params=1, accuracy=0.5)
            assert len(study.candidates()) == number + 1
    later = open_study(folder)
    for number in range(3, 6):
        with resume_study(folder) as recorder:
            trained(recorder, number, params=1, accuracy=0.5)
            assert len(study.candidates()) == len(later.candidates()) == number + 1
        assert len(study.candidates()) == len(later.candidates()) == number + 1


def test_reading_needs_no_jax(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        trained(recorder, 0, params=1, accuracy=0.5)
    code = (
        "import sys; from alphanas.study import open_study; study = open_study(sys.argv[1]); study.summary(); repr(study);"
        "study._repr_html_(); print(sorted({'jax', 'flax', 'tvm', 'z3', 'synth'} & set(sys.modules)))"
    )
    path = os.pathsep.join(filter(None, sys.path))
    result = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert result.stdout == "[]\n", result.stderr


def test_a_study_shows_itself(folder: Path) -> None:
    with create_study(folder, **START) as recorder:
        trained(recorder, 0, params=1234, accuracy=0.5)
        html = recorder.study._repr_html_()
        assert "1,234" in html and "50.00%" in html and "–" in html
        assert "<td>0</td>" in recorder.study.seed()._repr_html_()
        assert "1 candidates, running" in repr(recorder.study)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_atomic(path, "old")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(UserError, match="the disk is full") as caught:
        write_atomic(path, "new")
    assert (path.read_text(), [one.name for one in tmp_path.iterdir()]) == ("old", ["summary.json"])
    assert caught.value.cause == "disk_full"


def test_the_environment_names_what_is_installed_without_loading_it() -> None:
    seen = environment(threads=2)
    assert seen["versions"]["numpy"] == np.__version__
    assert seen["threads"] == 2 and seen["cores"] >= 1
    assert json.loads(json.dumps(seen)) == seen
