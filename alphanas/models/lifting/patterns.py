"""What steps of a program are ops of the vocabulary, read off their primitives, parameters and operands."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alphanas.models.lifting.cuts import between
from alphanas.models.lifting.flat import Constant, Flat, Ref, Step
from alphanas.models.lifting.sources import Traced
from alphanas.models.lifting.templates import unary
from alphanas.models.lifting.written import attention, norm
from synth.op import Op, ShapeMismatch, Value, output_value, state_of
from synth.ops.activation import Scale
from synth.ops.attention import ClassToken, PositionEmbedding
from synth.ops.convolution import Conv, ConvTranspose, DepthwiseConv, transposed_pads
from synth.ops.dense import Dense
from synth.ops.embedding import Attend
from synth.ops.layout import Flatten, Reshape, Select, Slice, Transpose
from synth.ops.merge import Add, Concatenate, Multiply
from synth.ops.pooling import AvgPool, GlobalAvgPool, MaxPool


@dataclass(frozen=True)
class Match:
    """An op, the slots that it reads, and the leaves that are its weights."""

    op: Op
    inputs: tuple[int, ...]
    weights: Mapping[str, int] = field(default_factory=dict)
    path: str = ""
    mark: int | None = None


class Matcher:
    """Matches the values of one traced program, each once."""

    def __init__(self, program: Traced) -> None:
        self.program = program
        self.flat: Flat = program.flat
        self.leaves = len(program.leaves)
        self.varies = _varying(program)
        self._found: dict[int, Match | None] = {}

    def match(self, slot: int) -> Match | None:
        """The op whose output a slot is; None if there is none."""
        if slot not in self._found:
            self._found[slot] = next(self._matches(slot), None)
        return self._found[slot]

    def _matches(self, slot: int) -> Iterator[Match]:
        step = self.flat.producers.get(slot)
        if step is None or self.flat.value(slot) is None:
            return
        if step.mark is not None:
            found = self._layer(step)
        else:
            rule = RULES.get(step.primitive)
            found = self._unary(slot, step) or self._written(slot, step) or (None if rule is None else rule(self, slot, step))
        if found is not None and self._fits(slot, found):
            yield found

    def _written(self, slot: int, step: Step) -> Match | None:
        found = None
        if step.primitive in ("add", "mul"):
            found = norm(self, slot, step)
        elif step.primitive in ("reshape", "dot_general", "transpose"):
            found = attention(self, slot, step)
        return None if found is None else Match(*found)

    def _fits(self, slot: int, found: Match) -> bool:
        """Whether an op's output and weights are of the types that the program has in their place."""
        values = [self.flat.value(read) for read in found.inputs]
        known = tuple(value for value in values if value is not None)
        if len(known) < len(values) or len(set(found.weights.values())) < len(found.weights):
            return False
        try:
            if output_value(found.op, known) != self.flat.value(slot):
                return False
        except ShapeMismatch:
            return False
        params, state = found.op.weights(*known), state_of(found.op, known)
        if (params | state).keys() != found.weights.keys():
            return False
        leaves = {name: self.program.leaves[slot] for name, slot in found.weights.items()}
        return all(leaf.trained == (name in params) for name, leaf in leaves.items()) and all(
            self.elements(found.weights[name]) == math.prod(weight.shape) for name, weight in (params | state).items()
        )

    def elements(self, slot: int) -> int:
        """How many elements a leaf has."""
        return math.prod(self.flat.types[slot][0])

    def reads_leaves(self, item: Ref) -> bool:
        """Whether any of the model's arrays goes into a value."""
        return isinstance(item, int) and any(self.is_leaf(read) for read in between(self.flat, item, frozenset())[1])

    def _layer(self, step: Step) -> Match | None:
        layer = self.program.layers[step.mark or 0]
        first = len(step.operands) - len(layer.weights)
        inputs, weights = step.operands[:first], step.operands[first:]
        if not all(self.is_data(item) for item in inputs) or not all(self.is_leaf(item) for item in weights):
            return None
        named = {name: item for name, item in zip(layer.weights, weights, strict=True) if isinstance(item, int)}
        return Match(layer.op, tuple(item for item in inputs if isinstance(item, int)), named, layer.path, step.mark)

    def _unary(self, slot: int, step: Step) -> Match | None:
        found = unary(self.flat, slot, step)
        return None if found is None or not self.is_data(found[1]) else Match(found[0], (found[1],))

    def is_data(self, item: Ref) -> bool:
        """Whether a slot depends on the model's inputs."""
        return isinstance(item, int) and item in self.varies

    def is_leaf(self, item: Ref) -> bool:
        """Whether a slot is one of the model's arrays."""
        return isinstance(item, int) and item < self.leaves

    def vector(self, item: Ref) -> int | None:
        """The leaf that a slot repeats along every axis but the last, if it is that."""
        while isinstance(item, int) and item not in self.varies:
            if self.is_leaf(item):
                return item if len(self.flat.types[item][0]) == 1 else None
            step = self.flat.producers[item]
            sizes = self.flat.types[item][0]
            spread = step.primitive == "broadcast_in_dim" and step.params["broadcast_dimensions"] == [len(sizes) - 1]
            flat = step.primitive == "reshape" and all(size == 1 for size in sizes[:-1])
            if not spread and not flat:
                return None
            item = step.operands[0]
        return None

    def spread(self, item: Ref) -> int | None:
        """The leaf that a slot repeats for every example, if it is that: the leaf has an example's shape."""
        sizes = self.flat.types[item][0] if isinstance(item, int) else []
        while isinstance(item, int) and item not in self.varies:
            if self.is_leaf(item):
                own = self.flat.types[item][0]
                return item if [size for size in own if size != 1] == [size for size in sizes[1:] if size != 1] else None
            step = self.flat.producers[item]
            if step.primitive not in ("broadcast_in_dim", "reshape", "squeeze"):
                return None
            kept = step.params.get("broadcast_dimensions")
            if kept is not None and kept != sorted(kept):
                return None
            item = step.operands[0]
        return None

    def producer(self, item: Ref) -> Step | None:
        """The step that makes a slot."""
        return self.flat.producers.get(item) if isinstance(item, int) else None

    def value(self, slot: Ref) -> Value:
        """The type of a slot that is a value of the graph."""
        value = self.flat.value(slot) if isinstance(slot, int) else None
        return value if value is not None else Value(())


