"""The matrix of what is active is the dense one, whatever the batches and the stretches that are put in place at once."""

import numpy as np
import pytest

from jaxsae.dashboard import encode


@pytest.mark.parametrize("entries", [1, 7, 1 << 22])
def test_rows_come_out_as_the_dictionary_has_them(entries, monkeypatch, scene):
    monkeypatch.setattr(encode, "_ENTRIES", entries)
    x = scene.x[:90]
    found = encode.encoded(scene.context.dictionary, iter([x[:64], x[64:85], x[85:]]), 90, 64)
    np.testing.assert_allclose(found.toarray(), scene.z[:90], rtol=1e-5, atol=1e-6)
    assert found.format == "csc" and found.dtype == np.float32 and found.nnz == (scene.z[:90] != 0).sum()
    assert all(np.all(np.diff(found.indices[a:b]) > 0) for a, b in zip(found.indptr, found.indptr[1:], strict=False))


def test_rows_on_which_nothing_fires(make_dictionary):
    dictionary = make_dictionary()
    low = dictionary.params.latent | {"b_enc": dictionary.params.b_enc - 1e6}
    silent = type(dictionary)(type(dictionary.params)(low, dictionary.params.shared), dictionary.config)
    found = encode.encoded(silent, iter([np.ones((5, 6), np.float32)]), 5, 8)
    assert found.nnz == 0 and found.shape == (5, 24)
