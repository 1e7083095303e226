"""A graph as a compact SVG picture: one row a step, main path on the left, shortcuts as arcs to its right.

Layered drawing without an optimiser: rows by longest path, columns by a cover of the graph with paths (the longest first), and
every edge that is in no path drawn in a lane of its own beside its column. Ops that keep the shape and own next to nothing
(norms, activations) are written into the box of the op before them.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from synth.op import Op

if TYPE_CHECKING:
    from synth.graph import Graph, Node

ROW, BOX, LANE, MARGIN = 38, 24, 10, 8
CHARACTER = 6.0
"""Width of a character of the labels in pixels, on average; browsers differ by a few percent."""
FONT = "system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif"

PLAIN, MERGE, MARKED, INPUT = ("#eef2f7", "#b8c4d4"), ("#f1edfb", "#b9a7e6"), ("#fff1dd", "#e08a1e"), ("#ffffff", "#b8c4d4")
EDGE, SHORTCUT, INK, SOFT, BAR = "#8794a7", "#7c5cd6", "#1f2937", "#6b7280", "#3b82c4"


@dataclass(frozen=True)
class Box:
    """One or more nodes that are drawn as one box; an input of the graph is a box without nodes."""

    names: tuple[str, ...]
    reads: tuple[str, ...]
    label: str
    folded: tuple[str, ...]
    shape: str
    params: int
    is_input: bool = False
    marked: bool = False

    @property
    def name(self) -> str:
        """The value that comes out of the box."""
        return self.names[-1]

    @property
    def width(self) -> float:
        text = " · ".join((self.label, *self.folded))
        return 20 + CHARACTER * (len(text) + 2 + len(self.shape) + 2 + len(short_number(self.params) if self.params else ""))


@dataclass(frozen=True)
class Layout:
    """Where the boxes stand: row and column by box name, the paths, and the lanes of the edges beside them."""

    rows: Mapping[str, int]
    columns: Mapping[str, int]
    path_edges: frozenset[tuple[str, str]]
    lanes: Mapping[tuple[str, str], tuple[int, int]]


def draw(graph: Graph, *, marked: Collection[str] = (), limit: int = 400) -> str:
    """The graph as SVG text, the nodes in `marked` highlighted; beyond `limit` boxes the picture says what is left out."""
    boxes = _boxes(graph, frozenset(marked))
    left_out = max(0, len(boxes) - limit)
    boxes = boxes[:limit]
    layout = _layout(boxes)
    return _Picture(graph, boxes, layout, left_out).svg()


def short_number(number: float) -> str:
    """A number with three digits at most: 950, 1.2k, 75k, 11.7M, 4.1G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.1f}{unit}".replace(".0", "") if scaled < 99.95 else f"{scaled:.0f}{unit}"
    return f"{number:g}" if number == int(number) else f"{number:.3g}"


def _boxes(graph: Graph, marked: frozenset[str]) -> list[Box]:
    boxes = [Box((item.name,), (), item.name, (), str(item.value), 0, is_input=True) for item in graph.inputs]
    place = {box.name: index for index, box in enumerate(boxes)}
    for node in graph.nodes:
        params = sum(math.prod(weight.shape) for weight in graph.owned(node)["params"].values())
        shape = str(graph.values[node.name])
        before = boxes[place[node.inputs[0]]] if node.inputs else None
        if before is not None and _folds(graph, node, before, params, node.name in marked):
            index = place[before.name]
            names, folded = (*before.names, node.name), (*before.folded, node.op.kind())
            boxes[index] = replace(before, names=names, folded=folded, shape=shape, params=before.params + params)
            place[node.name] = index
            continue
        place[node.name] = len(boxes)
        reads = tuple(dict.fromkeys(boxes[place[name]].names[0] for name in node.inputs))
        boxes.append(Box((node.name,), reads, _label(node), (), shape, params, marked=node.name in marked))
    heads = {box.names[0]: box.name for box in boxes}
    return [replace(box, reads=tuple(heads[read] for read in box.reads)) for box in boxes]


