"""A site as an array: what NumPy would give of its complete rows, of whole stores and those that lack shards."""

import ml_dtypes
import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.store import open_store

SITE = "resid_post.1"


@pytest.mark.parametrize("shards", [None, (0, 1, 4, 7)])
def test_a_view_is_indexed_as_an_array_of_the_rows_that_there_are(write, shards):
    store = open_store(write(shards, dtype="bfloat16"))
    view = store.view(SITE)
    rows = np.concatenate([store.read(SITE, *part) for part in store.available])
    assert view.shape == rows.shape == (len(view), 8) and view.dtype == ml_dtypes.bfloat16 and view.ndim == 2
    assert len(rows) == (1000 if shards is None else 3 * 128 + 104)
    for at in (
        slice(None),
        slice(200, 300),
        slice(-5, None),
        slice(0, 400, 7),
        slice(9, 3, -2),
        slice(7, 7),
        5,
        -1,
        np.int64(300),
        [3, 1, 4, 1, 5, -1],
        np.array([], int),
        np.arange(len(rows)) % 3 == 0,
    ):
        np.testing.assert_array_equal(view[at], rows[at])
    np.testing.assert_array_equal(np.asarray(view, np.float32), rows.astype(np.float32))
    assert repr(view) == f"SiteView(shape={rows.shape}, dtype=bfloat16)"


def test_rows_and_sites_that_there_are_not(write):
    store = open_store(write())
    for at in (1000, [1, -1001]):
        with pytest.raises(IndexError, match="of 1000"):
            store.view(SITE)[at]
    with pytest.raises(InputError, match="--site=nothing"):
        store.view("nothing")
