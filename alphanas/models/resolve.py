"""MODEL strings: `zoo:NAME`, `package.module:factory`, `file.py:factory`. Every failure is one line that a user can act on."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from alphanas.errors import FAILED, UserError, nearest
from alphanas.models import checkpoints, zoo
from alphanas.models.lifting import Lifted, Report, lift_with_report
from synth.graph import Graph, Variables

FORMS = "zoo:NAME, package.module:factory or file.py:factory"
PRODUCTS = "a Flax NNX module, a Linen (module, variables) pair, a (function, parameters) pair or a Graph"


def resolve(
    model: str, input_shape: Sequence[int], *, num_classes: int | None = None, seed: int = 0
) -> tuple[Graph, Variables | None]:
    """The graph of a MODEL string, and its variables if it came with any; see `resolve_with_report`."""
    lifted = resolve_with_report(model, input_shape, num_classes=num_classes, seed=seed)
    return lifted.graph, lifted.variables


def resolve_with_report(
    model: str, input_shape: Sequence[int], *, num_classes: int | None = None, seed: int = 0, weights: str | Path | None = None
) -> Lifted:
    """The graph of a MODEL string, its variables (None for a model of the zoo or a graph), and what became what.

    `input_shape` is one example's shape or has the batch in front, as for `zoo.build`; `num_classes` is for the zoo (1000 if it is
    not given) and for factories that take it. A factory is called with those of the arguments `input_shape`, `num_classes` and
    `rngs` or `key` that it names. `weights` is a checkpoint (`checkpoints.read`) that takes the place of the model's own: its paths
    are those of the factory's module or parameters, or the names of the graph's nodes. Raises UserError for a string of no such
    form, a module or factory that does not exist, one that raises, an input that the model does not fit, and a checkpoint of
    another model.
    """
    # A name in the zoo may have a colon of its own, as may the path of a file.
    prefix, colon, name = model.partition(":") if model.startswith("zoo:") else model.rpartition(":")
    if not colon or not prefix or not name:
        raise UserError(f"model {model!r}", saw="no model of this form", wanted=FORMS)
    if prefix == "zoo":
        graph = zoo.build(name, input_shape=input_shape, num_classes=num_classes or 1000)
        return _own_graph(graph, weights)
    factory = _factory(model, prefix, name)
    return _lifted(model, _called(model, factory, input_shape, num_classes, seed), input_shape, weights)


def _factory(model: str, prefix: str, name: str) -> Callable[..., Any]:
    module = _file(model, Path(prefix)) if prefix.endswith(".py") else _module(model, prefix)
    factory = getattr(module, name, None)
    if factory is None:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"model {model!r}", saw=f"{prefix} has no {name}", remedy=nearest(name, public) if public else "")
    if not callable(factory):
        raise UserError(f"model {model!r}", saw=f"{name} is no function", wanted=f"a function that returns {PRODUCTS}")
    return factory  # type: ignore[no-any-return]


def _module(model: str, name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(f"model {model!r}", saw=f"no module {error.name}", wanted=FORMS, cause="missing_module") from error
        raise UserError(
            f"model {model!r}", saw=f"{name} needs {error.name}, which is not installed", cause="missing_module"
        ) from error
    except Exception as error:
        raise _raised(model, f"importing {name}", error) from error


def _file(model: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"model {model!r}", saw=f"no file {path}", wanted=FORMS, cause="missing_file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"model {model!r}", saw=f"{path} is no Python file", wanted=FORMS)
    module = importlib.util.module_from_spec(spec)
    # A class of the file must be found by its module's name; modules beside the file can be imported.
    sys.modules[path.stem] = sys.modules.get(path.stem, module)
    if str(path.parent.resolve()) not in sys.path:
        sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _raised(model, f"running {path}", error) from error
    return module


def _called(model: str, factory: Callable[..., Any], input_shape: Sequence[int], num_classes: int | None, seed: int) -> Any:
    offered: dict[str, Callable[[], Any]] = {
        "input_shape": lambda: tuple(input_shape),
        "key": lambda: jax.random.key(seed),
        "rngs": lambda: _rngs(seed),
    }
    if num_classes is not None:
        offered["num_classes"] = lambda: num_classes
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    positional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind not in positional and name not in offered
    ]
    if missing:
        raise UserError(
            f"model {model!r}",
            saw=f"the factory wants {', '.join(missing)}",
            wanted="a factory without arguments, or with input_shape, num_classes, rngs or key",
        )
    try:
        return factory(**{name: offered[name]() for name in parameters if name in offered})
    except UserError:
        raise
    except Exception as error:
        raise _raised(model, "the factory", error) from error


def _rngs(seed: int) -> Any:
    from flax import nnx

    return nnx.Rngs(seed)


def _lifted(model: str, product: Any, input_shape: Sequence[int], weights: str | Path | None) -> Lifted:
    shape = tuple(input_shape)
    if isinstance(product, Graph):
        _refuse_other_shape(model, product, shape)
        return _own_graph(product, weights)
    if isinstance(product, zip | str | int | float) or product is None:
        raise UserError(f"model {model!r}", saw=f"the factory returned {type(product).__name__}", wanted=PRODUCTS)
    batched = shape if len(shape) in (2, 4) else (1, *shape)
    if weights is not None:
        # Before lifting: the paths of a checkpoint are the module's, and a piece that no op covers keeps no paths.
        product = checkpoints.into(product, checkpoints.read(weights), source=f"weights {weights}")
    try:
        return lift_with_report(product, jax.ShapeDtypeStruct(batched, "float32"))
    except UserError as error:
        first = error.faults[0]
        raise UserError(
            f"model {model!r}", saw=f"{first.thing}: {first.saw}", wanted=first.wanted, remedy=first.remedy, exit_code=FAILED
        ) from error


def _refuse_other_shape(model: str, graph: Graph, shape: tuple[int, ...]) -> None:
    wanted = graph.inputs[0].shape
    if shape not in (wanted[1:], (shape[0], *wanted[1:])):
        raise UserError(f"model {model!r}", saw=f"an input of shape {shape}", wanted=f"an input of shape {wanted[1:]}")


def _own_graph(graph: Graph, weights: str | Path | None) -> Lifted:
    variables = None if weights is None else checkpoints.load(weights, graph)
    return Lifted(graph, variables, Report(_counted(graph), {}))


def _counted(graph: Graph) -> dict[str, int]:
    kinds = [node.op.kind() for node in graph.nodes]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def _raised(model: str, what: str, error: Exception) -> UserError:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    # The user's own line, where a library raised for it.
    own = [frame for frame in frames if "site-packages" not in frame.filename and not frame.filename.startswith("<")] or frames
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    message = (str(error).strip() or "no message").splitlines()[0]
    return UserError(f"model {model!r}", saw=f"{what} raised {type(error).__name__}: {message}{place}", exit_code=FAILED)
