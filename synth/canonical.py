"""Canonical forms: one graph for the many ways to write a program, and which of its layers could be one.

What is taken out changes nothing, in inference and in training, and is found by what ops do and declare, never by their names: an
op without weights that is the identity on values of its type, two such ops that undo each other, an idempotent op on its own
output, an op that fixes what is not negative on what cannot be, and the second of two equal plain ops on the same operands.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from properties import Mixing
from synth.effect import recalled, summary
from synth.evaluating import evaluated
from synth.graph import Graph, Node, digest, key_of
from synth.memo import Memo
from synth.numeric import is_known, run
from synth.op import ModalOp, Op, Value, output_value
from synth.tracing import traced

_SCALES = (1e-3, 1.0, 1e3)
_TRIED = 64


_FORMS: Memo[Graph, Graph] = Memo(4096)


def canonical(graph: Graph) -> Graph:
    """The graph without what changes nothing, its commuting operands sorted; kept nodes keep their names, so their weights fit.

    Computes the same function, trains the same, and costs no more. Idempotent; remembered.
    """
    found = _FORMS.get(graph)
    if found is None:
        found = _FORMS.put(graph, _canonical(graph))
        _FORMS.put(found, found)
    return found


def _canonical(graph: Graph) -> Graph:
    stands = {item.name: item.name for item in graph.inputs}
    keys = {item.name: digest(["input", index]) for index, item in enumerate(graph.inputs)}
    kept: dict[str, Node] = {}
    plain: dict[tuple[Op, tuple[str, ...]], str] = {}
    nonnegative: set[str] = set()
    for node in graph.nodes:
        op, reads = node.op, tuple(stands[name] for name in node.inputs)
        if op.commutative:
            reads = tuple(sorted(reads, key=keys.__getitem__))
        values = tuple(graph.values[name] for name in reads)
        same = plain.get((op, reads)) or _redundant(op, reads[0], values, graph.values, kept, nonnegative)
        if same is not None:
            stands[node.name] = same
            continue
        stands[node.name] = node.name
        kept[node.name] = replace(node, inputs=reads)
        keys[node.name] = key_of(op, tuple([keys[name] for name in reads]))
        if is_plain(op, values):
            plain[op, reads] = node.name
        if op.nonnegative or (op.keeps_nonnegative and nonnegative.issuperset(reads)):
            nonnegative.add(node.name)
    return replace(graph, nodes=tuple(kept.values()), outputs=tuple(stands[name] for name in graph.outputs)).pruned()


def _redundant(
    op: Op,
    read: str,
    values: tuple[Value, ...],
    types: Mapping[str, Value],
    kept: Mapping[str, Node],
    nonnegative: set[str],
) -> str | None:
    """The value that the result of an op of one input equals: its operand, or what the op before it read; None if neither."""
    if len(values) != 1 or not is_plain(op, values):
        return None
    if neutral(op, values[0]) or (op.fixes_nonnegative and read in nonnegative):
        return read
    before = kept.get(read)
    if before is None or len(before.inputs) != 1:
        return None
    if op.idempotent and before.op == op:
        return read
    (source,) = before.inputs
    undone = is_plain(before.op, (types[source],)) and types[source] == output_value(op, values)
    return source if undone and _is_identity((before.op, op), types[source]) else None


def is_plain(op: Op, values: tuple[Value, ...]) -> bool:
    """Whether an op is a function of its inputs alone: it owns no arrays, and training computes the same."""
    return not isinstance(op, ModalOp) and not op.weights(*values)


@functools.lru_cache(maxsize=65536)
def neutral(op: Op, value: Value) -> bool:
    """Whether an op is the identity on values of a type, in inference and in training.

    Tried on random inputs of both signs over six orders of magnitude, every element of which must come out exactly as it went in;
    ops that own arrays, change the type or mix positions are not tried.
    """
    if op.arity != 1 or not is_plain(op, (value,)) or output_value(op, (value,)) != value:
        return False
    return recalled("neutral", op, value, lambda: _is_identity((op,), value))


@functools.lru_cache(maxsize=16384)
def _is_identity(ops: tuple[Op, ...], value: Value) -> bool:
    mixing: Mixing | None = Mixing.identity(value.aval().shape)
    here = value
    for op in ops:
        mixing, here = _then(mixing, summary(op, (here,)).relation("mixing", 0, 0)), output_value(op, (here,))
    if mixing is None or not np.array_equal(mixing.matrix, Mixing.identity(value.aval().shape).matrix):
        return False
    return not _alters(ops, value) and _fixes(ops, value)


def _alters(ops: tuple[Op, ...], value: Value) -> bool:
    """Whether ops in a row are seen to change some number by far: most that mix nothing are activations, and they do."""
    here, given = value, np.random.default_rng(0).standard_normal(_TRIED)
    found: np.ndarray | None = given
    for op in ops:
        found = evaluated(traced(op, (here,)).program, found) if found is not None else None
        here = output_value(op, (here,))
    return found is not None and not np.allclose(found, given, rtol=1e-3, atol=0.0)


def _fixes(ops: tuple[Op, ...], value: Value) -> bool:
    """Whether ops in a row give random arrays of a type back."""
    aval = value.aval()
    for number, scale in enumerate(_SCALES):
        drawn = np.random.default_rng(number).standard_normal(aval.shape) * scale
        given = drawn.astype(aval.dtype)
        found, here = given, value
        for op in ops:
            found, here = _applied(op, here, found), output_value(op, (here,))
        if found.shape != given.shape or not np.array_equal(found, given):
            return False
    return True


def _applied(op: Op, value: Value, array: np.ndarray) -> np.ndarray:
    program = traced(op, (value,)).program
    # By JAX it would have to be compiled, for every type anew.
    return run(program, [array])[0] if is_known(program) else np.asarray(op.apply({}, jnp.asarray(array)))


@dataclass(frozen=True)
class Collapsible:
    """Two layers with nothing non-linear between them: in inference they are one linear map.

    `params` is what they own together, `merged` what the one map would own; a factorisation owns less than its product.
    """

    first: str
    last: str
    params: int
    merged: int

    @property
    def factored(self) -> bool:
        """Whether two layers are the cheaper way to write the map."""
        return self.params < self.merged


def collapsible(graph: Graph) -> tuple[Collapsible, ...]:
    """Every layer with the next one that only linear ops of one input lie before, where nothing else reads what is between."""
    found = []
    for node in graph.nodes:
        if not _is_linear_layer(node, graph):
            continue
        mixing, name = _step(node, graph), node.name
        while mixing is not None and name not in graph.outputs and len(graph.consumers[name]) == 1:
            after = graph.by_name[graph.consumers[name][0]]
            if len(after.inputs) != 1 or not _is_linear(after, graph):
                break
            mixing, name = _then(mixing, _step(after, graph)), after.name
            if mixing is not None and _is_linear_layer(after, graph):
                together = _params(node, graph) + _params(after, graph)
                seen = [mixing.positions(axis) for axis in range(1, len(mixing.input))]
                found.append(Collapsible(node.name, name, together, int(np.prod(seen)) * graph.values[name].channels))
                break
    return tuple(found)


def _is_linear_layer(node: Node, graph: Graph) -> bool:
    return len(node.inputs) == 1 and _layer_is_linear(node.op, graph.input_values(node))


@functools.lru_cache(maxsize=16384)
def _layer_is_linear(op: Op, inputs: tuple[Value, ...]) -> bool:
    kernels = any(len(weight.shape) > 1 for weight in op.weights(*inputs).values())
    if not kernels or not _op_is_linear(op, inputs):
        return False
    mixing: Mixing | None = summary(op, inputs).relation("mixing", 0, 0)
    return mixing is not None and not (mixing.input == mixing.output and np.array_equal(mixing.matrix, np.eye(len(mixing.input))))


def _is_linear(node: Node, graph: Graph) -> bool:
    return _op_is_linear(node.op, graph.input_values(node))


@functools.lru_cache(maxsize=16384)
def _op_is_linear(op: Op, inputs: tuple[Value, ...]) -> bool:
    steps = summary(op, inputs).relation("depth", 0, 0)
    return steps is not None and steps.from_nonlinear[1] < 0


def _step(node: Node, graph: Graph) -> Mixing | None:
    found: Mixing | None = summary(node.op, graph.input_values(node)).relation("mixing", 0, 0)
    return found


def _then(first: Mixing | None, second: Mixing | None) -> Mixing | None:
    return None if first is None or second is None else first.then(second)


def _params(node: Node, graph: Graph) -> int:
    return sum(int(np.prod(weight.shape)) for weight in node.op.weights(*graph.input_values(node)).values())
