"""One class for every kind of block: blocks that differ in sizes only share a class, whose arguments are those sizes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from alphanas.errors import Fault, UserError
from alphanas.export.blocks import Block
from alphanas.export.flax import programs
from alphanas.export.flax.layers import HELPERS, REQUIRED, WRITERS, Argument, Layer, Module
from alphanas.export.flax.statements import Step, body, fold
from synth.graph import Graph, Node

POSITIONAL = ("in_features", "features", "num_features", "kernel_size")
"""Arguments that need no name, as Flax has it."""
LISTED = 3
"""Most blocks of a class that its docstring names."""


@dataclass(frozen=True)
class _Member:
    """An attribute that a constructor sets: a module, or an inner block."""

    name: str
    factory: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class _Parameter:
    """An argument of a class's own constructor."""

    name: str
    kind: str
    default: Any

    @property
    def declared(self) -> str:
        """As it stands in the signature."""
        default = "" if self.default is REQUIRED else f" = {literal(self.default)}"
        return f"{self.name}: {_annotation(self.kind)}{default}"


@dataclass
class _Class:
    """A class to be written, and the blocks that it stands for."""

    name: str
    statements: tuple[str, ...]
    inputs: tuple[str, ...]
    places: list[str] = field(default_factory=list)
    instances: list[tuple[_Member, ...]] = field(default_factory=list)

    def slots(self) -> Iterator[tuple[str, Argument, tuple[Any, ...]]]:
        """Every argument of every member, with its values over all instances."""
        for place, member in enumerate(self.instances[0]):
            for number, argument in enumerate(member.arguments):
                yield member.name, argument, tuple(instance[place].arguments[number].value for instance in self.instances)

    def parameters(self) -> dict[tuple[Any, ...], _Parameter]:
        """The constructor's own arguments, one for each list of values that differs between instances; defaults come last."""
        found: dict[tuple[Any, ...], _Parameter] = {}
        for member, argument, values in self.slots():
            if values in found or all(value == values[0] for value in values):
                continue
            taken = {parameter.name for parameter in found.values()}
            plain = {"out_features": "features"}.get(_last(argument.name), _last(argument.name))
            if plain == "in_features" and self._kept(member, argument, values):
                plain = "features"
            name = next(name for name in (plain, f"{member}_{plain}", f"{member}_{plain}_{len(taken)}") if name not in taken)
            default = argument.default if argument.default in values else REQUIRED
            found[values] = _Parameter(name, type(values[0]).__name__, default)
        return dict(sorted(found.items(), key=lambda item: item[1].default is not REQUIRED))

    def _kept(self, member: str, argument: Argument, values: tuple[Any, ...]) -> bool:
        """Whether the layer that takes so many features gives as many."""
        scope = argument.name.rpartition(".")[0]
        return any(
            (owner, other.name.rpartition(".")[0], _last(other.name)) == (member, scope, "out_features") and same == values
            for owner, other, same in self.slots()
        )


