"""Models as functions of their arrays and inputs, traced with their layers marked: Flax NNX, Linen, and plain functions."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from alphanas.errors import FAILED, UserError
from alphanas.models.lifting.flat import BATCHES, MARK, Flat, flatten
from alphanas.models.lifting.layers import ROWS, describe, training_of
from alphanas.models.lifting.marks import Layer, Record
from properties.jaxpr import trace

INFERENCE = {"train": False, "training": False, "is_training": False, "deterministic": True, "use_running_average": True}
"""What arguments of these names are called with, where a model has them and the caller cannot say."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """An array of a model: the path of its module, its own name, and whether it is trained."""

    path: str
    name: str
    array: Any
    trained: bool


@dataclass(frozen=True, eq=False)
class Model:
    """A model as a function of its leaves and its inputs, with a record to note layers in."""

    leaves: tuple[Leaf, ...]
    call: Callable[[Record, list[Any], tuple[Any, ...]], Any]


@dataclass(frozen=True, eq=False)
class Traced:
    """A model's flat program: its first inputs are the leaves. Layers are numbered as the program's marks are."""

    flat: Flat
    leaves: tuple[Leaf, ...]
    layers: tuple[Layer, ...]
    refused: Mapping[str, str]
    input_names: tuple[str, ...]
    frozen: Mapping[str, str]


def read(model: Any) -> Model:
    """A model that the caller gave, as a function of its arrays. Raises UserError for what is no model."""
    nnx, linen = sys.modules.get("flax.nnx"), sys.modules.get("flax.linen")
    if nnx is not None and isinstance(model, nnx.Module):
        return _nnx(model)
    if isinstance(model, tuple) and len(model) == 2:
        first, second = model
        if linen is not None and isinstance(first, linen.Module):
            return _linen(first, second)
        if callable(first):
            return _function(first, second)
    if callable(model):
        return _function(lambda params, *inputs: model(*inputs), {})
    raise UserError(
        "model",
        saw=f"an object of type {type(model).__name__}",
        wanted="a Flax NNX module, a Linen (module, variables) pair, or a (function, parameters) pair",
    )


def traced(model: Model, inputs: Sequence[Any]) -> Traced:
    """The model's program in inference, traced at two batch sizes. Raises UserError for a model that cannot be traced."""
    first, record = _trace(model, inputs, BATCHES[0])
    second, again = _trace(model, inputs, BATCHES[1])
    if [layer.op for layer in record.layers] != [layer.op for layer in again.layers]:
        raise UserError("model", saw="its layers depend on the batch size", exit_code=FAILED, cause="not_liftable")

    def keep(mark: int, equation: Any) -> bool:
        # A layer inside a transformation (vmap) has other operands than the layer saw.
        shapes = [tuple(shape.shape) for shape in equation.input_types]
        return any(shapes == list(noted.layers[mark].shapes) for noted in (record, again))

    flat = flatten(first, second, keep)
    names = tuple(f"input{index}" if len(inputs) > 1 else "input" for index in range(len(inputs)))
    return Traced(flat, model.leaves, tuple(record.layers), record.refused, names, record.frozen)


def _trace(model: Model, inputs: Sequence[Any], batch: int) -> tuple[Any, Record]:
    record = Record()
    arrays = [jax.ShapeDtypeStruct(leaf.array.shape, leaf.array.dtype) for leaf in model.leaves]
    shapes = [jax.ShapeDtypeStruct((batch, *item.shape[1:]), item.dtype) for item in map(_typed, inputs)]
    closed, _ = trace(lambda arrays, *inputs: model.call(record, list(arrays), inputs), arrays, *shapes)
    return closed, record


def _typed(item: Any) -> Any:
    return item if hasattr(item, "shape") and hasattr(item, "dtype") else np.asarray(item)


