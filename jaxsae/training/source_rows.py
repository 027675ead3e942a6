"""The rows that a meta-SAE is trained on: directions of another dictionary's decoder, or random ones that stand in for them.

A wide dictionary explains much of any directions, random ones included (BUILD_NOTES, Meta-SAE): what a meta-SAE explains
says something of its source beside what another one, as large and trained as long, explains of such stand-ins.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property, partial

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.errors import InputError
from jaxsae.hosts import processes
from jaxsae.progress import is_first_process, say
from jaxsae.store import Plan, Store, StoreWriter
from jaxsae.store.schema import DECODER, SHARD_ROWS

NAMES = {"decoder": "decoder rows", "random": "random directions for the rows", "gaussian": "Gaussian rows for those"}


class SourceRows:
    """A decoder's rows at length 1, or stand-ins, a shard of them on the host at a time; every process must call."""

    def __init__(self, run: str, W_dec: jax.Array, mesh: Mesh, kind: str, seed: int):
        """Takes in the decoder.

        Args:
          run: whose it is, for messages. W_dec: [n, d], its latents over `mesh`.
          kind: "decoder": its rows; "random": as many random directions; "gaussian": drawn with the rows' own mean and
            covariance, then brought to length 1. seed: of those two.
        """
        self._run, self._W_dec, self._mesh, self._kind, self._seed = run, W_dec, mesh, kind, seed

    def plan(self, step: int) -> Plan:
        """The store of the rows; its fingerprint goes by the decoder's bits, and how the rows are made of them.

        Of the weights as they are: lengths are divided out in an order of summation that machines differ in.

        Raises:
          InputError: NaN or Inf in the decoder, naming the row.
        """
        digest = hashlib.sha256()
        for first, part in self._decoder():
            if len(bad := np.flatnonzero(~np.isfinite(part).all(1))):
                raise InputError(
                    f"--source_run={self._run}: decoder row {first + bad[0]} holds NaN or Inf. Give another."
                )
            digest.update(part.tobytes())
        settings = {"source": DECODER, "step": step, "decoder_sha256": digest.hexdigest(), "row_norm": 1}
        settings["directions"] = self._kind
        if self._kind != "decoder":
            settings["seed"] = self._seed
        latents, d = self._W_dec.shape
        return Plan(rows=latents, sites={DECODER: d}, settings=settings)

    def write(self, url: str, plan: Plan) -> None:
        """Writes the shards that are missing; process 0 does, the others bring their parts of the decoder."""
        if processes.from_first("source store", lambda: _is_there(url)):
            return
        writer = StoreWriter(url, plan) if is_first_process() else None
        done, zeros = writer.completed_shards() if writer else set(), 0
        for shard, (first, part) in enumerate(self._decoder()):
            x = unit_rows(self._stand_ins(shard, len(part)) if self._stand_ins else part)
            zeros += int((~x.any(1)).sum())
            if writer and shard not in done:
                position = np.arange(first, first + len(x))
                columns = {"tokens": np.full(len(x), -1), "sequence": np.zeros(len(x)), "position": position}
                writer.write_shard(shard, {DECODER: x}, columns)
        if writer:
            writer.finish()
        without = f"; {zeros:,} of them are 0, of no direction" if zeros else ""
        say(f"{url}: the {plan.rows:,} {NAMES[self._kind]} of {self._run}, at length 1{without}")

    @cached_property
    def _stand_ins(self) -> Callable[[int, int], np.ndarray] | None:
        """(shard, rows) -> float64 [rows, d]; None where the decoder's own rows are taken."""
        if self._kind == "decoder":
            return None
        d = self._W_dec.shape[1]
        normal = lambda shard, rows: np.random.default_rng([self._seed, shard]).standard_normal((rows, d))
        if self._kind == "random":
            return normal
        count, total, products = 0, np.zeros(d), np.zeros((d, d))
        for _, part in self._decoder():
            x = np.float64(unit_rows(part))
            count, total, products = count + len(x), total + x.sum(0), products + x.T @ x
        mean = total / count
        values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
        root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T  # symmetric, so no sign of a vector shows in it
        return lambda shard, rows: mean + normal(shard, rows) @ root

    def _decoder(self) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, float32 [at most SHARD_ROWS, d]), in order."""
        latents = len(self._W_dec)
        for first in range(0, latents, SHARD_ROWS):
            size = min(SHARD_ROWS, latents - first)
            yield first, np.asarray(_slice(self._mesh, size)(self._W_dec, first), np.float32)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """float32 [n, d]: rows at length 1; those of length 0 stay."""
    x = np.asarray(rows, np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norms, out=np.zeros_like(x), where=norms > 0).astype(np.float32)


def _slice(mesh: Mesh, size: int) -> Callable[[jax.Array, int], jax.Array]:
    """(array by latent, first row) -> `size` of its rows, on every device."""
    cut = partial(jax.lax.dynamic_slice_in_dim, slice_size=size)
    return jax.jit(cut, out_shardings=NamedSharding(mesh, P()))


def _is_there(url: str) -> bool:
    """Whether a store is complete."""
    with suppress(InputError):
        return Store(url).complete
    return False
