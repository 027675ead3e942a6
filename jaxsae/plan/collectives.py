"""What a compiled program moves between devices, read off its text.

The text is XLA's HLO after all passes: computations, each a list of instructions, called by loops, branches
and fusions. A loop's body counts as often as it turns, where the program says so: scans and counted loops do.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

from jaxsae.training.ways import AUX_SCOPE, FULL_SCOPE, PLAIN_SCOPE

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
ELEMENT_BYTES = {"pred": 1, "s4": 1, "u4": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}
ELEMENT_BYTES |= {"f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8, "c64": 8, "token": 0}

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_MESH_GROUPS = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")  # jax 0.11
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line: its name, its result's type, the operation, and all that follows the opening bracket."""

    name: str
    result: str
    operation: str
    rest: str
    is_root: bool


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective instruction.

    Attributes:
      kind: as in `KINDS`. size: devices of a group. result_bytes: of its result on one device.
      times: how often it runs in a step. counted: False where a loop's turns are not known; it counts once then.
      scope: PLAIN_SCOPE, AUX_SCOPE, FULL_SCOPE, or empty: in every step.
    """

    kind: str
    size: int
    result_bytes: int
    times: int
    counted: bool
    scope: str

    @property
    def moved(self) -> float:
        """Bytes that a device sends in a step; as many come in. Ring algorithms, which reach the lower bound."""
        share = (self.size - 1) / self.size
        factor = {"all-reduce": 2 * share, "reduce-scatter": self.size - 1}.get(self.kind, share)
        if self.kind in ("collective-permute", "collective-broadcast"):
            factor = 1
        return factor * self.result_bytes * self.times


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The computations of a program by name, and the name of the one where it begins."""
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if match := _HEADER.match(line):
            current = computations.setdefault(match[2], [])
            entry = match[2] if match[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (match := _INSTRUCTION.match(line)):
            current.append(Instruction(match[2], match[3], match[4], match[5], bool(match[1])))
    return computations, entry


def bytes_of(result: str) -> list[int]:
    """Bytes of each array of a result's type."""
    sizes = []
    for kind, dimensions in _SHAPE.findall(re.sub(r"\{[^}]*\}", "", result)):
        sizes.append(ELEMENT_BYTES.get(kind, 4) * math.prod(int(n) for n in dimensions.split(",") if n))
    return sizes


def turns_of(loop: Instruction, computations: dict[str, list[Instruction]]) -> int | None:
    """How often a `while` turns: as the compiler notes it, or as its condition, i < N from 0 on, says."""
    if match := re.search(r'known_trip_count[^\d]*"?n"?[^\d]*(\d+)', loop.rest):
        return int(match[1])
    condition = re.search(r"\bcondition=%?([\w.\-]+)", loop.rest)
    body = list(computations.get(condition[1], ())) if condition else []
    for called in [name for one in body for name in _CALLED.findall(one.rest)]:
        body += computations.get(called, ())
    tests = [one for one in body if one.operation == "compare"]
    limits = [one for one in body if one.operation == "constant" and one.result.startswith("s32[]")]
    if len(tests) == 1 and len(limits) == 1 and "direction=LT" in tests[0].rest:
        number = re.match(r"(\d+)\)", limits[0].rest)
        return int(number[1]) if number else None
    return None


def find_collectives(text: str, devices: int) -> list[Collective]:
    """Every collective that a step may run, except those within groups of one device, which move nothing."""
    computations, entry = parse(text)
    found: dict[object, Collective] = {}
    for channel, one in _walk(computations, entry, 1, True, "", devices, False):
        # Known turns before unknown: a TPU's collective that runs beside other work stands where it is started, in
        # the loop that it runs beside, and where it is waited for.
        if one.size > 1 and (channel not in found or one.counted > found[channel].counted):
            found[channel] = one
    return list(found.values())


def _walk(
    computations, name: str, times: int, counted: bool, scope: str, devices: int, looped: bool
) -> Iterator[tuple[object, Collective]]:
    """Collectives, each with what tells it from others: those that run beside other work keep a channel and stand thrice."""
    for one in computations.get(name, ()):
        kind, inside = one.operation.removesuffix("-start"), scope or _scope(one.rest)
        if kind in KINDS:
            size = _group_size(one.rest, devices)
            beside = re.search(r"channel_id=(\d+).*\bchain_id=", one.rest)
            channel = (kind, beside[1]) if beside else object()
            yield channel, Collective(kind, size, _result_bytes(one), times, counted, inside)
        within, known = times, counted
        if one.operation == "while" and not (turns := turns_of(one, computations)):
            known = counted and not looped and _is_switch(one, computations)
        elif one.operation == "while":
            within = times * turns
        called = _CALLED.findall(one.rest)
        for names in _BRANCHES.findall(one.rest):
            called += [n.strip().lstrip("%") for n in names.split(",")]
        for child in called:
            yield from _walk(computations, child, within, known, inside, devices, looped or one.operation == "while")


def _is_switch(loop: Instruction, computations: dict[str, list[Instruction]]) -> bool:
    """Whether it is one of the two loops of `training.step`, of which one turns once and the other not at all.

    By what it runs, of a loop that stands in no other: compilers give a loop the name of something in it.
    """
    body = re.search(r"\bbody=%?([\w.\-]+)", loop.rest)
    return body is not None and any(_scope(one.rest) for one in computations.get(body[1], ()))


def _scope(rest: str) -> str:
    match = re.search(r'op_name="([^"]*)"', rest)
    return next((s for s in (PLAIN_SCOPE, AUX_SCOPE, FULL_SCOPE) if match and s in match[1]), "")


def _result_bytes(one: Instruction) -> int:
    """The result's bytes; a started collective's type holds its operands too, and words for the hardware."""
    sizes = bytes_of(one.result)
    if one.operation == "collective-permute-start" and len(sizes) > 1:
        return sizes[1]
    if one.operation == "all-gather-start" and len(sizes) > 1:
        return sum(sizes[len(sizes) // 2 :])
    return sum(sizes)


def _group_size(rest: str, devices: int) -> int:
    """Devices that take part together.

    Raises:
      ValueError: groups written in a way that is not known; to take all devices for one group would give wrong bytes.
    """
    if "source_target_pairs=" in rest:
        return 2
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", rest):
        return int(match[2])
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return match[1].count(",") + 1
    if match := _MESH_GROUPS.search(rest):
        sizes = {axis: int(size) for axis, size in re.findall(r"'([^']*)'=(\d+)", match[1])}
        # Each an axis, or a part of one: 'model':(1)2 is 2 of its devices.
        return math.prod(
            int(part or sizes[axis]) for axis, part in re.findall(r"'([^']*)'(?::\(\d+\)(\d+))?", match[2])
        )
    if "replica_groups=" in rest and "replica_groups={}" not in rest:
        raise ValueError(f"groups in an unknown form: {rest[rest.index('replica_groups=') :][:80]}")
    return devices
