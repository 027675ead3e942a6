"""Arrays larger than a device: latents of memmaps, zarr, tensorstore, a store's view and iterators are those of the whole."""

import jax
import numpy as np
import pytest
import tensorstore as ts
import zarr
from python.small import ARCHITECTURES, WIDTH, D, make_dictionary, write_store

from jaxsae.dictionary import many
from jaxsae.errors import InputError
from jaxsae.store import open_store

ROWS, BATCH = 300, 64


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(1, 2, (ROWS, D)).astype(np.float32)


@pytest.fixture(params=["memmap", "zarr", "tensorstore", "view", "generator", "list", "array"])
def source(request, rows, tmp_path):
    """The same rows as something that is read where it is needed, and whether its latents have its leading dimensions."""
    if request.param == "memmap":
        np.save(tmp_path / "x.npy", rows)
        return np.load(tmp_path / "x.npy", mmap_mode="r")
    if request.param == "zarr":
        array = zarr.create_array(str(tmp_path / "x.zarr"), shape=rows.shape, dtype="float32", chunks=(32, D))
        array[:] = rows
        return array
    if request.param == "tensorstore":
        return ts.array(rows)
    if request.param == "view":
        return open_store(write_store(tmp_path, rows)).view("resid_post.1")
    if request.param == "generator":
        return (rows[first : first + 70] for first in range(0, ROWS, 70))
    return [rows[:1], rows[1:150], rows[150:]] if request.param == "list" else rows


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_latents_are_those_of_the_whole(architecture, source, rows):
    sae = make_dictionary(architecture)
    found, whole = sae.encode(source, batch_size=BATCH), sae.encode(rows)
    assert type(found.values) is np.ndarray and found.values.dtype == np.float32 and found.indices.dtype == np.int32
    assert found.values.shape == (ROWS, found.values.shape[1]) and found.values.shape[1] <= whole.values.shape[1]
    np.testing.assert_allclose(found.dense(WIDTH), whole.dense(WIDTH), rtol=1e-5, atol=1e-5)
    assert (np.asarray(whole.dense(WIDTH)) != 0).any(1).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sparse_matrix_holds_what_is_active(architecture, rows):
    sae = make_dictionary(architecture)
    found, dense = sae.encode_sparse(rows, batch_size=BATCH), np.asarray(sae.encode(rows).dense(WIDTH))
    assert found.shape == (ROWS, WIDTH) and found.nnz == (dense != 0).sum()
    np.testing.assert_allclose(found.toarray(), dense, rtol=1e-5, atol=1e-5)


def test_batches_are_of_few_sizes_and_no_larger_than_asked(rows, monkeypatch):
    sae, sizes = make_dictionary("topk"), []
    real = many.padded
    monkeypatch.setattr(many, "padded", lambda x, size: sizes.append(size) or real(x, size))
    found = list(sae.batches(rows, BATCH))
    assert [len(part.values) for part in found] == [64, 64, 64, 64, 44] and set(sizes) == {BATCH}
    sizes.clear()
    list(sae.batches(iter([rows[:20], rows[20:50], rows[50:60], rows[60:200]]), BATCH))
    assert sizes == [32, 32, 32, 64, 64, 64]  # powers of two that never shrink


def test_only_what_is_asked_for_is_read(rows):
    class Lazy:
        shape, most = rows.shape, 0

        def __getitem__(self, at):
            self.most = max(self.most, at.stop - at.start)
            return rows[at]

    lazy = Lazy()
    make_dictionary("topk").encode(lazy, batch_size=50)
    assert lazy.most == 50


def test_leading_dimensions_are_kept_in_memory_and_out_of_it(rows, tmp_path):
    sae, x = make_dictionary("topk"), rows.reshape(10, 30, D)
    whole, flat = sae.encode(x), sae.encode(rows)
    assert whole.values.shape == (10, 30, sae.config.k) and isinstance(whole.values, jax.Array)
    np.testing.assert_array_equal(whole.indices.reshape(ROWS, -1), flat.indices)
    np.testing.assert_array_equal(sae.decode(whole).reshape(ROWS, D), sae.decode(flat))
    np.testing.assert_array_equal(sae.reconstruct(x), sae.decode(whole))
    np.testing.assert_array_equal(whole.dense(WIDTH).reshape(ROWS, WIDTH), flat.dense(WIDTH))
    np.save(tmp_path / "x.npy", x)
    large = sae.encode(np.load(tmp_path / "x.npy", mmap_mode="r"), batch_size=64)  # two sequences at once
    np.testing.assert_allclose(large.values, whole.values, rtol=1e-5)
    np.testing.assert_allclose(sae.reconstruct(x, batch_size=64), sae.reconstruct(x), rtol=1e-5, atol=1e-5)
    assert type(sae.reconstruct(x, batch_size=64)) is np.ndarray


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_values_of_some_latents_are_columns_of_all(architecture, rows):
    sae, some = make_dictionary(architecture), [5, 0, WIDTH - 1, 17, 5]
    dense = np.asarray(sae.encode(rows).dense(WIDTH))
    found = jax.jit(lambda x: sae.values(x, some))(rows.reshape(3, 100, D))
    assert found.shape == (3, 100, 5) and (dense[:, some] != 0).any(0).all() and (dense[:, some] == 0).any()
    np.testing.assert_allclose(found.reshape(ROWS, 5), dense[:, some], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (iter([]), "no rows"),
        (iter([np.zeros((3, D + 1))]), rf"takes activations \[B, {D}\]"),
        (np.zeros(D).astype("f4").view(np.memmap), r"shape \[12\]: give \[..., d_model\]"),
        (5, "int: give an array"),
        ("file.npy", "str: give an array"),
    ],
)
def test_what_is_no_activations_is_refused(x, told):
    with pytest.raises(InputError, match=told):
        make_dictionary("topk").encode(x)


def test_a_batch_size_or_a_latent_that_makes_no_sense_is_refused(rows):
    with pytest.raises(InputError, match="batch_size=0"):
        make_dictionary("topk").encode(rows, batch_size=0)
    with pytest.raises(InputError, match=f"latent {WIDTH}: there are 0 to {WIDTH - 1}"):
        make_dictionary("topk").values(rows, [1, WIDTH])


def test_an_error_of_an_iterator_is_its_own():
    def broken():
        yield np.zeros((4, D), np.float32)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_dictionary("topk").encode(broken())
