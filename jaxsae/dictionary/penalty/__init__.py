"""Terms of a loss beside the reconstruction: one short file each."""

from jaxsae.dictionary.penalty.auxk import AuxK
from jaxsae.dictionary.penalty.base import Penalty
from jaxsae.dictionary.penalty.gate import GateL1, GateReconstruction
from jaxsae.dictionary.penalty.l0 import L0, L0Target
from jaxsae.dictionary.penalty.l1 import L1OfNorms
from jaxsae.dictionary.penalty.steer import Moment, Steer
from jaxsae.dictionary.penalty.tanh import PreActivations, TanhOfNorms

__all__ = [
    "L0",
    "AuxK",
    "GateL1",
    "GateReconstruction",
    "L0Target",
    "L1OfNorms",
    "Moment",
    "Penalty",
    "PreActivations",
    "Steer",
    "TanhOfNorms",
]
