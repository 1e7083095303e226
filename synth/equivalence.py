"""Equal programs that are written differently, found by running them on random inputs with the same random weights.

Two programs are taken for equal only if they own the same arrays (shape, initialiser, dtype, trained or not), and with these
matched by shape and order they compute the same in inference and in training, the new state included, on independent draws of
weights and inputs. They run in double precision and must agree to 1e-9, so that a difference of a millionth of the signal is seen.
A run says too little where a value is not finite or the same for every example; then, and where it would cost too much, the
programs are not known to be equal. So equal programs may be missed, and unequal ones are not merged.
"""

from __future__ import annotations

import functools
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from synth.analysis import macs
from synth.graph import Graph, Node, digest
from synth.op import ModalOp, Op, Weight, state_of

LARGEST = 100_000_000
"""Multiply-adds of one example beyond which programs are not run for a comparison."""

DRAWS = 3
_BATCH = 6
_TOLERANCE = 1e-9

Kind = tuple[object, ...]
"""What two arrays have in common that may stand for each other."""


@functools.lru_cache(maxsize=8192)
def signature(graph: Graph) -> tuple[object, ...]:
    """What equal programs have in common, without running them: the types of their ends, and the arrays that they own."""
    ends = tuple(item.value for item in graph.inputs), tuple(graph.values[name] for name in graph.outputs)
    owned = Counter(kind for node in graph.nodes for _, kind, _ in _arrays(node, graph))
    return *ends, frozenset(owned.items()), sum(len(node.ties) for node in graph.nodes)


def equivalent(first: Graph, second: Graph) -> bool:
    """Whether two programs are known to be equal up to which weight is called what; False also where that is not known."""
    if signature(first) != signature(second) or max(macs(first), macs(second)) > LARGEST:
        return False
    # Nodes that share running statistics update them one after the other, which is not followed here.
    if _shares_state(first) or _shares_state(second):
        return False
    return all(_agree(fingerprint(first, draw), fingerprint(second, draw)) for draw in range(DRAWS))


def _agree(first: tuple[np.ndarray, ...] | None, second: tuple[np.ndarray, ...] | None) -> bool:
    if first is None or second is None or len(first) != len(second):
        return False
    return all(
        a.shape == b.shape and float(np.abs(a - b).max(initial=0.0)) <= _TOLERANCE * float(np.abs(a).max(initial=0.0))
        for a, b in zip(first, second, strict=True)
    )


@functools.lru_cache(maxsize=2048)
def fingerprint(graph: Graph, draw: int) -> tuple[np.ndarray, ...] | None:
    """The outputs in inference and in training, and then the new state in the order of its owners, for one draw of weights and
    inputs; None if they say too little."""
    with jax.enable_x64(True):
        rng = np.random.default_rng([draw, 0])
        weights = _weights(graph, draw)
        inputs = {item.name: _drawn_input(rng, item.value.aval(_BATCH)) for item in graph.inputs}
        inferred = dict(inputs)
        for node in graph.nodes:
            inferred[node.name] = np.asarray(_infer(node.op, weights[node.name], *(inferred[name] for name in node.inputs)))
            if not _tells(inferred[node.name]):
                return None
        trained, state = _training(graph, weights, inputs)
    outputs = [inferred[name] for name in graph.outputs] + [trained[name] for name in graph.outputs]
    return (*outputs, *state) if all(np.isfinite(each).all() for each in (*outputs, *state)) else None


