"""`inspect`, `synth`, `latency` and `doctor`: the forms of their JSON, and that their figures are those of the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alphanas.cli import doctor, latency_table, main
from alphanas.cli.inspect import blocks_of, inspect_graph, subgraph
from alphanas.models import zoo
from synth import Graph, span
from synth.analysis import infer, macs, verify

MODEL = ["zoo:resnet8", "--input", "1,8,8,1"]
KEYS = {"output_shape", "params", "macs", "depth", "mixing"}


def output(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> Any:
    assert main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_inspect_prints_what_the_whole_jaxpr_says(capsys: pytest.CaptureFixture[str]) -> None:
    facts = output(["inspect", *MODEL], capsys)
    graph = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    checked = verify(graph)
    assert facts["output_shape"] == [1, 10]
    assert (facts["params"], facts["macs"]) == (graph.params, macs(graph))
    assert facts["depth"] == checked.depth[0, 0]
    assert facts["mixing"] == checked.mixing[0, 0].matrix.tolist()
    assert {*KEYS, "blocks"} <= facts.keys()
    assert all({"name", "ops", *KEYS} <= block.keys() for block in facts["blocks"])


@pytest.mark.parametrize("name", ["resnet8", "vit_nano", "mobilenet_nano", "mlp"])
def test_blocks_part_the_nodes_and_their_parameters(name: str) -> None:
    shape = (64,) if name == "mlp" else (16, 16, 3)
    graph = zoo.build(name, input_shape=shape, num_classes=10)
    facts = inspect_graph(graph, batch=4)
    assert sorted(node for block in facts["blocks"] for node in block["nodes"]) == sorted(graph.by_name)
    assert sum(block["params"] for block in facts["blocks"]) == graph.params
    assert sum(block["macs"] for block in facts["blocks"]) == macs(graph)
    assert facts["output_shape"] == [4, 10]


def test_a_block_is_a_dotted_prefix_of_two_parts_at_most() -> None:
    graph = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    for block, members in blocks_of(graph).items():
        assert all(member == block or member.startswith(f"{block}.") for member in members)
        assert block.count(".") <= 1


def test_a_piece_of_a_graph_that_is_a_region_is_the_region() -> None:
    graph = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    region = span(graph, "stage1.block1.conv1", "stage1.block1.conv2")
    piece = subgraph(graph, tuple(node.name for node in region.nodes))
    assert piece.hash == region.subgraph().hash
    assert infer(piece) == infer(region.subgraph())


def test_tables_are_printed_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *MODEL, "--nodes"]) == 0
    text = capsys.readouterr().out
    assert "stage1.block1" in text and "stage1.block1.conv1" in text and "77,754" in text


REGION = ["synth", *MODEL, "--region", "stage1.block1.conv1..stage1.block1.conv2"]


def test_synth_prints_programs_that_fit_the_region_and_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    facts = output([*REGION, "--max-params", "2000", "--min-params", "100", "--count", "2"], capsys)
    assert facts["status"] == "found" and 1 <= len(facts["programs"]) <= 2
    assert facts["region"]["params"] == 4640
    for program in facts["programs"]:
        graph = Graph.from_json(program["graph"])
        assert graph.params == program["params"] and 100 <= graph.params <= 2000
        assert graph.values[graph.outputs[0]].shape == (None, 8, 8, 16)
        assert verify(graph).depth[0, 0] >= 3
        assert program["distance"] == 0


def test_synth_says_which_wishes_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    facts = output([*REGION, "--depth", "40"], capsys, code=1)
    assert facts["status"] == "infeasible" and any("depth" in wish for wish in facts["core"])


SHAPE = "an output of B×8×8×16 from B×8×8×16 in at most 6 ops"


@pytest.mark.parametrize(
    ("words", "core"),
    [
        (["--depth", "40"], [SHAPE, "depth at least 40"]),
        (["--depth", "40", "--max-params", "1"], [SHAPE, "depth at least 40"]),
        (
            ["--max-bytes", "100"],
            ["an input of B×8×8×16, which takes 4,096 bytes", "at most 100 bytes alive at once"],
        ),
        (
            ["--min-params", "9000000", "--cheapest"],
            [SHAPE, "at least 9000000 parameters"],
        ),
    ],
    ids=lambda each: " ".join(each) if each[0].startswith("--") else "",
)
def test_the_smallest_contradiction_is_told(words: list[str], core: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    facts = output([*REGION, *words], capsys, code=1)
    assert facts["status"] == "infeasible" and facts["core"] == core and facts["programs"] == []


def test_what_excludes_what_in_a_file_is_told_and_nothing_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target, out = tmp_path / "target.toml", tmp_path / "out"
    target.write_text("depth = 40\nparams = {at_most = 10}\n")
    facts = output([*REGION, "--target", str(target), "--out", str(out)], capsys, code=1)
    assert facts["core"] == [SHAPE, "depth at least 40"] and facts["files"] == [] and not out.exists()


def test_a_folder_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert main([*REGION, "--count", "1", "--out", str(file / "folder")]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and "--out" in shown.err and "Traceback" not in shown.err


def test_equal_seeds_draw_equal_programs(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (output([*REGION, "--count", "2", "--seed", "5"], capsys) for _ in range(2))
    assert first["programs"] == second["programs"]


@pytest.mark.slow
def test_latency_names_its_conditions(capsys: pytest.CaptureFixture[str]) -> None:
    facts = output(["latency", *MODEL, "--backends", "tvm,xla", "--threads", "2", "--repeats", "3"], capsys)
    for one, backend in zip(facts["measurements"], ("tvm", "xla"), strict=True):
        assert one["backend"] == backend and one["median_ms"] > 0 and one["threads"] == 2 and one["batch"] == 1
        assert {"tuned", "trials", "spread_ms", "dtype", "max_error"} <= one.keys()


def test_latency_against_another_model_at_report_level(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["latency", *MODEL, "--backends", "xla", "--against", "zoo:resnet8", "--report-level", "20ms"]
    facts = output(words, capsys)
    (one,), (other,) = facts["measurements"], facts["against"]["measurements"]
    assert one["level"] == "report" and one["p50_ms"] <= one["p90_ms"] <= one["p99_ms"]
    assert "wanted 1,024" in one["shortfall"]
    low, high = one["ratio_to"]["interval"]
    assert low <= one["ratio_to"]["ratio"] <= high and one["ratio_to"]["ratio"] == pytest.approx(
        other["median_ms"] / one["median_ms"]
    )
    assert {"cpu", "cores", "versions", "load", "threads"} <= facts["conditions"].keys()


def test_the_tables_of_latency_say_everything_that_matters(capsys: pytest.CaptureFixture[str]) -> None:
    common = {"steady": True, "cores_busy": 2.6, "threads": 2, "batch": 1, "dtype": "float32", "trials": 0, "schedule": "packed"}
    first = {"backend": "tvm", "median_ms": 1.0, "spread_ms": 0.01, "level": "search", "repeats": 10, "max_error": 1e-6, **common}
    ratio = {"name": "tvm", "ratio": 0.5, "interval": [0.4, 0.6], "verdict": "slower"}
    second = {**first, "backend": "xla", "median_ms": 2.0, "ratio_to": ratio, "cores_busy": 2.0}
    failed = {"backend": "onnxruntime", "failure": "unavailable", "message": "no onnx file of the model\nmore"}
    conditions = {
        "cpu": "A CPU",
        "cores": 2,
        "load": 3.0,
        "quiet": False,
        "governor": None,
        "python": "3.12",
        "versions": {"jax": "1"},
    }
    latency_table.print_latencies({"results": [first, second, failed], "against": [], "conditions": conditions}, None)
    text = capsys.readouterr().out
    for part in (
        "2.00× slower (95%: 1.67 to 2.50)",
        "A CPU, 2 cores",
        "machine was busy",
        "onnxruntime: unavailable: no onnx file",
    ):
        assert part in text
    assert "tvm: kept 2.6 cores busy with 2 threads" in text and "xla: kept" not in text
    row = {"kernel": "convolution 3×3", "nodes": list("abcdef"), "ms": 0.5, "macs": 10**6, "gflops": 4.0, "share_of_peak": 0.25}
    moved = {"kernel": "element-wise 8", "nodes": ["g"], "ms": 0.5, "macs": 0, "gflops": None, "share_of_peak": None}
    latency_table.print_profile({"kernels": [row, moved], "sum_ms": 1.0, "peak_gflops": 16.0})
    text = capsys.readouterr().out
    for part in ("a, b, … 3 more …, f", "1,000,000", "25%", "50.0%", "2 kernels, 1 ms", "12% of the 16 GF/s"):
        assert part in text
    latency_table.print_profile({"failure": "not_lowerable", "message": "sort"})
    assert "profile: not_lowerable: sort" in capsys.readouterr().out


def test_doctor_isolates_what_crashes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def checks(limit: float) -> Any:
        yield doctor._isolated("crash", "os:abort", {}, limit)
        yield doctor._package("json", "json", limit, needed=False)
        yield doctor._machine()

    monkeypatch.setattr(doctor, "run_checks", checks)
    facts = output(["doctor", "--time-limit", "30s"], capsys, code=1)
    crash, missing, machine = facts["checks"]
    assert crash["status"] == "failed" and not facts["ok"]
    assert missing["status"] == "missing" and not missing["needed"]
    assert machine["status"] == "ok"


@pytest.mark.slow
def test_doctor_is_content_with_a_complete_installation(capsys: pytest.CaptureFixture[str]) -> None:
    facts = output(["doctor"], capsys)
    assert facts["ok"] and {"jax compiles", "synthesis", "tvm compiles and runs"} <= {check["name"] for check in facts["checks"]}


def test_resizing_keeps_the_budget_in_percent_and_writes_the_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.json"
    words = ["synth", *MODEL, "--resize", "--max-params", "40%", "--max-macs", "60%", "--multiple", "4", "--keep-rank", "0.25"]
    facts = output([*words, "--out", str(out)], capsys)
    seed = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    graph = Graph.from_json(out.read_text())
    assert facts["status"] == "found" and facts["optimal"] and facts["gap"] == 0 and facts["seconds"] > 0
    assert graph.params == facts["programs"][0]["params"] <= 0.4 * seed.params
    assert macs(graph) == facts["programs"][0]["macs"] <= 0.6 * macs(seed)
    checked = verify(graph)
    assert facts["programs"][0]["proof"]["depth"] == checked.depth[0, 0]
    assert facts["programs"][0]["proof"]["mixing"] == checked.mixing[0, 0].matrix.tolist()
    for width in facts["widths"]:
        assert all(graph.values[name].channels == width["after"] for name in width["nodes"])
        assert width["before"] == width["after"] or width["after"] % 4 == 0


def test_programs_of_a_target_file_meet_it_and_are_written_into_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target.toml"
    target.write_text("depth = 2\nreceptive_field = 5\nparams = {at_most = 2000}\n")
    facts = output([*REGION, "--target", str(target), "--count", "2", "--out", str(tmp_path / "graphs")], capsys)
    assert facts["status"] == "found" and len(facts["files"]) == len(facts["programs"])
    for path, program in zip(facts["files"], facts["programs"], strict=True):
        piece, whole = Graph.from_json(program["graph"]), Graph.from_json(Path(path).read_text())
        assert program["distance"] == 0 and program["proof"]["depth"] >= 2
        assert verify(piece).mixing[0, 0].positions(1) >= 5 and piece.params <= 2000
        assert whole.values[whole.outputs[0]].shape == (None, 10)
        assert whole.params == 78_042 - 288 - 4640 + piece.params
