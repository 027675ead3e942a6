"""A step's figures on the screen."""

from typing import Any

from jaxsae.progress import say


def show(figures: dict[str, Any]) -> None:
    """Prints the figures of a step in one state, and of the packages in the same state."""
    say(_title(figures))
    floor, floor_cpu = figures["floor_seconds"], figures["floor_cpu_seconds"]
    say(f"{'':<22}{'wall ms':>10}{'CPU ms':>10}{'wall/floor':>12}{'CPU/floor':>12}")
    rows = {"encoder matmul (floor)": {"seconds": floor, "cpu_seconds": floor_cpu}}
    rows |= {f"  {name}": part for name, part in figures["parts"].items()}
    rows["whole step"] = {"seconds": figures["step_seconds"], "cpu_seconds": figures["step_cpu_seconds"]}
    rows |= {name: peer for name, peer in figures.get("peers", {}).items() if "seconds" in peer}
    for name, row in rows.items():
        wall, cpu = row["seconds"], row["cpu_seconds"]
        say(f"{name:<22}{wall * 1e3:>10.1f}{cpu * 1e3:>10.1f}{wall / floor:>12.2f}{cpu / floor_cpu:>12.2f}")
    for name, peer in figures.get("peers", {}).items():
        if "skipped" in peer:
            say(f"{name}: not timed. {peer['skipped']}")
    asked = figures["flags"]["dead_fraction"]
    shares = {"jaxsae": figures["dead_fraction"]}
    shares |= {name: peer["dead_fraction"] for name, peer in figures.get("peers", {}).items() if "seconds" in peer}
    say(f"{shares['jaxsae']:.1%} of the latents dead")
    for name, share in shares.items():
        if abs(share - asked) > 0.01 + 0.1 * asked:
            say(
                f"WARNING: {share:.1%} of {name}'s latents were dead at the end, not --dead_fraction={asked:g}: too few live"
            )
    say(f"{figures['tokens_per_second']:,.0f} tokens/s; temporaries {figures['temp_bytes'] / 2**20:,.0f} MiB,")
    say(f"peak {figures['peak_memory_bytes'] / 2**20:,.0f} MiB on {figures['device']}, mesh {figures['mesh']}")
    if "roofline_fraction" in figures:
        say(f"{figures['roofline_fraction']:.0%} of the encoder matmul's roofline")


def _title(figures: dict[str, Any]) -> str:
    """The architecture, its state, and how its latents go."""
    share = figures["flags"]["dead_fraction"]
    dead = f"; dead: {figures['dead_route']}" if figures["dead_route"] else ""
    state = f"{share:.0%} dead" if share else "none dead"
    return f"{figures['flags']['architecture']}, {state} (route: {figures['route']}{dead})"
