"""Programs: immutable, typed dataflow graphs of ops. One graph means training and inference, at any batch size."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from synth import display
from synth.initializers import initialize
from synth.op import ModalOp, Op, ShapeMismatch, Value, output_value, state_of
from synth.ops import OPS, Vocabulary

FORMAT = 1
"""Version of the JSON form; files of older versions stay readable."""

Variables = Mapping[str, Mapping[str, Mapping[str, jax.Array]]]


class GraphError(ValueError):
    """A graph that is not well formed, or a JSON text that is no graph."""


@dataclasses.dataclass(frozen=True)
class Input:
    """A named input of a graph; None in its shape stands for the free batch axis."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"

    @property
    def value(self) -> Value:
        return Value(self.shape, self.dtype)


@dataclasses.dataclass(frozen=True)
class Node:
    """One application of an op: its name, the op, and the names of the values it reads."""

    name: str
    op: Op
    inputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Graph:
    """An immutable program: inputs, nodes in topological order, and the names of the values that come out.

    Raises GraphError for repeated or unknown names and ShapeMismatch for inputs that an op does not fit.
    """

    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        known: set[str] = set()
        items: tuple[Input | Node, ...] = (*self.inputs, *self.nodes)
        for item in items:
            if item.name in known or "/" in item.name or not item.name:
                raise GraphError(f"the name {item.name!r} is repeated, empty or has a slash in it")
            unknown = set(item.inputs) - known if isinstance(item, Node) else set()
            if unknown:
                raise GraphError(f"node {item.name!r} reads {', '.join(sorted(unknown))}, which no earlier node makes")
            known.add(item.name)
        if not self.outputs or not known.issuperset(self.outputs):
            raise GraphError(f"the outputs {self.outputs} are not all values of the graph")
        _ = self.values

    @functools.cached_property
    def values(self) -> Mapping[str, Value]:
        """The type of every value, by name."""
        values = {item.name: item.value for item in self.inputs}
        for node in self.nodes:
            try:
                values[node.name] = output_value(node.op, tuple(values[name] for name in node.inputs))
            except ShapeMismatch as error:
                raise ShapeMismatch(f"node {node.name!r}: {error}") from None
        return values

    @functools.cached_property
    def by_name(self) -> Mapping[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @functools.cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the nodes that read each value."""
        readers: dict[str, list[str]] = {name: [] for name in self.values}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node.name)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    def input_values(self, node: Node) -> tuple[Value, ...]:
        """The types of what a node reads."""
        return tuple(self.values[name] for name in node.inputs)

    def init(self, key: jax.Array) -> Variables:
        """Initial variables: {"params": {node: {weight: array}}, "state": {…}}; equal keys give equal weights by node name.

        Call it outside `jit`: weights are drawn with NumPy.
        """
        variables: dict[str, dict[str, dict[str, jax.Array]]] = {"params": {}, "state": {}}
        for node in self.nodes:
            inputs = self.input_values(node)
            for collection, owned in (("params", node.op.weights(*inputs)), ("state", state_of(node.op, inputs))):
                drawn = {name: jnp.asarray(initialize(weight, key, f"{node.name}/{name}")) for name, weight in owned.items()}
                if drawn:
                    variables[collection][node.name] = drawn
        return variables

    def apply(self, variables: Variables, *inputs: jax.Array, train: bool = False, rng: jax.Array | None = None) -> Any:
        """The outputs (a tuple if there are several); with `train=True` and a key, (outputs, new variables).

        Pure: works under `jax.jit`, `jax.grad` and `jax.vmap`. Raises GraphError for a wrong number of inputs.
        """
        if len(inputs) != len(self.inputs):
            raise GraphError(f"the graph takes {len(self.inputs)} inputs, got {len(inputs)}")
        env = dict(zip((item.name for item in self.inputs), inputs, strict=True))
        if not train:
            return self._result(self.run(variables, env))
        if rng is None:
            raise GraphError("training needs a random key: apply(variables, *inputs, train=True, rng=key)")
        state = dict(variables["state"])
        for index, node in enumerate(self.nodes):
            weights = _weights(variables, node.name)
            arguments = [env[name] for name in node.inputs]
            if not isinstance(node.op, ModalOp):
                env[node.name] = node.op.apply(weights, *arguments)
                continue
            env[node.name], updates = node.op.train(weights, *arguments, key=jax.random.fold_in(rng, index))
            if updates:
                state[node.name] = updates
        return self._result(env), {"params": variables["params"], "state": state}

    def run(self, variables: Variables, inputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Every value of the graph in inference, by name."""
        env = dict(inputs)
        for node in self.nodes:
            env[node.name] = node.op.apply(_weights(variables, node.name), *(env[name] for name in node.inputs))
        return env

    def _result(self, env: Mapping[str, jax.Array]) -> Any:
        results = tuple(env[name] for name in self.outputs)
        return results[0] if len(results) == 1 else results

    @functools.cached_property
    def params(self) -> int:
        """Number of trained parameters."""
        return sum(math.prod(weight.shape) for node in self.nodes for weight in node.op.weights(*self.input_values(node)).values())

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of the program up to the names of its nodes, their order, and the order of commuting operands.

        Unequal programs have unequal hashes; equal ones differ only where commuting operands are equal as trees but share
        nodes in different ways.
        """
        keys = {item.name: digest(["input", index, *item.shape, item.dtype]) for index, item in enumerate(self.inputs)}
        for node in self.nodes:
            below = [keys[name] for name in node.inputs]
            keys[node.name] = digest([op_to_json(node.op), sorted(below) if node.op.commutative else below])
        numbers: dict[str, int] = {}
        rows: list[Any] = []

        def visit(name: str) -> int:
            stack: list[tuple[str, bool]] = [(name, False)]
            while stack:
                current, ready = stack.pop()
                if current in numbers:
                    continue
                operands = self._operands(current, keys)
                if ready or not operands:
                    row = [numbers[operand] for operand in operands]
                    numbers[current] = len(numbers)
                    rows.append([keys[current], row])
                    continue
                stack.append((current, True))
                stack.extend((operand, False) for operand in reversed(operands))
            return numbers[name]

        return digest([[[*item.shape, item.dtype] for item in self.inputs], [visit(name) for name in self.outputs], rows])

    def _operands(self, name: str, keys: Mapping[str, str]) -> list[str]:
        node = self.by_name.get(name)
        if node is None:
            return []
        return sorted(node.inputs, key=lambda operand: keys[operand]) if node.op.commutative else list(node.inputs)

    def pruned(self) -> Graph:
        """The graph without the nodes that no output needs."""
        needed = set(self.outputs)
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        return dataclasses.replace(self, nodes=tuple(node for node in self.nodes if node.name in needed))

    def to_json(self) -> str:
        """The graph as JSON text, with the version of its form."""
        return json.dumps(
            {
                "format": FORMAT,
                "inputs": [dataclasses.asdict(item) for item in self.inputs],
                "nodes": [{"name": node.name, "op": op_to_json(node.op), "inputs": node.inputs} for node in self.nodes],
                "outputs": self.outputs,
            }
        )

    @staticmethod
    def from_json(text: str | Mapping[str, Any], vocabulary: Vocabulary = OPS) -> Graph:
        """The graph of a JSON text; raises GraphError for what is no graph, or names an op that the vocabulary lacks."""
        try:
            data = json.loads(text) if isinstance(text, str) else text
        except json.JSONDecodeError as error:
            raise GraphError(f"this is not JSON: {error}") from None
        if not isinstance(data, Mapping) or not {"format", "inputs", "nodes", "outputs"} <= set(data):
            raise GraphError("this is no graph: it wants the keys format, inputs, nodes and outputs")
        if data["format"] > FORMAT:
            raise GraphError(f"this graph has form {data['format']}; this version reads forms up to {FORMAT}")
        inputs = tuple(Input(item["name"], _tuple(item["shape"]), item["dtype"]) for item in data["inputs"])
        nodes = tuple(Node(item["name"], op_from_json(item["op"], vocabulary), tuple(item["inputs"])) for item in data["nodes"])
        return Graph(inputs, nodes, tuple(data["outputs"]))

    def __str__(self) -> str:
        return display.as_text(self)

    def _repr_html_(self) -> str:
        return display.as_html(self)


class Builder:
    """Grows a graph node by node: `x = builder(Conv(features=16), x, name="stem")`."""

    def __init__(self, input_shape: Sequence[int | None], dtype: str = "float32", name: str = "input") -> None:
        """`input_shape` is without the batch axis, which is free."""
        self.inputs = (Input(name, (None, *input_shape), dtype),)
        self.nodes: list[Node] = []
        self._graph = Graph(self.inputs, (), (name,))

    @property
    def input(self) -> str:
        """The name of the graph's input."""
        return self.inputs[0].name

    def __call__(self, op: Op, *inputs: str, name: str) -> str:
        """Adds a node and returns the name of its value."""
        self.nodes.append(Node(name, op, inputs))
        return name

    def graph(self, *outputs: str) -> Graph:
        """The graph so far, with these outputs."""
        return Graph(self.inputs, tuple(self.nodes), outputs)


def chain(value: Value, ops: Iterable[Op], name: str = "input") -> Graph:
    """The graph that applies ops one after the other to one input."""
    nodes: list[Node] = []
    last = name
    for index, op in enumerate(ops):
        nodes.append(Node(f"{op.kind()}{index}", op, (last,)))
        last = nodes[-1].name
    return Graph((Input(name, value.shape, value.dtype),), tuple(nodes), (last,))


def op_to_json(op: Op) -> dict[str, Any]:
    """An op as its kind and attributes."""
    return {"kind": op.kind(), **op.attributes()}


def op_from_json(data: Mapping[str, Any], vocabulary: Vocabulary = OPS) -> Op:
    """The op of a JSON mapping; raises GraphError for an unknown kind or attribute."""
    attributes = {name: _tuple(value) for name, value in data.items() if name != "kind"}
    op_type = vocabulary.get(data.get("kind", ""))
    if op_type is None:
        raise GraphError(f"no op is called {data.get('kind')!r}; known are {', '.join(sorted(vocabulary))}")
    try:
        return op_type(**attributes)
    except TypeError as error:
        raise GraphError(f"{data['kind']}: {error}") from None


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list | tuple) else value


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _weights(variables: Variables, name: str) -> dict[str, jax.Array]:
    return {**variables["params"].get(name, {}), **variables["state"].get(name, {})}