def _varying(program: Traced) -> frozenset[int]:
    first = len(program.leaves)
    varies = set(range(first, program.flat.input_count))
    for step in program.flat.steps:
        if any(isinstance(item, int) and item in varies for item in step.operands):
            varies.update(step.results)
    return frozenset(varies)


Rule = Callable[[Matcher, int, Step], "Match | None"]


def dense(this: Matcher, slot: int, step: Step) -> Match | None:
    """A product with a matrix of weights, over the features; with its rows, where the matrix has the output's features first."""
    x, kernel = step.operands
    turned = this.producer(kernel)
    flipped = turned is not None and turned.primitive == "transpose" and turned.params["permutation"] == [1, 0]
    kernel = turned.operands[0] if turned is not None and flipped else kernel
    rank = len(this.value(x).shape)
    if not this.is_data(x) or not this.is_leaf(kernel) or not isinstance(x, int) or not isinstance(kernel, int) or not rank:
        return None
    sizes = this.flat.types[kernel][0]
    if len(sizes) != 2 or step.params["dimension_numbers"] not in ([[[rank - 1], [axis]], [[], []]] for axis in (0, 1)):
        return None
    if (step.params["dimension_numbers"][0][1] == [1]) != flipped:
        return Match(Attend(features=sizes[0]), (x,), {"embedding": kernel})
    return Match(Dense(features=sizes[1], use_bias=False), (x,), {"kernel": kernel})


