"""Programs: immutable, typed dataflow graphs of ops. One graph means training and inference, at any batch size."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from synth import display
from synth.initializers import initialize, words_of
from synth.op import ModalOp, Op, ShapeMismatch, Value, Weight, output_value, state_of
from synth.ops import OPS, Vocabulary
from synth.reach import Reach

FORMAT = 2
"""Version of the JSON form; files of older versions stay readable. Form 2 added ties; a graph without them is written in form 1."""

Variables = Mapping[str, Mapping[str, Mapping[str, jax.Array]]]
Draw = Callable[[Weight, tuple[int, ...], str], np.ndarray]


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
class Tie:
    """An array that a node shares: its own `weight` is the array `name` of the node `owner`."""

    weight: str
    owner: str
    name: str


@dataclasses.dataclass(frozen=True)
class Node:
    """One application of an op: its name, the op, the names of the values it reads, and the arrays that other nodes own."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    ties: tuple[Tie, ...] = ()

    @property
    def shared(self) -> frozenset[str]:
        """The names of the op's arrays that another node owns."""
        return frozenset(tie.weight for tie in self.ties)

    def renamed(self, names: Mapping[str, str]) -> Node:
        """The node in a graph whose values have these names."""
        ties = tuple(Tie(tie.weight, names[tie.owner], tie.name) for tie in self.ties)
        return Node(names[self.name], self.op, tuple(names[read] for read in self.inputs), ties)


