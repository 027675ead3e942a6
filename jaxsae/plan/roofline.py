"""The least time that each part of a step can take on a chip, and which of its limits sets it.

A part's time is the largest of FLOPs over the matmul units' peak, bytes over the memory's bandwidth and bytes
over the links' (Williams, Waterman & Patterson, 2009). What is counted is what the method cannot do without in
the trainer's own layout; a real step is slower.
"""

import dataclasses

from jaxsae.kernels.tiles.cut import HALVINGS
from jaxsae.plan.chips import Chip

FLOAT = 4  # bytes of a parameter, a moment in full, a pre-activation


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A device's share of a step.

    Attributes:
      rows: of the batch on this device. batch: of the whole batch. latents: on this device. d: width of the activations.
      pairs: (row, latent) pairs of `rows` that this device's latents have on average; None: all latents go by products.
      state: bytes of parameters and moments. data: shards of the batch.
      forms_gradient: whether it stands in memory. compute: bytes of a matmul input.
      fused: whether selection happens inside the matmul's own kernel.
    """

    rows: int
    batch: int
    latents: int
    d: int
    pairs: float | None
    state: int
    data: int
    forms_gradient: bool
    compute: int
    dtype: str
    fused: bool


@dataclasses.dataclass(frozen=True)
class Part:
    """FLOPs, bytes through memory and bytes over links of one part of a step."""

    flops: float = 0.0
    memory: float = 0.0
    links: float = 0.0

    def seconds(self, chip: Chip, dtype: str, devices: int) -> dict[str, float]:
        """Limit -> seconds that it alone would take."""
        far = chip.network and devices > chip.machine
        rate = chip.network if far else chip.links
        name = "network" if far else "links"
        return {
            "matmul": self.flops / chip.flops[dtype],
            "memory": self.memory / chip.bandwidth,
            name: self.links / rate,
        }

    def bound(self, chip: Chip, dtype: str, devices: int) -> tuple[float, str]:
        """(seconds, the limit that sets them)."""
        limits = self.seconds(chip, dtype, devices)
        name = max(limits, key=limits.get)
        return limits[name], name


def parts(sizes: Sizes, moved: float) -> dict[str, Part]:
    """The parts of a step in which no latent is dead; `moved`: bytes that all collectives send."""
    matrix = sizes.latents * sizes.d
    matmul = 2.0 * sizes.rows * matrix
    inputs = matrix * (FLOAT if sizes.compute == FLOAT else FLOAT + 2 * sizes.compute)  # a copy is written and read
    encoder = Part(matmul, inputs + sizes.rows * sizes.d * sizes.compute)
    update = Part(memory=2.0 * sizes.state + (2 * matrix * FLOAT if sizes.forms_gradient else 0))
    if sizes.pairs is None:  # y = f W_dec; then tile by tile the pre-activations again, dL/df, dW_enc, dW_dec
        formed = 2.0 * matrix * FLOAT if sizes.forms_gradient else 0.0
        found = {
            "encoder_matmul": encoder,
            "decode": Part(matmul, inputs),
            "gradients": Part(4 * matmul, 2 * inputs + formed),
        }
    else:
        row = sizes.d * FLOAT
        whole = sizes.pairs * sizes.data  # of the whole batch's rows: this device sums for its own latents
        formed = 2.0 * matrix * FLOAT if sizes.forms_gradient else 0.0
        selection = 0.0 if sizes.fused else 2.0 * sizes.rows * sizes.latents * FLOAT
        found = {
            "encoder_matmul": encoder,
            "selection": Part(memory=selection),
            "decode": Part(memory=sizes.pairs * row + sizes.rows * row),
            # Rows of W_dec for dL/dz; then for each pair a row of x and of dL/dy, added to a row of each gradient.
            "gradients": Part(memory=sizes.pairs * row + sizes.rows * row + 2 * whole * 3 * row + formed),
        }
    return found | {"update": update, "collectives": Part(links=moved)}


DEAD_SHARE = 0.1  # of the latents, for which a step's cost with dead ones is stated
COUNTS = 20  # of pre-activations until a row's k largest are known; where shards count together, all halvings


def auxiliary(sizes: Sizes, moved: float, shards: int) -> Part:
    """What a step takes beside that while DEAD_SHARE of the latents are dead: five products of rows and dead latents, whose
    rows are gathered, and counts over their pre-activations."""
    dead = DEAD_SHARE * sizes.latents
    matrix = dead * sizes.d
    counts = HALVINGS if shards > 1 else COUNTS
    gathered = 2 * matrix * (FLOAT + sizes.compute) + 4 * matrix * FLOAT  # two weights; two gradients, made and added
    return Part(10.0 * sizes.rows * matrix, gathered + (counts + 4.0) * sizes.rows * dead * FLOAT, moved)


def affordable(chip: Chip, sizes: Sizes) -> float:
    """Vector operations a pre-activation that a selection inside the matmul's kernel may take and stay hidden."""
    return 2.0 * sizes.d / chip.flops[sizes.dtype] * chip.vector
