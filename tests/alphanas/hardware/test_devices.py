"""Targets: a GPU is used where there is one, else the reason is named; what is compiled for it is what JAX computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import pytest

from alphanas.execution import Failed, LocalPool, TaskFailure
from alphanas.hardware import backends, devices, tasks
from synth.graph import Builder
from synth.ops import Conv, Dense, GlobalAvgPool, Relu

HAS_GPU = devices.DRIVER.exists()


def sent(**changes: Any) -> dict[str, Any]:
    build = Builder((6, 6, 2))
    x = build(Relu(), build(Conv(features=4), build.input, name="conv"), name="relu")
    graph = build.graph(build(Dense(features=3), build(GlobalAvgPool(), x, name="pool"), name="head"))
    payload = {
        "graph": graph.to_json(),
        "weights": None,
        "backends": ["xla"],
        "batch": 1,
        "threads": 1,
        "repeats": 3,
        "repeat_ms": 1,
    }
    return {**payload, "target": "cuda", **changes}


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
@pytest.mark.parametrize(("backend", "reason"), [("xla", "no GPU for JAX: "), ("tvm", "no GPU for TVM: ")])
def test_without_a_gpu_the_reason_is_named(backend: str, reason: str) -> None:
    with LocalPool(1, threads=1, env=devices.environment("cuda")) as pool:
        result = pool.submit("alphanas.hardware.tasks:measure", sent(backend=backend), limit_s=90).result()
    assert isinstance(result, Failed) and result.cause == "unavailable"
    assert result.message.startswith(reason) and len(result.message) > len(reason) + 10


def test_a_device_that_is_there_is_used_and_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a GPU: JAX's CPU under the other name."""
    asked: list[str] = []
    held: list[str] = []

    def stand_in(target: str) -> Any:
        asked.append(target)
        return jax.devices("cpu")[0]

    @contextmanager
    def noted(device: str, what: str) -> Iterator[None]:
        held.append(device)
        yield

    monkeypatch.setattr(devices, "jax_device", stand_in)
    monkeypatch.setattr(tasks, "turn", noted)
    monkeypatch.setattr(tasks, "under_right_threads", lambda task, payload: None)
    (found,) = tasks.measure_together(sent())["results"]
    assert asked == ["cuda"] and held == ["cuda"]
    assert found["median_ms"] > 0 and found["max_error"] <= devices.tolerance("cuda") and "cpu" in found["device"].lower()


def test_providers_are_those_of_the_target() -> None:
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert devices.onnx_providers("cpu", both) == ["CPUExecutionProvider"]
    assert devices.onnx_providers("cuda", both)[0] == "CUDAExecutionProvider"
    for target, available, reason in (("cuda", both[1:], "built without CUDA"), ("znver3", both, "this machine alone")):
        with pytest.raises(TaskFailure, match=reason):
            devices.onnx_providers(target, available)


def test_gpus_may_differ_by_more_and_have_a_lock_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.tolerance("cuda") > devices.tolerance("cpu") == devices.tolerance("znver3")
    assert [devices.lock_name(target) for target in ("cpu", "znver3", "cuda")] == ["cpu", "cpu", "cuda"]
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    assert devices.environment("cpu") == {"GLIBC_TUNABLES": "glibc.malloc.check=1"}
    assert devices.environment("cuda") == {"JAX_PLATFORMS": "", "GLIBC_TUNABLES": "glibc.malloc.check=1"}


def test_an_unknown_target_is_refused_and_the_known_ones_are_listed() -> None:
    with LocalPool(1, threads=1) as pool:
        task = "alphanas.hardware.tasks:measure"
        result = pool.submit(task, sent(backend="tvm", target="znver99", knob_seconds=0), limit_s=90).result()
    assert isinstance(result, Failed) and result.cause == "bad_input"
    assert "znver99" in result.message and "did you mean" in result.message and "known: " in result.message


@pytest.mark.slow
def test_a_model_compiles_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    with LocalPool(1, threads=1) as pool:
        result = pool.submit("tests.alphanas.hardware.test_devices:build", {}, limit_s=90).result()
    assert not isinstance(result, Failed), result


def build(payload: Any) -> str:
    """A task: a network with a convolution, a reduction and a product under TVM's schedules for GPUs."""
    import tvm

    model = tasks.model_of(sent())
    return str(type(backends.built_for_gpu(model, tvm.target.Target({"kind": "cuda", "arch": "sm_80"}))))
