"""The figures of a language model beside a step as lines for people."""

from typing import Any

GIB, MIB = 2**30, 2**20


def lines(figures: dict[str, Any]) -> list[str]:
    """Memory, traffic and time of a forward pass, and what model and step take together."""
    model, both = figures["model"], figures["together"]
    out = [
        "",
        f"the model: {figures['flags']['model']}, {figures['flags']['model_dtype']}, {model['blocks']} blocks for "
        f"{', '.join(model['sites'])}; {figures['flags']['sequences']} sequences of {model['context']} tokens; the pass "
        f"compiled in {model['compile_seconds']:.0f} s",
    ]
    for name in ("weights", "activations", "workspace", "peak"):
        out.append(f"  {name:<12}{model[f'{name}_bytes'] / GIB:>10.3f} GiB")
    out[-1] += f" of {figures['memory_bytes'] / GIB:.2f}: {_verdict(model)}"
    for kind, moved in sorted(model["collective_bytes"].items(), key=lambda item: -item[1]):
        out.append(f"  {kind:<20}{moved / MIB:>10.2f} MiB sent in a pass")
    for name, seconds in model["roofline_seconds"].items():
        if seconds:
            out.append(f"  {name:<16}{seconds * 1e3:>10.3f} ms  bound by {model['bound_by'][name]}")
    total = model["forward_seconds_at_least"]
    out.append(f"  {'pass':<16}{total * 1e3:>10.3f} ms: {model['tokens_per_second_at_most']:,.0f} tokens/s at most")
    return [
        *out,
        f"model and step together, one after another: {both['peak_bytes'] / GIB:.3f} GiB of "
        f"{figures['memory_bytes'] / GIB:.2f}: {_verdict(both)}",
    ]


def _verdict(figures: dict[str, Any]) -> str:
    return "fits" if figures["fits"] else "DOES NOT FIT"
