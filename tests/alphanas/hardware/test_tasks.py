"""The tasks as the driver runs them: in a worker process, results and failures as values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from alphanas.execution import Completed, Failed, LocalPool
from alphanas.export.onnx.export import for_measuring
from alphanas.hardware.tasks import difference
from alphanas.models import weights
from synth.graph import Builder, Graph
from synth.ops import BatchNorm, Conv, Dense, GlobalAvgPool, Relu


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    with LocalPool(1, threads=1) as pool:
        yield pool


def payload(folder: Path, **changes: Any) -> dict[str, Any]:
    """What the driver sends for a small network."""
    builder = Builder((8, 8, 3))
    x = builder(Conv(features=8), builder.input, name="conv")
    x = builder(BatchNorm(), x, name="norm")
    x = builder(Relu(), x, name="relu")
    x = builder(GlobalAvgPool(), x, name="pool")
    graph = builder.graph(builder(Dense(features=5), x, name="head"))
    path = folder / "weights.safetensors"
    weights.save(graph.init(jax.random.key(0)), path)
    sent = {"graph": graph.to_json(), "weights": str(path), "backend": "tvm", "batch": 2, "trials": 0, "threads": 1}
    return {**sent, "repeats": 10, "check": True, "repeat_ms": 1.0, **changes}


@pytest.mark.parametrize(("backend", "schedule", "tuned"), [("tvm", "packed", True), ("xla", "default", False)])
def test_a_measurement_says_what_was_measured(pool: LocalPool, tmp_path: Path, backend: str, schedule: str, tuned: bool) -> None:
    result = pool.submit("alphanas.hardware.tasks:measure", payload(tmp_path, backend=backend), limit_s=90).result()
    assert isinstance(result, Completed), result
    found = result.value
    stated = {"backend": backend, "schedule": schedule, "tuned": tuned, "trials": 0, "threads": 1, "batch": 2, "dtype": "float32"}
    assert {name: found[name] for name in stated} == stated
    assert found["repeats"] == 10
    assert found["median_ms"] > 0
    assert found["spread_ms"] >= 0
    assert 0 <= found["max_error"] <= 1e-5


def test_untimed_knobs_are_never_called_tuned(pool: LocalPool, tmp_path: Path) -> None:
    result = pool.submit("alphanas.hardware.tasks:measure", payload(tmp_path, knob_seconds=0), limit_s=90).result()
    assert isinstance(result, Completed), result
    assert result.value["tuned"] is False


def test_known_kernels_are_not_built_again(pool: LocalPool, tmp_path: Path) -> None:
    sent = payload(tmp_path, records=str(tmp_path / "records.sqlite"), batch=8)
    built = [pool.submit("alphanas.hardware.tasks:measure", sent, limit_s=90).result() for _ in range(2)]
    assert [isinstance(result, Completed) for result in built] == [True, True]
    assert built[0].value["candidates"] > 0  # type: ignore[union-attr]
    assert built[1].value["candidates"] == 0  # type: ignore[union-attr]
    assert built[1].value["tuned"]  # type: ignore[union-attr]


def test_compiled_kernels_are_kept_in_the_cache_and_damaged_ones_made_anew(tmp_path: Path) -> None:
    sent = payload(tmp_path, records=str(tmp_path / "elsewhere" / "records.sqlite"), batch=3)
    cache = {"ALPHANAS_CACHE": str(tmp_path)}

    def compiled(pool: LocalPool) -> int:
        result = pool.submit("alphanas.hardware.tasks:measure", sent, limit_s=90).result()
        assert isinstance(result, Completed), result
        assert result.value["max_error"] <= 1e-5
        return int(result.value["kernels_compiled"])

    with LocalPool(1, threads=1, env=cache) as pool:
        first, second = compiled(pool), compiled(pool)
    assert not list((tmp_path / "elsewhere").rglob("*.so")), "what comes with records may be a stranger's"
    kept = sorted((tmp_path / "records.sqlite.kernels").glob("*/*.so"))
    assert first == len(kept) > 1
    assert second == 0
    kept[0].unlink()
    kept[0].write_bytes(b"no library")
    with LocalPool(1, threads=1, env=cache) as another:  # a process keeps what it has loaded
        assert compiled(another) == 1


def test_kernels_are_compiled_where_none_can_be_kept(tmp_path: Path) -> None:
    sent = payload(tmp_path, records=str(tmp_path / "records.sqlite"), batch=5)
    (tmp_path / "records.sqlite.kernels").write_text("a file where the folder should be")
    with LocalPool(1, threads=1, env={"ALPHANAS_CACHE": str(tmp_path)}) as pool:
        result = pool.submit("alphanas.hardware.tasks:measure", sent, limit_s=90).result()
    assert isinstance(result, Completed), result
    assert result.value["kernels_compiled"] > 0


def test_models_side_by_side_are_timed_in_one_run_and_fail_alone(pool: LocalPool, tmp_path: Path) -> None:
    sent = payload(tmp_path, knob_seconds=0)
    good = {"graph": sent.pop("graph"), "weights": sent.pop("weights")}
    result = pool.submit(
        "alphanas.hardware.tasks:side_by_side", {**sent, "reference": "0", "models": {"0": good, "7": good}}, limit_s=90
    ).result()
    assert isinstance(result, Completed), result
    found = result.value["results"]
    assert set(found) == {"0", "7"}
    assert found["0"]["attempts"] == found["7"]["attempts"]
    assert found["7"]["ratio_to"]["name"] == "0" and "ratio_to" not in found["0"]
    assert all(one["median_ms"] > 0 and one["repeats"] == 10 for one in found.values())


def test_the_ratio_to_the_reference_comes_with_its_interval(pool: LocalPool, tmp_path: Path) -> None:
    sent = payload(tmp_path, knob_seconds=0, backends=["xla", "tvm"])
    first = pool.submit("alphanas.hardware.tasks:compare", sent, limit_s=90).result()
    other = {"graph": sent["graph"], "weights": sent["weights"]}
    second = pool.submit("alphanas.hardware.tasks:compare", {**sent, "against": other}, limit_s=90).result()
    assert isinstance(first, Completed) and isinstance(second, Completed), (first, second)
    assert "ratio_to" not in first.value["results"][0] and first.value["results"][1]["ratio_to"]["name"] == "xla"
    assert first.value["conditions"]["threads"] == 1
    for one, beside in zip(second.value["results"], second.value["against"], strict=True):
        low, high = one["ratio_to"]["interval"]
        assert low <= one["ratio_to"]["ratio"] <= high
        assert one["ratio_to"]["ratio"] == pytest.approx(beside["median_ms"] / one["median_ms"])


def test_no_back_end_takes_more_processors_than_threads(pool: LocalPool, tmp_path: Path) -> None:
    """Processor time over wall time: load can only lower it."""
    sent = payload(tmp_path, knob_seconds=0, backends=["xla", "tvm"], batch=64, repeat_ms=10.0)
    result = pool.submit("alphanas.hardware.tasks:compare", sent, limit_s=90).result()
    assert isinstance(result, Completed), result
    assert all(0 < one["cores_busy"] < 1.3 for one in result.value["results"])


def test_a_report_times_every_run(pool: LocalPool, tmp_path: Path) -> None:
    sent = payload(tmp_path, knob_seconds=0, backend="xla", report_s=0.05)
    result = pool.submit("alphanas.hardware.tasks:measure", sent, limit_s=90).result()
    assert isinstance(result, Completed), result
    found = result.value
    assert found["level"] == "report" and found["runs"] >= 64 and "wanted 1,024" in found["shortfall"]
    assert found["p50_ms"] == found["median_ms"] <= found["p90_ms"] <= found["p99_ms"]


def test_other_threads_than_the_workers_get_a_process_of_their_own(pool: LocalPool, tmp_path: Path) -> None:
    sent = payload(tmp_path, threads=2, backends=["xla", "tvm", "onnxruntime"], knob_seconds=0)
    result = pool.submit("alphanas.hardware.tasks:compare", sent, limit_s=90).result()
    assert isinstance(result, Completed), result
    found = result.value["results"]
    assert [entry["backend"] for entry in found] == ["xla", "tvm", "onnxruntime"]
    assert [entry.get("threads") for entry in found[:2]] == [2, 2]


def test_onnxruntime_runs_the_file_that_it_is_given(pool: LocalPool, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    sent = payload(tmp_path, backend="onnxruntime")
    graph = Graph.from_json(sent["graph"])
    sent |= for_measuring(graph, weights.load(sent["weights"], graph), tmp_path / "model.onnx")
    result = pool.submit("alphanas.hardware.tasks:measure", sent, limit_s=90).result()
    assert isinstance(result, Completed), result
    assert result.value["max_error"] < 1e-4 and result.value["median_ms"] > 0 and result.value["backend"] == "onnxruntime"


def test_a_back_end_that_cannot_run_says_why(pool: LocalPool, tmp_path: Path) -> None:
    result = pool.submit("alphanas.hardware.tasks:measure", payload(tmp_path, backend="onnxruntime"), limit_s=90).result()
    assert isinstance(result, Failed)
    assert result.cause == "unavailable"
    assert "onnx" in result.message


def test_the_doctor_tries_a_kernel(pool: LocalPool) -> None:
    result = pool.submit("alphanas.hardware.tasks:facts", {"threads": 1}, limit_s=90).result()
    assert isinstance(result, Completed), result
    assert result.value["kernel_works"]
    assert result.value["versions"]["apache-tvm"]


def test_a_difference_is_relative_to_the_output_and_sees_shapes_and_nans() -> None:
    wanted = np.array([100.0, 0.0], np.float32)
    assert difference([wanted + 1], [wanted]) == pytest.approx(0.01)
    assert difference([wanted[:1]], [wanted]) == float("inf")
    assert np.isnan(difference([wanted * np.nan], [wanted]))
