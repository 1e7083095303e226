"""From a traced model to a graph: asked for backwards from the outputs, every value becomes an op, or part of an opaque node."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from alphanas.errors import FAILED, UserError
from alphanas.models.lifting.cuts import encoded
from alphanas.models.lifting.flat import Ref, Step
from alphanas.models.lifting.patterns import Match, Matcher
from alphanas.models.lifting.sources import Traced
from synth.graph import Graph, Input, Node, Tie
from synth.op import ModalOp, Op, Weight, state_of
from synth.ops.opaque import Opaque
from synth.programs import NotEncodable


@dataclass(frozen=True)
class Piece:
    """One node to be: the slot it makes, its op, the slots it reads, and its weights as leaves."""

    slot: int
    op: Op
    inputs: tuple[int, ...]
    weights: dict[str, int]
    path: str = ""
    mark: int | None = None


@dataclass(frozen=True)
class Report:
    """What became what: nodes by op, for every opaque node why, and what of the model's training the graph does not do.

    `origins` gives for every array of the graph, by its flat key (params/NODE/WEIGHT), the path that it has in the model.
    """

    ops: dict[str, int]
    opaque: dict[str, str]
    refused: dict[str, str] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        known = ", ".join(f"{count} {kind}" for kind, count in sorted(self.ops.items())) or "none"
        lines = [f"{sum(self.ops.values())} ops: {known}"]
        lines += [f"opaque {name}: {reason}" for name, reason in self.opaque.items()]
        lines += [f"frozen {path}: {what}" for path, what in self.frozen.items()]
        return "\n".join(lines)


def build(program: Traced) -> tuple[Graph, dict[str, Any], Report]:
    """The graph of a traced model, its variables, and the report. Raises UserError for what even an opaque node cannot hold."""
    pieces = _untied(program, _Pieces(program).ordered())
    return _assemble(program, pieces)


class _Pieces:
    def __init__(self, program: Traced) -> None:
        self.program = program
        self.flat = program.flat
        self.matcher = Matcher(program)
        self.pieces: dict[int, Piece] = {}

    def ordered(self) -> list[Piece]:
        """The pieces that the outputs need, in the order of the program."""
        waiting = [self._output(item) for item in self.flat.outputs]
        first = len(self.program.leaves)
        while waiting:
            slot = waiting.pop()
            if slot in self.pieces or first <= slot < self.flat.input_count:
                continue
            found = self.matcher.match(slot)
            self.pieces[slot] = self.opaque(slot) if found is None else _piece(slot, found)
            waiting += self.pieces[slot].inputs
        return [self.pieces[slot] for slot in sorted(self.pieces)]

    def _output(self, item: Ref) -> int:
        if not isinstance(item, int) or not self.matcher.is_data(item):
            raise UserError("model", saw="an output that does not depend on its inputs", exit_code=FAILED, cause="not_liftable")
        if self.flat.value(item) is None:
            sizes = self.flat.types[item][0]
            raise UserError(
                "model", saw=f"an output of shape {sizes}", wanted="outputs whose first axis is the batch", cause="not_liftable"
            )
        return item

    def opaque(self, slot: int, stop: frozenset[int] = frozenset(), because: str = "") -> Piece:
        """The largest piece that ends in a slot and that no op covers; it reads values of the graph, and leaves."""
        inside = {slot}
        steps: set[Step] = set()
        reads: set[int] = set()
        order = {id(step): index for index, step in enumerate(self.flat.steps)}
        waiting = [slot]
        while waiting:
            step = self.flat.producers[waiting.pop()]
            if step in steps:
                continue
            steps.add(step)
            for item in step.operands:
                if not isinstance(item, int) or item in inside:
                    continue
                if item in self.flat.producers and item not in stop and self._inner(item, steps, bool(stop)):
                    inside.add(item)
                    waiting.append(item)
                else:
                    reads.add(item)
        chosen = sorted(steps, key=lambda step: order[id(step)])
        return self._encoded(slot, chosen, sorted(reads - {made for step in chosen for made in step.results}), because)

    def _inner(self, slot: int, steps: set[Step], forced: bool) -> bool:
        """Whether a value belongs into the opaque piece that reads it."""
        if not self.matcher.is_data(slot) or self.flat.value(slot) is None or forced:
            return True
        return self.matcher.match(slot) is None and steps.issuperset(self.flat.readers[slot])

    def _encoded(self, slot: int, steps: Sequence[Step], reads: Sequence[int], because: str) -> Piece:
        data = [read for read in reads if self.matcher.is_data(read)]
        leaves = [read for read in reads if not self.matcher.is_data(read)]
        trained = [leaf for leaf in leaves if self.program.leaves[leaf].trained]
        held = [leaf for leaf in leaves if not self.program.leaves[leaf].trained]
        names = _names([self.program.leaves[leaf].name for leaf in (*trained, *held)])
        troubled = next((step for step in steps if step.problem), None)
        if troubled is not None:
            raise UserError(f"model: {_where(troubled)}", saw=troubled.problem, exit_code=FAILED, cause="not_liftable")
        try:
            program = encoded(steps, (*data, *trained, *held), slot)
        except NotEncodable as error:
            raise UserError(f"model: {_where(steps[-1])}", saw=str(error), exit_code=FAILED, cause="not_liftable") from error
        described = [(name, *_described(self.flat.types[leaf])) for name, leaf in zip(names, (*trained, *held), strict=True)]
        kinds = list(dict.fromkeys(step.primitive for step in steps if self._matters(step)))
        op = Opaque(
            program=json.dumps(program),
            trained=tuple(described[: len(trained)]),
            held=tuple(described[len(trained) :]),
            label=" ".join(kinds[:4]) + (" …" if len(kinds) > 4 else ""),
            because=because or f"no op of the vocabulary computes {', '.join(kinds[:6])} as it stands at {_where(steps[-1])}",
        )
        return Piece(slot, op, tuple(data), dict(zip(names, (*trained, *held), strict=True)))

    def _matters(self, step: Step) -> bool:
        return any(self.matcher.is_data(made) for made in step.results)


def _piece(slot: int, found: Match) -> Piece:
    return Piece(slot, found.op, found.inputs, dict(found.weights), found.path, found.mark)


def _described(kind: tuple[Any, str]) -> tuple[tuple[int, ...], str]:
    return tuple(kind[0]), kind[1]


def _where(step: Step) -> str:
    return step.source or step.primitive


def _names(names: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}{seen[name]}")
    return unique


def _untied(program: Traced, pieces: list[Piece]) -> list[Piece]:
    """The pieces, with those as one that read a weight in different shapes: nodes can share only what they read alike."""
    while True:
        readers: dict[int, list[Piece]] = defaultdict(list)
        for piece in pieces:
            for leaf in set(piece.weights.values()):
                readers[leaf].append(piece)
        found = (
            (leaf, sharing) for leaf, sharing in readers.items() if len({_read_as(program, each, leaf) for each in sharing}) > 1
        )
        tied = next(found, None)
        if tied is None:
            return pieces
        pieces = _joined(program, pieces, tied[1], program.leaves[tied[0]])


def _wanted(program: Traced, piece: Piece) -> dict[str, tuple[str, Weight]]:
    """Every array that a piece's op reads: its collection, and what it is like."""
    values = [value for value in map(program.flat.value, piece.inputs) if value is not None]
    params = {name: ("params", weight) for name, weight in piece.op.weights(*values).items()}
    return params | {name: ("state", weight) for name, weight in state_of(piece.op, values).items()}


