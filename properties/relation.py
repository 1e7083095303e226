"""Relations between a program's inputs and its values, carried through a program by composition.

A relational property says how one operand of an equation reaches one result; the relation from a program's input to any value
follows: along a path relations compose with `then`, parallel paths are joined with `join`. No relation (None) means that the
value does not depend on the input.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, runtime_checkable

from properties.interpreter import Context, interpret
from properties.jaxpr import Program
from properties.loops import Scan, joined
from properties.rules import Rule, Rules, Top
from properties.shape import Shape

if TYPE_CHECKING:
    from properties.inference import Inference
    from properties.property import Requirement


@runtime_checkable
class Relation(Protocol):
    """How one value reaches another: frozen, hashable, equal when it means the same as far as that is cheap to tell."""

    def then(self, following: Self) -> Self | None:
        """The relation along this step followed by another, or None if nothing gets through."""

    def join(self, other: Self) -> Self:
        """The relation along two parallel paths."""


Value: TypeAlias = tuple[Any, ...]
"""For every input of the program its relation to a value, or None."""


@dataclass(frozen=True)
class RelationalProperty:
    """A property whose values are relations: its name, the relation of a value to itself, that of no knowledge, and its rules.

    The rest has defaults. `calls` holds rules for called functions, by their names: such a call is not walked. `decide`, `unstack`
    and `stack` give the relations of a decision to its results and of a loop's slices to the whole (top unless given); `settle`
    bounds a loop's carry after two steps and a number of further ones, None meaning any number (top unless given). `scanned` makes
    of a relation between slices that of a scanned array to the stacked results of a loop: through slices of the same step (0), of
    all earlier ones (-1) or of all later ones (1); without it, any step may read any slice. `banded` names primitives whose rules
    ask where operands vanish (`context.bands`). `fault` says what is wrong with a rule's answer for two shapes, or nothing.
    `demands` gives the requirements that a program of an inference meets, for an input and an output: what is asked of a piece that
    shall replace it.
    """

    name: str
    identity: Callable[[Shape], Any]
    top: Callable[[Shape, Shape], Any]
    rules: Rules
    calls: Rules = Rules({})
    decide: Callable[[Shape, Shape], Any] | None = None
    unstack: Callable[[Shape, Shape], Any] | None = None
    stack: Callable[[Shape, Shape], Any] | None = None
    settle: Callable[[Any, Any, int | None], Any] | None = None
    scanned: Callable[[Any, Shape, Shape, int], Any] | None = None
    banded: frozenset[str] = frozenset()
    fault: Callable[[Any, Shape, Shape], str] = lambda relation, before, after: ""
    demands: Callable[[Inference, int, int], Sequence[Requirement]] | None = None
    _local: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        return id(self)

    def table(self, program: Program, held: int, unknown: set[str]) -> Mapping[tuple[int, int], Any]:
        """The relations by (input, output) of a program whose first `held` inputs are no data; `unknown` gets what has no rule."""
        inputs = tuple([program.types[slot] for slot in program.inputs[held:]])
        analysis = RelationalAnalysis(self, inputs, unknown)
        values = [analysis.constant()] * held + [analysis.input(i) for i in range(len(inputs))]
        results = interpret(program, analysis, values)
        return {(i, o): value[i] for o, value in enumerate(results) for i in range(len(inputs))}

    def local(self, context: Context, unknown: set[str]) -> tuple[tuple[Any, ...], ...]:
        """For every result and operand of an equation the relation between them; memoised by the equation's value."""
        equation = context.equation
        bands = context.find_bands() if equation.primitive in self.banded else ()
        key = None if equation.key is None else (equation.key, context.data, bands)
        found = self._local.get(key) if key is not None else None
        if found is not None:
            return found
        rule = self.rules.find(equation.primitive)
        if rule is None:
            unknown.add(equation.primitive)
        relations = self._apply(context, rule)
        if key is not None and rule is not None and not context.asked:
            self._local[key] = relations
        return relations

    def sliced(self, stacked: Shape) -> Any:
        """The relation of an array to any one of its slices along the leading axis."""
        return (self.unstack or self.top)(stacked, Shape(stacked.shape[1:], stacked.dtype))

    def stacked(self, whole: Shape) -> Any:
        """The relation of a value to an array that has values like it as slices."""
        return (self.stack or self.top)(Shape(whole.shape[1:], whole.dtype), whole)

    def called(self, context: Context) -> tuple[tuple[Any, ...], ...] | None:
        """As `local`, for a call of a function that has a rule by its name; else None."""
        rule = self.calls.find(context.equation.name)
        return None if rule is None else self._apply(context, rule)

    def _apply(self, context: Context, rule: Any) -> tuple[tuple[Any, ...], ...]:
        equation = context.equation
        operands = [k for k, depends in enumerate(context.data) if depends]
        rows = []
        for output, result in enumerate(equation.output_types):
            row: list[Any] = [None] * len(equation.inputs)
            for operand in operands:
                if rule is None or isinstance(rule, Top):
                    row[operand] = self.top(equation.input_types[operand], result)
                else:
                    row[operand] = self._ask(rule, context, operand, output)
            rows.append(tuple(row))
        return tuple(rows)

    def _ask(self, rule: Rule, context: Context, operand: int, output: int) -> Any:
        before, after = context.equation.input_types[operand], context.equation.output_types[output]
        try:
            relation = rule(context, operand, output)
        except Exception as error:
            error.add_note(f"in {self._rule(context)}")
            raise
        if relation is None:
            return None
        if not isinstance(relation, Relation):
            wanted = f"wanted {type(self.identity(before)).__name__}, or None if nothing gets through"
            raise TypeError(f"{self._rule(context)} returned {relation!r}; {wanted}")
        fault = self.fault(relation, before, after)
        if fault:
            raise ValueError(f"{self._rule(context)} {fault}")
        return relation

    def _rule(self, context: Context) -> str:
        """The rule that was asked, for people."""
        where = f" at {context.equation.source}" if context.equation.source else ""
        return f"the {self.name} rule for the primitive {context.equation.primitive!r}{where}"


