"""A trained dictionary: takes activations as the model has them, gives latents and reconstructions."""

import dataclasses
from functools import cached_property, lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import device
from jaxsae.dictionary.architectures import make_method
from jaxsae.dictionary.config import MethodConfig
from jaxsae.dictionary.method import Method
from jaxsae.dictionary.parameters import SKIP, SPECS, Latents, Params
from jaxsae.dictionary.widths import Widths
from jaxsae.errors import InputError
from jaxsae.kernels.products import product
from jaxsae.parallel import make_mesh, shardings


@dataclasses.dataclass(frozen=True)
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

    def encode(self, x: jax.Array | np.ndarray) -> Latents:
        """Active latents of activations.

        Args:
          x: [B, d].

        Returns:
          `Latents` with values and indices [B, k], values descending (`abstopk`: by size). What ranks each row by itself
          has the k of its configuration; all others have the largest number of active latents of any row of `x`, rounded
          up to a power of two.

        Raises:
          InputError: `x` is not [B, d_model].
        """
        x = self._checked(x)
        if self.config.k_of_a_row:
            return Latents(*self._encoder(self.config.k)(self.params, x))
        floor = self.threshold if self.config.has_threshold else 0.0
        most = int(self._count(self.params, x, jnp.float32(floor)).max())
        values, indices = self._encoder(min(self.width, 1 << max(most - 1, 0).bit_length()))(self.params, x)
        if self.method.ranks:
            return Latents(jnp.where(values <= floor, 0, values), indices)  # NaN stays
        return Latents(*_descending(values, indices))

    def decode(self, latents: Latents, x: jax.Array | np.ndarray | None = None) -> jax.Array:
        """Reconstructions float32 [B, d_out] of `latents`.

        Args:
          x: [B, d_in], what they are of; needed where something of it skips the latents.

        Raises:
          InputError: it is needed and not given, or is not [B, d_in].
        """
        y = self._decoder(self.params, latents.values, latents.indices)
        if SKIP not in self.params.shared:
            return y
        if x is None:
            raise InputError(
                "this dictionary has a map that skips its latents: decode(latents, x) needs what they are of"
            )
        return y + product(self._checked(x), self.params.shared[SKIP], 1, 1)

    def reconstruct(self, x: jax.Array | np.ndarray) -> jax.Array:
        """decode(encode(x), x): float32 [B, d_out]."""
        return self.decode(self.encode(x), x)

    def reconstruct_all(self, x: jax.Array | np.ndarray) -> jax.Array:
        """As `reconstruct`, from all latents' values at once: for the same shape of x the same program, however many are
        active, which is worth its while for many calls on few rows."""
        floor = jnp.float32(self.threshold if self.config.has_threshold else 0.0)
        return _on_mesh(self.mesh, device.reconstruct, 2, P(), method=self.method)(self.params, floor, self._checked(x))

    def _checked(self, x: jax.Array | np.ndarray) -> jax.Array:
        if x.ndim != 2 or x.shape[1] != self.d_model or not x.shape[0]:
            wanted = f"[B, {self.d_model}] with at least one row"
            raise InputError(f"this dictionary takes activations {wanted}, got {list(x.shape)}")
        return jnp.asarray(x, jnp.float32)

    def _encoder(self, k: int):
        return _on_mesh(self.mesh, device.encode, 1, (P(), P()), k=k, method=self.method)

    @property
    def _count(self):
        return _on_mesh(self.mesh, device.count_active, 2, P(), method=self.method)

    @property
    def _decoder(self):
        return _on_mesh(self.mesh, device.decode, 2, P())


@lru_cache(64)
def _on_mesh(mesh: Mesh, function, extra_inputs: int, out_specs, **settings):
    """`function` of parameters and further inputs over `mesh`; dictionaries of one shape share what is compiled."""
    sharded = jax.shard_map(
        partial(function, **settings),
        mesh=mesh,
        in_specs=(SPECS, *[P()] * extra_inputs),
        out_specs=out_specs,
        check_vma=False,
    )
    return jax.jit(sharded, in_shardings=(shardings(mesh, SPECS), *[None] * extra_inputs))


def _descending(values: jax.Array, indices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lists by size: gates need not have its order."""
    order = jnp.argsort(-values, axis=1, stable=True)
    return jnp.take_along_axis(values, order, 1), jnp.take_along_axis(indices, order, 1)
