"""What follows a step, and what precedes it: what is held of lengths, signs, and of encoder and decoder beside each other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxsae.dictionary.parameters import Params
from jaxsae.dictionary.widths import even_length, site_lengths
from jaxsae.kernels import row_dots


@dataclasses.dataclass(frozen=True)
class Free:
    """Nothing."""

    unit_decoder: bool = False

    def lengths(self, rows: jax.Array) -> jax.Array:
        """[n], of decoder rows [n, d_out]: what is 1 after a step, where `unit_decoder`."""
        return jnp.linalg.norm(rows, axis=-1)

    def project_gradient(self, params: Params, gradient: Params) -> Params:
        return gradient

    def after_step(self, params: Params) -> Params:
        return params


@dataclasses.dataclass(frozen=True)
class UnitRows(Free):
    """The gradient's part along a decoder row is removed before a step, the row's length restored after it (2406.04093)."""

    unit_decoder: bool = True

    def project_gradient(self, params: Params, gradient: Params) -> Params:
        along = row_dots(gradient.W_dec, params.W_dec)
        return gradient.put(W_dec=gradient.W_dec - along * params.W_dec)

    def after_step(self, params: Params) -> Params:
        norm = jnp.linalg.norm(params.W_dec, axis=-1, keepdims=True)
        return params.put(W_dec=params.W_dec / jnp.maximum(norm, 1e-30))  # an imported row may be all zeros


@dataclasses.dataclass(frozen=True)
class UnitSites(Free):
    """The same of a crosscoder's rows, whose length is that of their parts at the `sites` together: sum_l ||W_dec,i^l||.

    A latent's size is then what 2504.02922 ranks latents by, f_i sum_l ||W_dec,i^l||, and any row may be brought to this
    length while its latent grows as much, so nothing is lost. Rows that are even over sites have length 1, as an
    autoencoder's.
    """

    sites: tuple[int, ...] = ()
    unit_decoder: bool = True

    def lengths(self, rows: jax.Array) -> jax.Array:
        return site_lengths(rows, self.sites).sum(-1) / even_length(self.sites)

    def project_gradient(self, params: Params, gradient: Params) -> Params:
        # The sum of lengths grows along each part's own direction; a part of length 0 has none.
        lengths = site_lengths(params.W_dec, self.sites)
        along = params.W_dec * self._spread(jnp.where(lengths > 0, 1 / jnp.maximum(lengths, 1e-30), 0))
        share = row_dots(gradient.W_dec, along) / jnp.maximum(row_dots(along, along), 1)
        return gradient.put(W_dec=gradient.W_dec - share * along)

    def after_step(self, params: Params) -> Params:
        return params.put(W_dec=params.W_dec / jnp.maximum(self.lengths(params.W_dec), 1e-30)[:, None])

    def _spread(self, by_site: jax.Array) -> jax.Array:
        """[n, sites] -> [n, d_out]."""
        return jnp.repeat(by_site, np.array(self.sites), axis=-1, total_repeat_length=sum(self.sites))


@dataclasses.dataclass(frozen=True)
class Thresholds(Free):
    """Thresholds stay at 0 or above: below it negative pre-activations would be latents."""

    def after_step(self, params: Params) -> Params:
        params = super().after_step(params)
        return params.put(threshold=jnp.maximum(params.latent["threshold"], 0))


@dataclasses.dataclass(frozen=True)
class UnitRowsAndThresholds(Thresholds, UnitRows):
    """Both."""

    unit_decoder: bool = True


@dataclasses.dataclass(frozen=True)
class UnitSitesAndThresholds(Thresholds, UnitSites):
    """Both."""

    unit_decoder: bool = True


@dataclasses.dataclass(frozen=True)
class Magnitudes(Free):
    """Only r_mag and b_mag learn; without `shift` b_mag = exp(r_mag) b_enc (2404.16014, section 5.3)."""

    shift: bool = True

    def project_gradient(self, params: Params, gradient: Params) -> Params:
        learned = {name: gradient.latent[name] for name in ("r_mag", "b_mag")}
        zero = lambda part: {name: jnp.zeros_like(array) for name, array in part.items()}
        return Params(zero(gradient.latent) | learned, zero(gradient.shared))

    def after_step(self, params: Params) -> Params:
        return params if self.shift else params.put(b_mag=jnp.exp(params.latent["r_mag"]) * params.b_enc)


@dataclasses.dataclass(frozen=True)
class Tied:
    """W_enc = W_dec, with the gradient of both; the rest is `inner`'s. Both stand, since every route takes both."""

    inner: Free

    @property
    def unit_decoder(self) -> bool:
        return self.inner.unit_decoder

    def lengths(self, rows: jax.Array) -> jax.Array:
        return self.inner.lengths(rows)

    def project_gradient(self, params: Params, gradient: Params) -> Params:
        gradient = self.inner.project_gradient(params, gradient.put(W_dec=gradient.W_enc + gradient.W_dec))
        return gradient.put(W_enc=gradient.W_dec)

    def after_step(self, params: Params) -> Params:
        params = self.inner.after_step(params)
        return params.put(W_enc=params.W_dec)


@dataclasses.dataclass(frozen=True)
class Aligned:
    """<W_enc,i, W_dec,i> = 1 for every latent (Aligned Training, 2605.18629); the rest is `inner`'s.

    W_enc,i moves in the plane that this leaves it: its gradient has no part along W_dec,i, and after a step, which turns
    W_dec,i too, it is put back by the shortest way. A latent can then not lose touch with the direction that it writes.
    """

    inner: Free

    @property
    def unit_decoder(self) -> bool:
        return self.inner.unit_decoder

    def lengths(self, rows: jax.Array) -> jax.Array:
        return self.inner.lengths(rows)

    def project_gradient(self, params: Params, gradient: Params) -> Params:
        gradient = self.inner.project_gradient(params, gradient)
        along = row_dots(gradient.W_enc, params.W_dec) / _squares(params)
        return gradient.put(W_enc=gradient.W_enc - along * params.W_dec)

    def after_step(self, params: Params) -> Params:
        params = self.inner.after_step(params)
        missing = (1 - row_dots(params.W_enc, params.W_dec)) / _squares(params)
        return params.put(W_enc=params.W_enc + missing * params.W_dec)


def _squares(params: Params):
    return jnp.maximum(row_dots(params.W_dec, params.W_dec), 1e-12)


Finish = Free | UnitRows | UnitSites | Tied | Aligned
