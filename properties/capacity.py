"""Capacity: what a program holds and does. Counted on the equations that work on data; what depends on parameters only is free.

A loop counts its body once for every trip. Where the work is not the same every time it is an interval: a conditional takes its
cheapest to its costliest branch, and a loop whose trips are not known takes from no trip to any number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from math import inf, prod

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
class Work:
    """What `Capacity` says of work: the figures of the same names."""

    macs: int = 0
    elementwise: int = 0
    bytes_moved: int = 0
    weight_bytes: int = 0
    peak_bytes: int = 0

    def __add__(self, other: Work) -> Work:
        """One after the other: work adds up, the larger peak stays."""
        return _added([self, other], max(self.peak_bytes, other.peak_bytes))

    def times(self, trips: int) -> Work:
        """So many repetitions."""
        moved, read = self.bytes_moved * trips, self.weight_bytes * trips
        return Work(self.macs * trips, self.elementwise * trips, moved, read, self.peak_bytes)

    def per_example(self, batch: int) -> Work:
        """The part of one of `batch` examples: the parameters are read as a whole, all else is shared out."""
        moved = self.weight_bytes + (self.bytes_moved - self.weight_bytes) // batch
        return Work(self.macs // batch, self.elementwise // batch, moved, self.weight_bytes, self.peak_bytes // batch)

    def extreme(self, other: Work, choose: Callable[[int, int], int]) -> Work:
        """The smaller or the larger of each figure."""
        return Work(*(choose(getattr(self, field.name), getattr(other, field.name)) for field in fields(Work)))


@dataclass(frozen=True, slots=True)
class Capacity:
    """Sizes and work of a program on its inputs as given, batch included.

    `params` parameters held and `state` further numbers held that are not trained, `macs` multiply-adds of contractions and
    convolutions, `elementwise` other arithmetic operations, `bytes_moved` read and written by the steps one by one, `weight_bytes`
    those among them that are read of parameters and constants, `peak_bytes` the largest total of live activations, in order of
    execution. These are the most that is needed; `least` is the least, if that differs. If a loop's number of trips is not known,
    `bounded` is False: nothing is known of the most work, and the figures count one trip. `interval` says what holds.
    """

    params: int = 0
    macs: int = 0
    elementwise: int = 0
    bytes_moved: int = 0
    peak_bytes: int = 0
    bounded: bool = True
    state: int = 0
    weight_bytes: int = 0
    least: Work | None = None

    @staticmethod
    def of(most: Work, least: Work | None = None, *, bounded: bool = True) -> Capacity:
        """The capacity of work alone; without `least`, it is the same every time."""
        return Capacity(
            macs=most.macs,
            elementwise=most.elementwise,
            bytes_moved=most.bytes_moved,
            peak_bytes=most.peak_bytes,
            bounded=bounded,
            weight_bytes=most.weight_bytes,
            least=None if least == most else least,
        )

    @staticmethod
    def total(parts: Sequence[Capacity]) -> Capacity:
        """The capacity of programs one after the other: work adds up, the largest peak stays."""
        most = _added(parts, max([part.peak_bytes for part in parts], default=0))
        lows = [part.least or part for part in parts]
        least = _added(lows, max([low.peak_bytes for low in lows], default=0))
        work = Capacity.of(most, least, bounded=all([part.bounded for part in parts]))
        return work.holding(sum([part.params for part in parts]), sum([part.state for part in parts]))

    def __add__(self, other: Capacity) -> Capacity:
        """One program after the other."""
        return Capacity.total([self, other])

    def times(self, trips: int) -> Capacity:
        """The work of so many repetitions, on the same parameters."""
        least = None if self.least is None else self.least.times(trips)
        return Capacity.of(self.work.times(trips), least, bounded=self.bounded).holding(self.params, self.state)

    def per_example(self, batch: int) -> Capacity:
        """The capacity for one of `batch` examples, for a program that treats them alike."""
        least = None if self.least is None else self.least.per_example(batch)
        return Capacity.of(self.work.per_example(batch), least, bounded=self.bounded).holding(self.params, self.state)

    def holding(self, params: int, state: int = 0) -> Capacity:
        """The same work with so many parameters, and other numbers, held."""
        return replace(self, params=params, state=state)

    @property
    def work(self) -> Work:
        """The work as the figures say."""
        return Work(self.macs, self.elementwise, self.bytes_moved, self.weight_bytes, self.peak_bytes)

    @property
    def low(self) -> Work:
        """The least work."""
        return self.work if self.least is None else self.least

    def interval(self, name: str) -> tuple[float, float]:
        """The least and the most of a figure, by its name; the most is infinite where nothing is known of it.

        Memory is bounded in any loop. Raises ValueError for a name that is no figure.
        """
        if name not in FIGURES:
            raise ValueError(f"no figure of the capacity is called {name!r}; there are {', '.join(FIGURES)}")
        if name == "intensity":
            (a, b), (c, d) = self.interval("operations"), self.interval("bytes_moved")
            return (a / d if d else 0.0), (b / c if c else inf if b else 0.0)
        if name == "operations":
            (a, b), (c, d) = self.interval("macs"), self.interval("elementwise")
            return 2 * a + c, 2 * b + d
        most = getattr(self, name)
        least = getattr(self.low, name, most)
        return least, most if self.bounded or name in BOUNDED else inf

    @property
    def operations(self) -> int:
        """Arithmetic operations: two a multiply-add, and the others."""
        return 2 * self.macs + self.elementwise

    @property
    def intensity(self) -> float:
        """Operations for each byte moved; 0 where nothing moves."""
        return self.operations / self.bytes_moved if self.bytes_moved else 0.0

    def to_json(self) -> dict[str, int | bool | list[int | None]]:
        """The figures by name: a number, or [least, most] where they differ, null for a most that is not known."""
        figures = {name: self._shown(name) for name in ("params", "state", *(field.name for field in fields(Work)))}
        return {**figures, "bounded": self.bounded}

    def _shown(self, name: str) -> int | list[int | None]:
        low, high = self.interval(name)
        return int(low) if low == high else [int(low), None if high == inf else int(high)]

    def text(self, name: str) -> str:
        """A figure for people: `1,728`, `864 … 1,728`, or `at least 864`."""
        low, high = self.interval(name)
        least, most = (f"{figure:,.2f}" if name == "intensity" else f"{figure:,}" for figure in (low, high))
        if low == high:
            return least
        return f"at least {least}" if high == inf else f"{least} … {most}"


BOUNDED = ("params", "state", "peak_bytes")
"""Figures that no number of trips changes."""

FIGURES = ("params", "state", *(field.name for field in fields(Work)), "operations", "intensity")
"""The names of a capacity's figures."""


