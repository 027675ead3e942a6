"""The figures of a plan as lines for people."""

from typing import Any

GIB, MIB = 2**30, 2**20


def lines(figures: dict[str, Any]) -> list[str]:
    """A screenful: memory, traffic, time, and what to change."""
    data, model = figures["mesh"]
    each = "device (half a chip)" if figures["devices_per_chip"] == 2 else "chip"
    out = [
        f"{figures['topology']}: {figures['devices']} x {figures['chip']}, mesh {data} (data) x {model} (model); "
        f"the step compiled in {figures['compile_seconds']:.0f} s",
        "",
    ]
    return out + _memory(figures, each) + [""] + _traffic(figures, each) + [""] + _time(figures) + _advice(figures)


def _size(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / MIB:.2f} MiB"


def _memory(figures: dict[str, Any], each: str) -> list[str]:
    names = ("parameters", "moments", "gradients", "batch", "workspace")
    rows = [f"  {name:<12}{figures[f'{name}_bytes'] / GIB:>10.3f} GiB" for name in names]
    if not figures["forms_gradient"]:
        rows[2] += "  (never formed)"
    verdict = "fits" if figures["fits"] else "DOES NOT FIT"
    peak = f"  {'peak':<12}{figures['peak_bytes'] / GIB:>10.3f} GiB of {figures['memory_bytes'] / GIB:.2f}: {verdict}"
    notes = []
    if figures["largest_temporary"]:
        largest, of_batch = figures["largest_temporary"], figures["largest_batch_temporary"]
        whole = figures["batch_by_latents_bytes"]
        notes.append(f"  largest temporary: {largest['shape']}, {_size(largest['bytes'])}")
        if of_batch:
            notes.append(
                f"  largest not shaped as weights: {of_batch['shape']}, {_size(of_batch['bytes'])}; "
                f"batch x latents in float32 would be {_size(whole)}"
            )
    if figures["chip"].startswith("H") and figures["fits"] and figures["peak_bytes"] > 0.75 * figures["memory_bytes"]:
        share = min(0.98, round(figures["peak_bytes"] / figures["memory_bytes"] + 0.03, 2))
        notes.append(f"  JAX takes 75% of a GPU's memory: set XLA_PYTHON_CLIENT_MEM_FRACTION={share}")
    return [f"memory of one {each}", *rows, peak, *notes]


def _traffic(figures: dict[str, Any], each: str) -> list[str]:
    head = f"sent by one {each} in a step"
    if not figures["collective_bytes"]:
        return [f"{head}: nothing"]
    rows = []
    for kind, moved in sorted(figures["collective_bytes"].items(), key=lambda item: -item[1]):
        extra = figures["collective_bytes_with_aux"].get(kind, 0) - moved
        rows.append(f"  {kind:<20}{moved / MIB:>10.2f} MiB" + (f", {extra / MIB:+.2f} with AuxK" if extra else ""))
    if not figures["collectives_counted"]:
        rows.append("  at least: some stand in loops whose turns depend on the data, counted as one turn")
    return [head, *rows]


def _time(figures: dict[str, Any]) -> list[str]:
    rows = []
    for name, seconds in figures["roofline_seconds"].items():
        note = f"bound by {figures['bound_by'][name]}"
        if name == "selection" and figures["selection_hidden"]:
            note = f"hidden while it takes under {figures['vector_operations_affordable']:.0f} vector operations"
            note += " a pre-activation"
        elif name == "selection":
            note += ": not hidden, pre-activations go through memory tile by tile"
        if name == "encoder_matmul" and figures["flags"]["compute_dtype"] == "float32":
            note += " in full precision; far less with --compute_dtype=bfloat16"
        if name != "collectives" or figures["collective_bytes"]:
            rows.append(f"  {name:<16}{seconds * 1e3:>10.3f} ms  {note}")
    total = figures["step_seconds_at_least"]
    rows.append(
        f"  {'step':<16}{total * 1e3:>10.3f} ms: {figures['tokens_per_second_at_most']:,.0f} tokens/s at most. "
        "An estimate: every part at its peak, one after another"
    )
    if "auxiliary_seconds" in figures:
        rows.append(
            f"  {'while dead':<16}{figures['auxiliary_seconds'] * 1e3:>10.3f} ms more: AuxK of "
            f"{figures['auxiliary_dead_fraction']:.0%} dead latents, bound by {figures['auxiliary_bound_by']}"
        )
    encoders = [
        f"  encoder of {'the best' if not number else 'dead'} latents, k {one['k']:,}: {one['name']}"
        + (f", since {one['refused']}" if one["refused"] else "")
        for number, one in enumerate(figures["encoders"])
    ]
    return [*encoders, "least time (roofline of public peaks, nothing measured)", *rows]


def _advice(figures: dict[str, Any]) -> list[str]:
    if figures["fits"]:
        return []
    if not figures["alternatives"]:
        return ["", "nothing makes it fit: no larger slice, cheaper optimizer or smaller batch is left"]
    rows = ["", "to make it fit (state exact, workspace scaled, not compiled):"]
    for one in figures["alternatives"]:
        verdict = "fits" if one["fits"] else "still too large"
        rows.append(f"  {one['change']:<28}{one['peak_bytes'] / GIB:>10.2f} GiB  {verdict}")
    return rows
