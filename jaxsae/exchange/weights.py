"""A dictionary's weights on the host, and the changes of form that leave its reconstructions as they are."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError


@dataclasses.dataclass(frozen=True)
class Weights:
    """float32 arrays: W_enc [n, d], b_enc [n], W_dec [n, d], b_dec [d]."""

    W_enc: np.ndarray
    b_enc: np.ndarray
    W_dec: np.ndarray
    b_dec: np.ndarray

    @property
    def width(self) -> int:
        """Number of latents, n."""
        return self.W_enc.shape[0]

    @property
    def d_model(self) -> int:
        """Width of the activations, d."""
        return self.W_enc.shape[1]


def of_dictionary(dictionary: Dictionary) -> Weights:
    """The weights of `dictionary` in units of the activations.

    Raises:
      InputError: a weight or the threshold is NaN or infinite.
    """
    names = [f.name for f in dataclasses.fields(Weights)]
    weights = Weights(*(np.asarray(getattr(dictionary.params, name), np.float32) for name in names))
    fix = "take an earlier checkpoint of the run, or train it again"
    check_finite(weights, "the dictionary", fix)
    if not np.isfinite(dictionary.threshold):
        raise InputError(f"the dictionary: its threshold is {dictionary.threshold}; {fix}.")
    return weights


def check_architecture(dictionary: Dictionary, file_format: str, fits: Mapping[str, str]) -> None:
    """Raises `InputError` unless `fits`, {architecture: what the format calls it}, has the dictionary's."""
    architecture = dictionary.config.architecture
    if architecture not in fits:
        raise InputError(f"--format={file_format} has no form for {architecture}; it holds {', '.join(fits)}.")


def to_dictionary(
    weights: Weights, config: MethodConfig, metadata: dict, source: str, threshold: float = 0.0
) -> Dictionary:
    """The dictionary that `weights`, read from `source`, make up; `threshold` is batchtopk's.

    Raises:
      InputError: a weight is NaN or infinite.
    """
    check_finite(weights, source, "the file is damaged or its training diverged")
    params = Params.of(
        **{f.name: jnp.asarray(getattr(weights, f.name), jnp.float32) for f in dataclasses.fields(weights)}
    )
    return Dictionary(params, config, metadata, threshold=threshold)


def check_finite(weights: Weights, source: str, fix: str) -> None:
    """Raises `InputError` naming the first weight that holds NaN or Inf."""
    for field in dataclasses.fields(weights):
        bad = np.size(getattr(weights, field.name)) - np.isfinite(getattr(weights, field.name)).sum()
        if bad:
            raise InputError(f"{source}: {bad:,} values of {field.name} are NaN or infinite; {fix}.")


def unit_norm(weights: Weights) -> Weights:
    """Decoder rows of length 1: latent i becomes ||W_dec,i|| z_i, reconstructions stay.

    Only for methods that choose each latent by itself, as ReLU does: a top-k would choose others.
    A row of zeros gets a unit row and an encoder that never fires, which is what z_i times 0 is.
    """
    norm = np.linalg.norm(weights.W_dec.astype(np.float64), axis=1, keepdims=True)
    unit = np.zeros(weights.d_model)
    unit[0] = 1.0
    W_dec = np.where(norm > 0, weights.W_dec / np.where(norm > 0, norm, 1), unit)
    return dataclasses.replace(
        weights,
        W_enc=(weights.W_enc * norm).astype(np.float32),
        b_enc=(weights.b_enc * norm[:, 0]).astype(np.float32),
        W_dec=W_dec.astype(np.float32),
    )


def with_pre_bias(weights: Weights) -> Weights:
    """From W_enc x + b_enc to the same pre-activations as W_enc (x - b_dec) + b_enc'."""
    return dataclasses.replace(weights, b_enc=_shifted(weights, 1.0))


def without_pre_bias(weights: Weights) -> Weights:
    """From W_enc (x - b_dec) + b_enc to the same pre-activations as W_enc x + b_enc'."""
    return dataclasses.replace(weights, b_enc=_shifted(weights, -1.0))


def _shifted(weights: Weights, sign: float) -> np.ndarray:
    # In float64: with a large mean, W_enc b_dec is far larger than b_enc.
    shift = weights.W_enc.astype(np.float64) @ weights.b_dec.astype(np.float64)
    return (weights.b_enc + sign * shift).astype(np.float32)
