"""`doctor`: what is installed, what works, and what it costs in seconds and memory."""

from __future__ import annotations

import argparse
import importlib
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from alphanas.cli.common import add_json, duration, print_json, print_table
from alphanas.errors import FAILED

HELP = """say what is installed, what works, and what it costs

Every check runs in a process of its own, so that what crashes or hangs is told as that. 1 if something that is needed
does not work; what is optional may be missing."""

NEEDED = {"jax": "jax", "flax": "flax", "optax": "optax", "z3-solver": "z3", "apache-tvm": "tvm", "scikit-learn": "sklearn"}
OPTIONAL = {"onnx": "onnx", "onnxruntime": "onnxruntime", "ray": "ray", "datasets": "datasets"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: status is ok, missing or failed."""

    name: str
    status: str
    detail: str
    seconds: float | None = None
    needed: bool = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `doctor`."""
    parser.add_argument(
        "--time-limit", type=duration, default=90.0, metavar="TIME", help="for each check, such as 60s (default: 90s)"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the checks; 1 if one that is needed is not ok."""
    from alphanas.study import environment

    checks = list(run_checks(arguments.time_limit))
    code = FAILED if any(check.needed and check.status != "ok" for check in checks) else 0
    if arguments.json:
        print_json({"ok": code == 0, "checks": [asdict(check) for check in checks], "environment": environment()})
        return code
    rows = [(check.name, check.status, "" if check.seconds is None else f"{check.seconds:.1f} s", check.detail) for check in checks]
    print_table(("check", "", "time", "detail"), rows, right=("time",))
    return code


def run_checks(limit: float) -> Iterator[Check]:
    """All checks, cheap ones first."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", "ok" if sys.version_info >= (3, 11) else "failed", f"{version}, wanted 3.11 or later")
    yield _machine()
    yield _writable(Path.cwd())
    for needed, packages in ((True, NEEDED), (False, OPTIONAL)):
        for package, module in packages.items():
            yield _package(package, module, limit, needed=needed)
    for name, task in (("jax compiles", "use_jax"), ("synthesis", "use_synthesis"), ("tvm compiles and runs", "use_tvm")):
        yield _isolated(name, f"alphanas.cli.doctor:{task}", {}, limit)
    yield _isolated("native convolutions", "alphanas.cli.doctor:use_native", {}, limit, needed=False)
    yield from _gpu(limit)


def import_module(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A task: imports a module and says what that took."""
    before, started = _peak_memory(), time.perf_counter()
    importlib.import_module(payload["module"])
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "detail": f"{payload['version']}, {_peak_memory() - before} MiB"}


def use_jax(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A task: compiles and runs a small function."""
    import jax
    import jax.numpy as jnp

    started = time.perf_counter()
    total = float(jax.jit(lambda x: (x @ x).sum())(jnp.ones((64, 64))))
    if total != 64.0**3:
        raise ValueError(f"a product of ones came out as {total}")
    return {"seconds": time.perf_counter() - started, "detail": ", ".join(map(str, jax.devices()))}


def use_tvm(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A task: lowers, compiles and runs a small kernel, and compares it with JAX's output."""
    from alphanas.hardware.tasks import facts

    found = facts({"threads": 1})
    if not found["kernel_works"]:
        raise ValueError("a small kernel gives another output than JAX")
    seconds = found["seconds"]
    detail = (
        f"a dense layer: lowered in {seconds['lower']:.2g} s, built in {seconds['build']:.2g} s, the same as JAX; {found['cpu']}"
    )
    return {"seconds": sum(seconds.values()), "detail": detail}


def use_native(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A task: compiles or finds the kernels that training may use, and compares a convolution with XLA's."""
    import jax.numpy as jnp

    from synth import native
    from synth.ops import Conv
    from synth.ops.formulations import FORWARD

    started = time.perf_counter()
    if not native.available():
        raise ValueError("no C compiler ($CC, or cc) that works: convolutions and attention train by XLA's own, and slower")
    seconds = time.perf_counter() - started
    question = Conv(features=5).question((2, 4, 4, 3), dtype="float32")
    x, kernel = jnp.ones(question.input), jnp.ones(question.kernel)
    found, wanted = (FORWARD[form](question, x, kernel) for form in ("direct", "native"))
    if not jnp.allclose(found, wanted):
        raise ValueError("a small convolution gives another output than XLA's")
    return {"seconds": seconds, "detail": "training takes them where they measure faster than XLA's"}


def use_synthesis(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A task: finds programs that have what a convolution and an activation have."""
    from synth import Builder
    from synth.ops import Conv, Relu
    from synth.problem import Problem
    from synth.procedures import synthesize
    from synth.result import Found

    build = Builder((8, 8, 4))
    graph = build.graph(build(Relu(), build(Conv(features=8), build.input, name="conv"), name="relu"))
    result = synthesize(Problem.of(graph), count=2, time_limit=60.0)
    if not isinstance(result, Found):
        raise ValueError(str(result))
    return {"seconds": result.seconds, "detail": f"{len(result.graphs)} programs for a convolution and its activation"}


def find_gpu(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A task: what GPU each back end has, or why it has none."""
    from alphanas.hardware import devices

    started = time.perf_counter()
    found = devices.facts()
    return {"seconds": time.perf_counter() - started, "detail": found}


def _gpu(limit: float) -> Iterator[Check]:
    """One line a back end that could use a GPU; none is needed."""
    from alphanas.execution import Completed, LocalPool
    from alphanas.hardware import devices

    with LocalPool(workers=1, threads=1, env=devices.environment(devices.CUDA)) as pool:
        result = pool.submit("alphanas.cli.doctor:find_gpu", {}, limit_s=limit).result()
    if not isinstance(result, Completed):
        yield Check("gpu", "failed", f"{result.cause}: {result.message}", result.seconds, needed=False)
        return
    for backend, detail in result.value["detail"].items():
        works = detail.startswith(devices.WORKS)
        yield Check(
            f"gpu of {backend}", "ok" if works else "missing", detail, result.value["seconds"] if works else None, needed=False
        )


def _package(package: str, module: str, limit: float, *, needed: bool) -> Check:
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        return Check(package, "missing", "not installed" if needed else "optional, not installed", None, needed)
    return _isolated(package, "alphanas.cli.doctor:import_module", {"module": module, "version": version}, limit, needed=needed)


def _isolated(name: str, task: str, payload: dict[str, Any], limit: float, *, needed: bool = True) -> Check:
    from alphanas.execution import Completed, LocalPool

    with LocalPool(workers=1, threads=1) as pool:
        match pool.submit(task, payload, limit_s=limit).result():
            case Completed(value=value):
                return Check(name, "ok", value["detail"], value["seconds"], needed)
            case failure:
                lines = failure.message.strip().splitlines() or [""]
                return Check(name, "failed", f"{failure.cause}: {lines[-1]}", failure.seconds, needed)


def _machine() -> Check:
    import psutil  # type: ignore[import-untyped]

    from alphanas.study import environment

    facts = environment()
    memory = psutil.virtual_memory()
    detail = f"{facts['cpu']}, {facts['cores']} cores, {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB memory free"
    return Check("machine", "ok", detail)


def _writable(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 2**30
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check("disk", "failed", f"{folder} cannot be written: {error.strerror}")
    return Check("disk", "ok", f"{folder} can be written, {free:.1f} GiB free")


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