def _folds(graph: Graph, node: Node, before: Box, params: int, marked: bool) -> bool:
    """Whether a node is written into the box before it: it alone reads that box, keeps its shape, and owns next to nothing."""
    if before.is_input or len(node.inputs) != 1 or node.inputs[0] != before.name or before.marked != marked:
        return False
    alone = graph.consumers[before.name] == (node.name,) and before.name not in graph.outputs
    shape = graph.values[node.name].shape
    return alone and shape == graph.values[before.name].shape and params <= 4 * (shape[-1] or 1) and len(before.folded) < 3


def _label(node: Node) -> str:
    """The op's kind and the attributes that are not at their defaults; the first size comes first, without its name.

    An op that says it in its own words has those.
    """
    if type(node.op).__str__ is not Op.__str__:
        return _short(str(node.op))
    sizes: list[str] = []
    others: list[str] = []
    for field in fields(node.op):
        value = getattr(node.op, field.name)
        if value == field.default:
            continue
        shown = "×".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if field.metadata.get("size") and not sizes:
            sizes.append(shown)
            continue
        others.append(field.name if value is True else f"{field.name} {shown}")
    return _short(" ".join((node.op.kind(), *sizes, *others)))


def _short(text: str) -> str:
    return text if len(text) <= 44 else text[:43] + "…"


def _layout(boxes: Sequence[Box]) -> Layout:
    known = {box.name for box in boxes}
    reads = {box.name: tuple(name for name in box.reads if name in known) for box in boxes}
    rows: dict[str, int] = {}
    for box in boxes:
        rows[box.name] = 1 + max((rows[name] for name in reads[box.name]), default=-1)
    readers: dict[str, list[str]] = {name: [] for name in rows}
    for name, sources in reads.items():
        for source in sources:
            readers[source].append(name)
    paths = _paths([box.name for box in boxes], reads)
    columns: dict[str, int] = {}
    path_edges: set[tuple[str, str]] = set()
    taken: list[list[tuple[int, int]]] = []
    for path in paths:
        above = sorted(reads[path[0]], key=lambda name: -rows[name])[:1]
        below = sorted(readers[path[-1]], key=lambda name: rows[name])[:1]
        whole = [*above, *path, *below]
        path_edges.update(itertools.pairwise(whole))
        column = _first_free(taken, (rows[whole[0]], rows[whole[-1]]))
        columns.update(dict.fromkeys(path, column))
    beside = sorted(
        ((source, name) for name, sources in reads.items() for source in sources if (source, name) not in path_edges),
        key=lambda edge: rows[edge[1]] - rows[edge[0]],
    )
    lanes: dict[tuple[str, str], tuple[int, int]] = {}
    gutters: dict[int, list[list[tuple[int, int]]]] = {}
    for edge in beside:
        column = max(columns[edge[0]], columns[edge[1]])
        lanes[edge] = (column, _first_free(gutters.setdefault(column, []), (rows[edge[0]], rows[edge[1]])))
    return Layout(rows, columns, frozenset(path_edges), lanes)


def _paths(names: Sequence[str], reads: Mapping[str, tuple[str, ...]]) -> list[list[str]]:
    """The boxes as disjoint paths, each the longest one through what the earlier ones left."""
    left, paths = list(names), []
    while left:
        free, length = set(left), dict.fromkeys(left, 1)
        best_read: dict[str, str] = {}
        for name in left:
            for source in reads[name]:
                if source in free and length[source] + 1 > length[name]:
                    length[name], best_read[name] = length[source] + 1, source
        path = [max(left, key=lambda name: length[name])]
        while path[0] in best_read:
            path.insert(0, best_read[path[0]])
        paths.append(path)
        left = [name for name in left if name not in path]
    return paths


