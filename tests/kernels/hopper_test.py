"""The Hopper kernel by its interpreter: lists, certificate, limits. What all encoders must do is in encode_topk_test.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.kernels.encode_topk import encode_topk, hopper, reference
from jaxsae.kernels.encode_topk.parts import bucket_topk, certificate
from jaxsae.kernels.encode_topk.parts.certificate import overfull
from jaxsae.kernels.encode_topk.parts.hopper_buckets import bias_of_tiles, bucket_best, choose_sizes
from jaxsae.platform import Target

interpreter = pytest.importorskip("jax._src.pallas.mosaic_gpu.interpret.gpu_callbacks")
params = pytest.importorskip("jax._src.pallas.mosaic_gpu.interpret.params")


def integers(seed, rows, d, n, spread=3):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.integers(-spread, spread + 1, shape)
    return (
        jnp.asarray(draw(rows, d), jnp.bfloat16),
        jnp.asarray(draw(n, d), jnp.bfloat16),
        jnp.asarray(draw(n), jnp.float32),
    )


def one_bucket(seed):
    """Inputs whose k best all lie in one bucket."""
    x, w, b = integers(seed, 5, 64, 300)
    return x, w, b.at[64:128].add(1000)


def select(x, w, b, k, size=64, keep=3):
    buckets = hopper.Buckets(size, keep, rows=128, cluster=1)
    return jax.jit(lambda *a: hopper.encode_topk(*a, k, buckets, params.InterpretGPUParams()))(x, w, b)


@pytest.mark.parametrize("cluster", [1, 2])
def test_lists_are_each_buckets_best_and_no_race_is_found(cluster):
    x, w, b = integers(1, 256, 128, 300)  # two tiles, the second of which repeats most of the first
    buckets = hopper.Buckets(128, 3, 256, cluster)
    interpreter.reset_gpu_interpret_mode_state()
    interpret = params.InterpretGPUParams(detect_races=True)
    values, places, rest = jax.jit(lambda *a: bucket_best(*a, buckets, cluster, interpret))(x, w, bias_of_tiles(b))
    starts = np.asarray(buckets.start(np.arange(4), 300))
    assert starts.tolist() == [0, 128, 44, 172]
    pre = np.asarray(x, np.float64) @ np.asarray(w, np.float64).T + np.asarray(b)
    for bucket, start in enumerate(starts):
        own = pre[:, start : start + 128].copy()
        if bucket >= 2:
            own[:, : max(0, 256 - start)] = -np.inf
        order = np.argsort(-own, axis=1, kind="stable")
        best = np.take_along_axis(own, order, 1)
        np.testing.assert_array_equal(values[:, bucket], best[:, :3].T)
        np.testing.assert_array_equal(rest[bucket], best[:, 3])
        found = 127 - (np.asarray(places)[0, bucket] >> np.array([[0], [8], [16]]) & 255)
        live = np.isfinite(best[:, :3].T)
        np.testing.assert_array_equal(found[live], order[:, :3].T[live])
    assert not interpreter.get_races().races_found


def test_rows_whose_best_share_a_bucket_are_repaired():
    x, w, b = one_bucket(2)
    expected = reference.encode_topk(x, w, b, 20)
    for found, exact in zip(select(x, w, b, 20), expected, strict=True):
        np.testing.assert_array_equal(found, exact)


def test_without_its_certificate_the_selection_is_wrong(monkeypatch):
    monkeypatch.setattr(certificate, "certify", lambda best, dropped, bias: (best, jnp.zeros(dropped.shape, bool)))
    x, w, b = one_bucket(2)
    assert (select(x, w, b, 20)[1] != reference.encode_topk(x, w, b, 20)[1]).any(1).all()


def test_a_certified_row_is_not_repaired(monkeypatch):
    poisoned = lambda x, *_: (jnp.full((len(x), 8), -7.0), jnp.full((len(x), 8), -7))
    monkeypatch.setattr(certificate.xla, "encode_topk", poisoned)
    x, w, b = integers(3, 5, 64, 512)
    b += jnp.arange(512) / 1024  # no two are equal
    for found, exact in zip(select(x, w, b, 8, keep=7), reference.encode_topk(x, w, b, 8), strict=True):
        np.testing.assert_array_equal(found, exact)


def test_few_latents_left_in_need_no_repair(monkeypatch):
    poisoned = lambda x, *_: (jnp.full((len(x), 30), -7.0), jnp.full((len(x), 30), -7))
    monkeypatch.setattr(certificate.xla, "encode_topk", poisoned)
    x, w, b = integers(4, 5, 64, 304)
    b = jnp.where(np.isin(np.arange(304), [3, 70, 71, 140, 280, 303]), b, -jnp.inf)
    for found, exact in zip(select(x, w, b, 30, keep=4), reference.encode_topk(x, w, b, 30), strict=True):
        np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("total", [40, 300, 1024, 4096])
def test_narrowed_top_k_is_top_k(k, total):
    values = jnp.asarray(np.random.default_rng(k).integers(0, 50, (7, total)), jnp.float32)
    for found, exact in zip(bucket_topk.top_k(values, k), jax.lax.top_k(values, k), strict=True):
        np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("k", [1, 16, 64, 160, 512])
@pytest.mark.parametrize("n", [2**16, 2**20, 2**24])
def test_misses_are_rare_by_choice_of_sizes(k, n):
    size, keep = choose_sizes(n, k)
    assert overfull(k, n // size, keep) < 1e-5
    at_random = np.random.default_rng(k).integers(0, n // size, (500, k))
    counts = np.array([np.bincount(row).max() for row in at_random])
    assert (counts > keep).mean() < 0.01


def test_lists_stand_for_a_bounded_number_of_rows():
    for n in (2**14, 2**20, 2**24):
        buckets = hopper.choose_buckets(8192, n, 64)
        assert 8192 % buckets.rows == 0 and buckets.rows * buckets.count(n) * (buckets.keep + 3) <= 2**28


def test_what_it_does_not_take_is_refused_with_the_limit():
    half = lambda *shape: jnp.zeros(shape, jnp.bfloat16)
    with pytest.raises(InputError, match=r"mosaic_gpu needs a Hopper GPU.*'cpu'.*chunked"):
        encode_topk(half(2, 64), half(512, 64), jnp.zeros(512), 4, "mosaic_gpu")
    refused = lambda x, w, k: hopper.refusal(x, w, k)
    assert "float32" in refused(jnp.zeros((2, 64)), half(512, 64), 4)
    assert "multiples of 64" in refused(half(2, 100), half(512, 100), 4)
    assert "at least 256 latents" in refused(half(2, 64), half(200, 64), 4)
    assert "fewer than k = 512" in refused(half(2, 64), half(512, 64), 512)
    assert refused(half(2, 64), half(512, 64), 16) is None


@pytest.mark.parametrize(
    ("kind", "hopper_gpu"),
    [
        ("NVIDIA H200", True),
        ("NVIDIA H100 80GB HBM3", True),
        ("NVIDIA GH200 480GB", True),
        ("NVIDIA B200", False),
        ("NVIDIA A100-SXM4-80GB", False),
        ("NVIDIA GeForce RTX 4090", False),
    ],
)
def test_hopper_is_told_by_name(kind, hopper_gpu):
    assert Target("gpu", kind).is_hopper == hopper_gpu and not Target("tpu", kind).is_hopper


def test_sizes_are_chosen_for_any_k():
    """Binomial terms of k 2,048, AuxK's at d 4,096, are beyond a float's range one by one."""
    for k in (1, 64, 512, 1030, 2048, 8192):
        size, keep = choose_sizes(2**19, k)
        assert 0 <= overfull(k, 2**19 // size, keep) <= 1
    rng = np.random.default_rng(0)
    full = np.mean([np.bincount(rng.integers(0, 256, 64)).max() > 3 for _ in range(20_000)])
    assert overfull(64, 256, 3) == pytest.approx(full, rel=0.2)
