"""The blocks of a graph: nodes that share a dotted prefix of their names, where they form a piece with one output.

A search leaves nodes without a prefix in the middle of a block, and pieces of blocks: the former are taken into the block, the
latter are dissolved into what surrounds them. The result names every node by where it stands, so that one name is the path of
a module, the key of a weight and the name in the JSON form.
"""

from __future__ import annotations

import keyword
from collections import defaultdict
from dataclasses import dataclass, replace

from synth.graph import Graph, Node, Variables

Path = tuple[str, ...]

RESERVED = frozenset({"eval", "train", "sow", "perturb", "set_attributes", "iter_modules", "iter_children", "self", "rngs", "x"})
"""Names that a module's attribute must not have."""


@dataclass(frozen=True)
class Block:
    """A piece of a graph with one name: its nodes and inner blocks in order, the values it reads, the values that come out."""

    name: str
    items: tuple[Node | Block, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes in this block, those of inner blocks too."""
        return tuple(node for item in self.items for node in (item.nodes if isinstance(item, Block) else (item,)))


def tidy(graph: Graph, variables: Variables) -> tuple[Graph, Variables]:
    """The graph without dead nodes and with names that follow its blocks, and its variables under the new names."""
    graph, variables = live(graph, variables)
    placed = _unique(graph, _dissolved(graph, _adopted(graph)))
    names = {node.name: ".".join(placed[node.name]) for node in graph.nodes}
    inputs = tuple(replace(item, name=_identifier(item.name)) for item in graph.inputs)
    names |= {old.name: new.name for old, new in zip(graph.inputs, inputs, strict=True)}
    nodes = [node.renamed(names) for node in graph.nodes]
    moved = {collection: {names[node]: arrays for node, arrays in owned.items()} for collection, owned in variables.items()}
    return Graph(inputs, tuple(nodes), tuple(names[name] for name in graph.outputs)), moved


def live(graph: Graph, variables: Variables) -> tuple[Graph, Variables]:
    """The graph without the nodes that no output needs, and what is left of its variables."""
    left = graph.pruned()
    moved = {
        collection: {name: arrays for name, arrays in nodes.items() if name in left.by_name}
        for collection, nodes in variables.items()
    }
    for node in left.nodes:
        # An array whose owner is gone belongs to the first node that shared it.
        for tie in set(graph.by_name[node.name].ties) - set(node.ties):
            if tie.owner not in left.by_name and tie.weight not in node.shared:
                collection = next(name for name, nodes in variables.items() if tie.name in nodes.get(tie.owner, {}))
                own = moved[collection].get(node.name, {})
                moved[collection][node.name] = {**own, tie.weight: variables[collection][tie.owner][tie.name]}
    return left, moved


def blocks(graph: Graph) -> Block:
    """The tree of blocks of a tidy graph; the root is the graph itself and has no name."""
    return _block(graph, (), graph.nodes)


def _block(graph: Graph, path: Path, nodes: tuple[Node, ...]) -> Block:
    inner: dict[str, list[Node]] = defaultdict(list)
    items: dict[str, Node | Block] = {}
    depth = len(path)
    for node in nodes:
        parts = node.name.split(".")
        if len(parts) == depth + 1:
            items[node.name] = node
            continue
        inner[parts[depth]].append(node)
    for name, members in inner.items():
        child = _block(graph, (*path, name), tuple(members))
        items[child.outputs[-1]] = child
    order = {node.name: index for index, node in enumerate(nodes)}
    ordered = tuple(items[name] for name in sorted(items, key=order.__getitem__))
    own = set(order)
    reads = tuple(dict.fromkeys(name for node in nodes for name in node.inputs if name not in own))
    if not path:
        return Block("", ordered, tuple(item.name for item in graph.inputs), graph.outputs)
    return Block(path[-1], ordered, reads, _escaping(graph, own))


def _escaping(graph: Graph, own: set[str]) -> tuple[str, ...]:
    return tuple(
        node.name
        for node in graph.nodes
        if node.name in own and (node.name in graph.outputs or not own.issuperset(graph.consumers[node.name]))
    )


def _adopted(graph: Graph) -> dict[str, Path]:
    """Where each node stands, with nodes of an outer level that lie between nodes of an inner one taken into it."""
    placed = {node.name: tuple(_identifier(part) for part in node.name.split(".")) for node in graph.nodes}
    prefixes = {path[:end] for path in placed.values() for end in range(1, len(path))}
    # A node may have the name of a block: `tokens` beside `tokens.norm`.
    placed = {name: (*path[:-1], f"{path[-1]}_") if path in prefixes else path for name, path in placed.items()}
    for prefix in sorted(prefixes, key=lambda path: (len(path), path)):
        members = _members(placed, prefix)
        between = _between(graph, members) - members
        if all(placed[name][:-1] == prefix[: len(placed[name]) - 1] for name in between):
            placed |= {name: (*prefix, placed[name][-1]) for name in between}
        for name in _drawn_in(graph, placed, prefix):
            placed[name] = (*prefix, placed[name][-1])
    return placed


def _drawn_in(graph: Graph, placed: dict[str, Path], prefix: Path) -> list[str]:
    """Nodes of an outer level that leave a block with fewer inputs, or with one output, when they are counted to it."""
    members = _members(placed, prefix)
    loose = [
        node for node in graph.nodes if node.name not in members and placed[node.name][:-1] == prefix[: len(placed[node.name]) - 1]
    ]
    found: list[str] = []
    if len(_reads(graph, members)) > 1:
        taken: list[str] = []
        best = len(_reads(graph, members))
        for node in reversed(loose):
            inside = members.union(taken)
            if node.name in graph.outputs or not inside.issuperset(graph.consumers[node.name]):
                continue
            taken.append(node.name)
            if len(_reads(graph, inside | {node.name})) < best:
                best, found = len(_reads(graph, inside | {node.name})), list(taken)
    if len(_escaping(graph, members)) > 1:
        taken = []
        for node in loose:
            if members.union(found, taken).issuperset(node.inputs):
                taken.append(node.name)
                if len(_escaping(graph, members.union(found, taken))) == 1:
                    return [*found, *taken]
    return found


def _reads(graph: Graph, members: set[str]) -> set[str]:
    return {name for node in graph.nodes if node.name in members for name in node.inputs} - members


def _between(graph: Graph, members: set[str]) -> set[str]:
    after, before = set(members), set(members)
    for node in graph.nodes:
        if not after.isdisjoint(node.inputs):
            after.add(node.name)
    for node in reversed(graph.nodes):
        if node.name in before:
            before.update(node.inputs)
    return after & before & set(graph.by_name)


def _members(placed: dict[str, Path], prefix: Path) -> set[str]:
    return {name for name, path in placed.items() if path[: len(prefix)] == prefix}


def _dissolved(graph: Graph, placed: dict[str, Path]) -> dict[str, Path]:
    """The same, with every prefix that is no block (one part, several outputs, not convex) merged into its nodes' names."""
    prefixes = {path[:end] for path in placed.values() for end in range(1, len(path))}
    for prefix in sorted(prefixes, key=lambda path: (-len(path), path)):
        members = _members(placed, prefix)
        parts = {placed[name][len(prefix)] for name in members}
        if len(parts) > 1 and len(_escaping(graph, members)) == 1 and _between(graph, members) <= members:
            continue
        outer, last = prefix[:-1], prefix[-1]
        placed |= {name: (*outer, f"{last}_{placed[name][len(prefix)]}", *placed[name][len(prefix) + 1 :]) for name in members}
    return placed


def _unique(graph: Graph, placed: dict[str, Path]) -> dict[str, Path]:
    """The same, with no two nodes of one name and no node of a block's name."""
    taken = {path[:end] for path in placed.values() for end in range(1, len(path))} | {(item.name,) for item in graph.inputs}
    final: dict[str, Path] = {}
    for node in graph.nodes:
        path = placed[node.name]
        for attempt in range(1, len(graph.nodes) + 2):
            name = path[-1] if attempt == 1 else f"{path[-1].rstrip('0123456789') or path[-1]}{attempt}"
            final[node.name] = (*path[:-1], name)
            if final[node.name] not in taken:
                break
        taken.add(final[node.name])
    return final


def _identifier(name: str) -> str:
    clean = "".join(character if character.isalnum() or character == "_" else "_" for character in name)
    clean = f"layer{clean}" if not clean or clean[0].isdigit() else clean
    clean = clean.lstrip("_") or "layer"
    return f"{clean}_" if keyword.iskeyword(clean) or clean in RESERVED else clean
