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
from alphanas.hardware.program import NotLowerable, Step, Type

Index = Any
LONGEST_TILE = 16


@dataclass(frozen=True)
class Storage:
    """How a value lies in memory: the shape that its kernel computes, and that shape filled up."""

    shape: tuple[int, ...]
    filled: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Argument:
    """What a kernel reads: a stored value, or a constant packed into blocks of `block` features, the blocks after `front` axes."""

    slot: int
    block: int = 0
    front: int = 0


@dataclass(frozen=True)
class Geometry:
    """What a schedule asks: the kind of kernel, its blocks by name, the loops' extents, and the work in multiply-adds.

    A vector must not cross a multiple of `grain`, where concatenated parts meet (0: anything may be crossed).
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


@dataclass(frozen=True, eq=False)
class Emitted:
    """An unscheduled function with its arguments (the result comes last) and how its result is stored."""

    function: Any
    arguments: tuple[Argument, ...]
    storage: Storage
    geometry: Geometry


def blocks_of(features: int, lanes: int) -> tuple[int, int]:
    """(number of blocks, block) with the fewest vectors and the least filling: 20 features are 2 blocks of 10."""
    count = -(-features // lanes)
    return count, -(-features // count)


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
        self._again = (plan, producers, storages, kernel, lanes, False)
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

    def emit(self) -> Emitted:
        """The kernel's function. Raises NotLowerable where a step has no rule."""
        anchor = self._kernel.anchor
        if anchor is not None:
            return _ANCHORS[anchor.primitive](self, anchor)
        emitted = self._rows() if self._kernel.before else self._map()
        # A wider row is no gain where an operand is not as wide: its reads would be clamped one by one.
        return Emitter(*self._again).emit() if self._clamped and self._fill else emitted

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
            return indexing.element(self._flat, step, indices, self.read)
        operands = [self.read(source, _aligned(indices, self._flat.types[source])) for source in step.inputs]
        return expressions.element(self._flat, step, operands)

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
            at = index if isinstance(index, int) else self._ranges.simplify(index)
            if not isinstance(at, int):
                bound = self._ranges.const_int_bound(at)
                if bound.max_value >= size and not self._guarded:
                    at = te.max(te.min(at, size - 1), 0)
                    self._clamped = True
            result.append(at)
        return result

    _guarded = False

    def tensor(self, argument: Argument, shape: Sequence[int], dtype: str) -> Any:
        """The placeholder of an argument, made when first asked for."""
        if argument not in self._tensors:
            name = f"a{len(self._tensors)}"
            self._tensors[argument] = te.placeholder(tuple(shape), dtype, name=name)
        return self._tensors[argument]

    def is_memory(self, slot: int) -> bool:
        """Whether a value is memory seen through transposes and cuts alone, so that reading it repeatedly costs nothing extra."""
        while slot not in self._stored and slot not in self._flat.constants:
            step = self._producers[slot]
            if step.primitive not in ("transpose", "slice"):
                return False
            (slot,) = step.inputs
        storage, kind = self.storage(slot), self._flat.types[slot]
        return storage.shape == kind.shape or _units_only(storage.shape, kind.shape)

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
        return Emitted(function, arguments, Storage(tuple(shape), tuple(filled or (1,)), kind.dtype), geometry)

    def anchor_at(self, anchor: Step, shape: Sequence[int], element: Callable[[Sequence[Index]], Any]) -> None:
        """Says where the anchor's elements are found, by index under `shape`."""
        own = self._flat.types[anchor.output].shape
        self._anchor = lambda indices: element([self._simple(i) for i in indexing.regroup(indices, own, shape)])

    def _simple(self, index: Index) -> Index:
        return index if isinstance(index, int) else self._ranges.simplify(index)

    def row(self, length: int) -> int:
        """The length at which rows of the anchor's result are stored: filled, unless the epilogue goes through another shape."""
        anchor = self._kernel.anchor
        stack, seen = [self._kernel.output], set[int]()
        while anchor is not None and stack:
            slot = stack.pop()
            step = self._producers.get(slot)
            if slot in seen or step is None or step is anchor or (slot in self._stored and slot != self._kernel.output):
                continue
            seen.add(slot)
            if step.primitive == "reshape":
                return length
            stack.extend(step.inputs)
        return filled_row(length)

    def type(self, slot: int) -> Type:
        return self._flat.types[slot]

    def constant(self, slot: int) -> np.ndarray | None:
        return self._flat.constants.get(slot)

    @property
    def lanes(self) -> int:
        """Elements of float32 in a vector."""
        return self._lanes

    def _map(self) -> Emitted:
        shape = self._flat.types[self._kernel.output].shape
        return self.finish(shape, self._wide(shape), Geometry("map", outer=shape, work=math.prod(shape)))

    def _wide(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape, its rows filled up to whole vectors where no good vector divides them."""
        if not shape or not self._fill or shape[-1] <= self._lanes or divisor_block(shape[-1], 2 * self._lanes) >= 8:
            return tuple(shape)
        count, block = blocks_of(shape[-1], self._lanes)
        return (*shape[:-1], count * block)

    def _rows(self) -> Emitted:
        """Several reductions over the last axis, and what joins them, in one function."""
        whole = self._kernel
        shape = self._flat.types[whole.output].shape
        names: list[str] = []
        for number, part in enumerate(whole.before):
            self._kernel, self._anchor = part, None
            own = shape
            if part.anchor is not None:
                own, _ = _sums(self, part.anchor, f"s{number}_", names)
            filled = self._wide(own) if part.anchor is None else own
            self._inner[part.output] = (self._part(own, filled, f"s{number}_value"), own)
            names.append(f"s{number}_value")
        self._kernel, self._anchor = whole, None
        work = math.prod(shape) * (1 + len(names))
        return self.finish(shape, self._wide(shape), Geometry("rows", outer=shape, work=work, stages=tuple(names)))

    def _part(self, shape: Sequence[int], filled: Sequence[int], name: str) -> Any:
        """The stage that computes the current kernel's output."""
        output = self._kernel.output
        kind = self._flat.types[output]
        return self.compute(filled, lambda *at: self.read(output, indexing.regroup(at, shape, kind.shape)), name)


def _aligned(indices: Sequence[Index], kind: Type) -> Sequence[Index]:
    """The indices for an operand that may be a scalar or have axes of size one to be repeated."""
    if not kind.shape:
        return []
    return [0 if size == 1 else index for index, size in zip(indices, kind.shape, strict=True)]


def _units_only(old: Sequence[int], new: Sequence[int]) -> bool:
    return [size for size in old if size != 1] == [size for size in new if size != 1]


def _number(value: np.ndarray, dtype: str) -> Any:
    if dtype == "bool":
        return tirx.const(bool(value), "bool")
    if dtype.startswith("float") and not np.isfinite(value):
        return tirx.max_value(dtype) if value > 0 else tirx.min_value(dtype)
    return tirx.const(value.item(), dtype)


def _contract(emitter: Emitter, step: Step) -> Emitted:
    a, b = step.inputs
    batch, rows = step.params["batch"], step.params["rows"]
    *outer, columns = emitter.type(step.output).shape
    depth = emitter.type(b).shape[-2]
    dtype = emitter.type(step.output).dtype
    count, block = blocks_of(columns, emitter.lanes)
    row = emitter.row(outer[-1]) if rows else 1
    shape = (*outer, columns)
    filled_outer = (*outer[:-1], row) if rows else tuple(outer)
    prologues: list[str] = []
    if emitter.is_memory(a) and (not rows or row == outer[-1]):
        left: Callable[..., Any] = lambda *at: emitter.read(a, at)  # noqa: E731
    else:
        limit = (*outer, depth)
        zero = tirx.const(0, emitter.type(a).dtype)

        def stage(*at: Any) -> Any:
            lows, gaps, total = [0] * len(at), [1] * len(at), (*filled_outer, depth)
            return emitter.guarded(at, limit, lows, gaps, lambda i: emitter.read(a, i), zero, total)

        left = emitter.compute((*filled_outer, depth), stage, "left")
        prologues.append("left")
    if emitter.constant(b) is not None:
        packed = emitter.tensor(Argument(b, block, batch), (*outer[:batch], count, depth, block), emitter.type(b).dtype)
    else:
        nothing = tirx.const(0, emitter.type(b).dtype)
        sizes = (*outer[:batch], count, depth, block)

        def pack(*at: Any) -> Any:
            *front, ob, k, lane = at
            column = ob * block + lane
            limits, total = (*outer[:batch], depth, columns), (*outer[:batch], depth, count * block)
            lows, gaps = [0] * (batch + 2), [1] * (batch + 2)
            return emitter.guarded((*front, k, column), limits, lows, gaps, lambda i: emitter.read(b, i), nothing, total)

        packed = emitter.compute(sizes, pack, "right")
        prologues.append("right")
    k = emitter.axis(depth, "k")
    sums_shape = (*(filled_outer or (1,)), count, block)

    def product(*at: Any) -> Any:
        *front, ob, lane = at
        front = front if filled_outer else []
        x = left(*front, k.var)
        return te.sum(x.astype(dtype) * packed(*front[:batch], ob, k.var, lane).astype(dtype), axis=[k])

    sums = emitter.compute(sums_shape, product, "sums")
    shape = shape if outer else (1, columns)
    emitter.anchor_at(step, shape, lambda at: sums(*at[:-1], te.floordiv(at[-1], block), te.floormod(at[-1], block)))
    work = math.prod(sums_shape) * depth
    geometry = Geometry("contraction", sums_shape[:-2], count, block, 1, work, tuple(prologues))
    return emitter.finish(shape, (*(filled_outer or (1,)), count * block), geometry)


def _convolve(emitter: Emitter, step: Step) -> Emitted:
    x, w = step.inputs
    params = step.params
    *window, inner, features = emitter.type(w).shape
    batch, *outer, _ = emitter.type(step.output).shape
    channels = emitter.type(x).shape[-1]
    groups, rank = params["groups"], len(window)
    depthwise = groups == channels == features and groups > 1
    row = emitter.row(outer[-1])
    if groups == 1 or depthwise:
        count, block = blocks_of(features, emitter.lanes)
    else:
        block = divisor_block(features // groups, emitter.lanes)
        count = features // block
    filled_outer = (*outer[:-1], row)
    filled_channels = count * block if depthwise else channels
    strides, dilation = params["strides"], params["dilation"]
    read, prologues = _padded(
        emitter,
        x,
        window=window,
        outer=filled_outer,
        strides=strides,
        dilation=dilation,
        pads=params["pads"],
        gaps=params["input_dilation"],
        channels=filled_channels,
        blank=tirx.const(0, emitter.type(x).dtype),
        blocked=block if depthwise else 0,
    )
    packed = emitter.tensor(Argument(w, block), (count, *window, inner, block), emitter.type(w).dtype)
    axes = [emitter.axis(size, f"k{i}") for i, size in enumerate((*window, inner))]

    def product(n: Any, *at: Any) -> Any:
        *place, ob, lane = at
        spots = [p * s + q.var * d for p, s, q, d in zip(place, strides, axes, dilation, strict=False)]
        if depthwise:
            channel = ob * block + lane
        else:
            channel = te.floordiv(ob * block, features // groups) * inner + axes[-1].var if groups > 1 else axes[-1].var
        weight = packed(ob, *(axis.var for axis in axes), lane)
        return te.sum(read(n, *spots, channel) * weight, axis=axes)

    shape = (batch, *outer, features)
    sums_shape = (batch, *filled_outer, count, block)
    sums = emitter.compute(sums_shape, product, "sums")
    emitter.anchor_at(step, shape, lambda at: sums(*at[:-1], te.floordiv(at[-1], block), te.floormod(at[-1], block)))
    work = math.prod(sums_shape) * math.prod(window) * inner
    kind = "depthwise" if depthwise else "contraction"
    geometry = Geometry(kind, sums_shape[:-2], count, block, rank + 1, work, prologues)
    return emitter.finish(shape, (batch, *filled_outer, count * block), geometry)


def _padded(
    emitter: Emitter,
    x: int,
    *,
    window: Sequence[int],
    outer: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    pads: Sequence[tuple[int, int]],
    gaps: Sequence[int],
    channels: int,
    blank: Any,
    blocked: int,
) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """How to read the padded input of a window: from memory where nothing is padded, else from a stage that pads it."""
    kind = emitter.type(x)
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(outer, strides, window, dilation, strict=True)]
    own = [(size - 1) * gap + 1 for size, gap in zip(kind.shape[1:-1], gaps, strict=True)]
    inside = all(low <= 0 and need + max(-low, 0) <= have for (low, _), need, have in zip(pads, reach, own, strict=True))
    plain = inside and all(gap == 1 for gap in gaps) and emitter.is_memory(x)
    lows = [0, *(low for low, _ in pads), 0]
    if plain and channels == kind.shape[-1]:
        return (lambda *at: emitter.read(x, [i - low for i, low in zip(at, lows, strict=True)])), ()
    sizes = (kind.shape[0], *reach, channels)

    def stage(*at: Any) -> Any:
        if blocked:
            n, ob, *place, lane = at
            at = (n, *place, ob * blocked + lane)
        return emitter.guarded(at, kind.shape, lows, [1, *gaps, 1], lambda i: emitter.read(x, i), blank, sizes)

    if not blocked:
        return emitter.compute(sizes, stage, "padded"), ("padded",)
    padded = emitter.compute((kind.shape[0], channels // blocked, *reach, blocked), stage, "padded")

    def by_block(n: Any, *at: Any) -> Any:
        *place, channel = at
        return padded(n, te.floordiv(channel, blocked), *place, te.floormod(channel, blocked))

    return by_block, ("padded",)


def _window(emitter: Emitter, step: Step) -> Emitted:
    params = step.params
    inner = len(params["window"]) - 1
    outermost = [params[name][0] for name in ("window", "strides", "dilation", "input_dilation")]
    innermost = [params[name][inner] for name in ("window", "strides", "dilation", "input_dilation")]
    still = params["pads"][0] == params["pads"][inner] == (0, 0)
    if inner >= 2 and still and outermost == innermost == [1, 1, 1, 1]:
        return _pool(emitter, step)
    return _window_of_any_axes(emitter, step)


def _pool(emitter: Emitter, step: Step) -> Emitted:
    """Windows over the axes between batch and features: a depthwise convolution without weights."""
    (x,) = step.inputs
    params = step.params
    batch, *outer, features = emitter.type(step.output).shape
    dtype = emitter.type(x).dtype
    combine, blank = _reducer(params["kind"], dtype)
    count, block = blocks_of(features, emitter.lanes)
    between = slice(1, -1)
    window, strides, dilation = (params[name][between] for name in ("window", "strides", "dilation"))
    read, prologues = _padded(
        emitter,
        x,
        window=window,
        outer=outer,
        strides=strides,
        dilation=dilation,
        pads=params["pads"][between],
        gaps=params["input_dilation"][between],
        channels=count * block,
        blank=blank,
        blocked=block,
    )
    axes = [emitter.axis(size, f"k{i}") for i, size in enumerate(window)]

    def value(n: Any, *at: Any) -> Any:
        *place, ob, lane = at
        spots = [p * s + q.var * d for p, s, q, d in zip(place, strides, axes, dilation, strict=True)]
        return combine(read(n, *spots, ob * block + lane), axis=axes)

    shape, sums_shape = (batch, *outer, features), (batch, *outer, count, block)
    sums = emitter.compute(sums_shape, value, "sums")
    emitter.anchor_at(step, shape, lambda at: sums(*at[:-1], te.floordiv(at[-1], block), te.floormod(at[-1], block)))
    work = math.prod(sums_shape) * math.prod(window)
    geometry = Geometry("depthwise", sums_shape[:-2], count, block, len(axes), work, prologues)
    return emitter.finish(shape, (batch, *outer, count * block), geometry)


def _window_of_any_axes(emitter: Emitter, step: Step) -> Emitted:
    (x,) = step.inputs
    params = step.params
    shape = emitter.type(step.output).shape
    kind = emitter.type(x)
    combine, blank = _reducer(params["kind"], kind.dtype)
    reach = [
        (o - 1) * s + (k - 1) * d + 1
        for o, s, k, d in zip(shape, params["strides"], params["window"], params["dilation"], strict=True)
    ]
    lows = [low for low, _ in params["pads"]]
    gaps = params["input_dilation"]
    padded = any(low or high > 0 for low, high in params["pads"]) or any(gap > 1 for gap in gaps)
    prologues: tuple[str, ...] = ()
    if padded or not emitter.is_memory(x):

        def stage(*at: Any) -> Any:
            return emitter.guarded(at, kind.shape, lows, gaps, lambda i: emitter.read(x, i), blank, reach)

        source = emitter.compute(reach, stage, "padded")
        prologues = ("padded",)
    else:
        source = lambda *at: emitter.read(x, at)  # noqa: E731
    axes = {i: emitter.axis(size, f"k{i}") for i, size in enumerate(params["window"]) if size > 1}
    if not axes:
        axes = {0: emitter.axis(1, "k0")}

    def value(*at: Any) -> Any:
        spots = [
            p * s + (axes[i].var * d if i in axes else 0)
            for i, (p, s, d) in enumerate(zip(at, params["strides"], params["dilation"], strict=True))
        ]
        return combine(source(*spots), axis=list(axes.values()))

    sums = emitter.compute(shape, value, "sums")
    emitter.anchor_at(step, shape, lambda at: sums(*at))
    work = math.prod(shape) * math.prod(params["window"])
    geometry = Geometry("window", shape, 1, shape[-1], len(axes), work, prologues)
    return emitter.finish(shape, shape, geometry)


def _reduce(emitter: Emitter, step: Step) -> Emitted:
    names: list[str] = []
    own, lanes = _sums(emitter, step, "", names)
    work = math.prod(emitter.type(step.inputs[0]).shape)
    stages = tuple(name for name in names if name == "parts")
    return emitter.finish(own, own, Geometry("reduction", own, 1, lanes, len(step.params["axes"]), work, stages=stages))


def _sums(emitter: Emitter, step: Step, prefix: str, names: list[str]) -> tuple[tuple[int, ...], int]:
    """The stages of a reduction; returns (the shape it leaves, lanes). Over the last axis it is in vectors, then across one."""
    (x,) = step.inputs
    kind = emitter.type(x)
    axes = sorted(step.params["axes"])
    combine, _ = _reducer(step.params["kind"], kind.dtype)
    kept = [axis for axis in range(len(kind.shape)) if axis not in axes]
    shape = tuple(kind.shape[axis] for axis in kept)
    own = shape or (1,)
    last = kind.shape[-1]
    lanes = divisor_block(last, emitter.lanes) if len(kind.shape) - 1 in axes else 1
    rest = 0
    if lanes < 8 and axes == [len(kind.shape) - 1] and last > 2 * emitter.lanes:
        lanes, rest = emitter.lanes, last % emitter.lanes

    def at(kept_at: Sequence[Any], reduced_at: Sequence[Any]) -> list[Any]:
        places: list[Any] = [0] * len(kind.shape)
        for axis, index in zip(kept, kept_at if shape else [], strict=True):
            places[axis] = index
        for axis, index in zip(axes, reduced_at, strict=True):
            places[axis] = index
        return places

    names.append(f"{prefix}sums")
    if lanes < 4:
        whole = [emitter.axis(kind.shape[axis], f"k{axis}") for axis in axes]

        def directly(*i: Any) -> Any:
            return combine(emitter.read(x, at(i, [axis.var for axis in whole])), axis=whole)

        sums = emitter.compute(own, directly, f"{prefix}sums")
        emitter.anchor_at(step, own, lambda i: sums(*i))
        return own, 1
    outer = [emitter.axis(kind.shape[axis] // (lanes if axis == axes[-1] else 1), f"k{axis}") for axis in axes]

    def part(*i: Any) -> Any:
        *front, lane = i
        places = [axis.var for axis in outer]
        places[-1] = places[-1] * lanes + lane
        return combine(emitter.read(x, at(front, places)), axis=outer)

    parts = emitter.compute((*own, lanes), part, f"{prefix}parts")
    names.insert(-1, f"{prefix}parts")

    def total(*i: Any) -> Any:
        left_over = [emitter.read(x, at(i, [last - rest + n])) for n in range(rest)]
        return _tree(step.params["kind"], [*(parts(*i, lane) for lane in range(lanes)), *left_over])

    sums = emitter.compute(own, total, f"{prefix}sums")
    emitter.anchor_at(step, own, lambda i: sums(*i))
    return own, lanes


def _tree(kind: str, values: Sequence[Any]) -> Any:
    """All values joined in pairs of pairs: a chain would wait for every single step."""
    join = {"sum": lambda a, b: a + b, "prod": lambda a, b: a * b, "max": te.max, "min": te.min, "or": tirx.Or, "and": tirx.And}
    while len(values) > 1:
        pairs = [join[kind](a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + list(values[len(pairs) * 2 :])
    return values[0]


def _reducer(kind: str, dtype: str) -> tuple[Callable[..., Any], Any]:
    """(the reduction, the value that changes nothing)."""
    if kind == "sum":
        return te.sum, tirx.const(0, dtype)
    if kind in ("max", "or"):
        return _maximum(dtype), tirx.const(False, "bool") if dtype == "bool" else tirx.min_value(dtype)
    if kind in ("min", "and"):
        return _minimum(dtype), tirx.const(True, "bool") if dtype == "bool" else tirx.max_value(dtype)
    if kind == "prod":
        return te.comm_reducer(lambda a, b: a * b, lambda t: tirx.const(1, t)), tirx.const(1, dtype)
    raise NotLowerable(f"reduce_{kind}", "no rule for this reduction")


def _maximum(dtype: str) -> Callable[..., Any]:
    if dtype == "bool":
        return te.comm_reducer(lambda a, b: tirx.Or(a, b), lambda t: tirx.const(False, "bool"))
    return te.comm_reducer(lambda a, b: te.max(a, b), lambda t: tirx.min_value(t))


def _minimum(dtype: str) -> Callable[..., Any]:
    if dtype == "bool":
        return te.comm_reducer(lambda a, b: tirx.And(a, b), lambda t: tirx.const(True, "bool"))
    return te.comm_reducer(lambda a, b: te.min(a, b), lambda t: tirx.max_value(t))


_ANCHORS: Mapping[str, Callable[[Emitter, Step], Emitted]] = {
    "contract": _contract,
    "convolve": _convolve,
    "window": _window,
    "reduce": _reduce,
}
