"""Checks of the fused top-k encoder: every implementation that the device takes, and other devices' by interpreters."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxsae.check import judge
from jaxsae.check.findings import Outcome
from jaxsae.check.inputs import FAMILIES, Inputs
from jaxsae.check.interpreted import INTERPRETED, toy_width
from jaxsae.check.item import Check, judged, repeats, shapes_of
from jaxsae.check.judge import Verdict
from jaxsae.check.poisoned import Poisoned
from jaxsae.kernels import encode_above
from jaxsae.kernels.encode_topk import choose
from jaxsae.kernels.encode_topk.api import IMPLEMENTATIONS

KS = (1, 32, 64, 512)
ROWS, D, WIDTH = 300, 128, 5003  # no whole tile, block or bucket of any kernel
TOY_ROWS, TOY_D = 9, 128  # interpreted
TOY_FAMILIES = ("gaussian", "ties", "one bucket", "masked", "not finite")
LARGE_ROWS, LARGE_D, LARGE_WIDTH, LARGE_K = 8192, 4096, 32_855, 64
LOOKED_AT = 64  # rows of a large batch that the host computes, too
# What `auto` takes on each platform.
MADE_FOR = {"cpu": ("cpu", "screened"), "gpu": ("mosaic_gpu", "chunked"), "tpu": ("pallas_tpu", "xla")}
RECALL = 0.9  # of approximate's best, which promises .95 as a mean

Encode = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def own_dtype(platform: str) -> str:
    """What a platform computes in where it is to be fast."""
    return "float32" if platform == "cpu" else "bfloat16"


def refused(name: str, batch: int, d: int, width: int, k: int, dtype: str) -> str | None:
    """Why an implementation does not take these shapes on this machine's device."""
    x, w = (jax.ShapeDtypeStruct(shape, dtype) for shape in ((batch, d), (width, d)))
    return choose.refusals(x, w, k)[name]


def checks(device: jax.Device) -> Iterator[Check]:
    """The device's own kernels first, then the others that it takes, then, on a CPU, those of other devices, interpreted."""
    made = MADE_FOR[device.platform]
    own = own_dtype(device.platform)
    other = "bfloat16" if own == "float32" else "float32"
    if device.platform != "cpu":
        for name in made:
            if not refused(name, LARGE_ROWS, LARGE_D, LARGE_WIDTH, LARGE_K, own):
                yield _large(name, device, own)
    for name in (*made, *(n for n in IMPLEMENTATIONS if n not in made)):
        for k, dtype in [*((k, own) for k in KS), (32, other)]:
            if not refused(name, ROWS, D, WIDTH, k, dtype):
                yield _encoder(name, device, ROWS, D, WIDTH, k, dtype)
        dtype = own if not refused(name, ROWS, D, WIDTH, 32, own) else other
        if name != "approximate" and not refused(name, ROWS, D, WIDTH, 65, dtype):
            yield _above(name, device, dtype)
    if device.platform != "cpu":
        return
    for name, make in INTERPRETED.items():
        for k in KS:
            if encode := make(k):
                yield _encoder(name, device, TOY_ROWS, TOY_D, toy_width(k), k, "bfloat16", encode)


def _encoder(
    name: str, device: jax.Device, batch: int, d: int, width: int, k: int, dtype: str, encode: Encode | None = None
) -> Check:
    interpreted = encode is not None
    of_name = lambda *a: IMPLEMENTATIONS[name](*a, k)  # looked up when it runs: tests put broken ones there
    run = functools.partial(_run_families, encode or of_name, name, device, (batch, d, width), k, dtype, interpreted)
    title = f"encode {name}{' interpreted' if interpreted else ''} k {k} {dtype}"
    return Check(title, "kernels", name, shapes_of(batch, d, width, k, dtype), run, interpreted)


def as_type(inputs: Inputs, dtype: str) -> tuple[np.ndarray, ...]:
    """x and W_enc in the type that a kernel gets them in, b_enc in float32."""
    return np.asarray(inputs.x, jnp.dtype(dtype)), np.asarray(inputs.w_enc, jnp.dtype(dtype)), inputs.b_enc


def _run_families(
    encode: Encode, name: str, device, sizes: tuple[int, ...], k: int, dtype: str, interpreted: bool, rng
) -> Outcome:
    verdicts, program, same = {}, None, ""
    for family in TOY_FAMILIES if interpreted else FAMILIES:
        inputs = FAMILIES[family](rng, *sizes).rounded(dtype)
        arguments = as_type(inputs, dtype)
        program = program or Poisoned(encode, device, *arguments)
        values, indices = program(*arguments)
        judgement = _recall if name == "approximate" else judge.selection
        verdicts[family] = judgement(values, indices, inputs, k)
        if family == "gaussian":
            same = repeats(program, arguments, (values, indices))
    return judged(verdicts, same, compile_seconds=program.compile_seconds)


