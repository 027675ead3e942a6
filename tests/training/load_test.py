"""Which checkpoint a path means."""

import jax
import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.training import load, train


@pytest.mark.parametrize("name", ["checkpoints/20", "checkpoints/7", "checkpoints"])
def test_a_run_that_is_called_like_a_checkpoint(name, configure, tmp_path, monkeypatch):
    config = configure(name, steps=24, checkpoint_every=20, keep_checkpoints=3)
    trained = train(config)
    monkeypatch.chdir(tmp_path)
    for path in (config.workdir, name, f"{name}/checkpoints", f"{name}/checkpoints/24"):
        found = load(path)
        assert found.metadata["step"] == 24
        jax.tree.map(np.testing.assert_array_equal, found.params, trained.params)
    assert load(f"{config.workdir}/checkpoints/20").metadata["step"] == 20
    with pytest.raises(InputError, match="no run here"):
        load(f"{config.workdir}/checkpoints/20/dictionary/x")