def _read_as(program: Traced, piece: Piece, leaf: int) -> frozenset[Any]:
    wanted = _wanted(program, piece)
    return frozenset((wanted[name][0], wanted[name][1].shape) for name, read in piece.weights.items() if read == leaf)


def _joined(program: Traced, pieces: list[Piece], sharing: list[Piece], leaf: Any) -> list[Piece]:
    outputs = {item for item in program.flat.outputs if isinstance(item, int)}
    members = {piece.slot for piece in sharing}
    while True:
        members = _closed(pieces, members)
        escaping = [
            slot
            for slot in sorted(members)
            if slot in outputs or any(slot in piece.inputs and piece.slot not in members for piece in pieces)
        ]
        if len(escaping) == 1:
            break
        following = {piece.slot for piece in pieces if piece.slot not in members and members.intersection(piece.inputs)}
        if not following:
            raise UserError(
                "model", saw=f"outputs that share the weight {leaf.path}.{leaf.name}", exit_code=FAILED, cause="not_liftable"
            )
        members |= {min(following)}
    stop = frozenset(read for piece in pieces if piece.slot in members for read in piece.inputs) - members
    because = f"{len(sharing)} places share the weight {leaf.path}.{leaf.name}"
    joined = _Pieces(program).opaque(escaping[0], stop or frozenset({-1}), because)
    return sorted([*(piece for piece in pieces if piece.slot not in members), joined], key=lambda piece: piece.slot)


