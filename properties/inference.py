"""What is inferred of a program: its shapes, depth, mixing, rank bound and capacity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

import jax

from properties import jaxpr
from properties.capacity import Capacity, measure
from properties.depth import DEPTH
from properties.idioms import with_idioms
from properties.mixing import MIXING, Mixing
from properties.rank import RANK
from properties.relation import RelationalProperty
from properties.shape import Shape

if TYPE_CHECKING:
    from properties.property import Requirement

T = TypeVar("T")


@runtime_checkable
class Property(Protocol):
    """What can be inferred of a program: a `RelationalProperty`, or a `WalkedProperty`."""

    @property
    def name(self) -> str:
        """What it is asked for by."""

    @property
    def demands(self) -> Callable[[Inference, int, int], Sequence[Requirement]] | None:
        """The requirements that a replacement of a program must meet, if a search can ask for this property."""

    def table(self, program: jaxpr.Program, held: int, unknown: set[str]) -> Mapping[tuple[int, int], Any]:
        """The values by (input, output) of a program whose first `held` inputs are no data."""


PROPERTIES: tuple[RelationalProperty, ...] = (DEPTH, MIXING, RANK)
"""The properties that are inferred unless others are asked for."""

Relations = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """One entry for each input and output: `table[input, output]`."""

    rows: tuple[tuple[T, ...], ...]

    def __getitem__(self, index: tuple[int, int]) -> T:
        i, o = index
        if not -len(self.rows) <= i < len(self.rows):
            raise IndexError(f"input {i} asked for, but there are {len(self.rows)} inputs that are data (0 … {len(self.rows) - 1})")
        row = self.rows[i]
        if not -len(row) <= o < len(row):
            raise IndexError(f"output {o} asked for, but there are {len(row)} outputs (0 … {len(row) - 1})")
        return row[o]


class Shapes(tuple[Shape, ...]):
    """The types of values in order, as a tuple that says what there is."""

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and not -len(self) <= index < len(self):
            raise IndexError(f"value {index} asked for, but there are {len(self)}: {', '.join(map(str, self))}")
        return super().__getitem__(index)


@dataclass(frozen=True)
class Inference:
    """The properties of one program; frozen, hashable, equal if all of them are.

    `inputs` and `shape` are the types of the data inputs and of the outputs, flat and in order; `relations` holds for each
    property, by name, a table of its values (rows inputs, columns outputs, None where there is no dependence); `unknown` names
    primitives for which nothing better than the top was claimed because no rule is known. Every property that was asked for can be
    read by its name: `inference.scale[input, output]`, and so one's own.
    """

    inputs: tuple[Shape, ...]
    shape: tuple[Shape, ...]
    relations: tuple[tuple[str, Relations], ...]
    capacity: Capacity
    unknown: tuple[str, ...] = ()

    @staticmethod
    def of(
        inputs: Sequence[Shape],
        outputs: Sequence[Shape],
        relations: Mapping[str, Mapping[tuple[int, int], Any]],
        capacity: Capacity,
        unknown: Sequence[str] = (),
    ) -> Inference:
        """An inference from relations by property and (input, output); a missing pair means no dependence."""
        tables = tuple(
            (name, tuple(tuple(table.get((i, o)) for o in range(len(outputs))) for i in range(len(inputs))))
            for name, table in sorted(relations.items())
        )
        return Inference(Shapes(inputs), Shapes(outputs), tables, capacity, tuple(sorted(set(unknown))))

    def relation(self, name: str, i: int, o: int) -> Any:
        """The relation of property `name` from input i to output o, or None if output o does not depend on input i."""
        for known, rows in self.relations:
            if known == name:
                return Table(rows)[i, o]
        raise KeyError(self._missing(name))

    def __getattr__(self, name: str) -> Table[Any]:
        for known, rows in self.__dict__.get("relations", ()):
            if known == name:
                return Table(rows)
        raise AttributeError(self._missing(name))

    def _missing(self, name: str) -> str:
        names = [known for known, _ in self.__dict__.get("relations", ())]
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"ask for it: infer(…, properties=(*PROPERTIES, {name!r}))"
        return f"no property {name!r} was inferred; there are {', '.join(names)}; {hint}"

    @property
    def depth(self) -> Table[int]:
        """Largest number of alternations of linear and non-linear steps, by (input, output); 0 where there is no dependence."""
        return self._table("depth", lambda i, o, steps: 0 if steps is None else steps.depth)

    @property
    def mixing(self) -> Table[Mixing]:
        """Axis dependence, by (input, output); all none where there is no dependence."""

        def read(i: int, o: int, mixing: Mixing | None) -> Mixing:
            return Mixing.nothing(self.inputs[i].shape, self.shape[o].shape) if mixing is None else mixing

        return self._table("mixing", read)

    @property
    def rank(self) -> Table[int]:
        """Upper bound of the Jacobian's rank, by (input, output); 0 where there is no dependence."""
        return self._table("rank", lambda i, o, rank: 0 if rank is None else rank.bound)

    def _table(self, name: str, read: Callable[[int, int, Any], T]) -> Table[T]:
        return Table(
            tuple(tuple(read(i, o, self.relation(name, i, o)) for o in range(len(self.shape))) for i in range(len(self.inputs)))
        )

    def _repr_html_(self) -> str:
        from properties.display import inference_html

        return inference_html(self)