def measure(program: Program, data: Sequence[bool]) -> tuple[Capacity, list[bool]]:
    """The work of a program whose inputs are data or not, and which of its outputs are data."""
    live = _Live(program, data)
    depends = [False] * len(program.types)
    depends[: program.input_count] = data
    costs: list[Capacity] = []
    for step, equation in enumerate(program.equations):
        flags = [depends[slot] for slot in equation.inputs]
        if True in flags:
            cost, results = _equation(equation, flags)
            costs.append(cost)
            for slot, result in zip(equation.outputs, results, strict=True):
                depends[slot] = result
            live.write(step, equation, results, (cost.least or cost).peak_bytes, cost.peak_bytes)
        live.release(step)
    most = _added(costs, live.peak)
    varies = any([cost.least for cost in costs]) or live.least_peak != live.peak
    least = _added([cost.least or cost for cost in costs], live.least_peak) if varies else None
    return Capacity.of(most, least, bounded=all([cost.bounded for cost in costs])), [depends[slot] for slot in program.outputs]


def _added(costs: Sequence[Capacity | Work], peak: int) -> Work:
    """The sum of the work of a program's steps."""
    return Work(
        sum([cost.macs for cost in costs]),
        sum([cost.elementwise for cost in costs]),
        sum([cost.bytes_moved for cost in costs]),
        sum([cost.weight_bytes for cost in costs]),
        peak,
    )


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
        self.peak = self.least_peak = self._now

    def write(self, step: int, equation: Equation, results: Sequence[bool], least: int, most: int) -> None:
        """The results of a step, inside of which at least and at most so much is alive."""
        outer = self._now
        for slot, is_data in zip(equation.outputs, results, strict=True):
            if is_data and self._root[slot] == slot:
                self._held[slot] = self._types[slot].bytes
                self._now += self._held[slot]
        self.peak = max(self.peak, self._now)
        self.least_peak = max(self.least_peak, self._now)
        if most:
            around = outer - sum([self._held.get(self._root[slot], 0) for slot in set(equation.inputs)])
            self.peak = max(self.peak, around + most)
            self.least_peak = max(self.least_peak, around + least if least else 0)

    def release(self, step: int) -> None:
        for slot in self._dying.get(step, ()):
            self._now -= self._held.pop(slot, 0)


