"""A trained dictionary: takes activations as the model has them, gives latents and reconstructions."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxsae.dictionary import compute, many
from jaxsae.dictionary.architectures import make_method
from jaxsae.dictionary.config import MethodConfig
from jaxsae.dictionary.kinds import Kind, rows_of
from jaxsae.dictionary.method import Method
from jaxsae.dictionary.parameters import Latents, Params
from jaxsae.dictionary.widths import Widths
from jaxsae.errors import InputError
from jaxsae.parallel import make_mesh

if TYPE_CHECKING:
    import scipy.sparse


@dataclasses.dataclass(frozen=True, repr=False)
class Dictionary:
    """A sparse autoencoder, transcoder or crosscoder, in units of the activations: centring and scaling are folded into its
    weights.

    Attributes:
      params: W_enc [n, d_in], b_enc [n], W_dec [n, d_out], b_dec [d_out] and the method's own, sharded over `mesh`.
      config: the method and its settings.
      metadata: where it comes from: `model`, `site`, `context`, ... as the store and the run say.
      mesh: the devices that hold it; the latents are split over `model`.
      threshold: batchtopk, matryoshka: a latent is active above it, in units of the activations.
    """

    params: Params
    config: MethodConfig
    metadata: dict = dataclasses.field(default_factory=dict)
    mesh: Mesh = dataclasses.field(default_factory=lambda: make_mesh((1, 1), jax.local_devices()[:1]))
    threshold: float = 0.0

    def __repr__(self) -> str:
        method = self.config
        told = {"site": self.metadata.get("site"), "k": f"{method.told_k:g}" if method.told_k else None}
        more = "".join(f", {name} {value}" for name, value in told.items() if value)
        return f"<{self.kind}: {method.architecture}, {self.width:,} latents of {self.d_model:,}{more}>"

    @property
    def width(self) -> int:
        """Number of latents, n."""
        return self.params.W_enc.shape[0]

    @property
    def d_model(self) -> int:
        """Width of the activations that it takes, d_in; what an autoencoder gives is as wide."""
        return self.params.W_enc.shape[1] * self.config.layers

    @property
    def widths(self) -> Widths:
        """How many numbers it reads and writes."""
        d_out, sites, layers = self.params.W_dec.shape[1], self.config.site_widths, self.config.layers
        if sites:
            return Widths(sites, len(sites))
        if not self.config.transcode:
            return Widths.of(self.d_model)
        each = (self.d_model // layers,) * layers + (d_out // layers,) * layers
        return Widths(each, layers, tuple(range(layers, 2 * layers)), layers)

    @property
    def kind(self) -> str:
        """What it is called by what it reads and writes, not by how latents are chosen."""
        if self.config.transcode:
            return "cross-layer transcoder" if self.config.layers > 1 else "transcoder"
        return "crosscoder" if self.config.site_widths else "sparse autoencoder"

    @property
    def pre_bias(self) -> bool:
        """Whether `b_dec` is subtracted from the input."""
        return self.method.pre_bias

    @cached_property
    def method(self) -> Method:
        """What the dictionary is, as it was trained."""
        return make_method(self.config)

    def of_layer(self, layer: int) -> "Dictionary":
        """What of a cross-layer transcoder writes a layer, counted from the first it has: latents of that and those before,
        of activations [B, (layer + 1) d]; reconstructions [B, d_out of the layer] are those of the whole there.

        Raises:
          InputError: it has no such layer.
        """
        layers, params = self.config.layers, self.params
        if layer not in range(layers):
            raise InputError(f"of_layer({layer!r}): this {self.kind} has layers 0 to {layers - 1}")
        known, n = layer + 1, self.width // layers
        first = lambda array: array.reshape(n, layers, *array.shape[1:])[:, :known].reshape(n * known, *array.shape[1:])
        latent = {name: first(array) for name, array in params.latent.items()}
        latent["W_dec"] = jnp.split(latent["W_dec"], layers, 1)[layer]
        params = Params(latent, {"b_dec": jnp.split(params.b_dec, layers)[layer]})
        return dataclasses.replace(
            self, params=params, config=dataclasses.replace(self.config, width=n * known, layers=known)
        )

    def with_k(self, k: int) -> "Dictionary":
        """The same latents, of which each row keeps another number; `hierarchical_topk` was trained for all up to its k.

        Raises:
          InputError: rows of this method do not keep k latents each, or it is not for so many.
        """
        config = self.config
        if not config.k_of_a_row:
            raise InputError(
                f"--k={k}: a row of a {config.architecture} dictionary keeps no number of latents of its own. Leave --k out; "
                "train --architecture=hierarchical_topk for one dictionary of several k."
            )
        most = config.k if config.architecture == "hierarchical_topk" else self.width
        if not 1 <= k <= most:
            raise InputError(f"--k={k}: this {config.architecture} dictionary is for 1 to {most} latents of a row.")
        return dataclasses.replace(self, config=dataclasses.replace(config, k=k, k_start=None, ranks=()))

    def encode(self, x: Any, batch_size: int | None = None) -> Latents:
        """Active latents of activations.

        Args:
          x: [B, d], or [..., d]: an array of JAX, NumPy or torch, which gives JAX's or torch's. Or more than fits: a
            memmap, an array of zarr or tensorstore, a store's `view`, an iterator of batches, of which no more than a batch
            is on the device, and whose latents are on the host.
          batch_size: rows at once; given for an array in memory, that goes through the device in batches too.

        Returns:
          `Latents` with values and indices [..., k] (of an iterator [N, k]), values descending (`abstopk`: by size). What
          ranks each row by itself has the k of its configuration; all others have the largest number of active latents of
          any row of `x`, rounded up to a power of two, and 0 where a row has fewer. No gradient passes through torch.

        Raises:
          InputError: `x` is not [..., d_model].
        """
        if batch_size is not None or many.is_large(x):
            return many.joined(self._encoded(x, batch_size), x)
        rows, kind = self._rows(x)
        found = compute.encode(self, rows)
        return Latents(kind.of(found.values), kind.of(found.indices))

    def encode_sparse(self, x: Any, batch_size: int | None = None) -> "scipy.sparse.csr_matrix":
        """Active latents as scipy's CSR matrix float32 [N, n], of `x` as for `encode`, batch by batch."""
        return many.sparse(self._encoded(x, batch_size), self.width)

    def batches(self, x: Any, batch_size: int | None = None) -> Iterator[Latents]:
        """Latents of NumPy arrays [at most batch_size, k], batch by batch, of `x` as for `encode`."""
        return (Latents(*arrays) for arrays in self._encoded(x, batch_size))

    def values(self, x: Any, latents: Sequence[int]) -> jax.Array:
        """Values of some latents alone, float32 [..., len(latents)], 0 where one is not active; also within jax.jit.

        Args:
          x: [..., d_in] of JAX, NumPy or torch. latents: numbers of latents.

        Raises:
          InputError: `x` is not [..., d_model], or there is no such latent.
        """
        wanted = np.asarray(latents, np.int32).reshape(-1)
        if bad := [int(i) for i in wanted if not 0 <= i < self.width]:
            raise InputError(f"latent {bad[0]}: there are 0 to {self.width - 1}")
        rows, kind = self._rows(x)
        return kind.of(compute.values_of(self, rows, wanted))

    def decode(self, latents: Latents, x: Any = None) -> jax.Array:
        """Reconstructions float32 [..., d_out] of `latents` [..., k], in their kind (of NumPy's, JAX's).

        Args:
          x: [..., d_in], what they are of; needed where something of it skips the latents.

        Raises:
          InputError: it is needed and not given, or is not [..., d_in].
        """
        what = "latents have indices"
        values, kind = rows_of(latents.values, latents.values.shape[-1], what, self.mesh)
        indices, _ = rows_of(latents.indices, latents.values.shape[-1], what, self.mesh)
        skipped = None if x is None else self._rows(x)[0]
        return kind.of(compute.decode(self, values, jnp.asarray(indices, jnp.int32), skipped))

    def reconstruct(self, x: Any, batch_size: int | None = None) -> jax.Array:
        """decode(encode(x), x): float32 [..., d_out]; with `batch_size`, or of `x` that does not fit, NumPy's on the host."""
        if batch_size is not None or many.is_large(x):
            parts = many.over(
                x, batch_size or many.ROWS, lambda rows: (compute.reconstruct(self, self._rows(rows)[0]),)
            )
            return many.like(np.concatenate([part for (part,) in parts]), x)
        rows, kind = self._rows(x)
        return kind.of(compute.reconstruct(self, rows))

    def reconstruct_all(self, x: Any) -> jax.Array:
        """As `reconstruct`, from all latents' values at once: for the same shape of x the same program, however many are
        active, which is worth its while for many calls on few rows, and runs within jax.jit."""
        rows, kind = self._rows(x)
        return kind.of(compute.reconstruct_all(self, rows))

    def _encoded(self, x: Any, batch_size: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        def work(rows: Any) -> tuple[jax.Array, jax.Array]:
            found = compute.encode(self, self._rows(rows)[0])
            return found.values, found.indices

        return many.over(x, many.ROWS if batch_size is None else batch_size, work)

    def _rows(self, x: Any) -> tuple[jax.Array, Kind]:
        rows, kind = rows_of(x, self.d_model, "this dictionary takes activations", self.mesh)
        return jnp.asarray(rows, jnp.float32), kind
