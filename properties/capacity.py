"""Capacity: what a program holds and does. Counted on the equations that work on data; what depends on parameters only is free.

A loop counts its body once for every trip; a conditional counts its costliest branch; a loop whose trips are not known counts once
and makes the figures lower bounds (`bounded` is False).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import prod

from properties.jaxpr import Equation, Program
from properties.shape import Shape

ALIASES = frozenset({"reshape", "squeeze", "expand_dims", "stop_gradient", "copy", "copy_p", "optimization_barrier", "name"})
"""Primitives whose result can share its operand's memory."""

MOVES = ALIASES | frozenset(
    {"transpose", "broadcast_in_dim", "slice", "dynamic_slice", "dynamic_update_slice", "gather", "concatenate", "pad", "rev",
     "split", "tile", "convert_element_type", "iota", "bitcast_convert_type"}
)  # fmt: skip
"""Primitives that compute nothing."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Sizes and work of a program on its inputs as given, batch included.

    `params` parameters held, `macs` multiply-adds of contractions and convolutions, `elementwise` other arithmetic operations,
    `bytes_moved` read and written by the steps one by one, `peak_bytes` the largest total of live activations, in order of
    execution. `bounded` is False if the work is a lower bound, because a loop's number of trips is not known.
    """

    params: int = 0
    macs: int = 0
    elementwise: int = 0
    bytes_moved: int = 0
    peak_bytes: int = 0
    bounded: bool = True

    def __add__(self, other: Capacity) -> Capacity:
        """One program after the other: work adds up, the larger peak stays."""
        return Capacity(
            self.params + other.params,
            self.macs + other.macs,
            self.elementwise + other.elementwise,
            self.bytes_moved + other.bytes_moved,
            max(self.peak_bytes, other.peak_bytes),
            self.bounded and other.bounded,
        )

    def times(self, trips: int) -> Capacity:
        """The work of so many repetitions, on the same parameters."""
        return Capacity(
            self.params, self.macs * trips, self.elementwise * trips, self.bytes_moved * trips, self.peak_bytes, self.bounded
        )

    @property
    def intensity(self) -> float:
        """Operations (two a multiply-add) for each byte moved; 0 where nothing moves."""
        return (2 * self.macs + self.elementwise) / self.bytes_moved if self.bytes_moved else 0.0

    def to_json(self) -> dict[str, int | bool]:
        """The figures by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def measure(program: Program, data: Sequence[bool]) -> tuple[Capacity, list[bool]]:
    """The work of a program whose inputs are data or not, and which of its outputs are data."""
    live = _Live(program, data)
    depends = [False] * len(program.types)
    depends[: program.input_count] = data
    total = Capacity()
    for step, equation in enumerate(program.equations):
        flags = [depends[slot] for slot in equation.inputs]
        if True in flags:
            cost, results = _equation(equation, flags)
            total = total + cost
            for slot, result in zip(equation.outputs, results, strict=True):
                depends[slot] = result
            live.write(step, equation, results, cost.peak_bytes)
        live.release(step)
    total = Capacity(total.params, total.macs, total.elementwise, total.bytes_moved, live.peak, total.bounded)
    return total, [depends[slot] for slot in program.outputs]


class _Live:
    """The bytes alive while a program is executed in order."""

    def __init__(self, program: Program, data: Sequence[bool]):
        self._types = program.types
        self._root = list(range(len(program.types)))
        self._held: dict[int, int] = {}
        for equation in program.equations:
            if equation.primitive in ALIASES and len(equation.inputs) == len(equation.outputs) == 1:
                self._root[equation.outputs[0]] = self._root[equation.inputs[0]]
        self._dying: dict[int, list[int]] = {}
        last: dict[int, int] = {}
        for step, equation in enumerate(program.equations):
            for slot in equation.inputs:
                last[self._root[slot]] = step
        kept = {self._root[slot] for slot in program.outputs}
        for slot, step in last.items():
            if slot not in kept:
                self._dying.setdefault(step, []).append(slot)
        for slot, is_data in zip(program.inputs, data, strict=True):
            if is_data:
                self._held[slot] = program.types[slot].bytes
        self._now = sum(self._held.values())
        self.peak = self._now

    def write(self, step: int, equation: Equation, results: Sequence[bool], inside: int) -> None:
        outer = self._now
        for slot, is_data in zip(equation.outputs, results, strict=True):
            if is_data and self._root[slot] == slot:
                self._held[slot] = self._types[slot].bytes
                self._now += self._held[slot]
        borrowed = sum(self._held.get(self._root[slot], 0) for slot in set(equation.inputs))
        self.peak = max(self.peak, self._now, outer - borrowed + inside if inside else 0)

    def release(self, step: int) -> None:
        for slot in self._dying.get(step, ()):
            self._now -= self._held.pop(slot, 0)


def _equation(equation: Equation, flags: list[bool]) -> tuple[Capacity, list[bool]]:
    name, programs = equation.primitive, equation.programs
    if not programs:
        return _memoised_work(equation), [True] * len(equation.outputs)
    if name == "cond":
        return _costliest(equation, flags)
    if name == "scan":
        return _scanned(equation, flags)
    if name == "while":
        cost = Capacity(bounded=False)
        params = equation.params
        tested, bodied = params["cond_nconsts"], params["body_nconsts"]
        carry = [True] * (len(flags) - tested - bodied)
        cost += measure(programs[0], [*flags[:tested], *carry])[0]
        cost += measure(programs[1], [*flags[tested : tested + bodied], *carry])[0]
        return cost, carry
    return measure(programs[0], flags)


def _costliest(equation: Equation, flags: list[bool]) -> tuple[Capacity, list[bool]]:
    costs, results = zip(*[measure(program, flags[1:]) for program in equation.programs], strict=True)
    most = [max(getattr(cost, field.name) for cost in costs) for field in fields(Capacity)]
    most[-1] = all(cost.bounded for cost in costs)
    return Capacity(*most), [flags[0] or any(column) for column in zip(*results, strict=True)]


def _scanned(equation: Equation, flags: list[bool]) -> tuple[Capacity, list[bool]]:
    params = equation.params
    consts, carried = params["num_consts"], params["num_carry"]
    state = flags[consts : consts + carried]
    while True:
        inputs = [*flags[:consts], *state, *flags[consts + carried :]]
        cost, results = measure(equation.programs[0], inputs)
        after = [a or b for a, b in zip(state, results[:carried], strict=True)]
        if after == state:
            return cost.times(params["length"]), results
        state = after


_WORK: dict[int, Capacity] = {}


def _memoised_work(equation: Equation) -> Capacity:
    if equation.key is None:
        return _work(equation)
    found = _WORK.get(equation.key)
    if found is None:
        found = _WORK[equation.key] = _work(equation)
    return found


def _work(equation: Equation) -> Capacity:
    name = equation.primitive
    moved = 0 if name in ALIASES else sum(type_.bytes for type_ in (*equation.input_types, *equation.output_types))
    if name == "dot_general":
        (contract, _), _ = equation.params["dimension_numbers"]
        depth = prod(equation.input_types[0].shape[axis] for axis in contract)
        return Capacity(macs=equation.output_types[0].size * depth, bytes_moved=moved)
    if name == "conv_general_dilated":
        return Capacity(macs=_convolution_macs(equation), bytes_moved=moved)
    if name in MOVES:
        return Capacity(bytes_moved=moved)
    return Capacity(elementwise=_operations(equation), bytes_moved=moved)


def _convolution_macs(equation: Equation) -> int:
    """Every output element times the kernel's taps, whether they fall on padding or not."""
    numbers = equation.params["dimension_numbers"]
    kernel: Shape = equation.input_types[1]
    return equation.output_types[0].size * (kernel.size // kernel.shape[numbers.rhs_spec[0]])


def _operations(equation: Equation) -> int:
    window = equation.params.get("window_dimensions")
    result = sum(type_.size for type_ in equation.output_types)
    if window is not None:
        return int(result * prod(window))
    return max(result, max((type_.size for type_ in equation.input_types), default=0))
