"""Properties as HTML, for notebooks and reports."""

from __future__ import annotations

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


def inference_html(inference: Inference) -> str:
    """Shapes, depth and capacity as a table, and each mixing as a heat map."""
    capacity = inference.capacity
    facts = [
        ("inputs", ", ".join(map(str, inference.inputs))),
        ("outputs", ", ".join(map(str, inference.shape))),
        ("parameters", f"{capacity.params:,}"),
        ("MACs", f"{capacity.macs:,}"),
        ("peak live bytes", f"{capacity.peak_bytes:,}"),
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