def inference_arguments(function: Callable[..., Any]) -> dict[str, bool]:
    """The arguments that say to a model's call that this is inference, where it has them."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    return {name: value for name, value in INFERENCE.items() if name in parameters}


def _dotted(path: Sequence[Any]) -> str:
    """A path of names and numbers as one dotted name; a number belongs to the name before it."""
    parts: list[str] = []
    for part in path:
        text = str(part)
        if text.isdigit() and parts:
            parts[-1] = f"{parts[-1]}{text}"
        else:
            parts.append(text)
    return ".".join(parts)


def _nnx(model: Any) -> Model:
    from flax import nnx

    graph, state = nnx.split(model)
    flat = [(path, variable) for path, variable in nnx.to_flat_state(state)]
    fixed = [(path, variable) for path, variable in flat if isinstance(variable, nnx.RngState)]
    free = [(path, variable) for path, variable in flat if not isinstance(variable, nnx.RngState)]
    leaves = tuple(
        Leaf(_dotted(path[:-1]), str(path[-1]), variable.get_value(), isinstance(variable, nnx.Param)) for path, variable in free
    )
    arguments = inference_arguments(type(model).__call__)

    def call(record: Record, arrays: list[Any], inputs: tuple[Any, ...]) -> Any:
        given = [(path, variable.replace(array)) for (path, variable), array in zip(free, arrays, strict=True)]
        # Random streams are made anew, so that they belong to this trace and may count.
        streams = [(path, variable.replace(variable.get_value())) for path, variable in fixed]
        merged = nnx.merge(graph, nnx.from_flat_state([*given, *streams]))
        merged.eval()
        paths = {id(module): _dotted(path) for path, module in nnx.iter_modules(merged)}
        with _intercepted(nnx, record, paths):
            return merged(*inputs, **arguments)

    return Model(leaves, call)


@contextlib.contextmanager
def _intercepted(nnx: Any, record: Record, paths: Mapping[int, str]) -> Iterator[None]:
    """While this lasts, calls of the known layers of flax.nnx are noted in the record."""

    def replaced(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not args or not all(hasattr(item, "shape") for item in args):
                return original(self, *args, **kwargs)
            op = describe(name, self, args, kwargs)

            def weight(full: str) -> Any:
                found = self
                for part in full.split("_"):
                    found = getattr(found, part, None)
                return None if found is None else found[...]

            out = record.call(op, paths.get(id(self), name.lower()), weight, args[0], training=training_of(name, self))
            return original(self, *args, **kwargs) if out is NotImplemented else out

        return call

    originals = {name: getattr(nnx, name).__call__ for name in ROWS if hasattr(nnx, name)}
    try:
        for name, original in originals.items():
            getattr(nnx, name).__call__ = replaced(name, original)
        yield
    finally:
        for name, original in originals.items():
            getattr(nnx, name).__call__ = original


def _linen(module: Any, variables: Any) -> Model:
    from flax import linen
    from flax.core import meta, unfreeze

    plain = unfreeze(meta.unbox(variables))
    with_paths, structure = jax.tree_util.tree_flatten_with_path(plain)
    leaves = []
    for keys, array in with_paths:
        collection, *path = [key.key for key in keys]
        leaves.append(Leaf(_dotted(path[:-1]), str(path[-1]), array, collection == "params"))
    arguments = inference_arguments(type(module).__call__)

    def call(record: Record, arrays: list[Any], inputs: tuple[Any, ...]) -> Any:
        def intercept(following: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            layer, name = context.module, type(context.module).__name__
            known = name in ROWS and type(layer).__module__.startswith("flax.linen") and context.method_name == "__call__"
            if not known or not args or not all(hasattr(item, "shape") for item in args):
                return following(*args, **kwargs)
            owned = layer.variables

            def weight(full: str) -> Any:
                for collection in ("params", "batch_stats"):
                    found = owned.get(collection, {})
                    for part in full.split("_"):
                        found = found.get(part) if isinstance(found, Mapping) else None
                    if found is not None:
                        return found
                return None

            op = describe(name, layer, args, kwargs)
            out = record.call(op, _dotted(layer.path), weight, args[0], training=training_of(name, layer))
            return following(*args, **kwargs) if out is NotImplemented else out

        with linen.intercept_methods(intercept):
            return module.apply(jax.tree.unflatten(structure, arrays), *inputs, **arguments)

    return Model(tuple(leaves), call)


def _function(function: Callable[..., Any], params: Any) -> Model:
    with_paths, structure = jax.tree_util.tree_flatten_with_path(params)
    leaves = []
    for keys, array in with_paths:
        path = [getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))) for key in keys]
        trained = np.issubdtype(np.dtype(array.dtype), np.floating)
        leaves.append(Leaf(_dotted(path[:-1]), str(path[-1]) if path else "weight", array, bool(trained)))
    arguments = inference_arguments(function)

    def call(record: Record, arrays: list[Any], inputs: tuple[Any, ...]) -> Any:
        return function(jax.tree.unflatten(structure, arrays), *inputs, **arguments)

    return Model(tuple(leaves), call)


__all__ = ["MARK", "Leaf", "Model", "Traced", "read", "traced"]
