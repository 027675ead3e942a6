"""Activations on disk: written shard by shard, read in shuffled batches."""

from jaxsae.store.follow import Shards, open_growing
from jaxsae.store.joined import BESIDE, JoinedStore
from jaxsae.store.loader import Batches, grain_dataset, iterate, local_batch
from jaxsae.store.location import same_place
from jaxsae.store.ranges import select
from jaxsae.store.reader import Store, open_store
from jaxsae.store.schema import Plan
from jaxsae.store.statistics import Statistics
from jaxsae.store.writer import StoreWriter

__all__ = [
    "BESIDE",
    "Batches",
    "JoinedStore",
    "Plan",
    "Shards",
    "Statistics",
    "Store",
    "StoreWriter",
    "grain_dataset",
    "iterate",
    "local_batch",
    "open_growing",
    "open_store",
    "same_place",
    "select",
]
