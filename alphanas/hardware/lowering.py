"""A function's inference trace as a module of Relax: one call per kernel, weights packed and kept as constants.

Imports TVM: only worker processes import this module.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tvm import relax, te

from alphanas.hardware import indexing, rows, winograd
from alphanas.hardware.bodies import emit
from alphanas.hardware.canonical import canonical
from alphanas.hardware.emit import Argument, Emitted, blocks_of
from alphanas.hardware.flattening import flatten
from alphanas.hardware.identity import Texts, identify
from alphanas.hardware.kernels import Plan
from alphanas.hardware.program import Flat, Step, Storage
from alphanas.hardware.schedules import FORM, Knobs, scheduled

REMEMBERED = 4096
_EMITTED: dict[str, tuple[Emitted, tuple[int, ...]]] = {}
"""Kernels by exact form, with the slots that they read in the program that they were first met in."""


@dataclass(frozen=True, eq=False)
class Call:
    """One run of a kernel: which task it is, the slot it computes, what it reads, and the step it is named for, if one reduces.

    `inner` are the steps that reduce inside it before that one.
    """

    task: int
    output: int
    arguments: tuple[Argument, ...]
    anchor: Step | None = None
    inner: tuple[Step, ...] = ()
    forms: Mapping[str, tuple[Argument, ...]] = field(default_factory=dict)

    def reads(self, form: str) -> tuple[Argument, ...]:
        """What a function of the task reads that has this form."""
        return self.forms[form] if form else self.arguments


@dataclass(frozen=True, eq=False)
class Lowered:
    """A program as calls of distinct kernels (its tasks); equal kernels are one task."""

    flat: Flat
    tasks: tuple[Emitted, ...]
    calls: tuple[Call, ...]
    storages: Mapping[int, Storage]
    lanes: int
    keys: tuple[str, ...] = ()
    """What the records of each task are found by."""
    exacts: tuple[str, ...] = ()
    """The exact form of each task; see `identity`."""

    def counts(self) -> dict[str, int]:
        """Number of calls by kind of kernel."""
        kinds = [self.tasks[call.task].geometry.kind for call in self.calls]
        return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def lower(function: Callable[..., Any], *inputs: Any, lanes: int = 16) -> Lowered:
    """The kernels of `function` on inputs of these shapes. Raises NotLowerable for what has no rule."""
    return lowered_plan(rows.planned(canonical(flatten(function, *inputs))), lanes)


def lowered_plan(planned: Plan, lanes: int) -> Lowered:
    """The kernels of a plan as functions; a kernel whose form was met before in this process is not written again."""
    flat = planned.flat
    producers = {step.output: step for step in flat.steps}
    storages: dict[int, Storage] = {}
    tasks: dict[str, int] = {}
    emitted: list[Emitted] = []
    keys: list[str] = []
    texts = Texts()
    calls = []
    for kernel in planned.kernels:
        identity = identify(planned, producers, storages, kernel, lanes, texts)
        known = _EMITTED.get(identity.exact)
        if known is None:
            function = emit(planned, producers, storages, kernel, lanes)
            known = _EMITTED[identity.exact] = (function, identity.leaves)
            if len(_EMITTED) > REMEMBERED:
                _EMITTED.pop(next(iter(_EMITTED)))
        function, leaves = known
        storages[kernel.output] = function.storage
        if identity.exact not in tasks:
            tasks[identity.exact] = len(emitted)
            emitted.append(function)
            keys.append(identity.key)
        here = dict(zip(leaves, identity.leaves, strict=True))
        forms = {name: _moved(form.arguments, here) for name, form in function.forms.items()}
        inner = tuple(part.anchor for part in kernel.before if part.anchor is not None)
        calls.append(Call(tasks[identity.exact], kernel.output, _moved(function.arguments, here), kernel.anchor, inner, forms))
    return Lowered(flat, tuple(emitted), tuple(calls), storages, lanes, tuple(keys), tuple(tasks))


def _moved(arguments: Sequence[Argument], slots: Mapping[int, int]) -> tuple[Argument, ...]:
    return tuple([dataclasses.replace(argument, slot=slots[argument.slot]) for argument in arguments])


def build_module(lowered: Lowered, knobs: Sequence[Knobs]) -> Any:
    """The Relax module with every task under its knobs; its entry is `main`."""
    return assemble(lowered, [scheduled(task, chosen) for task, chosen in zip(lowered.tasks, knobs, strict=True)])


def form_of(function: Any) -> str:
    """Which form of its task a scheduled function is."""
    return str(function.attrs.get(FORM, ""))


def assemble(lowered: Lowered, functions: Sequence[Any]) -> Any:
    """The Relax module that has and calls these functions, one a task."""

    def called(builder: Any) -> list[Callable[[Sequence[Any], Any], Any]]:
        named = {f"kernel{n}": function for n, function in enumerate(functions)}
        variables = [builder.add_func(function.with_attr("global_symbol", name), name) for name, function in named.items()]
        return [functools.partial(relax.call_tir, variable) for variable in variables]

    return _module(lowered, [form_of(function) for function in functions], called)


def linked(lowered: Lowered, symbols: Sequence[str], forms: Sequence[str], libraries: Sequence[Any]) -> Any:
    """The Relax module that calls the functions of these names, which libraries have; one a task, each of a form of its task."""

    def called(builder: Any) -> list[Callable[[Sequence[Any], Any], Any]]:
        return [functools.partial(relax.call_dps_packed, symbol) for symbol in symbols]

    return _module(lowered, forms, called).with_attr("external_mods", list(libraries))


def _module(lowered: Lowered, forms: Sequence[str], called: Callable[[Any], Sequence[Callable[[Sequence[Any], Any], Any]]]) -> Any:
    """The Relax module whose `main` makes the calls of a program."""
    flat = lowered.flat
    builder = relax.BlockBuilder()
    inputs = [relax.Var(f"x{n}", _tensor(flat.types[slot].shape, flat.types[slot].dtype)) for n, slot in enumerate(flat.inputs)]
    values: dict[int, Any] = dict(zip(flat.inputs, inputs, strict=True))
    constants: dict[Argument, Any] = {}
    with builder.function("main", inputs):
        with builder.dataflow():
            kernels = called(builder)
            for call in lowered.calls:
                reads = call.reads(forms[call.task])
                arguments = [_operand(lowered, argument, values, constants) for argument in reads]
                storage = lowered.storages[call.output]
                call_type = _tensor(storage.filled, storage.dtype)
                values[call.output] = builder.emit(kernels[call.task](arguments, call_type))
            outputs = [builder.emit_output(_result(builder, lowered, slot, values, constants)) for slot in flat.outputs]
        builder.emit_func_output(outputs[0] if len(outputs) == 1 else relax.Tuple(outputs))
    return builder.get()


def _tensor(shape: tuple[int, ...], dtype: str) -> Any:
    return relax.TensorType(shape, dtype)


def _operand(lowered: Lowered, argument: Argument, values: Mapping[int, Any], constants: dict[Argument, Any]) -> Any:
    if argument.slot in values:
        return values[argument.slot]
    if argument not in constants:
        constants[argument] = relax.const(packed(lowered.flat.constants[argument.slot], argument, lowered.lanes))
    return constants[argument]


def packed(constant: np.ndarray, argument: Argument, lanes: int) -> np.ndarray:
    """A constant as kernels read it: features filled up to whole blocks, and for weights a block's features side by side."""
    if not constant.ndim:
        return constant
    if argument.winograd:
        constant = winograd.transformed(constant, argument.winograd)
    if argument.turned:
        constant = _turned(constant)
    features = constant.shape[-1]
    if not argument.block:
        count, block = blocks_of(features, lanes)
        return _filled(constant, count * block)
    count = -(-features // argument.block)
    blocked = _filled(constant, count * argument.block).reshape(*constant.shape[:-1], count, argument.block)
    return np.ascontiguousarray(np.moveaxis(blocked, -2, argument.front))


def _turned(kernel: np.ndarray) -> np.ndarray:
    """A grouped convolution's kernel for `turning`: at […, n, f] the weight of the channel that has f's place in its group, for the
    feature that stands n places after f in it.
    """
    *_, share, features = kernel.shape
    places = np.arange(features) % share
    turns = np.arange(share)[:, None]
    return kernel[..., places[None, :], np.arange(features) - places + (places + turns) % share]


def _filled(array: np.ndarray, width: int) -> np.ndarray:
    missing = width - array.shape[-1]
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)]) if missing else np.ascontiguousarray(array)


def _result(builder: Any, lowered: Lowered, slot: int, values: Mapping[int, Any], constants: dict[Argument, Any]) -> Any:
    """An output in the shape that the caller expects: a filled value is cut."""
    kind = lowered.flat.types[slot]
    value = _operand(lowered, Argument(slot), values, constants)
    storage = lowered.storages.get(slot)
    if storage is None or storage.filled == kind.shape:
        return value
    if storage.filled == storage.shape:
        return builder.emit(relax.op.reshape(value, kind.shape))
    source = te.placeholder(storage.filled, storage.dtype, "a0")
    shape = kind.shape or (1,)

    def element(*indices: Any) -> Any:
        return source(*indexing.regroup(indices if kind.shape else [], kind.shape, storage.shape))

    cut = te.compute(shape, element, name="result")
    function = te.create_prim_func([source, cut]).with_attr("global_symbol", f"cut{slot}")
    name = builder.add_func(function, f"cut{slot}")
    result = builder.emit(relax.call_tir(name, [value], _tensor(shape, storage.dtype)))
    return result if kind.shape else builder.emit(relax.op.reshape(result, ()))
