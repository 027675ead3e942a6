"""What the compiler's own account of memory says, which it writes before it refuses a program that is too large."""

import dataclasses
import math
import re

from jaxsae.plan.collectives import ELEMENT_BYTES


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place in memory that several temporaries share one after another: its bytes, and their shapes."""

    size: int
    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def largest(self) -> tuple[str, tuple[int, ...]]:
        """(element type, dimensions) of its largest temporary."""
        return max(self.shapes, key=shape_bytes, default=("u8", (self.size,)))


def shape_bytes(shape: tuple[str, tuple[int, ...]]) -> int:
    """Bytes of (element type, dimensions)."""
    return ELEMENT_BYTES.get(shape[0], 4) * math.prod(shape[1])


def show_shape(shape: tuple[str, tuple[int, ...]]) -> str:
    """As `f32[8192,4096]`."""
    return f"{shape[0]}[{','.join(map(str, shape[1]))}]"


@dataclasses.dataclass(frozen=True)
class Buffers:
    """Bytes that a program takes in all, arguments included, and its temporaries' larger places."""

    total: int
    slots: tuple[Slot, ...]

    def width_share(self, width: int) -> int:
        """Bytes of places whose largest temporary has `width` as a dimension: gradients, copies of weights."""
        return sum(slot.size for slot in self.slots if width in slot.largest[1])

    def largest(self) -> tuple[str, tuple[int, ...]] | None:
        """Of all temporaries."""
        return max((slot.largest for slot in self.slots), key=shape_bytes, default=None)

    def largest_of_batch(self, width: int, d: int) -> tuple[str, tuple[int, ...]] | None:
        """Of the temporaries that are not [width, d], as weights are, or [width]: those that a batch may bring with it.

        By the order of their dimensions: where a batch has d rows, its pre-activations are [d, width].
        """
        weights = lambda sizes: tuple(size for size in sizes if size != 1) in ((width, d), (width,), ())
        shapes = [shape for slot in self.slots for shape in slot.shapes if not weights(shape[1])]
        return max(shapes, key=shape_bytes, default=None)


_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def read_report(text: str) -> Buffers:
    """Reads XLA's memory-usage report, the part on the device's main memory.

    Raises:
      ValueError: no such part.
    """
    total, tables, inside = None, [[]], False
    for line in text.splitlines():
        if line.startswith("Memory Space:"):
            inside = "default" in line
        elif "cumulative_size" in line:
            tables.append([])
        elif inside and total is None and (match := re.match(r"Total bytes: (\d+)", line)):
            total = int(match[1])
        elif inside and (
            match := re.match(r"\s*[\d.]+\s*\w+\(\s*\d+%\);\s*([\d.]+)\s*(\w+);\s*\d+;\s*\d+; (.*)", line)
        ):
            shapes = re.findall(r"([a-z]\w*)\[([\d,]*)\]", match[3])
            dimensions = [(kind, tuple(int(n) for n in sizes.split(",") if n)) for kind, sizes in shapes]
            tables[-1].append(Slot(round(float(match[1]) * _UNITS[match[2]]), tuple(dimensions)))
    if total is None:
        raise ValueError("no account of the device's memory")
    return Buffers(total, tuple(max(tables, key=len)))  # an argument has a table of its own, of one line
