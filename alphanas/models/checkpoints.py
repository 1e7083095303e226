"""Weights that others trained: NNX states, Linen variables, Orbax checkpoints, safetensors files, by the paths of leaves.

A path is compared by its words and numbers: `layers.0/kernel`, `layers0.kernel` and the nested keys `layers`, 0, `kernel` are one.
Leaves of optimizers, counters and random streams are passed over.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alphanas.errors import Fault, UserError
from alphanas.models import weights
from synth.graph import Graph, Variables

Words = tuple[str, ...]
Leaves = Mapping[Words, Any]
"""Arrays by the parts of their paths."""

COLLECTIONS = ("params", "state", "batch_stats")
WRAPPERS = ("model", "state", "variables", "ema_params", *COLLECTIONS)
NOT_WEIGHTS = frozenset({"opt_state", "optimizer", "step", "rngs", "rng", "rng_state", "tx"})


def from_nnx(graph: Graph, model: Any) -> Variables:
    """The variables of a graph from an NNX module or state whose leaves have the names of the graph's nodes.

    Raises UserError that lists every leaf that is missing, unknown or of another shape. `lift` needs no names.
    """
    from flax import nnx

    state = nnx.state(model) if isinstance(model, nnx.Module) else model
    return of_graph(graph, _nnx_leaves(state), source="the state")


def from_linen(graph: Graph, variables: Any) -> Variables:
    """The variables of a graph from Linen variables (collections params and batch_stats), as `from_nnx`."""
    return of_graph(graph, leaves_of(variables), source="the variables")


def to_nnx(graph: Graph, variables: Variables, model: Any) -> Any:
    """The state of an NNX module with the graph's variables in it, for `nnx.update(model, state)`; `model` stays as it is.

    Raises UserError that lists every leaf that is missing, unknown or of another shape.
    """
    from flax import nnx

    return nnx.from_flat_state(_nnx_given(nnx, model, _graph_leaves(graph, variables), "the graph"))


def to_linen(graph: Graph, variables: Variables, like: Any) -> Any:
    """Linen variables with the structure of `like` (arrays or their shapes) and the graph's arrays, as `to_nnx`."""
    return _replaced(like, _graph_leaves(graph, variables), "the graph")


def _graph_leaves(graph: Graph, variables: Variables) -> Leaves:
    return {
        (*name.split("."), weight): array
        for nodes in variables.values()
        for name, owned in nodes.items()
        for weight, array in owned.items()
        if name in graph.by_name
    }


def read(path: str | Path) -> Leaves:
    """The arrays of a checkpoint: a safetensors file, an Orbax checkpoint, or a folder that an export or a search wrote.

    A folder of an Orbax manager stands for its newest step. Raises UserError for what is none of these or is damaged.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"weights {path}", saw="no such file or folder", wanted="safetensors or an Orbax checkpoint")
    if path.is_file():
        return _safetensors(path)
    if (path / "weights.safetensors").is_file():
        return _safetensors(path / "weights.safetensors")
    return _orbax(path)


def load(path: str | Path, graph: Graph) -> Variables:
    """The variables of a graph from a checkpoint (see `read`). Raises UserError that lists every leaf that does not fit."""
    return of_graph(graph, read(path), source=f"weights {path}")


def of_graph(graph: Graph, leaves: Leaves, *, source: str) -> Variables:
    """The variables of a graph from leaves whose paths are the graph's names."""
    expected = weights.expected(graph)
    wanted = {tuple(re.split(r"[/.]", key)[1:]): (weight.shape, weight.dtype) for key, weight in expected.items()}
    found = matched(wanted, leaves, source=source)
    return weights.unflatten({key: jnp.asarray(array) for key, array in zip(expected, found.values(), strict=True)})


def into(product: Any, leaves: Leaves, *, source: str) -> Any:
    """A model of the user's with the arrays of a checkpoint in the place of its own, by path.

    `product` is an NNX module, a Linen (module, variables) pair or a (function, parameters) pair. Raises UserError that lists every
    leaf that is missing, unknown or of another shape.
    """
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(product, nnx.Module):
        return _into_nnx(nnx, product, leaves, source)
    if not isinstance(product, tuple) or len(product) != 2:
        raise UserError(source, saw=f"a model of type {type(product).__name__}, which has no weights", remedy="leave them out")
    model, params = product
    return model, _replaced(params, leaves, source)


def _replaced(tree: Any, leaves: Leaves, source: str) -> Any:
    flat, structure = jax.tree_util.tree_flatten_with_path(tree)
    paths = [tuple(_part(key) for key in keys) for keys, _ in flat]
    own = {_without_collection(path): (np.shape(array), str(array.dtype)) for path, (_, array) in zip(paths, flat, strict=True)}
    found = matched(own, leaves, source=source)
    return jax.tree_util.tree_unflatten(structure, [jnp.asarray(found[_without_collection(path)]) for path in paths])


def _into_nnx(nnx: Any, model: Any, leaves: Leaves, source: str) -> Any:
    nnx.update(model, nnx.from_flat_state(_nnx_given(nnx, model, leaves, source)))
    return model


def _nnx_given(nnx: Any, model: Any, leaves: Leaves, source: str) -> list[tuple[Any, Any]]:
    """Path and variable of every weight of a module, with the arrays of the leaves."""
    flat = [(path, variable) for path, variable in nnx.to_flat_state(nnx.state(model)) if not isinstance(variable, nnx.RngState)]
    own = {tuple(map(str, path)): (variable.shape, str(variable.dtype)) for path, variable in flat}
    found = matched(own, leaves, source=source)
    return [(path, variable.replace(jnp.asarray(found[tuple(map(str, path))]))) for path, variable in flat]