def _closed(pieces: list[Piece], members: set[int]) -> set[int]:
    """The members and every piece on a path between two of them."""
    after, before = set(members), set(members)
    for piece in pieces:
        if after.intersection(piece.inputs):
            after.add(piece.slot)
    for piece in reversed(pieces):
        if piece.slot in before:
            before.update(piece.inputs)
    return after & before & {piece.slot for piece in pieces}


def _assemble(program: Traced, pieces: list[Piece]) -> tuple[Graph, dict[str, Any], Report]:
    first = len(program.leaves)
    names = {first + index: name for index, name in enumerate(program.input_names)}
    inputs = []
    for index, name in enumerate(program.input_names):
        value = program.flat.value(first + index)
        if value is None:
            raise UserError(f"input {index}", saw="no batch axis", wanted="a first axis that is the batch")
        inputs.append(Input(name, value.shape, value.dtype))
    taken = set(program.input_names)
    nodes: list[Node] = []
    variables: dict[str, Any] = {"params": {}, "state": {}}
    opaque: dict[str, str] = {}
    owners: dict[int, tuple[str, str]] = {}
    origins: dict[str, str] = {}
    for piece in pieces:
        name = _fresh(_name(program, piece, names), taken)
        names[piece.slot] = name
        taken.add(name)
        ties = []
        for weight, (collection, wants) in _wanted(program, piece).items():
            leaf = piece.weights[weight]
            if leaf in owners:
                ties.append(Tie(weight, *owners[leaf]))
                continue
            owners[leaf] = (name, weight)
            variables[collection].setdefault(name, {})[weight] = _shaped(program.leaves[leaf].array, wants.shape)
            origins[f"{collection}/{name}/{weight}"] = ".".join(
                filter(None, (program.leaves[leaf].path, program.leaves[leaf].name))
            )
        nodes.append(Node(name, piece.op, tuple(names[read] for read in piece.inputs), tuple(ties)))
        if isinstance(piece.op, Opaque):
            opaque[name] = piece.op.because + _refusals(program, piece)
    outputs = tuple(names[item] for item in program.flat.outputs if isinstance(item, int))
    graph = Graph(tuple(inputs), tuple(nodes), outputs)
    counted = Counter(node.op.kind() for node in nodes if not isinstance(node.op, Opaque))
    return graph, variables, Report(dict(counted), opaque, dict(program.refused), _frozen(program, pieces), origins)


def _shaped(array: Any, shape: tuple[int, ...]) -> Any:
    """The array itself, or a view of it in the shape that an op wants."""
    if tuple(array.shape) == shape:
        return array
    if isinstance(array, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(shape, array.dtype)
    return array.reshape(shape)


def _frozen(program: Traced, pieces: list[Piece]) -> dict[str, str]:
    """What the model does in training alone and the graph does not do, by the path of the layer."""
    kept = {piece.mark for piece in pieces}
    inside = {
        layer.path: f"inside an opaque node; {layer.op} is as in inference"
        for number, layer in enumerate(program.layers)
        if number not in kept and isinstance(layer.op, ModalOp) and not layer.op.alike
    }
    return {**program.frozen, **inside}


def _refusals(program: Traced, piece: Piece) -> str:
    paths = {program.leaves[leaf].path for leaf in piece.weights.values()}
    reasons = [f"{path} is {why}" for path, why in program.refused.items() if any(f"{p}.".startswith(f"{path}.") for p in paths)]
    return f" ({'; '.join(reasons)})" if reasons else ""


def _name(program: Traced, piece: Piece, names: dict[int, str]) -> str:
    """The module's path; for a loose step, its kind in the scope of the latest value that it reads."""
    if piece.path:
        return piece.path
    owner = next((program.leaves[leaf].path for leaf in piece.weights.values()), "")
    if owner:
        return owner
    latest = names[max(piece.inputs)]
    scope = latest.rpartition(".")[0]
    return f"{scope}.{piece.op.kind()}" if scope else piece.op.kind()


def _fresh(name: str, taken: set[str]) -> str:
    return next(
        candidate for candidate in (name, *(f"{name}{index}" for index in range(1, len(taken) + 2))) if candidate not in taken
    )
