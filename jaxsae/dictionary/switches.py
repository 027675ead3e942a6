"""Which switches of a method have an effect: those that its architecture takes, whose term is there, within its sizes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxsae.config import check
from jaxsae.dictionary.config import SWITCHES, MethodConfig
from jaxsae.errors import InputError

# Switch -> the one without which, or with which at 0, it does nothing.
NEEDS = {
    "skip": "transcode",
    "k_anneal": "k_start",
    "aux_k": "aux_coefficient",
    "l0_warmup": "l0_coefficient",
    "l1_warmup": "l1_coefficient",
    "tanh_ramp": "tanh_coefficient",
    "tanh_scale": "tanh_coefficient",
    "orthogonality_chunk": "orthogonality",
    "adversary_width": "adversary",
    "adversary_k": "adversary",
    "adversary_rows": "adversary",
}
BESIDE = {"k": "target_l0"}  # switch -> the one beside which it says nothing
_STEERED = ("l1_coefficient", "l0_coefficient", "tanh_coefficient")  # what brings an L0 about, where one is aimed at


def idle_switches(values: Mapping[str, Any]) -> set[str]:
    """Switches that do nothing beside flags of such values, {name: value, or its text}; `architecture` is one of them."""
    architecture = values["architecture"]
    not_taken = {switch for switches in SWITCHES.values() for switch in switches} - set(SWITCHES[architecture])
    alone = {switch for switch, needed in NEEDS.items() if _is_off(values.get(needed))}
    replaced = {switch for switch, other in BESIDE.items() if values.get(other) not in (None, "")}
    return not_taken | alone | {switch for switch in replaced if BESIDE[switch] not in not_taken}


def _is_off(value: Any) -> bool:
    try:
        return value in (None, "") or float(value) == 0
    except ValueError:  # no number: another check says so
        return False


def check_switches(config: MethodConfig) -> None:
    """Refuses what a new run would not do as it is asked: a run of an older jaxsae goes on with what it was begun with.

    Raises:
      InputError: a switch that is set and does nothing, since the architecture does not take it or its term is not
        there; an L0 that nothing can bring about; more latents asked for than there are.
    """
    known, idle = SWITCHES[config.architecture], idle_switches(dataclasses.asdict(config))
    for field in dataclasses.fields(config):
        name, value = field.name, getattr(config, field.name)
        if name in ("width", "architecture") or value == field.default:
            continue
        if name not in known:
            raise InputError(
                f"--{name}={_shown(value)}: --architecture={config.architecture} does not take it. It takes "
                f"{', '.join(f'--{switch}' for switch in known)}; leave the flag out."
            )
        if name in NEEDS:
            fix = f"does nothing without --{NEEDS[name]}. Give that, too, or leave this out"
        else:
            fix = f"says nothing beside --{BESIDE.get(name)}, which is the L0 that is aimed at. Leave one of them out"
        check(name not in idle, name, _shown(value), fix)
    for name in _STEERED:
        nothing = config.takes(name) and config.l0_target > 0 and getattr(config, name) == 0
        wanted = f"an L0 of {config.l0_target:g}"
        fix = f"nothing is then left to bring about {wanted}. Give --target_l0=0 without --k to ask for none"
        check(not nothing, name, 0, fix)
    _check_sizes(config)


def _check_sizes(config: MethodConfig) -> None:
    drawn = config.random_prefixes and len(config.nested_prefixes) < 2
    fix = f"the only prefix is all of --width={config.width}: none is left to draw. Give two or more --prefixes"
    check(not drawn, "random_prefixes", "true", fix)
    most = config.width // 4
    four = config.architecture != "multi_topk" or config.k <= most
    check(four, "k", config.k, f"multi_topk has an eye to 4 k of --width={config.width} latents: give at most {most}")
    if config.adversary:
        width = config.opponent_width
        fix = f"must be at most --width={config.width}, of whose latents it is to find the parts"
        check(width <= config.width, "adversary_width", width, fix)
        fix = f"must be at most --adversary_width={width}"
        check(config.adversary_k <= width, "adversary_k", config.adversary_k, fix)


def _shown(value: Any) -> str:
    """A flag's value as it is given."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