def _equation(equation: Equation, flags: list[bool]) -> tuple[Capacity, list[bool]]:
    name, programs = equation.primitive, equation.programs
    if not programs:
        return _memoised_work(equation, flags), [True] * len(equation.outputs)
    if name == "cond":
        return _costliest(equation, flags)
    if name == "scan":
        return _scanned(equation, flags)
    if name == "while":
        return _unbounded(equation, flags)
    return measure(programs[0], flags)


def _unbounded(equation: Equation, flags: list[bool]) -> tuple[Capacity, list[bool]]:
    """A loop that ends by a test: tested once or more, its body run any number of times."""
    tested, bodied = equation.params["cond_nconsts"], equation.params["body_nconsts"]
    carry = [True] * (len(flags) - tested - bodied)
    test, _ = measure(equation.programs[0], [*flags[:tested], *carry])
    body, _ = measure(equation.programs[1], [*flags[tested : tested + bodied], *carry])
    return Capacity.of(test.work + body.work, test.low, bounded=False), carry


def _costliest(equation: Equation, flags: list[bool]) -> tuple[Capacity, list[bool]]:
    costs, results = zip(*[measure(program, flags[1:]) for program in equation.programs], strict=True)
    most, least = costs[0].work, costs[0].low
    for cost in costs[1:]:
        most, least = most.extreme(cost.work, max), least.extreme(cost.low, min)
    bounded = all(cost.bounded for cost in costs)
    return Capacity.of(most, least, bounded=bounded), [flags[0] or any(column) for column in zip(*results, strict=True)]


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


_WORK: dict[tuple[int, tuple[bool, ...]], Capacity] = {}


def _memoised_work(equation: Equation, flags: Sequence[bool]) -> Capacity:
    if equation.key is None:
        return Capacity.of(_work(equation, flags))
    key = equation.key, tuple(flags)
    found = _WORK.get(key)
    if found is None:
        found = _WORK[key] = Capacity.of(_work(equation, flags))
    return found


def _work(equation: Equation, flags: Sequence[bool]) -> Work:
    name = equation.primitive
    if name in ALIASES:
        return Work()
    fixed = sum(type_.bytes for type_, is_data in zip(equation.input_types, flags, strict=True) if not is_data)
    moved = sum(type_.bytes for type_ in (*equation.input_types, *equation.output_types))
    if name == "dot_general":
        return Work(_contraction_macs(equation), 0, moved, fixed)
    if name == "conv_general_dilated":
        return Work(_convolution_macs(equation), 0, moved, fixed)
    return Work(0, 0 if name in MOVES else _operations(equation), moved, fixed)


def multiply_adds(program: Program, data: Sequence[bool]) -> int | None:
    """The multiply-adds of a program whose inputs are data or not, also where sizes are formulas; None if it branches or loops."""
    return _multiply_adds(program, data)[0]


def _multiply_adds(program: Program, data: Sequence[bool]) -> tuple[int | None, list[bool]]:
    depends = [*data, *[False] * (len(program.types) - program.input_count)]
    total: int | None = 0
    for equation in program.equations:
        flags = [depends[slot] for slot in equation.inputs]
        if True not in flags:
            continue
        own, results = _multiply_adds_of(equation, flags)
        total = None if total is None or own is None else total + own
        for slot, result in zip(equation.outputs, results, strict=True):
            depends[slot] = result
    return total, [depends[slot] for slot in program.outputs]


def _multiply_adds_of(equation: Equation, flags: Sequence[bool]) -> tuple[int | None, list[bool]]:
    """The multiply-adds of a step on data, and which of its results are data."""
    results = [True] * len(equation.outputs)
    if equation.primitive in ("cond", "scan", "while"):
        return None, results
    if equation.programs:
        return _multiply_adds(equation.programs[0], flags)
    if equation.primitive == "dot_general":
        return _contraction_macs(equation), results
    return _convolution_macs(equation) if equation.primitive == "conv_general_dilated" else 0, results


def _contraction_macs(equation: Equation) -> int:
    """Every output element times what is summed over."""
    (contract, _), _ = equation.params["dimension_numbers"]
    return equation.output_types[0].size * prod(equation.input_types[0].shape[axis] for axis in contract)


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
