"""The Flax export: `model.py`, one file of NNX source, and the `weights.safetensors` that it loads."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from alphanas.export.blocks import blocks, tidy
from alphanas.export.check import Exported, Options, check
from alphanas.export.flax.classes import Classes
from alphanas.models import weights
from synth.graph import Graph, Variables

_HEAD = '''\
"""A model of {params:,} parameters, from {inputs} to {outputs}.

It needs jax and flax:

    from model import load

    model = load("weights.safetensors")
    {example}

`model.train()` and `model.eval()` say whether batch norm and dropout train.
"""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path

import jax
{imports}import numpy as np
from flax import nnx
'''

_LOAD = '''\
WEIGHTS = Path(__file__).with_name("weights.safetensors")


def load(path: str | Path = WEIGHTS) -> Model:
    """The model with the weights of a safetensors file, ready for inference."""
    # Only the shapes: every weight comes from the file.
    model = nnx.eval_shape(lambda: Model(rngs=nnx.Rngs(0)))
    data = Path(path).read_bytes()
    # Eight bytes hold the size of a JSON header; the arrays follow it.
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    for key, entry in header.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]])
        # "params/stage1.block1.conv1/kernel" is model.stage1.block1.conv1.kernel.
        _, layer, weight = key.split("/")
        module = reduce(getattr, layer.split("."), model)
        parts = [weight] if hasattr(module, weight) else weight.split("_")
        variable = reduce(getattr, parts, module)
        if list(variable.shape) != entry["shape"]:
            raise ValueError(f"{{key}} has shape {{entry['shape']}}, not {{variable.shape}}")
        variable.set_value(jax.device_put(array.reshape(entry["shape"])))
{reseed}    model.eval()
    return model
'''

_RESEED = """\
    for number, (_, module) in enumerate(model.iter_modules()):
        if isinstance(module, nnx.Dropout):
            nnx.reseed(module, default=jax.random.key(number))
"""

_DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int32": "I32", "int64": "I64", "uint32": "U32", "bool": "BOOL"}


def source(graph: Graph) -> str:
    """The text of `model.py` for a tidy graph. Raises UserError that names the nodes that have no Flax form."""
    classes = "\n\n".join(Classes(graph, blocks(graph), "Model").source())
    names = [item.name for item in graph.inputs] if len(graph.inputs) > 1 else ["images"]
    head = _HEAD.format(
        params=graph.params,
        inputs=" and ".join(_shape(item.shape) for item in graph.inputs),
        outputs=" and ".join(_shape(graph.values[name].shape) for name in graph.outputs),
        example=f"outputs = model({', '.join(names)})",
        imports="import jax.numpy as jnp\n" if "jnp." in classes else "",
    )
    stored = sorted({weight.dtype for weight in weights.expected(graph).values()} | {"float32"})
    dtypes = ", ".join(f'"{_DTYPES[dtype]}": np.{dtype}' for dtype in stored)
    load = _LOAD.format(reseed=_RESEED if "nnx.Dropout(" in classes else "")
    return f"{head}\n\n{classes}\n\nDTYPES = {{{dtypes}}}\n{load}"


def export_flax(graph: Graph, variables: Variables, folder: Path, options: Options) -> Exported:
    """Writes `model.py`, Flax NNX source that runs with jax and flax alone, and `weights.safetensors`.

    Raises UserError for nodes that have no Flax form.
    """
    del options  # holds any batch, on any machine
    graph, variables = tidy(graph, variables)
    weights.write_atomically(folder / "model.py", source(graph))
    weights.save(variables, folder / "weights.safetensors")
    files = ("model.py", "weights.safetensors")
    return check(graph, variables, load_source(folder), format="flax", files=files, checked_by=("flax", "jax"))


def load_source(directory: Path) -> Any:
    """The model that an exported directory's `model.py` loads, as a compiled function from arrays to arrays."""
    from flax import nnx

    spec = importlib.util.spec_from_file_location("exported_model", directory / "model.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(directory / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.load(directory / "weights.safetensors")
    run = nnx.jit(lambda net, *inputs: net(*inputs))
    return lambda *inputs: run(model, *(np.asarray(array) for array in inputs))


def _shape(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('batch' if size is None else str(size) for size in shape)})"
