"""A made-up study with everything that a report can show; its figures are closed forms of a candidate's number."""

from __future__ import annotations

from pathlib import Path

from alphanas.config import Config
from alphanas.study import Recorder, Study, create_study, environment
from synth import Builder, Graph, span, splice
from synth.op import Value
from synth.ops import Add, BatchNorm, Conv, Dense, DepthwiseConv, GlobalAvgPool, Relu


def resnet(widths: tuple[int, ...] = (16, 32, 64)) -> Graph:
    """A small residual network with the names that the zoo gives."""
    build = Builder((8, 8, 1))
    x = build(Conv(features=widths[0]), build.input, name="stem.conv")
    x = build(Relu(), build(BatchNorm(), x, name="stem.norm"), name="stem.relu")
    channels = widths[0]
    for stage, width in enumerate(widths):
        name, stride = f"stage{stage + 1}.block0", 1 if stage == 0 else 2
        y = build(Conv(features=width, stride=stride), x, name=f"{name}.conv1")
        y = build(Relu(), build(BatchNorm(), y, name=f"{name}.norm1"), name=f"{name}.relu1")
        y = build(BatchNorm(), build(Conv(features=width), y, name=f"{name}.conv2"), name=f"{name}.norm2")
        if width != channels:
            x = build(Conv(features=width, kernel=1, stride=stride), x, name=f"{name}.shortcut")
        x = build(Relu(), build(Add(), y, x, name=f"{name}.add"), name=f"{name}.relu2")
        channels = width
    return build.graph(build(Dense(features=10), build(GlobalAvgPool(), x, name="pool"), name="head"))


def separable(value: Value, features: int, stride: int = 1) -> Graph:
    """A depthwise convolution and a pointwise one: what a proposal puts in."""
    build = Builder(value.shape[1:])
    x = build(DepthwiseConv(stride=stride), build.input, name="depthwise")
    x = build(Relu(), build(Conv(features=features, kernel=1), x, name="pointwise"), name="relu")
    return build.graph(x)


def replaced(graph: Graph, first: str, last: str) -> tuple[Graph, Graph]:
    """The graph with a region made separable, and the replacement."""
    region = span(graph, first, last)
    source, target = graph.values[region.inputs[0]], graph.values[region.outputs[0]]
    stride = (source.shape[1] or 1) // (target.shape[1] or 1)
    replacement = separable(source, target.channels, stride)
    return splice(graph, region, replacement), replacement


STEPS = (("stage3.block0.conv1", "stage3.block0.norm2"), ("stage2.block0.conv1", "stage2.block0.norm2"), ("stem.conv", "stem.relu"))


def fake_study(folder: Path, *, finished: bool = True, best: bool = True, inherit: bool = True) -> Study:
    """A study of about forty candidates in `folder`; not `finished`: stopped before any full training."""
    config = Config.from_mapping({"training": {"inherit": inherit}})
    with create_study(
        folder,
        config=config.to_mapping(),
        config_toml=config.to_toml(),
        key=0,
        fingerprint="f" * 64,
        environment=environment(threads=2),
    ) as recorder:
        _record(recorder, finished=finished, best=best)
        study = recorder.study
        _ = study.candidates()
    return study


def _record(recorder: Recorder, *, finished: bool, best: bool) -> None:
    graph = resnet()
    _trained(recorder, 0, graph, error=0.03)
    number, parent = 1, 0
    if not best:
        return
    for first, last in STEPS:
        before = span(graph, first, last)
        graph, replacement = replaced(graph, first, last)
        proposal = {
            "region": [node.name for node in before.nodes],
            "changes": [
                {"property": "params", "before": before.subgraph().params, "after": [0, replacement.params]},
                {"property": "depth", "before": 4, "after": 3},
            ],
            "attempts": 2,
        }
        recorder.candidate(
            number,
            graph_json=graph.to_json(),
            graph_hash=graph.hash,
            parent=parent,
            generation=number,
            proposal=proposal,
            method="exact",
            seconds=0.1 * number,
        )
        _figures(recorder, number, graph, error=0.03 + 0.002 * number)
        parent, number = number, number + 1
    winner = parent
    for extra in range(24):
        other = resnet((8 + extra % 7, 16 + 2 * (extra % 11), 24 + 2 * (extra % 17)))
        recorder.candidate(
            number, graph_json=other.to_json(), graph_hash=other.hash, parent=0, generation=4, method="exact", seconds=0.2
        )
        if extra % 6 == 5:
            recorder.outcome(number, "short", "failed", cause="diverged", message="the loss was NaN at step 17", discriminator="0")
        else:
            _figures(recorder, number, other, error=0.03 + 0.0031 * ((extra * 7) % 13))
        number += 1
    recorder.candidate(
        number, status="infeasible", parent=0, generation=5, message="no program meets depth with params", cause="infeasible"
    )
    log = "TVMError: tensorize failed\n  at <lowering>\n" * 30
    recorder.outcome(2, "measure", "failed", cause="crashed", message=log, discriminator="onnxruntime")
    if not finished:
        return
    for one in (0, 1, winner):
        accuracy = [0.978 - 0.001 * one, 0.981 - 0.0004 * one, 0.976 + 0.0002 * one]
        recorder.outcome(one, "full", values={"accuracy": accuracy})
        recorder.outcome(one, "test", values={"accuracy": [value - 0.003 for value in accuracy]})
        _measured(recorder, one)
    recorder.decide("best", {"candidate": winner})
    recorder.decide(
        "baseline",
        {"name": "random synthesis", "params": 30000, "macs": 2_000_000, "accuracy": {"mean": 0.94, "per_seed": [0.93, 0.95]}},
    )
    recorder.finish("done")


def _trained(recorder: Recorder, number: int, graph: Graph, *, error: float) -> None:
    recorder.candidate(number, graph_json=graph.to_json(), graph_hash=graph.hash, proposal={})
    _figures(recorder, number, graph, error=error)


def _figures(recorder: Recorder, number: int, graph: Graph, *, error: float) -> None:
    recorder.outcome(number, "cost", values={"params": graph.params, "macs": 20 * graph.params, "peak_bytes": 8192})
    recorder.outcome(number, "score", values={"score": 1.5})
    recorder.outcome(number, "short", values={"accuracy": [1 - error]}, discriminator="0")


def _measured(recorder: Recorder, number: int) -> None:
    median = 0.5 / (1 + number)
    common = {"spread_ms": 0.02 * median, "trials": 0, "tuned": False, "threads": 2, "batch": 1, "dtype": "float32", "repeats": 10}
    if number:
        common["ratio_to"] = {"name": "0", "ratio": 1.0 + number, "interval": [0.9 + number, 1.1 + number], "verdict": "faster"}
    tvm = {"median_ms": median, "backend": "tvm", "schedule": "packed", **common}
    recorder.outcome(number, "measure", values=tvm, discriminator="tvm")
    recorder.outcome(
        number, "measure", values=tvm | {"median_ms": 2 * median, "backend": "xla", "schedule": "default"}, discriminator="xla"
    )
