"""Our kernels of grouped convolutions beside TVM's own: what the benchmark's table of grouped spatial pack is made of.

Imports TVM when it runs: only worker processes call it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

AGAINST_DEFAULT = "alphanas.hardware.grouped:against_default"
WINDOW = 3
REPEATS = 9


def against_default(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Median milliseconds of a grouped 3×3 convolution with stride 1, packing included, ours and TVM's default, timed in turns.

    Payload: size (height and width), channels, groups, threads. Result: ours_ms, default_ms (the faster of TVM's two layouts),
    ratio and its interval, max_error (ours and the default's, of the output), knobs. Raises what compiling raises.
    """
    from alphanas.hardware import tasks

    elsewhere = tasks.under_right_threads(AGAINST_DEFAULT, payload)
    return dict(_compared(payload)) if elsewhere is None else dict(elsewhere)


def _compared(payload: Mapping[str, Any]) -> dict[str, Any]:
    import jax
    import tvm
    from tvm import relax

    from alphanas.hardware import lowering, schedules, timing, tuning
    from alphanas.hardware.machine import this_machine, use_threads
    from alphanas.hardware.tasks import difference

    size, channels, groups = payload["size"], payload["channels"], payload["groups"]
    use_threads(payload["threads"])
    machine = this_machine(payload["threads"])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, size, size, channels)).astype(np.float32)
    weight: Any = rng.standard_normal((WINDOW, WINDOW, channels // groups, channels)).astype(np.float32)

    def function(image: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(image, weight, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups)

    expected = np.asarray(jax.jit(function)(x))
    lowered = lowering.lower(function, x, lanes=machine.lanes)
    tuned = tuning.tune(lowered, machine, limit_s=payload.get("knob_seconds", 20.0))
    functions = [schedules.scheduled(task, knobs) for task, knobs in zip(lowered.tasks, tuned.knobs, strict=True)]
    modules = {"ours": lowering.assemble(lowered, functions)}
    modules |= {f"default {layout}": _default(x, weight, groups, layout, machine) for layout in ("NHWC", "NCHW")}
    runs, errors = {}, {}
    for name, module in modules.items():
        main = relax.VirtualMachine(tvm.compile(module, target=machine.target), tvm.cpu())["main"]
        first = name.endswith("NCHW")
        argument = tvm.runtime.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if first else x)
        output = main(argument).numpy()
        errors[name] = difference([output.transpose(0, 2, 3, 1) if first else output], [expected])
        runs[name] = _run(main, argument)
    latencies = timing.interleaved(runs, repeats=REPEATS)
    best = min((name for name in latencies if name != "ours"), key=lambda name: latencies[name].median)
    ours, other = latencies["ours"], latencies[best]
    return {
        "ours_ms": 1e3 * ours.median,
        "default_ms": 1e3 * other.median,
        "default": best,
        "times_faster": other.median / ours.median,
        "interval": timing.ratio_interval(ours.samples, other.samples),
        "max_error": max(errors.values()),
        "knobs": [repr(knobs) for knobs in tuned.knobs],
    }


def _run(main: Any, argument: Any) -> Any:
    return lambda: main(argument)


def _default(x: np.ndarray, weight: np.ndarray, groups: int, layout: str, machine: Any) -> Any:
    """The convolution as TVM lowers it by itself."""
    from tvm import relax

    first = layout == "NCHW"
    shape = tuple(np.array(x.shape)[[0, 3, 1, 2]]) if first else x.shape
    kernel = np.ascontiguousarray(weight.transpose(3, 2, 0, 1)) if first else weight
    builder = relax.BlockBuilder()
    argument = relax.Var("x", relax.TensorType([int(length) for length in shape], "float32"))
    with builder.function("main", [argument]):
        with builder.dataflow():
            pad = (WINDOW // 2,) * 4
            layouts = {"data_layout": layout, "kernel_layout": "OIHW" if first else "HWIO"}
            result = relax.op.nn.conv2d(argument, relax.const(kernel), padding=pad, groups=groups, **layouts)
            output = builder.emit_output(builder.emit(result))
        builder.emit_func_output(output)
    with machine.target:
        return relax.get_pipeline("zero")(builder.get())