def convolution(this: Matcher, slot: int, step: Step) -> Match | None:
    """A convolution with a kernel of weights, channels last."""
    x, kernel = step.operands
    if not this.is_data(x) or not this.is_leaf(kernel) or not isinstance(x, int) or not isinstance(kernel, int):
        return None
    params, sizes = step.params, this.flat.types[kernel][0]
    rank = len(sizes) - 2
    last = [0, rank + 1, *range(1, rank + 1)]
    layout = {"lhs_spec": last, "rhs_spec": [rank + 1, rank, *range(rank)], "out_spec": last}
    if params["dimension_numbers"]["fields"] != layout or params["batch_group_count"] != 1:
        return None
    if any(d != 1 for d in params["lhs_dilation"]):
        return _transposed(x, kernel, params, sizes)
    value = this.value(x)
    if not value.shape:
        return None
    groups, channels, features = params["feature_group_count"], value.channels, sizes[-1]
    window: dict[str, Any] = {
        "kernel": _short(sizes[:rank]),
        "stride": _short(params["window_strides"]),
        "dilation": _short(params["rhs_dilation"]),
        "padding": tuple((low, high) for low, high in params["padding"]),
    }
    for padding in ("SAME", "VALID"):
        if _pads(padding, value.spatial, sizes[:rank], params) == params["padding"]:
            window["padding"] = padding
    op: Op
    if groups == channels and groups > 1:
        op = DepthwiseConv(multiplier=features // channels, **window)
    else:
        op = Conv(features=features, groups=groups, **window)
    return Match(op, (x,), {"kernel": kernel})


def _transposed(x: int, kernel: int, params: Mapping[str, Any], sizes: list[int]) -> Match | None:
    """A convolution of an input with zeros between its elements."""
    if params["feature_group_count"] != 1 or any(step != 1 for step in params["window_strides"]):
        return None
    op = ConvTranspose(
        features=sizes[-1],
        kernel=_short(sizes[:-2]),
        stride=_short(params["lhs_dilation"]),
        dilation=_short(params["rhs_dilation"]),
        padding=tuple((low, high) for low, high in params["padding"]),
        use_bias=False,
    )
    for padding in ("SAME", "VALID"):
        if transposed_pads(dataclasses.replace(op, padding=padding), len(sizes) - 2) == op.padding:
            op = dataclasses.replace(op, padding=padding)
            break
    return Match(op, (x,), {"kernel": kernel})


def _pads(padding: str, spatial: tuple[int, ...], kernel: list[int], params: Mapping[str, list[int]]) -> list[list[int]]:
    pads = []
    for size, side, stride, dilation in zip(spatial, kernel, params["window_strides"], params["rhs_dilation"], strict=True):
        reach = (side - 1) * dilation + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0) if padding == "SAME" else 0
        pads.append([total // 2, total - total // 2])
    return pads


def _short(sizes: list[int]) -> int | tuple[int, ...]:
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


def addition(this: Matcher, slot: int, step: Step) -> Match | None:
    """A sum of two values, or a bias behind a product or a convolution."""
    first, second = step.operands
    for x, other in ((first, second), (second, first)):
        bias = this.vector(other)
        if bias is None or not isinstance(x, int) or not this.is_data(x):
            continue
        inner = this.match(x)
        if inner is not None and getattr(inner.op, "use_bias", None) is False and inner.weights.keys() == {"kernel"}:
            kernel = inner.weights["kernel"]
            if this.flat.types[bias][0][0] == this.flat.types[kernel][0][-1] and len(this.flat.readers[x]) == 1:
                attributes = inner.op.attributes() | {"use_bias": True}
                return Match(type(inner.op)(**attributes), inner.inputs, {"kernel": kernel, "bias": bias}, inner.path)
    return _positions(this, slot, step) or _merged(this, Add(), step)


def _positions(this: Matcher, slot: int, step: Step) -> Match | None:
    """A learned array of an example's shape, added to every example."""
    for x, other in (step.operands, step.operands[::-1]):
        leaf = this.spread(other)
        if leaf is not None and isinstance(x, int) and this.is_data(x) and len(this.value(x).shape) > 2:
            return Match(PositionEmbedding(), (x,), {"embedding": leaf})
    return None


def multiplication(this: Matcher, slot: int, step: Step) -> Match | None:
    """A product of two values."""
    for x, other in (step.operands, step.operands[::-1]):
        scale = this.vector(other)
        if scale is not None and isinstance(x, int) and this.is_data(x) and this.value(x) == this.value(slot):
            return Match(Scale(), (x,), {"scale": scale})
    return _average(this, slot, step) or _merged(this, Multiply(), step)


def _merged(this: Matcher, op: Op, step: Step) -> Match | None:
    first, second = (_unspread(this, item) for item in step.operands)
    if not this.is_data(first) or not this.is_data(second) or not isinstance(first, int) or not isinstance(second, int):
        return None
    if len(this.value(first).shape) != len(this.value(second).shape):
        return None
    return Match(op, (first, second))


def _unspread(this: Matcher, item: Ref) -> Ref:
    """The value before axes of size one were repeated."""
    step = this.producer(item)
    if step is None or step.primitive != "broadcast_in_dim" or not isinstance(item, int):
        return item
    rank = len(this.flat.types[item][0])
    return step.operands[0] if step.params["broadcast_dimensions"] == list(range(rank)) else item


def concatenation(this: Matcher, slot: int, step: Step) -> Match | None:
    """Values one after the other along the features."""
    rank = len(this.flat.types[slot][0])
    if rank == 3 and step.params["dimension"] == 1 and len(step.operands) == 2 and isinstance(step.operands[1], int):
        first, x = step.operands
        leaf = this.spread(first)
        if leaf is None or not isinstance(x, int) or not this.is_data(x):
            return None
        return Match(ClassToken(tokens=_length(this, first)), (x,), {"token": leaf})
    slots = tuple(item for item in step.operands if isinstance(item, int) and this.is_data(item))
    if step.params["dimension"] != rank - 1 or len(slots) != len(step.operands) or len(slots) < 2:
        return None
    return Match(Concatenate(), slots)


def _length(this: Matcher, item: Ref) -> int:
    return int(this.flat.types[item][0][1]) if isinstance(item, int) else 0


def reshape(this: Matcher, slot: int, step: Step) -> Match | None:
    """Another shape, the batch kept first."""
    x, before, after = step.operands[0], this.value(step.operands[0]), this.value(slot)
    if not isinstance(x, int) or not before.shape or step.params.get("dimensions") is not None:
        return None
    sizes = tuple(size for size in after.shape[1:] if size is not None)
    if len(sizes) > 1 and sizes[-1] == before.shape[-1]:
        # What keeps its features can do so at any number of them.
        sizes = (*sizes[:-1], -1)
    return Match(Flatten() if len(sizes) == 1 and len(before.shape) > 2 else Reshape(shape=sizes), (x,))


def transpose(this: Matcher, slot: int, step: Step) -> Match | None:
    """The axes in another order, the batch first."""
    x, order = step.operands[0], step.params["permutation"]
    return Match(Transpose(order=tuple(order[1:])), (x,)) if isinstance(x, int) and order[0] == 0 else None


def max_pool(this: Matcher, slot: int, step: Step) -> Match | None:
    """The largest element of square windows."""
    window = _window(this, step)
    return None if window is None else Match(MaxPool(**window[1]), (window[0],))


def _window(this: Matcher, step: Step) -> tuple[int, dict[str, Any]] | None:
    x, params = step.operands[0], step.params
    sizes, strides = params["window_dimensions"], params["window_strides"]
    value = this.value(x)
    if not isinstance(x, int) or len(value.shape) < 3 or {sizes[0], sizes[-1], strides[0], strides[-1]} != {1}:
        return None
    inner = {"window_strides": strides[1:-1], "rhs_dilation": params["window_dilation"][1:-1]}
    dilated = [*params["window_dilation"], *params["base_dilation"]]
    if len(set(sizes[1:-1])) > 1 or len(set(strides[1:-1])) > 1 or set(dilated) != {1}:
        return None
    for padding in ("VALID", "SAME"):
        if _pads(padding, value.spatial, sizes[1:-1], inner) == params["padding"][1:-1]:
            return x, {"window": sizes[1], "stride": strides[1], "padding": padding}
    return None


def quotient(this: Matcher, slot: int, step: Step) -> Match | None:
    """A sum divided by the number of its terms: a mean over windows, or over all positions."""
    return _average(this, slot, step) or _average_inside(this, step)


def _average_inside(this: Matcher, step: Step) -> Match | None:
    """The sum of every window over the number of its elements that are no padding: the same windows summed over ones."""
    total, count = this.producer(step.operands[0]), this.producer(_unspread(this, step.operands[1]))
    if (
        total is None
        or count is None
        or {total.primitive, count.primitive} != {"reduce_window_sum"}
        or total.params != count.params
    ):
        return None
    ones = this.producer(count.operands[0])
    one = ones.operands[0] if ones is not None and ones.primitive == "broadcast_in_dim" else count.operands[0]
    window = _window(this, total) if total.primitive == "reduce_window_sum" else None
    if window is None or not isinstance(one, Constant) or not np.all(np.asarray(one.value) == 1):
        return None
    return Match(AvgPool(**window[1], count_padding=window[1]["padding"] == "VALID"), (window[0],))


def _average(this: Matcher, slot: int, step: Step) -> Match | None:
    total, count = step.operands
    if step.primitive == "mul" and isinstance(total, Constant):
        total, count = count, total
    if not isinstance(count, Constant) or count.scalar is None or not count.scalar:
        return None
    number = count.scalar if step.primitive == "div" else 1 / count.scalar
    keep = False
    inner = this.producer(total)
    if inner is not None and inner.primitive in ("broadcast_in_dim", "reshape") and isinstance(total, int):
        keep = all(size == 1 for size in this.flat.types[total][0][1:-1])
        inner = this.producer(inner.operands[0]) if keep else inner
    if inner is None:
        return None
    if inner.primitive == "reduce_window_sum":
        window = _window(this, inner)
        terms = 1
        for size in inner.params["window_dimensions"]:
            terms *= size
        return None if window is None or abs(terms - number) > 1e-3 else Match(AvgPool(**window[1]), (window[0],))
    x, value = inner.operands[0], this.value(inner.operands[0])
    if inner.primitive != "reduce_sum" or not isinstance(x, int) or len(value.shape) < 3:
        return None
    terms = 1
    for size in value.spatial:
        terms *= size
    if inner.params["axes"] != list(range(1, len(value.shape) - 1)) or abs(terms - number) > 1e-3 * terms:
        return None
    return Match(GlobalAvgPool(keep_axes=keep), (x,))


def part(this: Matcher, slot: int, step: Step) -> Match | None:
    """Some of the features, or one position."""
    x, params = step.operands[0], step.params
    value = this.value(x)
    if not isinstance(x, int) or not this.is_data(x) or len(value.shape) < 2:
        return None
    starts, stops, strides = params["start_indices"], params["limit_indices"], params["strides"]
    whole = [at for at, size in enumerate(this.flat.types[x][0]) if starts[at] == 0 and stops[at] == size]
    if (strides is not None and set(strides) != {1}) or whole != list(range(len(value.shape) - 1)):
        return None
    return Match(Slice(start=starts[-1], stop=stops[-1]), (x,))


def parts(this: Matcher, slot: int, step: Step) -> Match | None:
    """One of the pieces that the features are split into."""
    x = step.operands[0]
    if not isinstance(x, int) or not this.is_data(x) or step.params["axis"] != len(this.flat.types[x][0]) - 1:
        return None
    place = step.results.index(slot)
    start = sum(step.params["sizes"][:place])
    return Match(Slice(start=start, stop=start + step.params["sizes"][place]), (x,))


def position(this: Matcher, slot: int, step: Step) -> Match | None:
    """One position along an axis, cut out and dropped."""
    inner = this.producer(step.operands[0])
    if inner is None or inner.primitive != "slice" or not isinstance(inner.operands[0], int):
        return None
    x, sizes = inner.operands[0], this.flat.types[inner.operands[0]][0]
    starts, stops = inner.params["start_indices"], inner.params["limit_indices"]
    cut = [at for at, size in enumerate(sizes) if not (starts[at] == 0 and stops[at] == size)]
    dropped = step.params.get("dimensions")
    if len(cut) != 1 or cut[0] == 0 or stops[cut[0]] - starts[cut[0]] != 1 or (dropped is not None and dropped != cut):
        return None
    if dropped is None and this.flat.types[slot][0] != [size for at, size in enumerate(sizes) if at != cut[0]]:
        return None
    return Match(Select(index=starts[cut[0]], axis=cut[0]), (x,))


def unsqueezed(this: Matcher, slot: int, step: Step) -> Match | None:
    """The same elements with further axes of size one."""
    kept, sizes = step.params["broadcast_dimensions"], this.flat.types[slot][0]
    added = [size for at, size in enumerate(sizes) if at not in kept]
    before = this.value(step.operands[0]).shape[1:]
    if set(added) - {1} or not before or list(before) != [sizes[at] for at in kept[1:]]:
        return None
    return reshape(this, slot, step)


def squeezed(this: Matcher, slot: int, step: Step) -> Match | None:
    """One position, or another shape."""
    return position(this, slot, step) or (reshape(this, slot, step) if step.primitive == "reshape" else None)


RULES: Mapping[str, Rule] = {
    "dot_general": dense,
    "conv_general_dilated": convolution,
    "add": addition,
    "mul": multiplication,
    "div": quotient,
    "concatenate": concatenation,
    "broadcast_in_dim": unsqueezed,
    "reshape": squeezed,
    "squeeze": squeezed,
    "slice": part,
    "split": parts,
    "transpose": transpose,
    "reduce_window_max": max_pool,
}
