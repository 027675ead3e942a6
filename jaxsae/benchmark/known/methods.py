"""Which methods are trained, each with those of the switches that it takes, and on how many rows."""

import dataclasses
from typing import Any

from jaxsae.benchmark.config import BenchmarkConfig, StepMethodConfig
from jaxsae.benchmark.known.config import PEER
from jaxsae.benchmark.peers import is_installed
from jaxsae.config import check
from jaxsae.dictionary import ARCHITECTURES, SWITCHES, MethodConfig, check_switches

COMPARED = ("topk", "batchtopk", "matryoshka", "jumprelu")  # whose k, or L0 that is aimed at, can be the same


@dataclasses.dataclass(frozen=True)
class Methods:
    """What is trained.

    Attributes:
      ours: architecture -> its configuration, in the order of the flag. compared: those that the peer trains too.
      width, k: of all that take them, and of the baselines. steps, rows: of a run. runs: how many runs there are in all.
    """

    ours: dict[str, MethodConfig]
    compared: dict[str, MethodConfig]
    width: int
    k: int
    steps: int
    rows: int
    runs: int

    @classmethod
    def of(cls, config: BenchmarkConfig) -> "Methods":
        """Those that the flags name.

        Raises:
          InputError: no such method, one named twice; k above the number of features or latents; fewer rows than a batch;
            a switch that none of the methods takes, or that does nothing; a peer that
            is not installed or trains none of the methods.
        """
        known, batch = config.known, config.rows_of_a_batch
        names, listed = known.methods or tuple(ARCHITECTURES), ",".join(known.methods)
        check(all(n in ARCHITECTURES for n in names), "methods", listed, f"choose from {', '.join(ARCHITECTURES)}")
        check(len(set(names)) == len(names), "methods", listed, "name each method once")
        steps = config.tokens // batch
        check(steps > 0, "tokens", config.tokens, f"is less than one batch of {batch} rows")
        given = _given(config.method)
        check("architecture" not in given, "architecture", config.method.architecture, "give --methods instead")
        for name, value in given.items():
            taken = name == "width" or any(name in SWITCHES[method] for method in names)
            check(taken, name, value, f"none of --methods={','.join(names)} takes it. Leave the flag out")
        switches = {"width": known.features, "k": max(1, round(known.active))} | given
        check(switches["k"] <= known.features, "k", switches["k"], f"must be at most --features={known.features}")
        aimed = lambda name: "target_l0" in given and "target_l0" in SWITCHES[name]
        taken = lambda name: {"width", *SWITCHES[name]} - ({"k"} if aimed(name) else set())
        own = lambda name: {switch: value for switch, value in switches.items() if switch in taken(name)}
        ours = {name: MethodConfig(architecture=name, **own(name)) for name in names}
        for method in ours.values():
            check_switches(method)
        compared = _compared(config.compare, ours)
        runs = len(known.seeds) * (len(ours) + len(compared)) + (len(known.peer_rates) - 1) * len(compared)
        return cls(ours, compared, switches["width"], switches["k"], steps, steps * batch, runs)


def _given(method: StepMethodConfig) -> dict[str, Any]:
    """The fields that differ from what they are where no flag says them."""
    fields = dataclasses.fields(StepMethodConfig)
    return {field.name: getattr(method, field.name) for field in fields if getattr(method, field.name) != field.default}


def _compared(packages: tuple[str, ...], ours: dict[str, MethodConfig]) -> dict[str, MethodConfig]:
    """Those of our methods that `--compare` trains too; none where the flag is not given."""
    if not packages:
        return {}
    listed = ",".join(packages)
    check(set(packages) == {PEER}, "compare", listed, f"--what=known_dictionary takes {PEER} alone")
    check(is_installed(PEER), "compare", PEER, "it is not installed: pip install 'jaxsae[interop]'")
    shared = {name: method for name, method in ours.items() if name in COMPARED}
    check(bool(shared), "compare", PEER, f"--methods must name one of {', '.join(COMPARED)}")
    return shared
