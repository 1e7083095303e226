"""What `latency` prints: a line a back end, and below it everything that the figures hang on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alphanas.cli.common import print_table

SHOWN_VERSIONS = ("jax", "jaxlib", "apache-tvm", "onnxruntime")
SPARE_CORES = 0.3
"""What the processor may be busy beyond the threads asked for, before it is said."""


def print_latencies(found: Mapping[str, Any], against: str | None) -> None:
    """A table of the measurements, then level, versions, processor and what went wrong."""
    reference = against or next((one["backend"] for one in found["results"] if "failure" not in one), "")
    columns = ("back end", "median", f"against {reference}", "schedule", "trials", "threads", "batch", "dtype", "largest error")
    results = list(found["results"])
    rows = [_row(one) for one in results]
    for one in found["against"]:
        rows.append(_row({**one, "backend": f"{one['backend']}: {against}"}))
    print_table(columns, rows, right=("median",))
    everyone = [*results, *found["against"]]
    print()
    for line in dict.fromkeys(_level(one) for one in everyone if "failure" not in one):
        print(line)
    print(conditions_line(found["conditions"]))
    for one in everyone:
        for line in _warnings(one):
            print(line)


def print_profile(profile: Mapping[str, Any]) -> None:
    """A line a kernel, in the order they run: what it computes, for which nodes, its time and work, and how near the peak it is."""
    print()
    if "failure" in profile:
        print(f"profile: {profile['failure']}: {(profile['message'].strip().splitlines() or ['no message'])[0]}")
        return
    columns = ("kernel", "nodes", "µs", "of all", "MACs", "GF/s", "of peak")
    rows = []
    for row in profile["kernels"]:
        counted = row["macs"] > 0
        rate = (f"{row['macs']:,}", f"{row['gflops']:.1f}", f"{row['share_of_peak']:.0%}") if counted else ("", "", "")
        rows.append((row["kernel"], _few(row["nodes"]), f"{1e3 * row['ms']:.1f}", f"{row['ms'] / profile['sum_ms']:.1%}", *rate))
    print_table(columns, rows, right=columns[2:])
    total = sum(row["macs"] for row in profile["kernels"])
    rate, peak = 2e-6 * total / profile["sum_ms"], profile["peak_gflops"]
    print(f"\n{len(rows)} kernels, {profile['sum_ms']:.4g} ms in all, {total:,} MACs, {rate:.1f} GF/s (2 operations a MAC):")
    print(f"{rate / peak:.0%} of the {peak:.0f} GF/s that a product in the nearest cache reaches on this machine")
    if any(row["macs"] and row["share_of_peak"] > 1.0 for row in profile["kernels"]):
        print("(MACs are those of the direct form; Winograd's needs fewer multiplications, and so may pass the peak)")


def _few(nodes: Sequence[str], most: int = 4) -> str:
    return ", ".join(nodes if len(nodes) <= most else [*nodes[:2], f"… {len(nodes) - 3} more …", nodes[-1]])


def _row(one: Mapping[str, Any]) -> tuple[Any, ...]:
    from alphanas.report.markup import faster_text, latency_text

    if "failure" in one:
        return (one["backend"], None, *[""] * 7)
    tuned = "tuned" if one.get("tuned") else "untuned"
    error = None if one.get("max_error") is None else f"{one['max_error']:.1e}"
    conditions = [one.get(name) for name in ("trials", "threads", "batch", "dtype")]
    shown = (one["backend"], latency_text(one, digits=4), faster_text(one.get("ratio_to")) or "")
    return (*shown, f"{one.get('schedule')}, {tuned}", *conditions, error)


def _level(one: Mapping[str, Any]) -> str:
    if one["level"] == "search":
        return (
            f"median ± interquartile range of {one['repeats']} repeats of at least 20 ms, in turns; "
            "--report-level tells percentiles of single runs"
        )
    shown = "/".join(f"{one[f'p{percent}_ms']:.4g}" for percent in (50, 90, 99))
    label = one["shortfall"] or f"report level: {one['runs']:,} runs"
    return f"{one['backend']}: 50th/90th/99th percentile {shown} ms; {label}"


def conditions_line(conditions: Mapping[str, Any]) -> str:
    """Processor, load and versions in one line."""
    versions = ", ".join(f"{name} {conditions['versions'][name]}" for name in SHOWN_VERSIONS if conditions["versions"].get(name))
    governor = f", governor {conditions['governor']}" if conditions.get("governor") else ""
    load = f"load {conditions['load']:.1f} before" + ("" if conditions["quiet"] else ", so the machine was busy")
    return f"{conditions['cpu']}, {conditions['cores']} cores{governor}, {load}; python {conditions['python']}, {versions}"


def _warnings(one: Mapping[str, Any]) -> list[str]:
    if "failure" in one:
        return [f"{one['backend']}: {one['failure']}: {(one['message'].strip().splitlines() or ['no message'])[0]}"]
    lines = []
    if not one["steady"]:
        lines.append(f"{one['backend']}: repeats vary by {one['spread_ms'] / one['median_ms']:.0%}, although they were tried again")
    if one["cores_busy"] is not None and one["cores_busy"] > one["threads"] + SPARE_CORES:
        lines.append(f"{one['backend']}: kept {one['cores_busy']:.1f} cores busy with {one['threads']} threads asked for")
    return lines