def infer(
    function: Callable[..., Any],
    *arguments: Any,
    params: Any = None,
    state: Any = None,
    properties: Sequence[Property | str] = PROPERTIES,
) -> Inference:
    """The properties of `function(*arguments)`, or of `function(params, state, *arguments)` with those of the two that are given.

    All are trees of arrays or of `jax.ShapeDtypeStruct`s. Parameters are not data, and neither is state: what is held but not
    trained, such as running statistics. Values in the arrays do not matter. Properties are given as objects, or by a name that
    `properties.find` knows.
    """
    given = () if state is None else (state,)
    program, held = traced(function, *given, *arguments, params=params)
    return analyze_program(program, params=held, state=len(jax.tree.leaves(state)), properties=properties)


def traced(function: Callable[..., Any], *arguments: Any, params: Any = None) -> tuple[jaxpr.Program, int]:
    """The program of a function as `infer` takes it, and how many of its first inputs are parameters."""
    given = arguments if params is None else (params, *arguments)
    closed, _ = jaxpr.trace(function, *given)
    return with_idioms(jaxpr.program(closed)), len(jax.tree.leaves(params))


def analyze(closed: Any, *, params: int = 0, properties: Sequence[Property | str] = PROPERTIES) -> Inference:
    """The properties of a closed jaxpr whose first `params` inputs are parameters."""
    program = with_idioms(jaxpr.program(closed))
    return analyze_program(program, params=params, properties=properties)


def analyze_program(
    program: jaxpr.Program, *, params: int = 0, state: int = 0, properties: Sequence[Property | str] = PROPERTIES
) -> Inference:
    """The properties of a program whose first `params` inputs are parameters, and the next `state` other numbers held."""
    held = params + state
    if params < 0 or state < 0 or held > program.input_count:
        given = f"params={params}" + (f", state={state}" if state else "")
        raise ValueError(f"{given}: the program has {program.input_count} inputs, so give 0 … {program.input_count}")
    inputs = [program.types[slot] for slot in program.inputs]
    symbolic = [f"input {k} is {shape}" for k, shape in enumerate(inputs) if not all(isinstance(size, int) for size in shape.shape)]
    if symbolic:
        raise ValueError(f"{'; '.join(symbolic)}: give integer sizes, or ask properties.symbolic.shapes for the shapes as formulas")
    data = inputs[held:]
    outputs = [program.types[slot] for slot in program.outputs]
    relations: dict[str, Mapping[tuple[int, int], Any]] = {}
    unknown: set[str] = set()
    for each in _found(properties):
        if each.name in relations:
            raise ValueError(f"two properties are called {each.name!r}: ask for one of them")
        relations[each.name] = each.table(program, held, unknown)
    work, _ = measure(program, [False] * held + [True] * len(data))
    capacity = work.holding(*(sum(shape.size for shape in part) for part in (inputs[:params], inputs[params:held])))
    return Inference.of(data, outputs, relations, capacity, sorted(unknown))


def _found(properties: Sequence[Property | str]) -> list[Property]:
    from properties.named import find

    found = [find(each) if isinstance(each, str) else each for each in properties]
    wrong = [each for each in found if isinstance(each, type) or not isinstance(each, Property)]
    if wrong:
        raise TypeError(f"{wrong[0]!r} is asked for, which is no property: give a name, such as 'scale', or properties.SCALE")
    return found


def data_place(program: jaxpr.Program, held: int, input: int) -> int:
    """The number among a program's inputs of one that is data; IndexError if there is none such."""
    count = program.input_count - held
    if not 0 <= input < count:
        raise IndexError(f"input {input} asked for, but there are {count} inputs that are data (0 … {count - 1})")
    return held + input
