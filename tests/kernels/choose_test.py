"""`auto` on a GPU: measured once, remembered, the same inside a trace; refusals are said once."""

import json
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.kernels.encode_topk import api, choose, encode_topk, reference, xla
from jaxsae.parallel import DATA, MODEL, make_mesh
from jaxsae.platform import Target

SHAPES = dict(x=(16, 64), w=(512, 64))


def slowly(seconds, called, name):
    def encode(x, w, b, k):
        def wait(values):
            called.append(name)
            time.sleep(seconds)
            return values

        values, indices = xla.encode_topk(x, w, b, k)
        return jax.pure_callback(wait, jax.ShapeDtypeStruct(values.shape, values.dtype), values), indices

    return encode


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A GPU at hand with two encoders of which `mosaic_gpu` takes longer; the calls of both in order."""
    called = []
    pretended = {"mosaic_gpu": slowly(0.03, called, "mosaic_gpu"), "chunked": slowly(0, called, "chunked")}
    monkeypatch.setattr(choose, "CANDIDATES", pretended)
    monkeypatch.setattr(api, "IMPLEMENTATIONS", api.IMPLEMENTATIONS | pretended)
    monkeypatch.setattr(choose, "target", lambda: Target("gpu", "NVIDIA H200"))
    monkeypatch.setattr(choose, "_is_at_hand", lambda kind: True)
    monkeypatch.setattr(choose, "_chosen", {})
    monkeypatch.setenv("JAXSAE_CACHE", str(tmp_path / "new"))
    choose._say_once.cache_clear()
    return called


def arrays(dtype=jnp.bfloat16):
    rng = np.random.default_rng(0)
    return *(jnp.asarray(rng.integers(-3, 4, s), dtype) for s in SHAPES.values()), jnp.zeros(512)


def test_the_faster_is_taken_inside_a_trace_over_a_mesh(gpu):
    x, w, b = arrays()
    specs = dict(in_specs=(P(DATA), P(MODEL), P(MODEL)), out_specs=P(DATA, MODEL))
    mesh = make_mesh((2, 2), jax.devices()[:4])
    shard = partial(jax.shard_map, mesh=mesh, check_vma=False, **specs)
    values, _ = jax.jit(shard(lambda *a: encode_topk(*a, 4)))(x, w, b)
    assert list(choose._chosen.values()) == ["chunked"]
    assert gpu.count("mosaic_gpu") == choose.REPEATS + 1  # never in the program itself
    assert "B 8, n 256, d 64, k 4, bfloat16" in next(iter(choose._chosen))  # a device's own shapes
    np.testing.assert_array_equal(values[:, :4], reference.encode_topk(x, w[:256], b[:256], 4)[0])


def test_a_choice_is_kept_in_memory_and_on_disk(gpu, monkeypatch):
    x, w, b = arrays()
    encode_topk(x, w, b, 4)
    measured = gpu.count("mosaic_gpu")
    encode_topk(x, w, b, 4)
    monkeypatch.setattr(choose, "_chosen", {})
    encode_topk(x, w, b, 4)
    assert gpu.count("mosaic_gpu") == measured > 0
    (entry,) = json.loads(choose.cache_file().read_text()).values()
    assert entry["choice"] == "chunked" and entry["seconds"]["mosaic_gpu"] > 0.03
    encode_topk(x, w, b, 5)
    assert gpu.count("mosaic_gpu") == 2 * measured and len(json.loads(choose.cache_file().read_text())) == 2


@pytest.mark.parametrize("content", ["{", "[1]", None])
def test_a_damaged_or_forbidden_cache_costs_a_measurement_only(gpu, monkeypatch, tmp_path, content):
    monkeypatch.setenv("JAXSAE_CACHE", str(tmp_path))
    if content is None:
        monkeypatch.setenv("JAXSAE_CACHE", "/proc/none")
    else:
        choose.cache_file().write_text(content)
    assert choose.measured("NVIDIA H200", 4, 256, 64, 2, jnp.bfloat16) == "chunked"
    if content is not None:
        assert len(json.loads(choose.cache_file().read_text())) == 1
        assert [p.name for p in tmp_path.iterdir()] == ["encode_topk.json"]


def test_one_that_cannot_run_is_named_and_left_out(gpu, capsys):
    def broken(x, w, b, k):
        raise RuntimeError("no such instruction")

    choose.CANDIDATES["chunked"] = broken
    assert choose.measured("NVIDIA H200", 4, 256, 64, 2, jnp.bfloat16) == "mosaic_gpu"
    assert "chunked cannot be used here: no such instruction" in capsys.readouterr().err


def test_refusals_say_why_once(gpu, capsys, monkeypatch):
    x, w, _ = arrays(jnp.float32)
    assert [choose.for_target(x, w, 4) for _ in range(3)] == ["chunked"] * 3
    assert capsys.readouterr().err.count("mosaic_gpu takes x and W_enc in bfloat16") == 1
    monkeypatch.setattr(choose, "target", lambda: Target("gpu", "NVIDIA A100-SXM4-80GB"))
    assert choose.for_target(*arrays()[:2], 4) == "chunked" and not gpu
    assert "needs a Hopper GPU, not NVIDIA A100" in capsys.readouterr().err


def test_a_device_that_is_not_at_hand_is_not_asked(gpu, monkeypatch):
    monkeypatch.setattr(choose, "_is_at_hand", lambda kind: False)
    assert choose.for_target(*arrays()[:2], 4) == "mosaic_gpu" and not gpu


def test_the_cache_lies_where_the_user_says(monkeypatch, tmp_path):
    for name in ("JAXSAE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert choose.cache_file() == tmp_path / ".cache/jaxsae/encode_topk.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(choose.cache_file()) == "/x/jaxsae/encode_topk.json"
    monkeypatch.setenv("JAXSAE_CACHE", "/own")
    assert str(choose.cache_file()) == "/own/encode_topk.json"


def test_less_is_measured_where_memory_is_short():
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 1000 * 2**20, "bytes_in_use": 200 * 2**20}

    assert choose._width_that_fits(Device(), 2**20, 1024, 2) == 2**16
    assert choose._width_that_fits(jax.devices()[0], 2**20, 1024, 2) == 2**20  # a CPU does not say
