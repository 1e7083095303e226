"""Usage: help of every verb, exit codes, one clear line for every mistake, and nothing heavy loaded before it is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from alphanas.cli import main
from alphanas.cli.main import VERBS
from alphanas.errors import FAILED, UserError

HEAVY = ("jax", "tvm", "flax", "z3", "optax", "sklearn", "sqlalchemy", "rich")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_its_arguments(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: alphanas {verb}")
    assert "--json" in text and "--debug" in text


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"\n    {verb}\s", text) for verb in VERBS)


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys; from alphanas.cli import main; main(['--help']); print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_module_runs_and_passes_its_exit_code_on() -> None:
    done = subprocess.run([sys.executable, "-m", "alphanas", "report", "/nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


SEED = ["zoo:resnet8", "--input", "1,8,8,1"]

MISTAKES = {
    "unknown verb": (["serch"], "did you mean 'search'?"),
    "no config": (["search"], "CONFIG"),
    "config that is not there": (["search", "nowhere.toml"], "no such file"),
    "workers below one": (["search", "x.toml", "--workers", "0"], "--workers"),
    "seed that is no number": (["search", "x.toml", "--seed", "one"], "--seed"),
    "run folder that is not there": (["report", "nowhere"], "nowhere"),
    "nothing to show": (["dashboard", "nowhere"], "no such folder"),
    "a port that is none": (["dashboard", ".", "--port", "70000"], "65535"),
    "nothing to resume": (["resume", "nowhere"], "nowhere"),
    "no input shape": (["inspect", "zoo:resnet8"], "--input"),
    "input that is no shape": (["inspect", "zoo:resnet8", "--input", "8"], "1,32,32,3"),
    "unknown model of the zoo": (["inspect", "zoo:resnet9", "--input", "1,8,8,1"], "did you mean 'resnet"),
    "input that the model does not fit": (["inspect", "zoo:resnet8", "--input", "1,8"], "shape"),
    "region of unknown nodes": (
        ["synth", "zoo:resnet8", "--input", "1,8,8,1", "--region", "stem.con..head"],
        "did you mean 'stem.conv'?",
    ),
    "region without a path": (["synth", "zoo:resnet8", "--input", "1,8,8,1", "--region", "head..stem.conv"], "no path"),
    "unknown procedure": (
        ["synth", "zoo:resnet8", "--input", "1,8,8,1", "--region", "head", "--method", "exat"],
        "did you mean 'exact'?",
    ),
    "budget that is empty": (
        ["synth", "zoo:resnet8", "--input", "1,8,8,1", "--region", "head", "--min-params", "9", "--max-params", "3"],
        "--min-params",
    ),
    **{
        f"{limit} of {amount}": (["synth", *SEED, "--region", "head", limit, amount], f"'{amount}' leaves nothing")
        for limit in ("--max-params", "--max-macs", "--max-bytes")
        for amount in ("0", "-5", "0%")
    },
    "region of two inputs": (["synth", *SEED, "--region", "stage1.block1.norm1..stage1.block1.add"], "2 inputs"),
    "region whose outputs escape": (
        ["synth", *SEED, "--region", "stem.act..stage1.block1.act1"],
        "2 outputs: stem.act (read by stage1.block1.add), stage1.block1.act1 (read by stage1.block1.conv2)",
    ),
    "region of three names": (["synth", *SEED, "--region", "head..head..head"], "no node is called 'head..head'"),
    "target that is not there": (["synth", *SEED, "--region", "head", "--target", "no.toml"], "no.toml"),
    "no programs": (["synth", *SEED, "--region", "head", "--count", "0"], "--count"),
    "no time": (["synth", *SEED, "--region", "head", "--time-limit", "0"], "--time-limit"),
    "region and all at once": (["synth", *SEED, "--region", "head", "--resize"], "--resize"),
    "neither region nor all": (["synth", *SEED], "--resize"),
    "a share of nothing": (["synth", *SEED, "--resize", "--max-params", "0%"], "0%"),
    "what goes with a region only": (["synth", *SEED, "--resize", "--count", "3"], "--region only"),
    "unknown objective": (["synth", *SEED, "--resize", "--objective", "capacty"], "did you mean 'capacity'?"),
    "unknown freedom": (["synth", *SEED, "--resize", "--free", "widhts"], "widhts"),
    "unknown back end": (["latency", "zoo:resnet8", "--input", "1,8,8,1", "--backends", "tmv"], "did you mean 'tvm'?"),
    "unknown form": (["export", "nowhere", "--format", "onx", "--out", "x"], "onnx"),
    "option of another verb": (
        ["tune", "zoo:resnet8", "--input", "1,8,8,1", "--target", "x"],
        "tune --target x: no such argument; see",
    ),
    "time that is none": (["latency", "zoo:resnet8", "--input", "1,8,8,1", "--time-limit", "soon"], "90s"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line_and_exit_code_2(
    mistake: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, says = MISTAKES[mistake]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1 and says in shown.err and "Traceback" not in shown.err
    assert shown.err.count("alphanas: ") == 1
    assert list(tmp_path.iterdir()) == []


def test_all_faults_of_a_config_are_told_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text('time_limt = "5m"\n[training]\nepochs = -1\n')
    assert main(["search", str(config), "--set", "search.generatoin=4"]) == 2
    text = capsys.readouterr().err
    assert "time_limit" in text and "training.epochs" in text and "search.generation" in text and "Traceback" not in text


def test_a_bug_is_one_line_and_exit_code_1_and_debug_shows_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(arguments: object) -> int:
        raise RuntimeError("a\nb")

    monkeypatch.setattr(VERBS["doctor"], "run", broken)
    assert main(["doctor"]) == FAILED
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and "RuntimeError: a b" in text and "--debug" in text
    for words in (["doctor", "--debug"], ["--debug", "doctor"]):
        with pytest.raises(RuntimeError):
            main(words)


def test_the_exit_code_of_a_user_error_is_kept(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(arguments: object) -> int:
        raise UserError("disk", saw="full", exit_code=FAILED)

    monkeypatch.setattr(VERBS["doctor"], "run", full)
    assert main(["doctor"]) == FAILED
    assert capsys.readouterr().err == "alphanas: disk: full\n"


def test_no_verb_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
