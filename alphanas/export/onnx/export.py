"""The ONNX export: `model.onnx`, with the weights inside and the batch free."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alphanas.errors import FAILED, Fault, UserError
from alphanas.export.blocks import live
from alphanas.export.check import Exported, Options, check
from alphanas.export.onnx import primitives
from alphanas.export.onnx.layouts import Demand, channels_first, has_layout
from alphanas.export.onnx.ops import EMITTERS, Emitter
from alphanas.export.onnx.writer import Site, Writer
from synth.graph import Graph, Node, Variables, weights_of

FILE = "model.onnx"
OPSET = 20
"""The first with an op for gelu; readers of it are as old as onnxruntime 1.17."""
IR_VERSION = 9
"""The file version that came with that opset: newer ones keep older readers out."""
EXTERNAL_BYTES = 1_800_000_000
"""Weights of more bytes go to a file beside the model: a protobuf holds 2 GB at most."""
BY_PRIMITIVES = Emitter(primitives.emit, Demand.LAST)


def export_onnx(graph: Graph, variables: Variables, folder: Path, options: Options) -> Exported:
    """Writes `model.onnx` (and `model.onnx.data` for weights of over 1.8 GB): inference, at any batch size, run by onnxruntime.

    Raises UserError where onnx or onnxruntime is not installed, and for nodes with a step that ONNX has no word for.
    """
    del options  # holds any batch, on any machine
    _require("onnx", "onnxruntime")
    writer, files = write(graph, variables, folder / FILE)
    run = runner(folder / FILE)
    details = {"opset": OPSET, "ir_version": IR_VERSION, "nodes": len(writer.nodes), "layout_changes": writer.transpositions}
    return check(graph, variables, run, format="onnx", files=files, checked_by=("onnxruntime", "onnx"), details=details)


def write(graph: Graph, variables: Variables, path: Path) -> tuple[Writer, tuple[str, ...]]:
    """Writes a model that nothing has checked yet; returns what is in it and the names of the files. Raises as `export_onnx`."""
    _require("onnx")
    import onnx

    graph, variables = live(graph, variables)
    writer = written(graph, variables)
    model = _model(graph, writer)
    large = sum(array.nbytes for array in writer.initializers.values()) > EXTERNAL_BYTES
    files = (path.name, f"{path.name}.data") if large else (path.name,)
    onnx.save_model(model, path, save_as_external_data=large, location=files[-1] if large else None)
    return writer, files


def for_measuring(graph: Graph, variables: Variables, path: Path) -> dict[str, str]:
    """What the back end onnxruntime is told: the path of a model ("onnx"), or why there is none ("onnx_problem")."""
    try:
        write(graph, variables, path)
    except UserError as error:
        return {"onnx_problem": str(error)}
    return {"onnx": str(path)}


def runner(path: Path) -> Callable[..., Any]:
    """An ONNX file in onnxruntime, as a function from arrays to a tuple of arrays. Raises UserError for a model that it refuses."""
    import onnx
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    refusals = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
    refusals += tuple(kind for kind in vars(states).values() if isinstance(kind, type) and issubclass(kind, Exception))
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    try:
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except refusals as error:
        saw = f"a model that onnxruntime refuses: {str(error).strip().splitlines()[0]}"
        remedy = "export as stablehlo or graph instead"
        raise UserError("export as onnx", saw=saw, remedy=remedy, exit_code=FAILED, cause="not_exportable") from error
    names = [item.name for item in session.get_inputs()]
    return lambda *inputs: tuple(session.run(None, dict(zip(names, inputs, strict=True))))


def written(graph: Graph, variables: Variables) -> Writer:
    """The nodes and weights of a graph in ONNX. Raises UserError that names every node that ONNX cannot hold."""
    writer = Writer()
    emitters = {node.name: EMITTERS.get(type(node.op), BY_PRIMITIVES) for node in graph.nodes}
    first = channels_first(graph, lambda node: emitters[node.name].demand)
    for item in graph.inputs:
        writer.forms[item.name, False] = writer.name(item.name)
    faults = []
    for node in graph.nodes:
        try:
            _write(writer, graph, variables, node, emitters[node.name], first=node.name in first)
        except primitives.NoOnnx as error:
            saw = f"{node.op.kind()} holds {error}, which ONNX has no word for"
            faults.append(Fault(f"node {node.name}", saw=saw, remedy="export as stablehlo or graph instead"))
            writer.forms[node.name, False] = writer.name(node.name)
    if faults:
        raise UserError(faults, cause="not_exportable")
    return writer


def _write(writer: Writer, graph: Graph, variables: Variables, node: Node, emitter: Emitter, *, first: bool) -> None:
    values, output = graph.input_values(node), graph.values[node.name]
    inputs = tuple(writer.read(name, len(value.shape), first=first) for name, value in zip(node.inputs, values, strict=True))
    weights = {name: np.asarray(array) for name, array in weights_of(variables, node).items()}
    site = Site(writer, node, values, output, inputs, weights, first)
    writer.forms[node.name, first and has_layout(len(output.shape))] = emitter.emit(node.op, site)


def _model(graph: Graph, writer: Writer) -> Any:
    from onnx import helper, numpy_helper

    inputs = [_described(item.name, item.shape, item.dtype) for item in graph.inputs]
    outputs: list[Any] = []
    for number, name in enumerate(graph.outputs):
        value = graph.values[name]
        made = writer.read(name, len(value.shape), first=False)
        if made in {item.name for item in (*inputs, *outputs)}:
            (made,) = writer.add("Identity", [made], f"output{number}")
        outputs.append(_described(made, value.shape, value.dtype))
    arrays = [numpy_helper.from_array(array, name) for name, array in writer.initializers.items()]
    body = helper.make_graph(writer.nodes, "model", inputs, outputs, arrays)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="alphanas")


def _described(name: str, shape: tuple[int | None, ...], dtype: str) -> Any:
    from onnx import helper

    sizes = ["batch" if size is None else size for size in shape]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), sizes)


def _require(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            "export as onnx",
            saw=f"{' and '.join(missing)} not installed",
            remedy="pip install 'alphanas[onnx]'",
            exit_code=FAILED,
            cause="not_installed",
        )