@dataclass(eq=False)
class RelationalAnalysis:
    """The walker's view of a relational property for a program with `count` inputs; collects the primitives it did not know."""

    property: RelationalProperty
    inputs: tuple[Shape, ...]
    unknown: set[str] = field(default_factory=set)

    def input(self, index: int) -> Value:
        """The value of the program's input `index`: itself."""
        value: list[Any] = [None] * len(self.inputs)
        value[index] = self.property.identity(self.inputs[index])
        return tuple(value)

    def __post_init__(self) -> None:
        self._constant: Value = (None,) * len(self.inputs)

    def constant(self) -> Value:
        return self._constant

    def depends(self, value: Value) -> bool:
        return value is not self._constant and value != self._constant

    def transfer(self, context: Context, operands: Sequence[Value]) -> list[Value]:
        return [self._follow(operands, row) for row in self.property.local(context, self.unknown)]

    def shortcut(self, context: Context, operands: Sequence[Value]) -> list[Value] | None:
        rows = self._scan(context) if context.equation.primitive == "scan" else self.property.called(context)
        return None if rows is None else [self._follow(operands, row) for row in rows]

    def _scan(self, context: Context) -> Sequence[Sequence[Any]] | None:
        """The relations of a scan's operands to its results, if the property tells the steps apart."""
        if self.property.scanned is None or not context.equation.params["length"]:
            return None
        scan = Scan.of(context)
        return scan.rows(RelationalAnalysis(self.property, scan.local, self.unknown))

    def join(self, first: Value, second: Value) -> Value:
        return tuple([joined(pair) for pair in zip(first, second, strict=True)])

    def decide(self, value: Value, decision: Shape, result: Shape) -> Value:
        return self._map(value, (self.property.decide or self.property.top)(decision, result))

    def unstack(self, value: Value, stacked: Shape) -> Value:
        return self._map(value, self.property.sliced(stacked))

    def stack(self, value: Value, stacked: Shape) -> Value:
        return self._map(value, self.property.stacked(stacked))

    def settle(self, before: Value, after: Value, left: int | None, type_: Shape) -> Value:
        result = []
        for shape, a, b in zip(self.inputs, before, after, strict=True):
            if a == b or b is None:
                result.append(b)
            elif a is None or self.property.settle is None:
                result.append(self.property.top(shape, type_))
            else:
                result.append(self.property.settle(a, b, left))
        return tuple(result)

    def _map(self, value: Value, step: Any) -> Value:
        return tuple([None if relation is None else relation.then(step) for relation in value])

    def _follow(self, operands: Sequence[Value], row: Sequence[Any]) -> Value:
        result: list[Any] = [None] * len(self.inputs)
        for value, step in zip(operands, row, strict=True):
            if step is None:
                continue
            for index, relation in enumerate(value):
                further = None if relation is None else relation.then(step)
                if further is not None:
                    result[index] = further if result[index] is None else result[index].join(further)
        return tuple(result)
