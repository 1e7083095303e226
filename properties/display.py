"""Properties as HTML, for notebooks and reports."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from properties.inference import Inference
    from properties.mixing import Mixing

_COLOURS = ("#f4f4f2", "#cfe3f5", "#7fb2e0", "#2b6cb0")
_NAMES = ("none", "one", "many", "all")
_CELL = "width:2.6em;height:1.7em;text-align:center;border:1px solid #fff"


def mixing_html(mixing: Mixing) -> str:
    """The matrix as a small heat map, with the receptive field of every input axis."""
    head = "".join(f"<th>{size}</th>" for size in mixing.output)
    rows = []
    for axis, (size, entries) in enumerate(zip(mixing.input, mixing.matrix.tolist(), strict=True)):
        cells = "".join(
            f'<td style="{_CELL};background:{_COLOURS[entry]};color:{"#fff" if entry > 2 else "#222"}" '
            f'title="{_NAMES[entry]}">{entry}</td>'
            for entry in entries
        )
        rows.append(f"<tr><th>{size}</th>{cells}<td>{escape(_field(mixing, axis))}</td></tr>")
    return f"<table><tr><th>in \\ out</th>{head}<th>receptive field</th></tr>{''.join(rows)}</table>"


def _field(mixing: Mixing, axis: int) -> str:
    field = mixing.receptive_field(axis)
    if field is None:
        return "no single window"
    return f"size {field.size}, stride {field.stride}, offset {field.offset}"


COLUMNS = ("output", "depth", "parameters", "MACs", "peak bytes", "receptive field", "mixing")


def rows(blocks: Mapping[str, Inference]) -> list[tuple[str, ...]]:
    """For every block of a model its name and the texts of `COLUMNS`, for its first input and output."""
    return [(name, *_row(inference)) for name, inference in blocks.items()]


def _row(inference: Inference) -> tuple[str, ...]:
    capacity, mixing = inference.capacity, inference.mixing[0, 0]
    fields = [mixing.receptive_field(axis) for axis in range(1, len(mixing.input) - 1)]
    return (
        str(inference.shape[0]),
        str(inference.depth[0, 0]),
        *(capacity.text(name) for name in ("params", "macs", "peak_bytes")),
        " × ".join("?" if field is None else str(field.size) for field in fields) or "–",
        " ".join("".join(map(str, entries)) for entries in mixing.matrix.tolist()),
    )


def table_text(blocks: Mapping[str, Inference]) -> str:
    """A table of blocks in aligned columns, for a terminal."""
    lines = [("block", *COLUMNS), *rows(blocks)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def table_html(blocks: Mapping[str, Inference]) -> str:
    """A table of blocks, for a notebook or report."""
    head = "".join(f"<th>{escape(name)}</th>" for name in ("block", *COLUMNS))
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in rows(blocks))
    return f"<table><tr>{head}</tr>{body}</table>"


_FACTS = {
    "parameters": "params", "MACs": "macs", "other operations": "elementwise", "bytes moved": "bytes_moved",
    "peak live bytes": "peak_bytes", "operations a byte": "intensity",
}  # fmt: skip


def inference_html(inference: Inference) -> str:
    """Shapes, depth and capacity as a table, and each mixing as a heat map."""
    capacity = inference.capacity
    facts = [
        ("inputs", ", ".join(map(str, inference.inputs))),
        ("outputs", ", ".join(map(str, inference.shape))),
        *((label, capacity.text(name)) for label, name in _FACTS.items()),
    ]
    if inference.unknown:
        facts.append(("not understood", ", ".join(inference.unknown)))
    rows = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in facts)
    parts = [f"<table>{rows}</table>"]
    names = {name for name, _ in inference.relations}
    for i in range(len(inference.inputs)):
        for o in range(len(inference.shape)):
            title = f"input {i} → output {o}"
            if "depth" in names:
                title += f": depth {inference.depth[i, o]}"
            parts.append(f"<p>{title}</p>")
            if "mixing" in names:
                parts.append(mixing_html(inference.mixing[i, o]))
    return "".join(parts)
