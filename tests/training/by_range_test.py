"""`load_by_range` beside `load`: the same bits, a range at a time, and damage is told when it is read."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore as ts
from wide_run import make_run

from jaxsae.dictionary import MethodConfig, Widths, make_method
from jaxsae.errors import InputError
from jaxsae.training import load
from jaxsae.training.by_range import load_by_range
from jaxsae.training.checkpoint import Checkpoints
from jaxsae.training.run import checkpoint_metadata
from jaxsae.training.state import TrainState, scale_shape

D, N, ROWS = 24, 168, 48


def save(run, config: MethodConfig, widths: Widths, ema_decay: float) -> None:
    """A checkpoint of a run with random weights, a large mean and a scale."""
    method, rng = make_method(config), np.random.default_rng(0)
    noise = lambda a: a + 0.1 * rng.standard_normal(a.shape).astype(np.float32)
    params = jax.tree.map(noise, method.init(jax.random.key(0), widths))
    shape = scale_shape(widths)
    state = TrainState(
        step=jnp.int32(7),
        params=params,
        moments=None,
        since_fired=None,
        skipped=jnp.int32(1),
        average=jax.tree.map(lambda a: 0.3 * noise(a), params) if ema_decay else None,
        threshold=jnp.float32(1.7),
        mean=jnp.asarray(30 * rng.standard_normal(widths.numbers).astype(np.float32)),
        scale=jnp.asarray(rng.uniform(0.03, 0.04, shape).astype(np.float32)),
    )
    known = {"average_threshold": 1.3} if ema_decay and config.has_threshold else {}
    metadata = checkpoint_metadata(config, widths, ema_decay, {"model": "m", "site": "s"}) | known
    with Checkpoints(run / "checkpoints") as checkpoints:
        checkpoints.save(7, state, metadata)


def cases():
    one, transcoder = Widths.of(D), Widths((D, 16), 1, (1,), 1)
    layers = Widths((D, D, D, 16, 16, 16), 3, (3, 4, 5), 3)
    for architecture in ("topk", "batchtopk", "jumprelu", "jumprelu_tanh", "relu", "gated", "rescaled", "matryoshka"):
        yield MethodConfig(N, architecture, 4), one, 0.0
    for architecture in ("topk", "batchtopk", "jumprelu"):
        yield MethodConfig(N, architecture, 4), one, 0.9
    yield MethodConfig(N, "batchtopk", 4, transcode=True, skip=True), transcoder, 0.0
    yield MethodConfig(N, "relu", 4, transcode=True, layers=3), layers, 0.9


@pytest.mark.parametrize(("config", "widths", "ema_decay"), cases())
def test_the_same_bits_as_load(config, widths, ema_decay, tmp_path):
    save(tmp_path, config, widths, ema_decay)
    whole, ranged = load(tmp_path), load_by_range(tmp_path)
    assert dataclasses.replace(ranged, params=whole.params, mesh=whole.mesh) == whole
    assert (ranged.width, ranged.d_model, ranged.widths) == (whole.width, whole.d_model, whole.widths)
    assert sorted(ranged.params.latent) == sorted(whole.params.latent)
    for name, array in whole.params.latent.items():
        rows = ranged.params.latent[name]
        found = np.concatenate([rows[i : i + ROWS] for i in range(0, N, ROWS)])
        np.testing.assert_array_equal(found, array, err_msg=name)
    for name, array in whole.params.shared.items():
        np.testing.assert_array_equal(ranged.params.shared[name], array, err_msg=name)


def test_a_number_that_changed_on_the_disk_is_told(tmp_path):
    save(tmp_path, MethodConfig(N, "jumprelu", 4), Widths.of(D), 0.0)
    base = {"driver": "file", "path": f"{tmp_path}/checkpoints/7/dictionary/"}
    kvstore = {"driver": "ocdbt", "base": base, "path": "params.latent.W_dec/"}
    array = ts.open({"driver": "zarr3", "kvstore": kvstore}).result()
    array[100, 3] = np.nextafter(array[100, 3].read().result(), np.float32(9))
    rows = load_by_range(tmp_path).params.W_dec
    assert rows[:ROWS].shape == (ROWS, D)
    with pytest.raises(InputError, match=r"checkpoints/7: .*other bits than were saved in .*W_dec"):
        [rows[i : i + ROWS] for i in range(ROWS, N, ROWS)]


def test_a_file_cut_short_is_told(tmp_path):
    save(tmp_path, MethodConfig(N, "topk", 4), Widths.of(D), 0.0)
    largest = max((tmp_path / "checkpoints/7/dictionary").rglob("d/*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: -largest.stat().st_size // 2])
    with pytest.raises(InputError, match=r"checkpoints/7: this checkpoint is damaged"):
        np.asarray(load_by_range(tmp_path).params.W_enc)


def test_ranges_over_the_edges_of_chunks(tmp_path):
    make_run(tmp_path, width=N, d_model=D, limit=4 * D * 42)  # four chunks of 42 latents
    whole, ranged = load(tmp_path), load_by_range(tmp_path)
    assert ranged.params.W_enc.chunk == 42
    for name in ("W_enc", "W_dec", "threshold"):
        rows = ranged.params.latent[name]
        found = np.concatenate([rows[i : i + ROWS] for i in range(0, N, ROWS)])
        np.testing.assert_array_equal(found, whole.params.latent[name], err_msg=name)
    np.testing.assert_array_equal(ranged.params.W_dec[40:130], whole.params.W_dec[40:130])
