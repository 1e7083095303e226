"""The tvm export: a compiled library for one batch size and one target, and a script that loads it with tvm and numpy alone.

TVM runs in worker processes only, so that what crashes there is an error here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from alphanas.errors import FAILED, Fault, UserError
from alphanas.execution import Failed, LocalPool
from alphanas.execution.limits import memory_share
from alphanas.export.blocks import live
from alphanas.export.check import Exported, Options, check
from alphanas.export.steps import NoProgram, program_of
from alphanas.models import weights
from synth.graph import Graph, Node, Variables

BUILD, RUN = "alphanas.hardware.library:build", "alphanas.hardware.library:run"
LIMIT_S = 1800.0

LOADER = '''\
"""Loads {file}, compiled by TVM {version} for {cpu} ({triple}), batch {batch}. It needs tvm and numpy.

    outputs = load()({names})          # NumPy arrays: {shapes}
"""

from pathlib import Path

import numpy as np
import tvm
from tvm import relax


def load(path=Path(__file__).with_name("{file}")):
    main = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())["main"]

    def model(*inputs):
        outputs = main(*(tvm.runtime.tensor(np.ascontiguousarray(x, dtype)) for x, dtype in zip(inputs, {dtypes})))
        return outputs.numpy() if hasattr(outputs, "numpy") else tuple(output.numpy() for output in outputs)

    return model
'''


def export_tvm(graph: Graph, variables: Variables, folder: Path, options: Options) -> Exported:
    """Writes the library and `load.py`, which gives it as a function of NumPy arrays.

    The script is run here on random inputs where this machine can run the target; else the same kernels, compiled for this machine.
    Raises UserError for an unknown target and for a step that has no kernel.
    """
    graph, variables = live(graph, variables)
    with tempfile.TemporaryDirectory() as other, LocalPool(1, threads=options.threads, memory_limit=memory_share()) as pool:
        facts = _build(pool, graph, variables, folder, options)
        (folder / "load.py").write_text(_loader(graph, facts, options))
        place = folder
        if not facts["runs_here"]:
            place = Path(other)
            own = _build(pool, graph, variables, place, options, here=True)
            (place / "load.py").write_text(_loader(graph, own, options))
        details = {name: facts[name] for name in ("cpu", "triple", "schedule", "tuned", "kernels", "timed_now")}
        details |= {"batch": options.batch, "threads": options.threads}
        details["library_was_run"] = facts["runs_here"]
        notes = list(facts["notes"])
        if not facts["runs_here"]:
            notes.append("checked by the same kernels, compiled for the machine that wrote this")
        if notes:
            details["note"] = "; ".join(notes)

        def run(*inputs: Any) -> Any:
            return _run(pool, place, Path(other), inputs)

        files = (facts["file"], "load.py")
        batches = (options.batch,)
        return check(graph, variables, run, format="tvm", files=files, checked_by=("apache-tvm",), batches=batches, details=details)


def _build(pool: LocalPool, graph: Graph, variables: Variables, folder: Path, options: Options, *, here: bool = False) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "weights.safetensors"
        weights.save(variables, path)
        payload = {
            "graph": graph.to_json(),
            "weights": str(path),
            "batch": options.batch,
            "threads": options.threads,
            "target": None if here else options.target,
            "knob_seconds": 0.0 if here else options.tuning_s,
            "records": None if options.records is None else str(options.records.absolute()),
            "folder": str(folder),
        }
        try:
            return _asked(pool, BUILD, payload)
        except UserError as error:
            raise _named(graph, error) from error


def _run(pool: LocalPool, folder: Path, scratch: Path, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    given, got = scratch / "inputs.npz", scratch / "outputs.npz"
    np.savez(given, *inputs)
    _asked(pool, RUN, {"folder": str(folder), "inputs": str(given), "outputs": str(got)})
    with np.load(got) as file:
        return tuple(file[name] for name in file.files)


def _asked(pool: LocalPool, task: str, payload: dict[str, Any]) -> Any:
    result = pool.submit(task, payload, limit_s=LIMIT_S).result()
    if not isinstance(result, Failed):
        return result.value
    code = 2 if result.cause == "bad_input" else FAILED
    first = (result.message.strip().splitlines() or ["no message"])[0]
    raise UserError("export as tvm", saw=first, exit_code=code, cause=result.cause)


def _named(graph: Graph, error: UserError) -> UserError:
    """The error with the nodes that hold the primitive that has no kernel, if that is what it is about."""
    if error.cause != "not_lowerable":
        return error
    saw, remedy = error.faults[0].saw, "export as stablehlo or graph instead"
    holding = [node.name for node in graph.nodes if any(f"cannot lower {name}:" in saw for name in _primitives(graph, node))]
    faults = [Fault(f"node {name}", saw=saw, remedy=remedy) for name in holding]
    return UserError(faults or [Fault("export as tvm", saw, remedy=remedy)], exit_code=FAILED, cause="not_exportable")


def _primitives(graph: Graph, node: Node) -> set[str]:
    try:
        program, _ = program_of(node.op, graph.input_values(node))
    except NoProgram as error:
        return {str(error)}
    return {step[0] for step in program["steps"]}


def _loader(graph: Graph, facts: dict[str, Any], options: Options) -> str:
    from importlib import metadata

    shapes = [f"{item.dtype}{list(item.value.aval(options.batch).shape)}" for item in graph.inputs]
    return LOADER.format(
        file=facts["file"],
        version=metadata.version("apache-tvm"),
        cpu=facts["cpu"],
        triple=facts["triple"],
        batch=options.batch,
        names=", ".join(item.name for item in graph.inputs),
        shapes=", ".join(shapes),
        dtypes=[item.dtype for item in graph.inputs],
    )
