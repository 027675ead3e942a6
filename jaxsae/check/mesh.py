"""Checks over all devices of this machine: each gives the same bits, and together they select and sum as one does."""

from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from jaxsae.check import judge
from jaxsae.check.encoders import ROWS, D, as_type, own_dtype
from jaxsae.check.findings import PASSED, WRONG, Outcome
from jaxsae.check.inputs import whole
from jaxsae.check.item import Check, judged, shapes_of
from jaxsae.check.poisoned import Poisoned, bits
from jaxsae.kernels import Request, decode, encode, encode_topk
from jaxsae.parallel import MODEL, make_mesh

K = 32
WIDTH_OF_ONE = 640  # latents of a device


def checks(devices: list[jax.Device]) -> Iterator[Check]:
    """Nothing where there is one device."""
    if len(devices) == 1:
        return
    dtype, count = own_dtype(devices[0].platform), len(devices)
    shapes = shapes_of(ROWS, D, WIDTH_OF_ONE * count, K, dtype)
    yield Check(f"{count} devices alike", "kernels", "auto", shapes, lambda rng: _alike(devices, dtype, rng))
    yield Check(f"{count} devices together", "kernels", "auto", shapes, lambda rng: _together(devices, dtype, rng))


def _alike(devices: list[jax.Device], dtype: str, rng: np.random.Generator) -> Outcome:
    """The same selection on each device: one that computes something else is told by its number."""
    arguments = as_type(whole(rng, ROWS, D, WIDTH_OF_ONE * len(devices)).rounded(dtype), dtype)
    found = [bits(Poisoned(lambda *a: encode_topk(*a, K), device, *arguments)(*arguments)) for device in devices]
    odd = [str(device) for device, one in zip(devices, found, strict=True) if one != found[0]]
    return Outcome(WRONG if odd else PASSED, message=f"other bits than {devices[0]}: {', '.join(odd)}" if odd else "")


def _together(devices: list[jax.Device], dtype: str, rng: np.random.Generator) -> Outcome:
    """Latents over all devices: the selection, and its decode, by collectives, against float64."""
    width = WIDTH_OF_ONE * len(devices)
    inputs = whole(rng, ROWS, D, width).rounded(dtype)
    x, w_enc, b_enc = as_type(inputs, dtype)
    w_dec = rng.integers(-3, 4, (width, D)).astype(np.float32)
    mesh, by_latent = make_mesh((1, len(devices)), devices), P(MODEL, None)

    def run(x, w_enc, b_enc, w_dec):
        zero = np.zeros(D, np.float32)
        selected = encode(x, zero, w_enc, b_enc, (None,), (Request(K),))
        ((y,),), one = decode(selected, w_dec), selected[0]
        return one.values, one.indices + jax.lax.axis_index(MODEL) * WIDTH_OF_ONE, y

    specs = dict(in_specs=(P(), by_latent, P(MODEL), by_latent), out_specs=(P(None, MODEL), P(None, MODEL), P()))
    sharded = jax.jit(jax.shard_map(run, mesh=mesh, check_vma=False, **specs))
    values, indices, y = map(np.asarray, sharded(x, w_enc, b_enc, w_dec))
    pre = judge.dense(inputs.x, inputs.w_enc, inputs.b_enc)
    best = np.argsort(-pre, axis=1, kind="stable")[:, :K]
    expected = np.zeros_like(pre)
    np.put_along_axis(expected, best, np.maximum(np.take_along_axis(pre, best, 1), 0), 1)
    found = np.zeros_like(pre)
    np.add.at(found, (np.arange(ROWS)[:, None], indices), values)
    return judged(
        {
            "selection": judge.compare("latents", found, expected, 0.0),
            "decode": judge.compare("rows", y, expected @ w_dec.astype(np.float64), 0.0),
        }
    )
