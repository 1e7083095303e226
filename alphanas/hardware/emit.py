"""Kernels as TVM functions that are not yet scheduled, and what a schedule needs to know about each.

Activations stay in the model's own order (features last); weights are packed into blocks of one vector of features. Each input
element is repeated across a vector, so that its neighbours do not matter: on seven convolutions of ResNet-18 and MobileNetV2 this
order ran at 210 to 229 GF/s, activations packed into blocks at 211 to 231 (2 cores with a peak of 229, one run), and nothing has
to be packed or unpacked between kernels. A value may be stored wider than it is: rows and features are filled up so that no inner
loop has a remainder, and nothing reads the filling.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import ir, sym, te, tirx

from alphanas.hardware import expressions, indexing
from alphanas.hardware.kernels import LAYOUT, Kernel, Plan
from alphanas.hardware.program import Flat, Step, Storage, Type, located

Index = Any
LONGEST_TILE = 16
STREAMS = (8, 4, 2)
"""Vectors of a block of weights that are read once: as many sums at once as keep a core busy, or fewer."""
LITTLE_MORE = 1.04
"""How much filling may add to them."""
LINE = 16
"""Elements of float32 in a cache line."""


@dataclass(frozen=True)
class Argument:
    """What a kernel reads: a stored value, or a constant packed into blocks of `block` features, the blocks after `front` axes.

    With `winograd`, the constant is a convolution's kernel, first transformed for F(winograd, 3). With `turned`, it is that of one
    in groups of so many channels and features: each lane has its own channel's weights, for its own feature and those that follow.
    """

    slot: int
    block: int = 0
    front: int = 0
    winograd: int = 0
    turned: int = 0


@dataclass(frozen=True)
class Geometry:
    """What a schedule asks: the kind of kernel, its blocks by name, the loops' extents, and the work in multiply-adds.

    A vector must not cross a multiple of `grain`, where concatenated parts meet (0: anything may be crossed). `side` is that of a
    Winograd form's output tile, or the rows of a strip. `together` blocks, if it is not 0, read the same channels: a tile takes a
    divisor of them. `vectors` hold a block, or its sums. The first `batch` loops have right operands of their own: no tile crosses
    them. `share` neighbours in a block of the padded input are one element, repeated.
    """

    kind: str
    outer: tuple[int, ...] = ()
    blocks: int = 1
    block: int = 1
    reductions: int = 0
    work: int = 0
    prologues: tuple[str, ...] = ()
    grain: int = 0
    stages: tuple[str, ...] = ()
    side: int = 0
    together: int = 0
    vectors: int = 1
    batch: int = 0
    share: int = 1


@dataclass(frozen=True, eq=False)
class Emitted:
    """An unscheduled function with its arguments (the result comes last) and how its result is stored.

    `forms` are other ways to compute the same result, by name, stored alike; which is used is a knob.
    """

    function: Any
    arguments: tuple[Argument, ...]
    storage: Storage
    geometry: Geometry
    forms: Mapping[str, Emitted] = dataclasses.field(default_factory=dict)

    def form(self, name: str) -> Emitted:
        """The way of this name; the empty name is this one."""
        return self.forms[name] if name else self


def blocks_of(features: int, lanes: int) -> tuple[int, int]:
    """(number of blocks, block) with the fewest vectors and the least filling: 20 features are 2 blocks of 10."""
    count = -(-features // lanes)
    return count, -(-features // count)


def line_blocks(features: int, row: int, lanes: int) -> tuple[int, int]:
    """`blocks_of`, in whole cache lines where an even number of them is all features: none is then read twice.

    A line takes several vectors of registers, so that the tiles along a row are short: an odd row has none.
    """
    return blocks_of(features, max(lanes, LINE) if features % (2 * LINE) == row % 2 == 0 else lanes)


def stream_blocks(features: int, lanes: int) -> tuple[int, int]:
    """`blocks_of`, in blocks of several vectors: weights that are read but once are then read from front to back."""
    count, block = blocks_of(features, lanes)
    for vectors in STREAMS if block == lanes else ():
        blocks = -(-count // vectors)
        if blocks * vectors <= LITTLE_MORE * count:
            return blocks, vectors * lanes
    return count, block


def divisor_block(features: int, lanes: int) -> int:
    """The largest divisor of `features` that a vector holds."""
    return max(size for size in range(1, min(features, lanes) + 1) if features % size == 0)


def filled_row(length: int) -> int:
    """A row length with a good tile: the length itself, or a little more where it has no divisor between 5 and LONGEST_TILE."""
    if length <= LONGEST_TILE or any(length % tile == 0 for tile in range(5, LONGEST_TILE + 1)):
        return length
    return min(-(-length // tile) * tile for tile in range(8, LONGEST_TILE + 1))


class Emitter:
    """Writes one kernel. With `fill`, rows of a map that no vector divides are stored wider."""

    def __init__(
        self,
        plan: Plan,
        producers: Mapping[int, Step],
        storages: Mapping[int, Storage],
        kernel: Kernel,
        lanes: int,
        fill: bool = True,
    ) -> None:
        self._fill = fill
        self._clamped = False
        self._inner: dict[int, Any] = {}
        self._flat = plan.flat
        self._stored = plan.stored
        self._producers = producers
        self._storages = storages
        self._kernel = kernel
        self._lanes = lanes
        self._ranges = sym.Analyzer()
        self._tensors: dict[Argument, Any] = {}
        self._anchor: Callable[[Sequence[Index]], Any] | None = None
        self._grain = 0
        self._guarded = False
        self._moving = False
        """Whether what is being read may be found through an index that is data: such an index is not analysed but clamped."""

    # ---- reading -------------------------------------------------------------------------------------------------------------

    def read(self, slot: int, indices: Sequence[Index]) -> Any:
        """The element of a value: of memory where it is stored, else computed on the spot."""
        if self._anchor is not None and self._kernel.anchor is not None and slot == self._kernel.anchor.output:
            return self._anchor(indices)
        kind = self._flat.types[slot]
        constant = self._flat.constants.get(slot)
        if constant is not None and constant.size == 1:
            return _number(constant.reshape(()), kind.dtype)
        inside = self._kernel.output == slot and slot not in self._inner
        if constant is not None or (slot in self._stored and not inside):
            return self._load(slot, indices)
        step = self._producers[slot]
        if step.primitive in LAYOUT:
            self._grain = math.gcd(self._grain, indexing.grain(self._flat, step))
            outside, self._moving = self._moving, self._moving or step.primitive in indexing.MOVING
            found = located(step, lambda: indexing.element(self._flat, step, indices, self.read))
            self._moving = outside
            return found
        # Before the operands: those of a step that is not element-wise need not have its axes.
        located(step, lambda: expressions.known(step))
        operands = [self.read(source, _aligned(indices, self._flat.types[source])) for source in step.inputs]
        return located(step, lambda: expressions.element(self._flat, step, operands))

    def storage(self, slot: int) -> Storage:
        """How a stored value or constant lies in memory."""
        kind = self._flat.types[slot]
        if slot not in self._flat.constants:
            return self._storages.get(slot, Storage(kind.shape, kind.shape, kind.dtype))
        shape = kind.shape
        count, block = blocks_of(shape[-1], self._lanes) if shape else (1, 1)
        filled = (*shape[:-1], count * block) if shape else shape
        return Storage(shape, filled, kind.dtype)

    def _load(self, slot: int, indices: Sequence[Index]) -> Any:
        kind = self._flat.types[slot]
        if slot in self._inner:
            tensor, shape = self._inner[slot]
            at = indexing.regroup(indices, kind.shape, shape)
            return tensor(*self._inside(at, [int(size) for size in tensor.shape]))
        storage = self.storage(slot)
        at = indexing.regroup(indices, kind.shape, storage.shape)
        return self.tensor(Argument(slot), storage.filled, storage.dtype)(*self._inside(at, storage.filled))

    def _inside(self, indices: Sequence[Index], shape: Sequence[int]) -> list[Index]:
        """Simplified indices, held inside the shape where a filled row or feature could leave it."""
        result = []
        for index, size in zip(indices, shape, strict=True):
            at = index if isinstance(index, int) or self._moving else self._ranges.simplify(index)
            if not isinstance(at, int) and self._moving:
                at = te.max(te.min(at, size - 1), 0)
            elif not isinstance(at, int):
                bound = self._ranges.const_int_bound(at)
                if bound.max_value >= size and not self._guarded:
                    at = te.max(te.min(at, size - 1), 0)
                    self._clamped = True
            result.append(at)
        return result

    def tensor(self, argument: Argument, shape: Sequence[int], dtype: str) -> Any:
        """The placeholder of an argument, made when first asked for."""
        if argument not in self._tensors:
            name = f"a{len(self._tensors)}"
            self._tensors[argument] = te.placeholder(tuple(shape), dtype, name=name)
        return self._tensors[argument]

    def is_memory(self, slot: int, depths: Sequence[int] = ()) -> bool:
        """Whether a value is memory seen through what divides no index of features, so that reading it repeatedly costs little.

        With `depths`, its last axis is read by so many indices.
        """
        shape = self._flat.types[slot].shape
        shape = (*shape[:-1], *depths) if depths else shape
        while slot not in self._stored and slot not in self._flat.constants:
            step = self._producers[slot]
            if step.primitive not in ("transpose", "slice", "reshape"):
                return False
            (slot,) = step.inputs
            if step.primitive == "reshape" and not _cheap(shape, self._flat.types[slot].shape):
                return False
            shape = self._flat.types[slot].shape
        return _cheap(shape, self.storage(slot).shape)

    # ---- writing -------------------------------------------------------------------------------------------------------------

    def compute(self, shape: Sequence[int], function: Callable[..., Any], name: str) -> Any:
        """A stage; its loop variables are known to be inside `shape`."""

        def body(*indices: Any) -> Any:
            for index, size in zip(indices, shape, strict=True):
                self._ranges.bind(index, ir.Range(0, size))
            return function(*indices)

        return te.compute(tuple(shape), body, name=name)

    def axis(self, extent: int, name: str) -> Any:
        """A reduction axis."""
        axis = te.reduce_axis((0, extent), name)
        self._ranges.bind(axis.var, ir.Range(0, extent))
        return axis

    def guarded(self, *args: Any, **kwargs: Any) -> Any:
        """`indexing.guarded`; what it reads needs no second guard."""
        self._guarded = True
        result = indexing.guarded(*args, **kwargs)
        self._guarded = False
        return result

    def finish(self, shape: Sequence[int], filled: Sequence[int], geometry: Geometry) -> Emitted:
        """The kernel's last stage: the epilogue over what the anchor computed."""
        kind = self._flat.types[self._kernel.output]

        def body(*indices: Any) -> Any:
            return self.read(self._kernel.output, indexing.regroup(indices, shape, kind.shape))

        result = self.compute(filled or (1,), body if filled else lambda one: self.read(self._kernel.output, []), "result")
        geometry = dataclasses.replace(geometry, grain=self._grain)
        arguments = tuple(self._tensors)
        function = te.create_prim_func([*self._tensors.values(), result])
        return Emitted(function, arguments, Storage(tuple(shape or (1,)), tuple(filled or (1,)), kind.dtype), geometry)

    def anchor_at(self, anchor: Step, shape: Sequence[int], element: Callable[[Sequence[Index]], Any]) -> None:
        """Says where the anchor's elements are found, by index under `shape`."""
        own = self._flat.types[anchor.output].shape
        self._anchor = lambda indices: element([self._simple(i) for i in indexing.regroup(indices, own, shape)])

    def _simple(self, index: Index) -> Index:
        return index if isinstance(index, int) else self._ranges.simplify(index)

    def row(self, length: int) -> int:
        """The length at which rows of the anchor's result are stored: filled, unless the epilogue joins them with others."""
        anchor = self._kernel.anchor
        outer = self._flat.types[anchor.output].shape[:-1] if anchor is not None else ()
        stack, seen = [self._kernel.output], set[int]()
        while anchor is not None and stack:
            slot = stack.pop()
            step = self._producers.get(slot)
            if slot in seen or step is None or step is anchor or (slot in self._stored and slot != self._kernel.output):
                continue
            seen.add(slot)
            around = (self._flat.types[slot].shape, self._flat.types[step.inputs[0]].shape if step.inputs else ())
            if step.primitive == "reshape" and any(shape[: len(outer)] != outer for shape in around):
                return length
            stack.extend(step.inputs)
        return filled_row(length)

    @property
    def flat(self) -> Flat:
        """The program that the kernel is of."""
        return self._flat

    def type(self, slot: int) -> Type:
        return self._flat.types[slot]

    def constant(self, slot: int) -> np.ndarray | None:
        return self._flat.constants.get(slot)

    @property
    def clamped(self) -> bool:
        """Whether some index had to be held inside a shape, at the cost of reading one element at a time."""
        return self._clamped

    @property
    def lanes(self) -> int:
        """Elements of float32 in a vector."""
        return self._lanes

    def wide(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape, its rows filled up to whole vectors where no good vector divides them."""
        if not shape or not self._fill or shape[-1] <= self._lanes or divisor_block(shape[-1], 2 * self._lanes) >= 8:
            return tuple(shape)
        count, block = blocks_of(shape[-1], self._lanes)
        return (*shape[:-1], count * block)

    def join(self, kernel: Kernel) -> None:
        """Goes on with another kernel in the same function."""
        self._kernel, self._anchor = kernel, None

    def keep(self, shape: Sequence[int], filled: Sequence[int], name: str) -> None:
        """A stage that computes the current kernel's output, for what follows in the same function."""
        output = self._kernel.output
        kind = self._flat.types[output]
        stage = self.compute(filled, lambda *at: self.read(output, indexing.regroup(at, shape, kind.shape)), name)
        self._inner[output] = (stage, tuple(shape))


def _aligned(indices: Sequence[Index], kind: Type) -> Sequence[Index]:
    """The indices for an operand that may be a scalar or have axes of size one to be repeated."""
    if not kind.shape:
        return []
    return [0 if size == 1 else index for index, size in zip(indices, kind.shape, strict=True)]


def _cheap(old: Sequence[int], new: Sequence[int]) -> bool:
    """Whether the features keep their index under another shape, or no index at all is divided."""
    return tuple(old[-1:]) == tuple(new[-1:]) or indexing.joins(old, new)


def _number(value: np.ndarray, dtype: str) -> Any:
    if dtype == "bool":
        return tirx.const(bool(value), "bool")
    if dtype.startswith("float") and np.isinf(value):
        return tirx.max_value(dtype) if value > 0 else tirx.min_value(dtype)
    return tirx.const(value.item(), dtype)
