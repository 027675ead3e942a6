"""A dictionary's weights on the host, and the changes of form that leave its reconstructions as they are."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxsae.dictionary import SKIP, Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.exchange.files import check_shapes

# A format's tensor -> the array of `Weights` that it is, and its dimensions as letters: "dn" is the transpose.
Form = Mapping[str, tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Weights:
    """float32 arrays: W_enc [n, d_in], b_enc [n], W_dec [n, d_out], b_dec [d_out]; `own`: those that a method adds, name ->
    [n], and what goes past the latents, W_skip [d_out, d_in]."""

    W_enc: np.ndarray
    b_enc: np.ndarray
    W_dec: np.ndarray
    b_dec: np.ndarray
    own: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> "Weights":
        """Those of `arrays` by name; what is none of the four is a method's own."""
        four = {f.name: arrays[f.name] for f in dataclasses.fields(cls) if f.name != "own"}
        return cls(**four, own={name: array for name, array in arrays.items() if name not in four})

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of them by name."""
        four = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "own"}
        return four | dict(self.own)

    @property
    def width(self) -> int:
        """Number of latents, n."""
        return self.W_enc.shape[0]

    @property
    def d_model(self) -> int:
        """Width of the activations that are read, d_in."""
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        """Width of what is written."""
        return self.W_dec.shape[1]


FIX = "take an earlier checkpoint of the run, or train it again"
FREE_ROWS = ("relu", "jumprelu_tanh", "rescaled")  # whose decoder rows have any length


def unit_rows(weights: Weights, config: MethodConfig) -> Weights:
    """The weights as other tools take them: decoder rows of length 1, thresholds as they are compared."""
    own = dict(weights.own)
    if "log_threshold" in own:
        own["threshold"] = np.exp(own.pop("log_threshold"))
        weights = dataclasses.replace(weights, own=own)
    if config.architecture in FREE_ROWS and not config.transcode:
        weights = unit_norm(weights, tuple(name for name in weights.own if name not in ("r_mag", SKIP)))
    return weights


def one_threshold(weights: Weights, dictionary: Dictionary) -> Weights:
    """The weights with a threshold for each latent where the dictionary has one for all."""
    if not dictionary.config.has_threshold:
        return weights
    same = np.full(weights.width, dictionary.threshold, np.float32)
    return dataclasses.replace(weights, own=dict(weights.own) | {"threshold": same})


def of_dictionary(dictionary: Dictionary) -> Weights:
    """The weights of `dictionary`, whole, in units of the activations.

    Raises:
      InputError: a weight is NaN or infinite.
    """
    arrays = dictionary.params.latent | dictionary.params.shared
    weights = Weights.of({name: np.asarray(array, np.float32) for name, array in arrays.items()})
    check_finite(weights, "the dictionary", FIX)
    return weights


def of_tensors(tensors: Mapping[str, np.ndarray], form: Form, path: Path) -> Weights:
    """The arrays of a file at `path`; tensors that the form does not name are left out.

    Raises:
      InputError: a tensor is missing, does not fit the others, or holds integers.
    """
    check_shapes(tensors, {theirs: letters for theirs, (_, letters) in form.items()}, path)
    for theirs, (_, letters) in form.items():
        if letters and np.issubdtype(tensors[theirs].dtype, np.integer):
            raise InputError(
                f"--input: {path}: tensor {theirs!r} is of {tensors[theirs].dtype}, expected floating-point numbers: "
                "quantised weights are not read. Save it as float32."
            )
    return Weights.of({ours: _laid(tensors[theirs], letters) for theirs, (ours, letters) in form.items()})


def _laid(array: np.ndarray, letters: str) -> np.ndarray:
    return np.ascontiguousarray(array.T if letters == "dn" else array)


def to_dictionary(
    weights: Weights, config: MethodConfig, metadata: dict, source: str, threshold: float = 0.0
) -> Dictionary:
    """The dictionary that `weights`, read from `source`, make up; `threshold` is batchtopk's and matryoshka's.

    Raises:
      InputError: a weight is NaN or infinite.
    """
    check_finite(weights, source, "the file is damaged or its training diverged")
    arrays = {name: jnp.asarray(array, jnp.float32) for name, array in weights.arrays.items()}
    past = {name: arrays.pop(name) for name in (SKIP,) if name in arrays}
    params = Params.of(**arrays)
    params = params.replace(shared=params.shared | past)
    return Dictionary(params, config, metadata, threshold=threshold)


def check_finite(weights: Weights, source: str, fix: str) -> None:
    """Raises `InputError` naming the first weight that holds NaN or Inf."""
    for name, bad in not_finite(weights.arrays).items():
        if bad:
            raise InputError(f"{source}: {bad:,} values of {name} are NaN or infinite; {fix}.")


def not_finite(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Array -> how many of its numbers are NaN or infinite."""
    return {name: int(np.size(array) - np.isfinite(array).sum()) for name, array in arrays.items()}


def check_thresholds(threshold: np.ndarray, path: Path) -> None:
    """Raises `InputError` unless the thresholds [n] of a file are finite and none is negative."""
    low, high = threshold.min(), threshold.max()
    if not np.isfinite([low, high]).all():
        found = f"--input: {path}: thresholds from {low:g} to {high:g}, expected finite numbers"
        raise InputError(f"{found}; the file is damaged or its training diverged.")
    if low < 0:
        below = f"--input: {path}: thresholds from {low:g} to {high:g}, expected 0 or more"
        raise InputError(f"{below}: nothing there keeps latents below 0 from being active, which jaxsae's never are.")


def behind_relu(weights: Weights, path: Path) -> Weights:
    """The same of a file whose tool has a ReLU behind the threshold, where one below 0 means 0.

    Raises:
      InputError: a threshold is not finite.
    """
    threshold = weights.own["threshold"]
    with np.errstate(invalid="ignore"):
        clipped = np.where(threshold < 0, np.float32(0), threshold)  # NaN and infinities stay, -inf with them
    check_thresholds(np.where(np.isfinite(threshold), clipped, threshold), path)
    return dataclasses.replace(weights, own=dict(weights.own) | {"threshold": clipped})


def unit_norm(weights: Weights, own: tuple[str, ...] = ()) -> Weights:
    """Decoder rows of length 1: latent i becomes ||W_dec,i|| z_i, reconstructions stay.

    Only for methods that choose each latent by itself, as ReLU does: a top-k would choose others.
    A row of zeros gets a unit row and an encoder that never fires, which is what z_i times 0 is.

    Args:
      own: the method's arrays that are in the units of latents, as its selection says.
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
        own=dict(weights.own) | {name: (weights.own[name] * norm[:, 0]).astype(np.float32) for name in own},
    )


def set_pre_bias(weights: Weights, now: bool, wanted: bool) -> Weights:
    """The same latents by W_enc x + b_enc and by W_enc (x - b_dec) + b_enc'.

    Args:
      now: whether b_dec is subtracted from the input. wanted: whether it is to be.
    """
    if now == wanted:
        return weights
    # In float64: with a large mean, W_enc b_dec is far larger than b_enc.
    shift = weights.W_enc.astype(np.float64) @ weights.b_dec.astype(np.float64) * (1 if wanted else -1)
    own = dict(weights.own)
    if "r_mag" in own:  # gated's sizes are not made of the sum with b_enc
        own["b_mag"] = (own["b_mag"] + np.exp(own["r_mag"].astype(np.float64)) * shift).astype(np.float32)
    return dataclasses.replace(weights, b_enc=(weights.b_enc + shift).astype(np.float32), own=own)