def _recall(values: np.ndarray, indices: np.ndarray, inputs: Inputs, k: int) -> Verdict:
    """Whether each value is its latent's and few of the best are missed; rows with NaN are NaN."""
    if wrong := judge.malformed(values, indices, len(inputs.w_enc)):
        return Verdict(np.inf, 0.0, wrong)
    pre = judge.dense(inputs.x, inputs.w_enc, inputs.b_enc)
    nan = np.isnan(pre).any(1)
    own = np.where(nan[:, None], np.nan, np.take_along_axis(pre, indices, 1))
    with np.errstate(invalid="ignore"):
        verdict = judge.compare("values", values, own, 1e-4 * (1 + np.abs(own)))
    if verdict.wrong or nan.all():
        return verdict
    least = np.sort(pre[~nan], 1)[:, -k]
    found = float((values[~nan] >= least[:, None] - 1e-4).mean())
    wrong = "" if found >= RECALL else f"finds {found:.2f} of the best, less than {RECALL}"
    return Verdict(1 - found, 1 - RECALL, wrong)


def _large(name: str, device: jax.Device, dtype: str) -> Check:
    sizes = LARGE_ROWS, LARGE_D, LARGE_WIDTH
    run = functools.partial(_run_large, lambda *a: IMPLEMENTATIONS[name](*a, LARGE_K), device, sizes, LARGE_K, dtype)
    return Check(f"encode {name} large {dtype}", "kernels", name, shapes_of(*sizes, LARGE_K, dtype), run)


def _run_large(encode: Encode, device: jax.Device, sizes: tuple[int, ...], k: int, dtype: str, rng) -> Outcome:
    """At a size that is trained at, where each multiprocessor has many tiles; the host computes some of the rows."""
    batch = sizes[0]
    rows = np.unique(np.r_[0, batch - 1, rng.choice(batch, min(batch, LOOKED_AT), replace=False)])
    verdicts, program, same = {}, None, ""
    for family in ("gaussian", "ties"):
        inputs = FAMILIES[family](rng, *sizes).rounded(dtype)
        arguments = as_type(inputs, dtype)
        program = program or Poisoned(encode, device, *arguments)
        values, indices = program(*arguments)
        some = dataclasses.replace(inputs, x=inputs.x[rows])
        verdicts[family] = judge.selection(values, indices, some, k, rows)
        same = same or repeats(program, arguments, (values, indices))
    return judged(verdicts, same, compile_seconds=program.compile_seconds, rows_compared=len(rows))


def _above(name: str, device: jax.Device, dtype: str) -> Check:
    run = functools.partial(_run_above, name, device, dtype)
    return Check(f"above {name} {dtype}", "kernels", name, shapes_of(ROWS, D, WIDTH, 64, dtype), run)


def _run_above(name: str, device: jax.Device, dtype: str, rng) -> Outcome:
    """All latents above thresholds of their own: where 64 places are enough for a row, and where they are not."""
    verdicts, k_max, program, same = {}, 64, None, ""
    for case, level in (("few above", 120.0), ("more than there are places", 60.0)):
        inputs = FAMILIES["ties"](rng, ROWS, D, WIDTH)
        inputs.x[0, 0] = np.nan
        theta = (level + rng.integers(0, 20, WIDTH)).astype(np.float32)
        arguments = (*as_type(inputs, dtype), theta)
        program = program or Poisoned(lambda *a: encode_above(*a, k_max, name), device, *arguments)
        found = values, indices, overflow = program(*arguments)
        same = same or repeats(program, arguments, found)
        excess = judge.dense(inputs.x, inputs.w_enc, inputs.b_enc) - theta
        order = np.argsort(-np.nan_to_num(excess), axis=1, kind="stable")[:, :k_max]
        above = np.take_along_axis(excess, order, 1)
        expected = np.where(above > 0, np.take_along_axis(excess + theta, order, 1), 0)
        expected[0] = np.nan
        fuller = (excess > 0).sum(1) > k_max
        counted = above[1:] > 0
        placed = ((indices >= 0) & (indices < WIDTH)).astype(float)
        verdicts[case] = judge.worst(
            [
                judge.compare("indices within the width", placed, np.ones_like(placed), 0.0),
                judge.compare("values", values, expected, 0.0),
                judge.compare("indices", indices[1:][counted], order[1:][counted].astype(float), 0.0),
                judge.compare("overflow", overflow[1:], fuller[1:].astype(float), 0.0),
            ]
        )
    return judged(verdicts, same, compile_seconds=program.compile_seconds)
