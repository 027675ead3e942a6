"""The TPU kernel without a TPU: interpreted, with its memory poisoned and its races looked for."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from jaxsae.errors import InputError
from jaxsae.kernels.encode_topk import encode_topk, tpu
from jaxsae.kernels.encode_topk.parts import certificate, tpu_bins
from jaxsae.kernels.encode_topk.reference import encode_topk as dense

SMALL = tpu.Blocks(rows=16, latents=256, part=128, bins=128, keep=4)
POISON = pltpu.InterpretParams(uninitialized_memory="nan", out_of_bounds_reads="raise")


def draw(seed, batch, d, n, dtype=jnp.float32, spread=3):
    rng = np.random.default_rng(seed)
    integers = lambda *shape: jnp.asarray(rng.integers(-spread, spread + 1, shape), dtype)
    return integers(batch, d), integers(n, d), integers(n).astype(jnp.float32)


def bins(x, w, b, k, blocks=SMALL, interpret=POISON):
    return jax.jit(lambda *a: tpu_bins.best_of_bins(*a, k, blocks, 2**26, interpret))(x, w, b)


@pytest.mark.parametrize("part", [128, 256])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_lists_hold_the_best_and_bound_the_rest(dtype, part):
    x, w, b = draw(0, 32, 256, 1024, dtype)
    blocks = tpu.Blocks(rows=16, latents=256, part=part, bins=128, keep=4)
    values, indices, dropped = bins(x, w, b, 16, blocks)
    expected_values, expected_indices = dense(x, w, b, 16)
    exact = np.asarray(dropped) < np.asarray(values)[:, -1]
    assert exact.sum() > 8
    np.testing.assert_array_equal(values[exact], expected_values[exact])
    np.testing.assert_array_equal(indices[exact], expected_indices[exact])
    # What is in no list: the fifth best of the fullest bin.
    pre = np.asarray(x.astype(jnp.float32) @ w.astype(jnp.float32).T + b).reshape(32, 8, 128)
    np.testing.assert_array_equal(dropped, np.sort(pre, 1)[:, ::-1][:, 4].max(1))


def test_the_kernel_has_no_races():
    x, w, b = draw(1, 32, 128, 512)
    races = pltpu.InterpretParams(
        detect_races=True, dma_execution_mode="on_wait", num_cores_or_threads=2, uninitialized_memory="nan"
    )
    from jax._src.pallas.mosaic.interpret import interpret_pallas_call

    blocks = tpu.Blocks(rows=8, latents=256, part=128, bins=128, keep=2)
    jax.block_until_ready(bins(x, w, b, 8, blocks, races))
    assert not interpret_pallas_call.races.races_found


def test_a_bin_that_holds_all_the_best_is_repaired():
    x, w, b = draw(2, 40, 128, 1024)
    b = b.at[5::128].add(10_000)  # eight latents of one bin, which keeps four
    found = lambda: jax.jit(lambda *a: tpu.encode_topk(*a, 8, SMALL, True))(x, w, b)
    np.testing.assert_array_equal(found()[1], dense(x, w, b, 8)[1])
    values, indices, dropped = bins(jnp.pad(x, ((0, 8), (0, 0))), w, b, 8)
    assert (dropped[:40] > values[:40, -1]).all()  # without the pivot's word these rows would pass
    assert not np.array_equal(indices[:40], dense(x, w, b, 8)[1])


@pytest.mark.parametrize(("batch", "n", "k"), [(1, 257, 1), (21, 1000, 16), (16, 700, 64), (9, 2048, 160)])
def test_ragged_shapes(batch, n, k):
    x, w, b = draw(n, batch, 128, n)
    values, indices = jax.jit(lambda *a: tpu.encode_topk(*a, k, SMALL, True))(x, w, b)
    expected_values, expected_indices = dense(x, w, b, k)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(indices, expected_indices)


def test_blocks_fit_the_memory_of_every_tpu():
    for mebibytes in (16, 64, 128):
        for d in (128, 384, 768, 2304, 4096, 8192):
            for k in (1, 64, 512):
                blocks = tpu.choose_blocks(8192, 2**18, d, k, 2, mebibytes << 20)
                assert blocks is None or blocks.vmem_bytes(d, k, 2) < mebibytes << 20
                if blocks is not None:
                    assert blocks.latents % blocks.bins == blocks.latents % blocks.part == 0
                    assert blocks.rows % (8 * blocks.parts) == 0
    assert tpu.choose_blocks(8192, 2**18, 4096, 64, 2, 64 << 20).rows == 512


def test_lists_are_long_enough_for_repairs_to_be_rare():
    rng = np.random.default_rng(3)
    for k in (16, 64):
        bins_of, keep = tpu.choose_lists(k)
        full = [np.bincount(rng.integers(0, bins_of, k)).max() > keep for _ in range(20_000)]
        assert np.mean(full) < 5e-4
        assert np.mean(full) == pytest.approx(certificate.overfull(k, bins_of, keep), abs=3e-4)


@pytest.mark.parametrize(
    ("shapes", "k", "message"),
    [
        (((8, 100), (4096, 100)), 4, "multiples of 128.*d is 100"),
        (((8, 128), (4096, 128)), 600, "k up to 512"),
        (((8, 128), (300, 128)), 4, "at least 1?512 latents"),
    ],
)
def test_a_refusal_names_the_limit(shapes, k, message):
    x, w = (jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in shapes)
    assert re.search(message, tpu.refusal(x, w, k, 2**26))


def test_it_is_refused_where_there_is_no_tpu():
    x, w, b = draw(4, 8, 128, 1024)
    with pytest.raises(InputError, match="pallas_tpu needs a TPU.*cpu"):
        encode_topk(x, w, b, 4, "pallas_tpu")
