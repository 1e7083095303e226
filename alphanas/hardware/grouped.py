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

    Payload: size (height and width), channels, groups, threads; trials (of MetaSchedule, on the default too, in each layout; 0 for
    none). Result: ours_ms, and of the default and, with trials, of the tuned default, each the faster of TVM's two layouts: its ms,
    layout, times_faster with its interval; max_error (of all, of the output), knobs. Raises what compiling raises.
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
    for layout in ("NHWC", "NCHW"):
        modules[f"default {layout}"] = _default(x, weight, groups, layout, machine)
        if payload.get("trials"):
            modules[f"tuned {layout}"] = _searched(_default(x, weight, groups, layout, machine), machine, payload["trials"])
    runs, errors = {}, {}
    for name, module in modules.items():
        main = relax.VirtualMachine(tvm.compile(module, target=machine.target), tvm.cpu())["main"]
        first = name.endswith("NCHW")
        argument = tvm.runtime.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if first else x)
        output = main(argument).numpy()
        errors[name] = difference([output.transpose(0, 2, 3, 1) if first else output], [expected])
        runs[name] = _run(main, argument)
    latencies = timing.interleaved(runs, repeats=REPEATS)
    return {
        "ours_ms": 1e3 * latencies["ours"].median,
        **_beside(latencies, "default"),
        **(_beside(latencies, "tuned") if payload.get("trials") else {}),
        "trials": payload.get("trials", 0),
        "max_error": max(errors.values()),
        "knobs": [repr(knobs) for knobs in tuned.knobs],
    }


def _beside(latencies: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Ours beside the faster layout of a kind."""
    from alphanas.hardware import timing

    best = min((name for name in latencies if name.startswith(kind)), key=lambda name: latencies[name].median)
    ours, other = latencies["ours"], latencies[best]
    found = {"ms": 1e3 * other.median, "layout": best.removeprefix(f"{kind} "), "times_faster": other.median / ours.median}
    return {kind: {**found, "interval": timing.ratio_interval(ours.samples, other.samples)}}


def _searched(module: Any, machine: Any, trials: int) -> Any:
    """The module with its functions under the best schedules that so many trials of MetaSchedule found."""
    import tvm

    from alphanas.hardware import metaschedule

    for name, function in module.functions.items():
        if isinstance(function, tvm.tirx.PrimFunc):
            found = metaschedule.search_function(function, machine, trials)
            if found is not None:
                # As the function was: private, and no second "main".
                module.update_func(name, found.with_attr("tirx.is_scheduled", True).without_attr("global_symbol"))
    return module


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