@dataclasses.dataclass(frozen=True)
class Graph:
    """An immutable program: inputs, nodes in topological order, and the names of the values that come out.

    Raises GraphError for repeated or unknown names and ShapeMismatch for inputs that an op does not fit. A tied array has one owner
    among the nodes, is counted once, and its gradient is the sum over the nodes that read it.
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
        if self.has_ties:
            self._check_ties()

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.inputs, self.nodes, self.outputs))

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: hashes of texts, and so of graphs, are others in another process."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def _check_ties(self) -> None:
        for node in self.nodes:
            wants = self._wanted(node)
            for tie in node.ties:
                owner = self.by_name.get(tie.owner)
                if owner is None or owner is node or tie.name in owner.shared or tie.weight not in wants:
                    raise GraphError(
                        f"node {node.name!r} shares {tie.weight!r} with {tie.owner!r}, which does not own {tie.name!r}"
                    )
                (collection, weight), (kept, given) = wants[tie.weight], self._wanted(owner).get(tie.name, ("", None))
                if given is None or kept != collection:
                    raise GraphError(f"node {tie.owner!r} has no array {tie.name!r} in its {collection}")
                if (given.shape, given.dtype) != (weight.shape, weight.dtype):
                    raise ShapeMismatch(
                        f"node {node.name!r} wants {tie.weight!r} of shape {weight.shape}, {tie.owner!r} shares {given.shape}"
                    )

    def _wanted(self, node: Node) -> dict[str, tuple[str, Weight]]:
        """Every array that a node's op reads, by name: its collection and what it is like."""
        inputs = self.input_values(node)
        params = {name: ("params", weight) for name, weight in node.op.weights(*inputs).items()}
        return params | {name: ("state", weight) for name, weight in state_of(node.op, inputs).items()}

    def owned(self, node: Node) -> dict[str, dict[str, Weight]]:
        """What a node owns, {"params": {weight: …}, "state": {…}}: everything that its op reads but the arrays that it shares."""
        found: dict[str, dict[str, Weight]] = {"params": {}, "state": {}}
        for name, (collection, weight) in self._wanted(node).items():
            if name not in node.shared:
                found[collection][name] = weight
        return found

    @functools.cached_property
    def has_ties(self) -> bool:
        """Whether any node reads arrays that another one owns."""
        return any(node.ties for node in self.nodes)

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
        drawn = self.drawn(key)
        # All at once: an array by itself takes as long to hand over as to draw. As a list: JAX gives dicts back sorted.
        placed = iter(jax.device_put([array for nodes in drawn.values() for own in nodes.values() for array in own.values()]))
        return {
            collection: {node: {name: next(placed) for name in own} for node, own in nodes.items()}
            for collection, nodes in drawn.items()
        }

    def drawn(self, key: jax.Array, draw: Draw = initialize) -> Variables:
        """The same variables as NumPy arrays, on no device: every function of variables takes these too.

        `draw` is asked for each array, by what it is like, the key's words and its name.
        """
        variables: dict[str, dict[str, Any]] = {"params": {}, "state": {}}
        words = words_of(key)
        for node in self.nodes:
            for collection, owned in self.owned(node).items():
                drawn = {name: draw(weight, words, f"{node.name}/{name}") for name, weight in owned.items()}
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
            # From the new state: nodes that share running statistics update them one after the other.
            weights = weights_of({"params": variables["params"], "state": state}, node)
            arguments = [env[name] for name in node.inputs]
            if not isinstance(node.op, ModalOp):
                env[node.name] = node.op.apply(weights, *arguments)
                continue
            env[node.name], updates = node.op.train(weights, *arguments, key=jax.random.fold_in(rng, index))
            owners = {tie.weight: (tie.owner, tie.name) for tie in node.ties}
            for name, array in updates.items():
                owner, own_name = owners.get(name, (node.name, name))
                state[owner] = {**state.get(owner, {}), own_name: array}
        return self._result(env), {"params": variables["params"], "state": state}

    def run(self, variables: Variables, inputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Every value of the graph in inference, by name; in a trace, each node is a named scope."""
        env = dict(inputs)
        for node in self.nodes:
            with jax.named_scope(node.name):
                env[node.name] = node.op.apply(weights_of(variables, node), *(env[name] for name in node.inputs))
        return env

    def _result(self, env: Mapping[str, jax.Array]) -> Any:
        results = tuple(env[name] for name in self.outputs)
        return results[0] if len(results) == 1 else results

    @functools.cached_property
    def params(self) -> int:
        """Number of trained parameters; shared ones count once."""
        return sum(self.params_by_node.values())

    @functools.cached_property
    def params_by_node(self) -> Mapping[str, int]:
        """The number of trained parameters that each node owns, by name."""
        return {node.name: sum(math.prod(weight.shape) for weight in self.owned(node)["params"].values()) for node in self.nodes}

    @functools.cached_property
    def reach(self) -> Reach:
        """Who reads whom, near and far."""
        return Reach.of([item.name for item in self.inputs], {node.name: node.inputs for node in self.nodes})

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of the program up to the names of its nodes, their order, the order of commuting operands, and initial weights.

        Unequal programs have unequal hashes; equal ones differ only where commuting operands are equal as trees but share
        nodes in different ways.
        """
        keys = {item.name: digest(["input", index, *item.shape, item.dtype]) for index, item in enumerate(self.inputs)}
        for node in self.nodes:
            below = [keys[name] for name in node.inputs]
            keys[node.name] = key_of(node.op, (tuple(sorted(below) if node.op.commutative else below),))
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

        outputs = [visit(name) for name in self.outputs]
        ties = sorted(sorted([numbers[name], weight] for name, weight in group if name in numbers) for group in self._shared())
        own = [[[*item.shape, item.dtype] for item in self.inputs], outputs, rows]
        return digest([*own, ties] if ties else own)

    def _shared(self) -> list[list[tuple[str, str]]]:
        """For every array that several nodes read: those nodes, and what the array is called there."""
        groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for node in self.nodes:
            for tie in node.ties:
                owner = (tie.owner, tie.name)
                groups.setdefault(owner, [owner]).append((node.name, tie.weight))
        return list(groups.values())

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
        return dataclasses.replace(self, nodes=retied([node for node in self.nodes if node.name in needed]))

    def to_json(self) -> str:
        """The graph as JSON text, with the version of its form."""
        return json.dumps(
            {
                "format": FORMAT if any(node.ties for node in self.nodes) else 1,
                "inputs": [dataclasses.asdict(item) for item in self.inputs],
                "nodes": [_node_to_json(node) for node in self.nodes],
                "outputs": self.outputs,
            }
        )

    @staticmethod
    def from_json(text: str | Mapping[str, Any], vocabulary: Vocabulary = OPS) -> Graph:
        """The graph of a JSON text; raises GraphError for what is no graph, or names an op that the vocabulary lacks."""
        try:
            data = json.loads(text) if isinstance(text, str) else text
        except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError, too
            raise GraphError(f"this is not JSON: {error}") from None
        if not isinstance(data, Mapping) or not {"format", "inputs", "nodes", "outputs"} <= set(data):
            raise GraphError("this is no graph: it wants the keys format, inputs, nodes and outputs")
        if not isinstance(data["format"], int):
            raise GraphError(f"this graph has form {data['format']!r}; a form is a whole number")
        if data["format"] > FORMAT:
            raise GraphError(
                f"this graph has form {data['format']}, of a newer version; this one reads forms up to {FORMAT}: update alphanas"
            )
        try:
            inputs = tuple(Input(item["name"], _tuple(item["shape"]), item["dtype"]) for item in data["inputs"])
            nodes = tuple(_node_from_json(item, vocabulary) for item in data["nodes"])
            return Graph(inputs, nodes, tuple(data["outputs"]))
        except (KeyError, TypeError, AttributeError) as error:
            missing = f"an entry lacks {error}" if isinstance(error, KeyError) else str(error)
            raise GraphError(f"this graph is damaged: its inputs, nodes or outputs are not as written ({missing})") from error

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


def retied(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes, with every array whose owner is not among them owned by the first of them that reads it."""
    names = {node.name for node in nodes}
    heirs: dict[tuple[str, str], tuple[str, str]] = {}
    found = []
    for node in nodes:
        ties = []
        for tie in node.ties:
            if tie.owner in names:
                ties.append(tie)
                continue
            owner, name = heirs.setdefault((tie.owner, tie.name), (node.name, tie.weight))
            if owner != node.name:
                ties.append(Tie(tie.weight, owner, name))
        found.append(dataclasses.replace(node, ties=tuple(ties)))
    return tuple(found)


def _node_to_json(node: Node) -> dict[str, Any]:
    plain = {"name": node.name, "op": op_to_json(node.op), "inputs": node.inputs}
    return plain | ({"ties": [dataclasses.astuple(tie) for tie in node.ties]} if node.ties else {})


def _node_from_json(data: Mapping[str, Any], vocabulary: Vocabulary) -> Node:
    ties = tuple(Tie(*tie) for tie in data.get("ties", ()))
    return Node(data["name"], op_from_json(data["op"], vocabulary), tuple(data["inputs"]), ties)


def meaning(op: Op) -> dict[str, Any]:
    """An op as its kind and the attributes that decide what it computes on given weights."""
    said = {field.name for field in dataclasses.fields(op) if field.metadata.get("start")}
    return {name: value for name, value in op_to_json(op).items() if name not in said}


@functools.lru_cache(maxsize=1 << 16)
def key_of(op: Op, operands: tuple[str | tuple[str, ...], ...]) -> str:
    """A digest of what an op computes from operands that are told apart by these keys."""
    return digest([meaning(op), *operands])


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


def weights_of(variables: Variables, node: Node) -> dict[str, jax.Array]:
    """Every array that a node's op reads beside its inputs, those of other nodes too."""
    own = {**variables["params"].get(node.name, {}), **variables["state"].get(node.name, {})}
    for tie in node.ties:
        own[tie.weight] = {**variables["params"].get(tie.owner, {}), **variables["state"].get(tie.owner, {})}[tie.name]
    return own