class Classes:
    """The classes of a graph's blocks, in the order of their definition."""

    def __init__(self, graph: Graph, root: Block, name: str) -> None:
        self._pieces = pieces(graph)
        self._graph = graph
        self._classes: dict[Any, _Class] = {}
        self._names: set[str] = {name, *HELPERS}
        self._keys: dict[int, Any] = {}
        self._number: dict[int, int] = {}
        self.helpers: dict[str, str] = {}
        for block, path in _postorder(root, ()):
            self._add(block, path, name if block is root else None)
        for this in self._classes.values():
            this.name = this.name or self._name(this)

    def source(self) -> list[str]:
        """The text of every class, inner blocks before the blocks that use them."""
        return [*self.helpers.values(), *(self._write(key) for key in self._classes)]

    def _add(self, block: Block, path: tuple[str, ...], name: str | None) -> None:
        members, steps = [], []
        for item in block.items:
            if isinstance(item, Block):
                members.append(_Member(_last(item.name), f"#{id(self._keys[id(item)])}", self._inner_arguments(item)))
                operands = ", ".join(f"{{{place}}}" for place in range(len(item.inputs)))
                steps.append(Step(item.outputs[0], f"self.{item.name}({operands})", item.inputs))
                continue
            layer = self._layer(item)
            attribute = _last(item.name)
            if layer.module is not None:
                members.append(_Member(attribute, layer.module.factory, layer.module.arguments))
                if layer.module.factory in HELPERS:
                    self.helpers.setdefault(layer.module.factory, HELPERS[layer.module.factory])
            steps.append(Step(item.name, layer.expression.replace("{self}", f"self.{attribute}"), item.inputs, layer.infix))
        names = _input_names(self._graph, block)
        statements = tuple(body(steps, list(zip(block.inputs, names, strict=True)), block.outputs))
        shape = tuple((m.name, m.factory, tuple((a.name, type(a.value).__name__) for a in m.arguments)) for m in members)
        key: Any = (shape, statements, tuple(names))
        key = next((known for known in self._classes if known == key), key)
        if key not in self._classes:
            self._classes[key] = _Class(name or "", statements, tuple(names))
        self._keys[id(block)] = key
        self._number[id(block)] = len(self._classes[key].instances)
        self._classes[key].places.append(".".join(path))
        self._classes[key].instances.append(tuple(members))

    def _inner_arguments(self, block: Block) -> tuple[Argument, ...]:
        """Placeholders for the arguments of an inner block: all of its members' values, one after the other."""
        instance = self._classes[self._keys[id(block)]].instances[self._number[id(block)]]
        return tuple(
            Argument(f"{member.name}.{argument.name}", argument.value, argument.default)
            for member in instance
            for argument in member.arguments
        )

    def _layer(self, node: Node) -> Layer:
        layer = _row(self._graph, node)
        if layer is not None:
            return layer
        piece = self._pieces[node.name]
        name = self._helper(node, piece)
        operands = ", ".join(f"{{{place}}}" for place in range(len(node.inputs)))
        return Layer(f"{{self}}({operands})", Module(name, ())) if piece.is_class else Layer(f"{name}({operands})")

    def _helper(self, node: Node, piece: programs.Piece) -> str:
        """The name of the class or function that a piece is; equal pieces are one."""
        stem = re.sub(r"\d+$", "", _last(node.name)).strip("_") or "piece"
        wanted = _camel(stem) if piece.is_class else stem
        for name in (wanted, *(f"{wanted}{number}" for number in range(2, len(self._graph.nodes) + 3))):
            source = piece.source.replace("{name}", name)
            if self.helpers.get(name, source) == source and (name in self.helpers or name not in self._names):
                break
        self.helpers[name] = source
        self._names.add(name)
        return name

    def _name(self, this: _Class) -> str:
        """The name of the blocks, or what they are made of where they have several names."""
        stems = {re.sub(r"\d+", "", _last(place)) for place in this.places}
        stem = stems.pop() if len(stems) == 1 else "_".join(re.sub(r"\d+", "", member.name) for member in this.instances[0])
        stem = _camel(stem) or "Block"
        known = next((other for other in self._classes.values() if other.name == stem), this)
        usual = {member.name for member in known.instances[0]}
        unusual = [member.name for member in this.instances[0] if member.name not in usual and not member.name[-1].isdecimal()]
        marked = [f"{stem}With{_camel(member)}" for member in unusual[:1]]
        numbered = (f"{stem}{number}" for number in range(2, 1000))
        name = next(name for name in (stem, *marked, *numbered) if name not in self._names)
        self._names.add(name)
        return name

    def _write(self, key: Any) -> str:
        this = self._classes[key]
        parameters = this.parameters()
        lines = [f"class {this.name}(nnx.Module):", f'    """{_places(this.places)}"""', ""]
        signature = "".join(f"{parameter.declared}, " for parameter in parameters.values())
        lines += fold(f"def __init__(self, {signature}*, rngs: nnx.Rngs):", 4)
        assignments = [line for place in range(len(this.instances[0])) for line in self._assignment(this, place, parameters)]
        assignments += self._ties() if this.places == [""] else []
        lines += assignments or ["        del rngs  # nothing here has weights"]
        arguments = ", ".join(f"{name}: jax.Array" for name in this.inputs)
        result = "jax.Array" if "," not in this.statements[-1].partition("return ")[2].split("(")[0] else "tuple[jax.Array, ...]"
        lines += ["", *fold(f"def __call__(self, {arguments}) -> {result}:", 4), *this.statements]
        return "\n".join(lines) + "\n"

    def _ties(self) -> list[str]:
        """Arrays that several modules share: the variable of the one stands in the others."""

        def variable(node: str, weight: str) -> str:
            return f"self.{node}.{weight.replace('_', '.')}"

        pairs = [
            (variable(node.name, tie.weight), variable(tie.owner, tie.name)) for node in self._graph.nodes for tie in node.ties
        ]
        return [line for own, shared in pairs for line in fold(f"{own} = {shared}", 8)]

    def _assignment(self, this: _Class, place: int, parameters: dict[tuple[Any, ...], _Parameter]) -> list[str]:
        member = this.instances[0][place]
        vectors = [
            tuple(instance[place].arguments[number].value for instance in this.instances) for number in range(len(member.arguments))
        ]
        written = [_text(vector, parameters) for vector in vectors]
        if not member.factory.startswith("#"):
            shown = [
                text if argument.positional else f"{argument.name}={text}"
                for argument, vector, text in zip(member.arguments, vectors, written, strict=True)
                if argument.default is REQUIRED or any(value != argument.default for value in vector)
            ]
            return fold(f"self.{member.name} = {member.factory}({', '.join([*shown, 'rngs=rngs'])})", 8)
        inner = next(known for key, known in self._classes.items() if f"#{id(key)}" == member.factory)
        by_slot = {f"{name}.{argument.name}": values for name, argument, values in inner.slots()}
        own = inner.parameters()
        texts = {by_slot[argument.name]: text for argument, text in zip(member.arguments, written, strict=True)}
        shown = []
        for values, parameter in own.items():
            if parameter.default is REQUIRED or texts[values] != literal(parameter.default):
                positional = parameter.name in POSITIONAL and all("=" not in text for text in shown)
                shown.append(texts[values] if positional else f"{parameter.name}={texts[values]}")
        return fold(f"self.{member.name} = {inner.name}({', '.join([*shown, 'rngs=rngs'])})", 8)


