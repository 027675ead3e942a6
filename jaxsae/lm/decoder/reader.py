"""Activations of a decoder brought to the host, batch by batch, while the devices go on."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.errors import InputError
from jaxsae.lm.decoder import forward
from jaxsae.lm.decoder.program import OverMesh
from jaxsae.lm.decoder.shape import Decoder
from jaxsae.parallel import DATA

Rows = dict[str, np.ndarray]


class Reader:
    """Reads some sites of a model.

    Args:
      lm: the `DecoderLM`. names: of the sites. dtype: of what is read.
      rows, longest: sequences, and tokens of one, that no batch is larger than; those of a smaller one are filled up.
      whole: whether what is read is to be whole on every device of a mesh that several processes share.
    """

    def __init__(
        self,
        lm: Any,
        names: tuple[str, ...],
        dtype: str,
        rows: int | None = None,
        longest: int | None = None,
        whole: bool = False,
    ):
        self._lm, self._dtype, self._fill = lm, dtype, (rows, longest)
        self._program = reading(lm.shape, lm.mesh, names, dtype, whole)

    def run(self, tokens: np.ndarray) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """{site: [B, T, d_model] with what fills it up} and {site: whether they are finite}, on the devices."""
        return self._program(self._lm.weights, self._lm.put(tokens, *self._fill))

    def start(self, tokens: np.ndarray, kept: np.ndarray, wanted: bool = True) -> Callable[[], Rows]:
        """Begins a pass.

        Args:
          tokens: int32 [B, T], -1 where there is none.
          kept: bool [B, T], the positions to return.
          wanted: whether this process wants any of them.

        Returns:
          What waits for the pass and gives {site: [positions kept, d_model]}, or {} where nothing is wanted; it raises
          `InputError` for Inf or NaN, naming the site.
        """
        out, finite = self.run(tokens)
        if not wanted:
            return lambda: jax.block_until_ready(finite) and {}
        for x in (*finite.values(), *out.values()):
            x.copy_to_host_async()
        return lambda: self._rows(out, finite, kept)

    def _rows(self, out: dict[str, jax.Array], finite: dict[str, jax.Array], kept: np.ndarray) -> Rows:
        (count, length), found = kept.shape, {}
        for site in list(out):
            x = np.asarray(out.pop(site))[:count, :length]
            found[site] = x[kept]
            if not finite[site]:  # what fills a batch up may be anything
                self._check_finite(site, found[site])
        return found

    def _check_finite(self, site: str, rows: np.ndarray) -> None:
        if np.isfinite(rows).all():
            return
        where = f"Site {site} of {self._lm.name}: Inf or NaN in its {self._lm.dtype} activations as {self._dtype}"
        fix = "Take --dtype=bfloat16 or --dtype=float32 (and another --store, where shards of this one are complete)."
        if self._dtype != "float16":
            fix = "See that its weights are whole, or let it compute in another type: --model_dtype=float32."
        raise InputError(f"{where}. {fix}")


@lru_cache(16)
def reading(shape: Decoder, mesh: Mesh, names: tuple[str, ...], dtype: str, whole: bool) -> OverMesh:
    """The compiled (weights, tokens) -> {site: activations [B, T, d_model]}, {site: whether they are finite}."""

    def device(weights: Any, tokens: jax.Array) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        seen: dict[str, jax.Array] = {}

        def tap(site: str, x: jax.Array) -> jax.Array:
            if site in names:
                seen[site] = x.astype(dtype)
            return x

        forward.stream(weights, shape, tokens, tap)
        finite = {name: jax.lax.pmin(jnp.isfinite(seen[name]).all().astype(jnp.int32), DATA) for name in names}
        if whole:
            seen = {name: jax.lax.all_gather(x, DATA, axis=0, tiled=True) for name, x in seen.items()}
        return {name: seen[name] for name in names}, finite

    return OverMesh(device, mesh, (P(DATA, None),), (P() if whole else P(DATA, None, None), P()))
