"""Variables from and to safetensors files, with flat keys `params/NODE/WEIGHT` and `state/NODE/WEIGHT`."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from alphanas.errors import FAILED, Fault, UserError
from synth.graph import Graph, Variables
from synth.op import Weight


def flatten(variables: Variables) -> dict[str, Any]:
    """The arrays of variables by flat key."""
    return {
        f"{collection}/{node}/{weight}": array
        for collection, nodes in variables.items()
        for node, arrays in nodes.items()
        for weight, array in arrays.items()
    }


def unflatten(arrays: Mapping[str, Any]) -> Variables:
    """Variables from arrays by flat key; ValueError for a key that is not COLLECTION/NODE/WEIGHT."""
    variables: dict[str, dict[str, dict[str, Any]]] = {"params": {}, "state": {}}
    for key, array in arrays.items():
        collection, node, weight = key.split("/")
        variables[collection].setdefault(node, {})[weight] = array
    return variables


def expected(graph: Graph) -> dict[str, Weight]:
    """The arrays that a graph reads, by flat key."""
    owned: dict[str, Weight] = {}
    for node in graph.nodes:
        for collection, weights in graph.owned(node).items():
            owned |= {f"{collection}/{node.name}/{name}": weight for name, weight in weights.items()}
    return owned


def check(graph: Graph, variables: Variables, *, source: str = "the weights") -> None:
    """Raise one UserError that lists every array that the graph misses, does not know, or wants in another shape."""
    arrays, wanted = flatten(variables), expected(graph)
    faults = [Fault(f"{source}: {key}", saw="missing", wanted=f"shape {wanted[key].shape}") for key in wanted if key not in arrays]
    faults += [Fault(f"{source}: {key}", saw="not a weight of this graph") for key in arrays if key not in wanted]
    faults += [
        Fault(f"{source}: {key}", saw=f"shape {tuple(arrays[key].shape)}", wanted=f"shape {weight.shape}")
        for key, weight in wanted.items()
        if key in arrays and tuple(arrays[key].shape) != weight.shape
    ]
    if faults:
        raise UserError(faults)


def save(variables: Variables, path: str | os.PathLike[str]) -> None:
    """Writes variables to a safetensors file. The file appears whole or not at all, and survives a crash once this returns.

    Raises UserError if the disk is full or the folder cannot be written.
    """
    from safetensors.numpy import save as to_bytes

    arrays = {key: np.ascontiguousarray(np.asarray(array)) for key, array in flatten(variables).items()}
    write_atomically(path, to_bytes(arrays))


def load(path: str | os.PathLike[str], graph: Graph | None = None) -> Variables:
    """Reads variables from a safetensors file; with a graph, checks that they are exactly the graph's.

    Raises UserError for a file that is missing, damaged or of another graph.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        arrays = from_bytes(Path(path).read_bytes())
    except OSError as error:
        raise UserError(str(path), saw=f"cannot be read: {error.strerror}", wanted="a safetensors file") from error
    except SafetensorError as error:
        raise UserError(str(path), saw=f"not a whole safetensors file ({error})", remedy="write it again") from error
    strange = [key for key in arrays if key.count("/") != 2 or key.split("/")[0] not in ("params", "state")]
    if strange:
        raise UserError(str(path), saw=f"a key {strange[0]!r}", wanted="keys params/NODE/WEIGHT and state/NODE/WEIGHT")
    variables = unflatten({key: jnp.asarray(array) for key, array in arrays.items()})
    if graph is not None:
        check(graph, variables, source=str(path))
    return variables


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Writes a file through a temporary one beside it, flushed to the disk, and a rename."""
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        cause = {errno.ENOSPC: "disk_full", errno.EDQUOT: "disk_full"}.get(error.errno or 0, "read_only")
        raise UserError(str(target), saw=f"cannot be written: {error.strerror or error}", exit_code=FAILED, cause=cause) from error


def count(variables: Variables) -> int:
    """The number of trained parameters in variables."""
    return sum(math.prod(array.shape) for arrays in variables["params"].values() for array in arrays.values())
