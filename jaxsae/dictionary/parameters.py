"""Parameters of a dictionary, its latents, and the change of units between activations and the trainer.

The trainer sees y = (x - mean) * scale. `fold` carries that into the weights, so that a dictionary takes
activations as they are.
"""

import dataclasses
from collections.abc import Callable, Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary.kinds import dense
from jaxsae.dictionary.selection import Selection
from jaxsae.dictionary.widths import Widths
from jaxsae.kernels.by_layer import as_read
from jaxsae.parallel import MODEL

SKIP = "W_skip"  # of the shared parameters: [d_out, d_in], what goes past the latents


@flax.struct.dataclass
class Params:
    """Parameters by where they stand: what has a row for each latent is split over the mesh, the rest is everywhere.

    One class for parameters, their PartitionSpecs, gradients, moments and checkpoint templates. A method adds arrays of
    its own to either part, and sharding, update, checkpoints and averages follow from the part.

    Attributes:
      latent: name -> [n, ...]: W_enc [n, d_in], or of a layer alone, b_enc [n], W_dec [n, d_out], a method's own.
      shared: name -> any shape: b_dec [d_out], a method's own.
    """

    latent: dict[str, jax.Array]
    shared: dict[str, jax.Array]

    @classmethod
    def of(cls, W_enc, b_enc, W_dec, b_dec, **latent) -> "Params":
        """Those of a dictionary with one bias of its output, and arrays `latent` that a method adds."""
        return cls({"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, **latent}, {"b_dec": b_dec})

    @property
    def W_enc(self) -> jax.Array:
        return self.latent["W_enc"]

    @property
    def b_enc(self) -> jax.Array:
        return self.latent["b_enc"]

    @property
    def W_dec(self) -> jax.Array:
        return self.latent["W_dec"]

    @property
    def b_dec(self) -> jax.Array:
        return self.shared["b_dec"]

    def put(self, **arrays) -> "Params":
        """These parameters with some arrays replaced, where they stand."""
        for name in arrays:
            if name not in self.latent and name not in self.shared:
                raise KeyError(f"no parameter {name}: there are {', '.join([*self.latent, *self.shared])}")
        within = lambda part: {name: arrays.get(name, array) for name, array in part.items()}
        return Params(within(self.latent), within(self.shared))


SPECS = Params(latent=P(MODEL), shared=P())  # a prefix of every tree of parameters, whatever arrays a method adds


def is_by_latent(path: tuple) -> bool:
    """Whether the leaf at a tree path has a row for each latent; moments and averages mirror the parameters."""
    return any(getattr(key, "name", "") == "latent" for key in path)


@flax.struct.dataclass
class Latents:
    """Active latents of rows, sparse; arrays of JAX, NumPy or torch.

    Attributes:
      values: float32 [..., k], 0 where a row has fewer than k active latents.
      indices: int32 [..., k] (of torch int64), distinct within a row where values are not 0.
    """

    values: jax.Array
    indices: jax.Array

    def dense(self, width: int) -> jax.Array:
        """[..., width] with zeros where a latent is not active; of the arrays' own kind."""
        return dense(self.values, self.indices, width)


@dataclasses.dataclass(frozen=True)
class Normalization:
    """y = (x - mean) * scale, from activations x to what the trainer sees.

    Attributes:
      mean: float32 [d], in units of the activations.
      scale: 1 / units of the activations; float32 [d] where there are several sites, each with its own.
    """

    mean: np.ndarray
    scale: float | np.ndarray

    @classmethod
    def identity(cls, d_model: int) -> "Normalization":
        return cls(np.zeros(d_model, np.float32), 1.0)

    @classmethod
    def beside(cls, parts: Sequence["Normalization"]) -> "Normalization":
        """That of sites side by side."""
        if len(parts) == 1:
            return parts[0]
        whole = lambda part: np.full(len(part.mean), part.scale, np.float32)
        return cls(np.concatenate([part.mean for part in parts]), np.concatenate([whole(part) for part in parts]))

    def of(self, pick: Callable[[np.ndarray], np.ndarray]) -> "Normalization":
        """That of some of the numbers, as `Widths.read` and `Widths.written` pick them."""
        return Normalization(pick(self.mean), pick(self.scale) if np.ndim(self.scale) else self.scale)

    def sides(self, widths: Widths) -> "tuple[Normalization, Normalization | None]":
        """That of what is read, and that of what is written where it is something else, as `fold` and `unfold` take them."""
        return self.of(widths.read), None if widths.writes is None else self.of(widths.written)

    @property
    def unit(self) -> float | jax.Array:
        """What latents are divided by, where reconstructions are: the scale of the first number."""
        return self.scale[0] if np.ndim(self.scale) else self.scale


def transcoder_init(key: jax.Array, width: int, d_in: int, d_out: int, skip: bool) -> Params:
    """Encoder rows of length 1 in random directions; the decoder, biases and what skips the latents 0 (2501.18823)."""
    rows = jax.random.normal(key, (width, d_in))
    rows = rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
    params = Params.of(W_enc=rows, b_enc=jnp.zeros(width), W_dec=jnp.zeros((width, d_out)), b_dec=jnp.zeros(d_out))
    return Params(params.latent, params.shared | {SKIP: jnp.zeros((d_out, d_in))}) if skip else params


def tied_init(key: jax.Array, width: int, d_model: int, norm: float = 1.0) -> Params:
    """Decoder rows of length `norm` in random directions, the encoder their transpose, biases 0."""
    rows = jax.random.normal(key, (width, d_model))
    rows = norm * rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
    return Params.of(W_enc=rows, b_enc=jnp.zeros(width), W_dec=rows, b_dec=jnp.zeros(d_model))


def from_own_layer_on(rows: jax.Array, first_row: jax.Array | int, layers: int) -> jax.Array:
    """Decoder rows [n, L d_out], or what becomes of them, 0 at the layers before a latent's own, which is i mod L.

    Args:
      first_row: the number of the first.
    """
    own = (first_row + jnp.arange(len(rows))) % layers
    reaches = jnp.arange(layers) >= own[:, None]
    return jnp.where(jnp.repeat(reaches, rows.shape[1] // layers, 1), rows, 0)


def fold(
    params: Params,
    normalization: Normalization,
    pre_bias: bool,
    selection: Selection,
    written: Normalization | None = None,
) -> Params:
    """Weights that take x and give x_hat, in units of the activations; decoder rows keep their length.

    With latents z' = z / scale:  W_enc' = W_enc, W_dec' = W_dec, b_dec' = b_dec / scale + mean, and
    b_enc' = b_enc / scale where `b_dec` is subtracted from the input (`pre_bias`), else also - W_enc mean.
    Where scales differ, latents are divided by the (first) scale of what is written, `unit`, and
    W_enc' = W_enc scale / unit, W_dec' = W_dec unit / scale of what is written. A latent that reads one layer's part has
    its numbers of mean and scale.

    Args:
      selection: whose arrays by latent go with them. written: of what is reconstructed; None: of what is read.
    """
    mean, scale, out = normalization.mean, normalization.scale, written or normalization
    unit = out.unit
    if written is not None or np.ndim(scale):
        read = as_read(scale, params.W_enc)
        params = params.put(W_enc=params.W_enc * (read / unit), W_dec=params.W_dec * (unit / out.scale))
    params = params.put(b_enc=params.b_enc / unit, **selection.scaled(params.latent, 1 / unit))
    params = params.put(b_dec=params.b_dec / out.scale + out.mean)
    if SKIP in params.shared:
        skip = params.shared[SKIP] * scale / jnp.reshape(out.scale, (-1, 1))
        params = params.put(W_skip=skip, b_dec=params.b_dec - skip @ mean)
    return params if pre_bias else shifted(params, of_mean(params.W_enc, mean), selection)


def of_mean(w_enc: jax.Array, mean: np.ndarray | jax.Array) -> jax.Array:
    """[n]: W_enc mean, of a mean [d_in] of what is read."""
    read = as_read(mean, w_enc)
    return w_enc @ read if read.ndim == 1 else (w_enc * read).sum(-1)


def shifted(params: Params, by: jax.Array, selection: Selection) -> Params:
    """The same latents of inputs for which W_enc x is larger by [n]."""
    return params.put(b_enc=params.b_enc - by, **selection.shifted(params.latent, by))


def fold_row_lengths(params: Params, selection: Selection, lengths: jax.Array) -> Params:
    """Decoder rows divided by their `lengths` [n], as a finish has them, each latent multiplied by the length of its row.

    What a latent adds to a reconstruction stays; one whose row is all zeros is never active then.
    A top-k chooses by the size of latents: it chooses the same where all lengths are equal.

    Args:
      selection: as for `fold`.
    """
    W_dec = params.W_dec / jnp.where(lengths > 0, lengths, 1)[:, None]
    scaled = {"b_enc": params.b_enc * lengths} | selection.scaled(params.latent, lengths)
    return params.put(W_enc=params.W_enc * lengths[:, None], W_dec=W_dec, **scaled)


def unfold(
    params: Params,
    normalization: Normalization,
    pre_bias: bool,
    selection: Selection,
    written: Normalization | None = None,
) -> Params:
    """The inverse of `fold`: weights in activation units -> the trainer's units."""
    mean, scale, out = normalization.mean, normalization.scale, written or normalization
    unit = out.unit
    params = params if pre_bias else shifted(params, -of_mean(params.W_enc, mean), selection)
    if SKIP in params.shared:
        skip = params.shared[SKIP]
        params = params.put(W_skip=skip / scale * jnp.reshape(out.scale, (-1, 1)), b_dec=params.b_dec + skip @ mean)
    params = params.put(b_enc=params.b_enc * unit, **selection.scaled(params.latent, unit))
    if written is not None or np.ndim(scale):
        read = as_read(scale, params.W_enc)
        params = params.put(W_enc=params.W_enc * (unit / read), W_dec=params.W_dec * (out.scale / unit))
    return params.put(b_dec=(params.b_dec - out.mean) * out.scale)