def matched(wanted: Mapping[Words, tuple[tuple[int, ...], str]], leaves: Leaves, *, source: str) -> dict[Words, Any]:
    """The array of every wanted path, in the wanted order and type; one UserError lists all that does not fit."""
    keys = {_plain(path): path for path in wanted}
    found = max(_readings(leaves), key=lambda reading: len(keys.keys() & reading.keys()))
    faults = [
        Fault(f"{source}: {'.'.join(path)}", saw="missing", wanted=f"shape {wanted[path][0]}")
        for key, path in keys.items()
        if key not in found
    ]
    strange = [path for key, (path, _) in found.items() if key not in keys]
    faults += [Fault(f"{source}: {'.'.join(path)}", saw="no weight of this model") for path in strange]
    faults += [
        Fault(f"{source}: {'.'.join(path)}", *misfit)
        for key, path in keys.items()
        if key in found and (misfit := _misfit(found[key][1], *wanted[path])) is not None
    ]
    if faults:
        raise UserError(faults, cause="other_weights")
    return {path: found[key][1].astype(wanted[path][1]) for key, path in keys.items()}


def _misfit(array: Any, shape: tuple[int, ...], dtype: str) -> tuple[str, str] | None:
    """What was seen and what was wanted, if an array is of another shape, or not of numbers of the same kind."""
    if tuple(np.shape(array)) != tuple(shape):
        return f"shape {tuple(np.shape(array))}", f"shape {tuple(shape)}"
    if jnp.issubdtype(array.dtype, jnp.inexact) != jnp.issubdtype(np.dtype(dtype), jnp.inexact):
        return f"type {array.dtype}", f"type {dtype}"
    return None


def _readings(leaves: Leaves) -> Iterator[dict[tuple[str, ...], tuple[tuple[str, ...], Any]]]:
    """The leaves by their plain paths: as they are, and without what may only wrap them."""
    paths = {path: path for path in leaves}
    while True:
        yield {_plain(_without_collection(short)): (path, leaves[path]) for path, short in paths.items()}
        first = {short[0] for short in paths.values() if len(short) > 1}
        if len(first) != 1 or first.isdisjoint(WRAPPERS) or any(len(short) < 2 for short in paths.values()):
            return
        paths = {path: short[1:] for path, short in paths.items()}


def _plain(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path as its words and numbers."""
    return tuple(re.findall(r"[^\W\d_]+|\d+", ".".join(path)))


def _without_collection(path: tuple[str, ...]) -> tuple[str, ...]:
    return path[1:] if len(path) > 1 and path[0] in COLLECTIONS else path


def leaves_of(tree: Any) -> Leaves:
    """The arrays of a nested tree by path; what is no weight is left out."""
    found: dict[tuple[str, ...], Any] = {}
    for keys, array in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = tuple(_part(key) for key in keys)
        path = path[:-1] if path[-1:] == ("value",) else path
        if NOT_WEIGHTS.isdisjoint(path) and hasattr(array, "dtype"):
            found[path] = array
    return found


def _nnx_leaves(state: Any) -> Leaves:
    from flax import nnx

    flat = nnx.to_flat_state(state)
    return {tuple(map(str, path)): leaf.get_value() for path, leaf in flat if not isinstance(leaf, nnx.RngState)}


def _part(key: Any) -> str:
    """One part of a path, as a word: the key of a mapping, the place in a list, the name of an attribute."""
    for name in ("key", "idx", "name"):
        value = getattr(key, name, None)
        if value is not None:
            return str(value)
    return str(key)


def _safetensors(path: Path) -> Leaves:
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        arrays = from_bytes(path.read_bytes())
    except OSError as error:
        raise UserError(f"weights {path}", saw=f"cannot be read: {error.strerror}") from error
    except SafetensorError as error:
        raise UserError(f"weights {path}", saw=f"not a whole safetensors file ({error})", wanted="safetensors or Orbax") from error
    return {tuple(re.split(r"[/.]", key)): array for key, array in arrays.items()}


def _orbax(path: Path) -> Leaves:
    import orbax.checkpoint as ocp

    folder = _orbax_folder(path)
    try:
        checkpointer = ocp.PyTreeCheckpointer()
        metadata = checkpointer.metadata(folder.resolve()).item_metadata
        if metadata is None:
            raise ValueError("it describes no tree")
        tree = metadata.tree
        arguments = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return leaves_of(checkpointer.restore(folder.resolve(), args=ocp.args.PyTreeRestore(restore_args=arguments)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"weights {folder}", saw=f"an Orbax checkpoint that cannot be read: {first}") from error


def _orbax_folder(path: Path) -> Path:
    """The folder of the tree itself: a manager keeps one folder a step, and one in it for each item."""
    if (path / "_METADATA").is_file():
        return path
    inner = [folder for folder in path.iterdir() if folder.is_dir()]
    steps = [folder for folder in inner if re.fullmatch(r"(\w+_)?\d+", folder.name)]
    if steps:
        return _orbax_folder(max(steps, key=lambda folder: int(folder.name.rpartition("_")[2])))
    trees = [folder for folder in inner if (folder / "_METADATA").is_file()]
    if len(trees) != 1:
        saw = f"several trees: {', '.join(sorted(folder.name for folder in trees))}" if trees else "no checkpoint in this folder"
        raise UserError(f"weights {path}", saw=saw, wanted="safetensors or an Orbax checkpoint")
    return trees[0]