def _row(graph: Graph, node: Node) -> Layer | None:
    """What the table says about a node, if it says anything."""
    writer = WRITERS.get(type(node.op))
    return None if writer is None else writer(node.op, graph.input_values(node))


def pieces(graph: Graph) -> dict[str, programs.Piece]:
    """The source of the nodes whose ops have no row; raises UserError that names every one that has no source."""
    found: dict[str, programs.Piece] = {}
    faults = []
    for node in graph.nodes:
        if _row(graph, node) is not None:
            continue
        try:
            found[node.name] = programs.piece(node.op, graph.input_values(node))
        except programs.NoSource as error:
            saw = f"{node.op.kind()} holds {error}, which has no readable form in Flax"
            faults.append(Fault(f"node {node.name}", saw=saw, remedy="export as stablehlo or graph instead"))
    if faults:
        raise UserError(faults, cause="not_exportable")
    return found


def _text(vector: tuple[Any, ...], parameters: dict[tuple[Any, ...], _Parameter]) -> str:
    return parameters[vector].name if vector in parameters else literal(vector[0])


def literal(value: Any) -> str:
    """A value as source; strings in double quotes."""
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _annotation(kind: str) -> str:
    return "tuple[int, ...]" if kind == "tuple" else kind


def _places(places: Sequence[str]) -> str:
    if places == [""]:
        return "The whole model."
    if len(places) == 1:
        return f"The block {places[0]}."
    if len(places) > LISTED:
        return f"{len(places)} blocks: {places[0]} … {places[-1]}."
    return f"The blocks {', '.join(places[:-1])} and {places[-1]}."


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _input_names(graph: Graph, block: Block) -> list[str]:
    if len(block.inputs) == 1:
        return ["x"]
    if not block.name:
        return [item.name for item in graph.inputs]
    return [*("x", "y", "z", "u", "v", "w"), *(f"x{number}" for number in range(len(block.inputs)))][: len(block.inputs)]


def _postorder(block: Block, path: tuple[str, ...]) -> Iterator[tuple[Block, tuple[str, ...]]]:
    for item in block.items:
        if isinstance(item, Block):
            yield from _postorder(item, (*path, item.name))
    yield block, path
