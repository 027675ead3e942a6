"""The process that runs checks, apart from the one that keeps the findings: what it may take along is itself alone.

`python -m jaxsae.check.worker SPEC`, where SPEC is JSON: `group` and its settings, `seed`, `only`, `done` (names that are not
to be run again), `pipe` (a file descriptor). It says there, in lines of JSON, which checks it has, which one it begins, and
how each came out.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from jaxsae import interpreter
from jaxsae.check.child import UNUSABLE
from jaxsae.check.findings import FAILED, Finding, Outcome, printable
from jaxsae.check.item import Check


def checks_of(spec: dict[str, Any]) -> Iterator[Check]:
    """The checks of a group, the most important first."""
    from jaxsae.check import steps, training

    group = spec["group"]
    if group == "training":
        yield from training.checks(spec["platform"])
    elif group == "peers":
        shape, own = steps.Shape(**spec["shape"]), spec["ours"]
        ours = lambda dead: own.get(str(dead), {})
        yield from steps.peer_checks(shape, spec["platform"], tuple(spec["compare"]), ours, spec["memory"])
    else:
        yield from _on_device(spec)


def _on_device(spec: dict[str, Any]) -> Iterator[Check]:
    import jax

    from jaxsae.check import ceilings, encoders, machine, mesh, pair_sums, steps, updates

    try:
        device, group = jax.local_devices()[0], spec["group"]
    except Exception as error:
        asked = os.environ.get("JAX_PLATFORMS")
        why = f"{type(error).__name__}: {error}" + (f" (JAX_PLATFORMS={asked})" if asked else "")
        raise SystemExit(f"JAX finds no device to run on: {why}") from None
    if group == "machine":
        yield from machine.checks(device)
    if group == "kernels":
        yield from machine.choices()
        own, rest = _split(encoders.checks(device), encoders.MADE_FOR[device.platform])
        yield from own
        yield from pair_sums.checks(device)
        yield from updates.checks(device)
        yield from mesh.checks(jax.local_devices())
        yield from rest
    if group == "ceilings":
        yield from ceilings.checks(device)
    if group == "steps":
        yield from steps.checks(device, steps.Shape(**spec["shape"]))


def _split(checks: Iterable[Check], first: tuple[str, ...]) -> tuple[list[Check], list[Check]]:
    """Checks of the implementations that runs take, and the others."""
    checks = list(checks)
    own = [c for c in checks if c.implementation in first and not c.interpreted]
    return own, [c for c in checks if c not in own]


def run_check(check: Check, seed: int) -> Finding:
    """A check and how it came out; an error of any kind is one way."""
    began = time.perf_counter()
    try:
        outcome = check.run(check.generator(seed))
    except Exception as error:  # whatever a compiler or a device raises
        message = printable(f"{type(error).__name__}: {error}")[:400]
        outcome = Outcome(FAILED, message=message)
    seconds = round(time.perf_counter() - began, 3)
    return Finding(check.name, check.part, check.implementation, check.shapes, check.interpreted, outcome, seconds)


def answers(group: str) -> bool:
    """Whether the device still does what it is told: an illegal access leaves it useless to its process."""
    if group in ("training", "peers"):
        return True
    import jax
    import jax.numpy as jnp

    try:
        return float(jax.jit(lambda a: a + 1)(jnp.ones(()))) == 2
    except Exception:
        return False


def main(text: str) -> int:
    """Runs the checks; the exit status."""
    spec = json.loads(text)
    interpreter.end_with_parent()
    with os.fdopen(spec["pipe"], "w", encoding="utf-8") as pipe:

        def tell(**message: Any) -> None:
            pipe.write(json.dumps(message) + "\n")
            pipe.flush()

        there_are = list(checks_of(spec))
        checks = [c for c in there_are if spec["only"] in c.name and c.name not in spec["done"]]
        tell(plan=[c.name for c in checks], there_are=[c.name for c in there_are])
        for check in checks:
            about = {"part": check.part, "implementation": check.implementation, "shapes": dict(check.shapes)}
            tell(begin=check.name, about=about | {"interpreted": check.interpreted})
            finding = run_check(check, spec["seed"])
            tell(finding=finding.as_dict())
            if finding.outcome.status == FAILED and not answers(spec["group"]):
                return UNUSABLE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
