"""Tensors that a file should not have: integers are refused, and what is not read is named."""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.exchange import saelens


@pytest.fixture
def exported(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"W_enc": (8, 4), "b_enc": (8,), "W_dec": (8, 4), "b_dec": (4,)}
    params = Params.of(**{name: jnp.asarray(rng.standard_normal(shape), jnp.float32) for name, shape in arrays.items()})
    saelens.write(Dictionary(params, MethodConfig(width=8, k=2)), tmp_path)
    return tmp_path


def _change(folder, **changes):
    file = folder / saelens.WEIGHTS
    save_file(load_file(file) | changes, file)


def test_quantised_weights_are_refused(exported):
    _change(exported, W_enc=np.ones((4, 8), np.int32))
    with pytest.raises(InputError, match=r"sae_weights.safetensors: tensor 'W_enc' is of int32, expected floating"):
        saelens.read(exported)


def test_what_is_not_read_is_named(exported, capsys):
    assert repr(saelens.read(exported)).startswith("<sparse autoencoder: topk, 8 latents of 4, site unknown, k 2>")
    assert not capsys.readouterr().err
    _change(exported, foo=np.ones(3, np.float32))
    saelens.read(exported)
    assert "a topk has no foo: not read" in capsys.readouterr().err
