"""A piece with branches as one op: a merge of sequences that all read the same value.

Synthesis sees a block as one more op of one input, with a summary of its own like any other; in the finished program it is taken
apart into its nodes. `inner` is the width of everything inside that does not decide the type of what comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax

from synth.effect import effect, size_fields, with_size
from synth.graph import Graph, Input, Node
from synth.op import ModalOp, Op, Value, Weight, output_value, size, state_of

Body = tuple[Op, ...]

INNER = 0
"""The size of an op inside a block that takes the block's inner width."""


@dataclass(frozen=True, kw_only=True)
class Block(ModalOp):
    """`merge` of the results of all branches on one value; an empty branch is the value itself."""

    merge: Op
    branches: tuple[Body, ...]
    inner: int = size()

    taste = 0.2
    fitted = False

    def resolved(self) -> tuple[Body, ...]:
        """The branches with the inner width set."""
        return tuple(tuple(_resolved(op, self.inner) for op in body) for body in self.branches)

    def check(self, *inputs: Value) -> None:
        ends = []
        for body in self.resolved():
            (value,) = inputs
            for op in body:
                value = effect(op, value).value
            ends.append(value)
        output_value(self.merge, tuple(ends))

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        return self._owned(inputs[0], trained=True)

    def state(self, *inputs: Value) -> dict[str, Weight]:
        return self._owned(inputs[0], trained=False)

    def _owned(self, x: Value, *, trained: bool) -> dict[str, Weight]:
        owned: dict[str, Weight] = {}
        for place, op, value in self._steps(x):
            for name, weight in (op.weights(value) if trained else state_of(op, (value,))).items():
                owned[f"{place}/{name}"] = weight
        return owned

    def _steps(self, x: Value) -> list[tuple[str, Op, Value]]:
        steps = []
        for b, body in enumerate(self.resolved()):
            value = x
            for k, op in enumerate(body):
                steps.append((f"{b}.{k}", op, value))
                value = effect(op, value).value
        return steps

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return self._run(weights, inputs[0], None)[0]

    def train(self, weights: Mapping[str, jax.Array], *inputs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        return self._run(weights, inputs[0], key)

    def _run(self, weights: Mapping[str, jax.Array], x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, dict[str, jax.Array]]:
        updates: dict[str, jax.Array] = {}
        ends = []
        for b, body in enumerate(self.resolved()):
            value = x
            for k, op in enumerate(body):
                prefix = f"{b}.{k}/"
                own = {name[len(prefix) :]: array for name, array in weights.items() if name.startswith(prefix)}
                if key is None or not isinstance(op, ModalOp):
                    value = op.apply(own, value)
                    continue
                value, changed = op.train(own, value, key=jax.random.fold_in(jax.random.fold_in(key, b), k))
                updates |= {prefix + name: array for name, array in changed.items()}
            ends.append(value)
        return self.merge.apply({}, *ends), updates

    def __str__(self) -> str:
        bodies = (" → ".join(map(str, body)) or "identity" for body in self.resolved())
        return f"{self.merge.kind()}({'; '.join(bodies)})"


def _resolved(op: Op, inner: int) -> Op:
    if any(getattr(op, name) == INNER for name in size_fields(type(op))):
        return with_size(op, inner)
    return op


def opened(body: Body) -> Body:
    """A body with its inner widths open: all sizes but the last one that decides the type of its result."""
    names = [bool(size_fields(type(op))) for op in body]
    deciding = max((index for index, sized in enumerate(names) if sized and not isinstance(body[index], Block)), default=-1)
    return tuple(with_size(op, INNER) if names[index] and index != deciding else op for index, op in enumerate(body))


def assembled(value: Value, path: Body, name: str = "input") -> Graph:
    """The graph that applies ops one after the other, every block taken apart into its nodes."""
    nodes: list[Node] = []

    def add(op: Op, *inputs: str) -> str:
        nodes.append(Node(f"{op.kind()}{len(nodes)}", op, inputs))
        return nodes[-1].name

    def run(body: Body, last: str) -> str:
        for op in body:
            last = add(op.merge, *(run(inside, last) for inside in op.resolved())) if isinstance(op, Block) else add(op, last)
        return last

    end = run(path, name)
    return Graph((Input(name, value.shape, value.dtype),), tuple(nodes), (end,))
