"""Bad input to the verbs that measure: one clear line, an exit code that says whose fault it was, and nothing lost."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from alphanas.cli import doctor
from alphanas.cli.main import main
from alphanas.hardware import devices
from alphanas.hardware.program import Storage
from alphanas.hardware.records import TEMPLATE, Device, Record, Records
from alphanas.study import open_study

INPUT = ["--input", "1,8,8,1"]
ODD = """
import jax
import jax.numpy as jnp


def factory():
    def model(params, x):
        return jax.lax.lgamma(x.reshape(x.shape[0], -1) @ params["w"])

    return model, {"w": jnp.ones((64, 10))}
"""
ELSEWHERE = Device("znver4", "a CPU x2", 16, 24, 1, "0.26.0", "c0de")
KEPT = Record("k", TEMPLATE, "map", 1, Storage((1,), (1,), "float32"), {"row": 1}, 1e-6)


def words(verb: str, folder: Path, model: str = "zoo:mlp") -> list[str]:
    """A command line of the verb that reads and fills `records.sqlite` in the folder."""
    records = folder / "records.sqlite"
    if verb == "search":
        config = folder / "config.toml"
        config.write_text(
            f'model = "{model}"\n[hardware]\nrecords = "{records}"\nthreads = 1\n[search]\nobjectives = ["error", "latency"]\n'
        )
        return ["search", str(config), "--out", str(folder / "run")]
    more = {
        "latency": ["--backends", "tvm"],
        "tune": [],
        "export": ["--format", "tvm", "--out", str(folder / "out")],
    }
    return [verb, model, *INPUT, "--threads", "1", "--records", str(records), *more[verb]]


VERBS = ("latency", "tune", "export", "search")


def newer(path: Path) -> None:
    with Records.open(path) as store:
        store.add(ELSEWHERE, KEPT)
        store._connection.execute("PRAGMA user_version = 99")


def of_something_else(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")


UNUSABLE: Mapping[str, tuple[Callable[[Path], object], int, str]] = {
    "a folder": (lambda path: path.mkdir(), 2, "a folder"),
    "of a newer version": (newer, 1, "format 99"),
    "of something else": (of_something_else, 1, "something else"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fault", UNUSABLE)
def test_a_file_that_can_hold_no_records_is_refused_and_stays_as_it_is(
    verb: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, code, says = UNUSABLE[fault]
    path = tmp_path / "records.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    assert main(words(verb, tmp_path)) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert (
        shown.err.count("\n") == 1 + (verb == "search")
        and str(path) in shown.err
        and says in shown.err
        and "Traceback" not in shown.err
    )
    assert before is None or path.read_bytes() == before
    assert not (tmp_path / "out").exists() and not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["latency", "export"])
def test_a_cpu_that_llvm_does_not_know_is_refused_with_those_it_knows(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = {"latency": ["--backends", "tvm"], "export": ["--format", "tvm", "--out", "out"]}[verb]
    assert main([verb, "zoo:mlp", *INPUT, "--threads", "1", "--target", "znver9", *more]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert "znver9" in shown.err and "znver3" in shown.err and "x86-64" in shown.err


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_primitive_without_a_rule_is_named_with_its_node(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    monkeypatch.chdir(tmp_path)
    said = words(verb, tmp_path, f"{tmp_path / 'odd.py'}:factory")
    assert main(said) == 1
    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert "lgamma" in text and "node opaque" in text and "Traceback" not in text
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_records_of_another_tvm_stay_and_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "records.sqlite"
    with Records.open(path) as store:
        store.add(ELSEWHERE, KEPT)
    assert main(words("tune", tmp_path)) == 0
    assert "1 records of " in capsys.readouterr().err
    with Records.open(path) as store:
        assert store.known(ELSEWHERE) == {"k": KEPT}


@pytest.mark.slow
def test_a_damaged_file_is_put_aside_and_tuning_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "records.sqlite"
    path.write_bytes(b"not a database, " * 500)
    assert main(words("tune", tmp_path)) == 0
    (aside,) = tmp_path.glob("records.sqlite.damaged-*")
    assert aside.read_bytes() == b"not a database, " * 500
    with Records.open(path) as store:
        assert store._rows("SELECT count(*) AS number FROM records")[0]["number"] > 0


def _started(said: list[str], limit: int = resource.RLIM_INFINITY) -> subprocess.Popen[str]:
    """The command in a process that can make no file longer than the limit."""
    code = (
        "import resource, sys; from alphanas.cli.main import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"sys.exit(main({said!r}))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_where_the_disk_is_full_tuning_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    with Records.open(path) as store:
        store.add(ELSEWHERE, KEPT)
    done = _started([*words("tune", tmp_path), "--json"], limit=path.stat().st_size)
    out, said = done.communicate(timeout=300)
    assert done.returncode in (0, 1) and "Traceback" not in said
    assert "could not be kept" in said or "nothing new is kept" in said
    assert done.returncode == 1 or json.loads(out)["failures"] == []
    with Records.open(path) as store:
        assert store.known(ELSEWHERE) == {"k": KEPT}


@pytest.mark.slow
def test_two_processes_that_tune_the_same_kernels_at_once_share_the_work(tmp_path: Path) -> None:
    both = [_started([*words("tune", tmp_path), "--json"]) for _ in range(2)]
    found: list[Any] = []
    for process in both:
        out, said = process.communicate(timeout=300)
        assert process.returncode == 0 and "Traceback" not in said, said
        found.append(json.loads(out))
    assert all(one["unknown"] == 0 and one["failures"] == [] for one in found)
    one, other = ({kernel["key"]: kernel["template"]["time"] for kernel in each["kernels"]} for each in found)
    assert one.keys() == other.keys()


HAS_GPU = devices.DRIVER.exists()
without_gpu = pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
REASONS = {"tvm": "no GPU for TVM: ", "xla": "no GPU for JAX: "}


@without_gpu
@pytest.mark.slow
def test_latency_on_a_gpu_that_is_not_there_says_why_for_every_back_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", "zoo:mlp", *INPUT, "--threads", "1", "--target", "cuda", "--backends", "tvm,xla", "--json"]) == 1
    shown = capsys.readouterr()
    rows = {row["backend"]: row for row in json.loads(shown.out)["measurements"]}
    assert "Traceback" not in shown.err
    for backend, reason in REASONS.items():
        assert rows[backend]["failure"] == "unavailable" and rows[backend]["message"].startswith(reason)


@without_gpu
@pytest.mark.slow
def test_the_doctor_tells_why_there_is_no_gpu_and_does_not_need_one() -> None:
    checks = {check.name: check for check in doctor._gpu(90.0)}
    for backend, reason in REASONS.items():
        check = checks[f"gpu of {backend}"]
        assert check.status == "missing" and check.detail.startswith(reason) and not check.needed


@without_gpu
@pytest.mark.slow
def test_a_search_for_a_gpu_that_is_not_there_ends_and_records_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.toml").write_text(
        'model = "zoo:mlp"\n[search]\ngeneration = 2\nmax_candidates = 2\n[scoring]\nproxy = "none"\n'
        "[training]\nshort_epochs = 1\nepochs = 1\n[finish]\nfinalists = 1\nseeds = 1\n"
        '[hardware]\ntarget = "cuda"\nthreads = 1\nbackends = ["tvm", "xla"]\n'
    )
    assert main(["search", str(tmp_path / "config.toml"), "--out", str(tmp_path / "run")]) == 0
    assert "Traceback" not in capsys.readouterr().err
    study = open_study(tmp_path / "run")
    causes = {(one.discriminator, one.cause) for one in study.seed().outcomes("measure")}
    assert causes == {("tvm", "unavailable"), ("xla", "unavailable")}
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["seed"]["latency_ms"] is None