def _first_free(taken: list[list[tuple[int, int]]], span: tuple[int, int]) -> int:
    """The first of the lists in which no span overlaps this one; it is entered there. Touching ends do not overlap."""
    for index, spans in enumerate(taken):
        if all(span[1] <= start or end <= span[0] for start, end in spans):
            spans.append(span)
            return index
    taken.append([span])
    return len(taken) - 1


class _Picture:
    """The coordinates of a layout, and the SVG text."""

    def __init__(self, graph: Graph, boxes: Sequence[Box], layout: Layout, left_out: int) -> None:
        self.graph, self.boxes, self.layout, self.left_out = graph, boxes, layout, left_out
        count = 1 + max(layout.columns.values(), default=0)
        self.widths = [max(box.width for box in boxes if layout.columns[box.name] == column) for column in range(count)]
        lanes = [1 + max((lane for at, lane in layout.lanes.values() if at == column), default=-1) for column in range(count)]
        self.blocks = self._blocks()
        x, self.lefts = MARGIN + max((len(name) * CHARACTER + 16 for name, _, _ in self.blocks), default=0.0), []
        for width, number in zip(self.widths, lanes, strict=True):
            self.lefts.append(x)
            x += width + LANE * number + 22
        self.width = x
        self.height = 2 * MARGIN + ROW * (1 + max(layout.rows.values(), default=0)) + 10 + (18 if left_out else 0)

    def svg(self) -> str:
        parts = [self._block(*block) for block in self.blocks]
        parts += [self._edge(source, box.name) for box in self.boxes for source in box.reads if source in self.layout.rows]
        parts += [self._box(box) for box in self.boxes]
        if self.left_out:
            parts.append(_text(self.lefts[0], self.height - 10, f"{self.left_out} more boxes are not drawn", SOFT))
        width, height = f"{self.width:.0f}", f"{self.height:.0f}"
        style = f"max-width:100%;height:auto;background:#fff;font:11px {FONT}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" role="img" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" style="{style}">{"".join(parts)}</svg>'
        )

    def _top(self, name: str) -> float:
        return MARGIN + ROW * self.layout.rows[name]

    def _left(self, name: str) -> float:
        return self.lefts[self.layout.columns[name]]

    def _right(self, name: str) -> float:
        box = next(box for box in self.boxes if box.name == name)
        return self._left(name) + max(box.width, self.widths[self.layout.columns[name]])

    def _spine(self, name: str) -> float:
        """Where a column's straight edges run."""
        return self._left(name) + 26

    def _blocks(self) -> list[tuple[str, int, int]]:
        """(name, first row, last row) of consecutive boxes of the main path whose names start alike."""
        blocks: list[tuple[str, int, int]] = []
        for box in self.boxes:
            prefix = box.names[0].rpartition(".")[0]
            row = self.layout.rows[box.name]
            if self.layout.columns[box.name] != 0 or not prefix:
                continue
            if blocks and blocks[-1][0] == prefix and blocks[-1][2] + 1 == row:
                blocks[-1] = (prefix, blocks[-1][1], row)
                continue
            blocks.append((prefix, row, row))
        return blocks

    def _block(self, name: str, first: int, last: int) -> str:
        x, top, bottom = self.lefts[0] - 8, MARGIN + ROW * first, MARGIN + ROW * last + BOX
        label = _text(x - 6, (top + bottom) / 2 + 4, name, SOFT, anchor="end")
        return f'<path d="M{x:.0f} {top}V{bottom}" stroke="#cfd8e3" stroke-width="2"/>{label}'

    def _box(self, box: Box) -> str:
        fill, stroke = INPUT if box.is_input else MARKED if box.marked else MERGE if len(box.reads) > 1 else PLAIN
        x, y = self._left(box.name), self._top(box.name)
        width = self._right(box.name) - x
        share = box.params / self.graph.params if self.graph.params else 0.0
        bar = f'<rect x="{x + 1:.1f}" y="{y + BOX - 3}" width="{share * (width - 2):.1f}" height="2.5" rx="1" fill="{BAR}"/>'
        label = f'<tspan font-weight="600">{html.escape(box.label)}</tspan>'
        label += "".join(f'<tspan fill="{SOFT}"> · </tspan><tspan>{html.escape(kind)}</tspan>' for kind in box.folded)
        figures = box.shape.removeprefix("B×") + (f"  {short_number(box.params)}" if box.params else "")
        title = "\n".join(self._describe(name) for name in box.names)
        output = ""
        if box.name in self.graph.outputs:
            bottom = y + BOX
            output = _arrow(self._spine(box.name), bottom, self._spine(box.name), bottom + 13, EDGE)
            output += _text(self._spine(box.name) + 8, bottom + 13, "output", SOFT)
        return (
            f'<g><title>{html.escape(title)}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BOX}" '
            f'rx="{12 if box.is_input else 4}" fill="{fill}" stroke="{stroke}" stroke-width="{1.8 if box.marked else 1}"/>'
            f'{bar if box.params else ""}<text x="{x + 9:.1f}" y="{y + 16}" fill="{INK}" xml:space="preserve">{label}</text>'
            f"{_text(x + width - 8, y + 16, figures, SOFT, anchor='end')}{output}</g>"
        )

    def _describe(self, name: str) -> str:
        node = self.graph.by_name.get(name)
        return f"{name}: {node.op if node else 'input'} → {self.graph.values[name]}"

    def _edge(self, source: str, target: str) -> str:
        top, bottom = self._top(target), self._top(source) + BOX
        middles = self._top(source) + BOX / 2, top + BOX / 2
        lane = self.layout.lanes.get((source, target))
        if lane is not None:
            x = self.lefts[lane[0]] + self.widths[lane[0]] + 14 + LANE * lane[1]
            return _shortcut(self._right(source), middles[0] + 4, x, self._right(target), middles[1] - 4)
        columns = self.layout.columns[source], self.layout.columns[target]
        if columns[0] == columns[1]:
            return _arrow(self._spine(source), bottom, self._spine(target), top, EDGE)
        if columns[0] < columns[1]:
            x = self._spine(target)
            line = f"M{self._right(source):.1f} {middles[0]}H{x - 8:.1f}Q{x:.1f} {middles[0]} {x:.1f} {middles[0] + 8}V{top - 4}"
            return _path(line, SHORTCUT) + _head(x, top, SHORTCUT)
        x, end = self._spine(source), self._right(target)
        line = f"M{x:.1f} {bottom}V{middles[1] - 8}Q{x:.1f} {middles[1]} {x - 8:.1f} {middles[1]}H{end + 4:.1f}"
        return _path(line, SHORTCUT) + _head(end, middles[1], SHORTCUT, sideways=True)


def _shortcut(x1: float, y1: float, lane: float, x2: float, y2: float) -> str:
    down = f"M{x1:.1f} {y1}H{lane - 8:.1f}Q{lane:.1f} {y1} {lane:.1f} {y1 + 8}V{y2 - 8}"
    line = f"{down}Q{lane:.1f} {y2} {lane - 8:.1f} {y2}H{x2 + 4:.1f}"
    return _path(line, SHORTCUT) + _head(x2, y2, SHORTCUT, sideways=True)


def _arrow(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return _path(f"M{x1:.1f} {y1}L{x2:.1f} {y2 - 4}", color) + _head(x2, y2, color)


def _head(x: float, y: float, color: str, *, sideways: bool = False) -> str:
    corners = ((x, y), (x + 6, y - 3), (x + 6, y + 3)) if sideways else ((x, y), (x - 3, y - 6), (x + 3, y - 6))
    return f'<polygon points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in corners)}" fill="{color}"/>'


def _path(line: str, color: str) -> str:
    return f'<path d="{line}" fill="none" stroke="{color}" stroke-width="1.4"/>'


def _text(x: float, y: float, text: str, color: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" text-anchor="{anchor}" xml:space="preserve">{html.escape(text)}</text>'
