"""The packages by the names that `--compare` takes."""

from jaxsae.benchmark.peers.base import Peer
from jaxsae.benchmark.peers.dictionary_learning import DICTIONARY_LEARNING
from jaxsae.benchmark.peers.saelens import SAELENS
from jaxsae.benchmark.peers.sparsify import SPARSIFY

TABLE: dict[str, Peer] = {"sparsify": SPARSIFY, "saelens": SAELENS, "dictionary_learning": DICTIONARY_LEARNING}