def _training(
    graph: Graph, weights: Mapping[str, Mapping[str, np.ndarray]], inputs: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Every value in training, and the new state in the order of its owners."""
    values, updates = dict(inputs), {}
    places = {node.name: index for index, node in enumerate(_owners(graph))}
    for node in graph.nodes:
        reads = [values[name] for name in node.inputs]
        if not isinstance(node.op, ModalOp):
            values[node.name] = np.asarray(_infer(node.op, weights[node.name], *reads))
            continue
        key = jax.random.fold_in(jax.random.key(0, impl="unsafe_rbg"), places[node.name])
        out, changed = _train(node.op, weights[node.name], key, *reads)
        values[node.name] = np.asarray(out)
        updates[places[node.name]] = [np.asarray(changed[name]) for name in sorted(changed)]
    return values, [array for place in sorted(updates) for array in updates[place]]


# Each is run a few times at most: what counts is how fast it compiles.
_QUICK: dict[str, bool | int | str] = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


@functools.partial(jax.jit, static_argnums=0, compiler_options=_QUICK)
def _infer(op: Op, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
    return op.apply(weights, *inputs)


@functools.partial(jax.jit, static_argnums=0, compiler_options=_QUICK)
def _train(
    op: ModalOp, weights: Mapping[str, jax.Array], key: jax.Array, *inputs: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    return op.train(weights, *inputs, key=key)


def _tells(array: np.ndarray) -> bool:
    """Whether a value is finite and differs between the examples."""
    if not np.isfinite(array).all():
        return False
    span = float(np.ptp(array, axis=0).max(initial=0.0))
    return span > _TOLERANCE * float(np.abs(array).max(initial=0.0))


def _drawn_input(rng: np.random.Generator, aval: jax.ShapeDtypeStruct) -> np.ndarray:
    if aval.dtype.kind != "f":
        return rng.integers(0, 2, aval.shape).astype(aval.dtype)
    return rng.standard_normal(aval.shape)


def _weights(graph: Graph, draw: int) -> dict[str, dict[str, np.ndarray]]:
    """Random arrays for every node: the n-th of a kind, in the order of its owners, is the same in every program."""
    seen: Counter[Kind] = Counter()
    found: dict[str, dict[str, np.ndarray]] = {node.name: {} for node in graph.nodes}
    for node in _owners(graph):
        for name, kind, weight in _arrays(node, graph):
            rng = np.random.default_rng([draw, 1, seen[kind], zlib.crc32(repr(kind).encode())])
            seen[kind] += 1
            found[node.name][name] = _drawn(rng, weight, trained=bool(kind[0]))
    for node in graph.nodes:
        found[node.name] |= {tie.weight: found[tie.owner][tie.name] for tie in node.ties}
    return found


def _drawn(rng: np.random.Generator, weight: Weight, *, trained: bool) -> np.ndarray:
    if np.dtype(weight.dtype).kind != "f":
        return np.zeros(weight.shape, weight.dtype)
    if weight.initializer == "zeros":
        return 0.2 * rng.standard_normal(weight.shape)
    if weight.initializer == "ones":
        # Of either sign where it is trained; a running variance is positive.
        return rng.uniform(0.5, 1.5, weight.shape) * (rng.choice([-1.0, 1.0], weight.shape) if trained else 1.0)
    return rng.standard_normal(weight.shape) / np.sqrt(max(1, weight.fan_in))


def _arrays(node: Node, graph: Graph) -> list[tuple[str, Kind, Weight]]:
    """(name, kind, what it is) of everything that a node owns."""
    owned = graph.owned(node)
    # A model's own constants are no one else's; other arrays start anew in every program.
    whose = node.name if isinstance(node.op, ModalOp) and node.op.keeps_state else ""
    return [
        (name, (trained, tuple(size for size in each.shape if size != 1), *_start(each), each.dtype, whose), each)
        for trained, arrays in ((True, owned["params"]), (False, owned["state"]))
        for name, each in arrays.items()
    ]


def _start(weight: Weight) -> tuple[str, int, float]:
    return weight.initializer, 0 if weight.initializer in ("zeros", "ones") else weight.fan_in, weight.gain


@functools.lru_cache(maxsize=2048)
def _owners(graph: Graph) -> tuple[Node, ...]:
    """The nodes that own arrays or train in another way than they infer, operands before what reads them.

    Commuting operands come in the order of the owners that they depend on: a plain op before or after a merge changes nothing.
    """
    skeletons, keys = {item.name: item.name for item in graph.inputs}, {item.name: item.name for item in graph.inputs}
    operands: dict[str, list[str]] = {item.name: [] for item in graph.inputs}
    for node in graph.nodes:
        reads = list(node.inputs)
        if node.op.commutative:
            reads.sort(key=lambda name: (skeletons[name], keys[name]))
        operands[node.name] = reads
        keys[node.name] = digest([str(node.op), *(keys[name] for name in reads)])
        kinds = [str(kind) for _, kind, _ in _arrays(node, graph)]
        if len(reads) == 1 and not kinds and not node.ties:
            skeletons[node.name] = skeletons[reads[0]]
            continue
        skeletons[node.name] = digest([kinds, *(skeletons[name] for name in reads)])
    order = [graph.by_name[name] for name in _depth_first(graph.outputs, operands) if name in graph.by_name]
    return tuple(node for node in order if isinstance(node.op, ModalOp) or _arrays(node, graph))


def _shares_state(graph: Graph) -> bool:
    return any(tie.weight in state_of(node.op, graph.input_values(node)) for node in graph.nodes for tie in node.ties)


def _depth_first(ends: Sequence[str], operands: Mapping[str, Sequence[str]]) -> list[str]:
    done: dict[str, None] = {}
    stack = [(name, False) for name in reversed(ends)]
    while stack:
        name, ready = stack.pop()
        if name in done:
            continue
        if ready or not operands[name]:
            done[name] = None
            continue
        stack.append((name, True))
        stack.extend((operand, False) for operand in reversed(operands[name]))
    return list(done)
