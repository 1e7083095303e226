"""`export`: a model without a search, its weights, what was checked, and the options that make no sense."""

import json
from pathlib import Path

import jax
import pytest

from alphanas.cli import main
from alphanas.export import open_graph
from alphanas.models import weights, zoo

MODEL = ["export", "zoo:mlp", "--input", "1,4,4,1", "--classes", "3"]


def test_a_model_and_its_weights_are_exported_and_exported_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = zoo.build("mlp", input_shape=(4, 4, 1), num_classes=3)
    variables = graph.init(jax.random.key(7))
    weights.save(variables, tmp_path / "w.safetensors")
    out = tmp_path / "out"
    words = [*MODEL, "--weights", str(tmp_path / "w.safetensors"), "--format", "graph", "--out", str(out), "--json"]
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["model"] == "zoo:mlp" and printed["out"] == str(out) and printed["max_error"] <= printed["tolerance"]
    opened, arrays = open_graph(out)
    assert opened.hash == graph.hash == printed["graph"]
    assert weights.flatten(arrays).keys() == weights.flatten(variables).keys()
    assert (arrays["params"]["head"]["kernel"] == variables["params"]["head"]["kernel"]).all()
    assert main(["export", str(out), "--format", "stablehlo", "--out", str(tmp_path / "m.stablehlo")]) == 0
    assert str(tmp_path / "m.stablehlo") in capsys.readouterr().out


MISTAKES = {
    "no shape of the input": (["export", "zoo:mlp", "--format", "graph", "--out", "x"], "--input such as 1,32,32,3"),
    "weights of a folder": (["export", ".", "--format", "graph", "--out", "x", "--weights", "w"], "--weights"),
    "a target for a form that has none": ([*MODEL, "--format", "onnx", "--out", "x", "--target", "skylake"], "--format tvm"),
    "a batch for a form that has none": (
        [*MODEL, "--format", "graph", "--out", "x", "--batch", "8"],
        "batch of all others is free",
    ),
    "a candidate of a model": ([*MODEL, "--format", "graph", "--out", "x", "--candidate", "3"], "--candidate"),
    "weights that are not there": ([*MODEL, "--format", "graph", "--out", "x", "--weights", "w"], "no such file or folder"),
    "a place that is a file": ([*MODEL, "--format", "graph", "--out", "taken"], "a file is there"),
    "a model that is none": (["export", "zoo:mpl", "--input", "1,4,4,1", "--format", "graph", "--out", "x"], "mlp"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_error(
    mistake: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    words, says = MISTAKES[mistake]
    assert main(words) == 2
    printed = capsys.readouterr()
    assert says in printed.err and not printed.out and "Traceback" not in printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]
