"""The profile of a network names every kernel, with its multiply-adds. TVM runs in a worker process."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import pytest

from alphanas.execution import Completed, LocalPool
from alphanas.hardware.profile import PROFILE
from alphanas.models import weights
from synth.analysis import macs
from synth.graph import Builder
from synth.ops import BatchNorm, Conv, Dense, GlobalAvgPool, Relu


def test_a_profile_has_a_row_for_every_kernel_and_the_networks_macs(tmp_path: Path) -> None:
    builder = Builder((8, 8, 3))
    x = builder(Conv(features=8), builder.input, name="conv")
    x = builder(Relu(), builder(BatchNorm(), x, name="norm"), name="relu")
    x = builder(GlobalAvgPool(), x, name="pool")
    graph = builder.graph(builder(Dense(features=5), x, name="head"))
    weights.save(graph.init(jax.random.key(0)), tmp_path / "w.safetensors")
    sent = {"graph": graph.to_json(), "weights": str(tmp_path / "w.safetensors"), "batch": 1, "threads": 1, "knob_seconds": 0}
    with LocalPool(1, threads=1) as pool:
        result = pool.submit(PROFILE, sent, limit_s=90).result()
    assert isinstance(result, Completed), result
    kernels = result.value["kernels"]
    assert [row["kernel"].split()[0] for row in kernels] == ["convolution", "sum", "product"]
    assert [row["nodes"] for row in kernels] == [["conv", "norm", "relu"], ["pool"], ["head"]]
    assert sum(row["macs"] for row in kernels) == macs(graph)
    assert all(row["ms"] > 0 for row in kernels)
    assert result.value["sum_ms"] == pytest.approx(sum(row["ms"] for row in kernels))
    assert result.value["peak_gflops"] > 0
    json.dumps(result.value, allow_nan=False)
