"""Which latents of a row are active, and how large: one short file each.

Two kinds. A ranking keeps the largest of a row's or a batch's pre-activations (`Ranking`); what is `Elementwise` looks at
one pre-activation at a time.
"""

from jaxsae.dictionary.selection.abstopk import AbsTopK
from jaxsae.dictionary.selection.base import Codes, Elementwise, Latent, Selection
from jaxsae.dictionary.selection.batchtopk import BatchTopK
from jaxsae.dictionary.selection.gated import Gated
from jaxsae.dictionary.selection.jumprelu import JumpReLU
from jaxsae.dictionary.selection.jumprelu_tanh import JumpReLUTanh
from jaxsae.dictionary.selection.ranking import Anneal, Ranking
from jaxsae.dictionary.selection.relu import ReLU
from jaxsae.dictionary.selection.rescaled import Rescaled
from jaxsae.dictionary.selection.topk import TopK

__all__ = [
    "AbsTopK",
    "Anneal",
    "BatchTopK",
    "Codes",
    "Elementwise",
    "Gated",
    "JumpReLU",
    "JumpReLUTanh",
    "Latent",
    "Ranking",
    "ReLU",
    "Rescaled",
    "Selection",
    "TopK",
]
