"""Training time for each multiply-add of every learned op of the vocabulary beside a dense convolution, as JSON.

    python -m experiments.bench.training_kernels [--part 2/8]

Each op is run forward and backward (slopes for input and weights), compiled as training compiles it, in turns with the dense 3×3
convolution of like size: on the same positions, with about as many multiply-adds (its channels are chosen so). `times_slower` is
the time for each multiply-add over that of the dense convolution; 3 is the bound. `of_same_shape` is the same against a dense
convolution of the op's own channels, which uses each value that it reads as often more as it has more work than a depthwise one.

`roofline_ms` is the least that the step can take here: its multiply-adds at the rate of a large matrix product, or its bytes at the
rate at which an addition goes through arrays of the input's size, or the exponentials of its softmax, whichever is most
(`bound_by`). The bytes are those that no formulation avoids: forward reads input and weights and writes the output, backward reads
all three again (the output's slope) and writes the slopes of the other two; and for attention the scores, which the softmax reads
and writes forward and backward. `roofline_times_slower` is `times_slower` of a step that takes just that: above the bound, no
formulation is within it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from alphanas.execution import Completed, LocalPool, Note, notes
from alphanas.hardware import timing
from alphanas.scoring import kernels
from alphanas.scoring.compiled import CPU_OPTIONS
from synth.analysis import op_macs
from synth.graph import Builder
from synth.op import ModalOp, Op, ShapeMismatch, Value, output_value
from synth.ops import OPS, Conv, MultiHeadAttention
from synth.ops.formulations import using

BOUND = 3.0
HEADS = 4
FASTEST_OF = 30
POSITIONS = ((16, 32), (8, 64))
"""Sides and channels of the inputs."""


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    # XLA reads its number of threads once, when it is loaded: a worker is started with it.
    with LocalPool(1, threads=options.threads, on_note=_show) as pool:
        result = pool.submit("experiments.bench.training_kernels:rows", vars(options)).result()
    if not isinstance(result, Completed):
        print(json.dumps({"command": sys.argv[1:], "failure": result.cause, "message": result.message}, indent=2))
        return 1
    found = result.value
    worst = max(found, key=lambda row: row["times_slower"])
    report = {
        "command": sys.argv[1:],
        "jax": jax.__version__,
        "threads": options.threads,
        "batch": options.batch,
        "kernels": options.kernels,
        "bound": BOUND,
        "worst": {key: worst[key] for key in ("op", "input", "times_slower")},
        "within_bound": sum(row["times_slower"] <= BOUND for row in found),
        "of": len(found),
        "beyond_it_by_roofline": [f"{row['op']} {row['input']}" for row in found if row["roofline_times_slower"] > BOUND],
        "ops": found,
    }
    print(json.dumps(report, indent=2))
    return 0


def _show(note: Note) -> None:
    if note.text:
        print(note.text, file=sys.stderr, flush=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Training time for each multiply-add of every learned op.")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--repeat-ms", type=float, default=10.0)
    parser.add_argument("--kernels", choices=("measured", "fixed"), default="measured")
    parser.add_argument("--only", default="", help="ops whose text holds this")
    parser.add_argument("--part", default="1/1", help="2/8 is the second of eight parts, which together are all rows")
    return parser.parse_args(arguments)


def rows(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """A task: one row for each op and size."""
    options = argparse.Namespace(**payload)
    number, parts = map(int, options.part.split("/"))
    cases = [(op, side, channels) for side, channels in POSITIONS for op in _learned_ops(channels) if options.only in str(op)]
    return _rows(options, cases[number - 1 :: parts])


def _rows(options: argparse.Namespace, cases: Sequence[tuple[Op, int, int]]) -> list[dict[str, Any]]:
    rows = []
    for op, side, channels in cases:
        shape = (options.batch, *_shape(op, side, channels))
        picture = (options.batch, side, side)
        macs = _macs(op, shape)
        like = max(1, round((macs / (options.batch * side * side * 9)) ** 0.5))
        dense = Conv(features=like), (*picture, like)
        same = Conv(features=channels), (*picture, channels)
        runs = {"op": _step(op, shape, options), "like": _step(*dense, options), "same": _step(*same, options)}
        row = _row(op, shape, macs, {"like": _macs(*dense), "same": _macs(*same)}, runs, options)
        rows.append(row | _roofline(op, shape, row))
        notes.say(f"{row['times_slower']:6.2f} ({rows[-1]['roofline_times_slower']:.2f} by {rows[-1]['bound_by']}) {op} {shape}")
    return rows


def _row(op: Any, shape: tuple[int, ...], macs: int, others: dict[str, int], runs: dict[str, Any], options: Any) -> dict[str, Any]:
    found = timing.interleaved(runs, repeats=options.repeats, repeat_s=options.repeat_ms / 1e3)
    rate = {"op": found["op"].median / macs} | {name: found[name].median / work for name, work in others.items()}
    return {
        "op": str(op),
        "input": list(shape),
        "macs": macs,
        "ms": 1e3 * found["op"].median,
        "spread_ms": 1e3 * found["op"].spread,
        "ns_per_mac": 1e9 * rate["op"],
        "dense_ns_per_mac": 1e9 * rate["like"],
        "dense_macs": others["like"],
        "times_slower": rate["op"] / rate["like"],
        "of_same_shape": rate["op"] / rate["same"],
        "steady": found["op"].steady and found["like"].steady,
    }


def _roofline(op: Op, shape: tuple[int, ...], row: Mapping[str, Any]) -> dict[str, Any]:
    """The least that the step can take on this machine, and what decides over it."""
    value = Value((None, *shape[1:]))
    arrays = [shape, output_value(op, (value,)).aval(shape[0]).shape]
    inside = (shape[0], op.heads, shape[1], shape[1]) if isinstance(op, MultiHeadAttention) else (0,)  # the scores
    weights = sum(math.prod(weight.shape) for weight in op.weights(value).values())
    # Input and weights are read twice and their slopes written, the output is written once and its slope read; scores by softmax.
    moved = 3 * math.prod(arrays[0]) + 3 * weights + 2 * math.prod(arrays[1]) + 4 * math.prod(inside)
    by = {"compute": 3 * row["macs"] / _macs_a_second(), "memory": 4 * moved / _bytes_a_second(math.prod(shape))}
    by["exponentials"] = math.prod(inside) / _exponentials_a_second(math.prod(inside))
    bound_by = max(by, key=lambda name: by[name])
    like = row["dense_ns_per_mac"] * 1e-9
    return {
        "mib_moved": 4 * moved / 2**20,
        "macs_a_byte": 3 * row["macs"] / (4 * moved),
        "bound_by": bound_by,
        "roofline_ms": 1e3 * by[bound_by],
        "share_of_roofline": 1e3 * by[bound_by] / row["ms"],
        "roofline_times_slower": by[bound_by] / row["macs"] / like,
    }


@functools.cache
def _macs_a_second() -> float:
    """Multiply-adds a second of a large matrix product."""
    side = 512
    x = jax.device_put(np.ones((side, side), np.float32))
    product = jax.jit(lambda a, b: a @ b).lower(x, x).compile(compiler_options=CPU_OPTIONS)
    return side**3 / _best(lambda: jax.block_until_ready(product(x, x)))


@functools.cache
def _bytes_a_second(size: int) -> float:
    """Bytes a second that an addition to so many numbers reads and writes."""
    return 8 * size / _seconds_of_each(size, lambda x: x + 1)


@functools.cache
def _exponentials_a_second(size: int) -> float:
    """Exponentials a second of so many numbers, read and written: what a softmax cannot do without."""
    return size / _seconds_of_each(size, jax.numpy.exp) if size else 1.0


def _seconds_of_each(size: int, function: Callable[[jax.Array], jax.Array]) -> float:
    x = jax.device_put(np.ones(size, np.float32))
    compiled = jax.jit(function).lower(x).compile(compiler_options=CPU_OPTIONS)
    return _best(lambda: jax.block_until_ready(compiled(x)))


def _best(run: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(FASTEST_OF):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def _learned_ops(channels: int) -> list[Op]:
    """Every op that multiplies its input with learned matrices or windows, in each of its choices, keeping the channels."""
    ops: list[Op] = []
    for op_type in OPS.values():
        fields = dataclasses.fields(op_type)
        sizes = {field.name: channels for field in fields if field.metadata.get("size")}
        chosen = {field.name: field.metadata["choices"] for field in fields if "choices" in field.metadata}
        sizes |= {name: HEADS for name in sizes if name == "heads"}
        wanting = [field for field in fields if field.default is dataclasses.MISSING and field.name not in sizes]
        if wanting or op_type.arity != 1:
            continue
        ops += [op_type(**sizes, **dict(zip(chosen, values, strict=True))) for values in itertools.product(*chosen.values())]
    return [op for op in ops if _multiplies(op, channels)]


def _multiplies(op: Op, channels: int) -> bool:
    value = Value((None, *_shape(op, 8, channels)))
    try:
        op.check(value)
    except ShapeMismatch:
        return False
    return any(len(weight.shape) > 1 for weight in op.weights(value).values()) and op_macs(op, (value,)) > 0


def _shape(op: Op, side: int, channels: int) -> tuple[int, ...]:
    """An input without its batch: positions in a row for attention, a picture for all others."""
    return (side * side, channels) if isinstance(op, MultiHeadAttention) else (side, side, channels)


def _step(op: Op, shape: tuple[int, ...], options: argparse.Namespace) -> Callable[[], object]:
    """One training step of an op alone: its output, and the slopes of a sum over it."""
    value = Value((None, *shape[1:]))
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(weight.shape).astype(np.float32) for name, weight in op.weights(value).items()}
    x = rng.standard_normal(shape).astype(np.float32)
    slope = rng.standard_normal(output_value(op, (value,)).aval(shape[0]).shape).astype(np.float32)
    key = jax.random.key(0)
    graph = Builder(shape[1:])
    planned = kernels.plans(graph.graph(graph(op, graph.input, name="op")), shape[0]) if options.kernels == "measured" else {}

    def run(weights: Any, x: jax.Array, slope: jax.Array) -> Any:
        def forward(weights: Any, x: jax.Array) -> jax.Array:
            return op.train(weights, x, key=key)[0] if isinstance(op, ModalOp) else op.apply(weights, x)

        with using(planned):
            out, back = jax.vjp(forward, weights, x)
        return out, back(slope)

    placed = jax.device_put((weights, x, slope))
    compiled = jax.jit(run).lower(*placed).compile(compiler_options=CPU_OPTIONS)
    return lambda: jax.block_until_ready(compiled(*placed))


def _macs(op: Op, shape: tuple[int, ...]) -> int:
    return shape[0] * op_macs(op, (Value((None, *shape[1:])),))


if __name__ == "__main__":
    sys.exit(main())
