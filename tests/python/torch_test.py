"""Tensors of torch in, tensors out: the same numbers as arrays, whatever their type, device order and layout."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from python.small import WIDTH, D, make_dictionary

from jaxsae.dictionary import kinds
from jaxsae.parallel import make_mesh

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(1, 2, (40, D)).astype(np.float32)


def on(shape):
    sae = make_dictionary()
    return type(sae)(sae.params, sae.config, mesh=make_mesh(shape, jax.devices()[: np.prod(shape)]))


@pytest.mark.parametrize("shape", [(1, 1), (1, 4)])
def test_tensors_give_tensors_of_the_same_numbers(shape, rows):
    sae, x = on(shape), torch.from_numpy(rows).reshape(4, 10, D)
    found, expected = sae.encode(x), sae.encode(rows)
    assert isinstance(found.values, torch.Tensor) and found.values.shape == (4, 10, 5)
    assert found.values.dtype is torch.float32 and found.indices.dtype is torch.int64
    np.testing.assert_array_equal(found.values.reshape(40, 5).numpy(), expected.values)
    np.testing.assert_array_equal(found.indices.reshape(40, 5).numpy(), expected.indices)
    y, dense = sae.decode(found), found.dense(WIDTH)
    assert y.shape == (4, 10, D) and y.dtype is torch.float32
    np.testing.assert_array_equal(y.reshape(40, D).numpy(), sae.decode(expected))
    np.testing.assert_array_equal(sae.reconstruct(x).numpy(), y.numpy())
    np.testing.assert_array_equal(dense.reshape(40, WIDTH).numpy(), expected.dense(WIDTH))
    np.testing.assert_array_equal(sae.values(x, [3, 9]).numpy(), dense[..., [3, 9]].numpy())
    np.testing.assert_allclose(sae.reconstruct_all(x).numpy(), y.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_floats_are_taken_as_they_are(dtype, rows):
    sae, x = make_dictionary(), torch.from_numpy(rows).to(getattr(torch, dtype))
    np.testing.assert_allclose(sae.reconstruct(x).numpy(), sae.reconstruct(x.float().numpy()), rtol=1e-5, atol=1e-5)


def test_parameters_views_and_what_has_a_gradient_are_taken_without_it(rows):
    sae = make_dictionary()
    x = torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(rows.T))).T  # another layout
    y = sae.reconstruct(x)
    assert not y.requires_grad
    np.testing.assert_allclose(y.numpy(), sae.reconstruct(rows), rtol=1e-5, atol=1e-5)


def test_what_is_given_is_not_changed_later_by_what_came_back(rows):
    sae, x = make_dictionary(), torch.from_numpy(rows.copy())
    expected = np.array(sae.reconstruct(rows))
    y = sae.reconstruct(x)
    x.zero_()  # after the call: it must not have waited
    np.testing.assert_array_equal(y.numpy(), expected)
    y.add_(1)
    np.testing.assert_array_equal(sae.reconstruct(torch.from_numpy(rows)).numpy(), expected)


def test_in_batches_tensors_give_tensors(rows):
    sae, x = make_dictionary("batchtopk"), torch.from_numpy(rows).to(torch.bfloat16)
    found = sae.encode(x, batch_size=16)
    assert isinstance(found.values, torch.Tensor) and found.indices.dtype is torch.int64
    np.testing.assert_allclose(found.dense(WIDTH).numpy(), sae.encode(x).dense(WIDTH).numpy(), rtol=1e-5, atol=1e-5)


def test_where_nothing_is_shared_arrays_pass_over_the_host(rows, monkeypatch):
    sae, x = make_dictionary(), torch.from_numpy(rows).to(torch.bfloat16)
    expected = sae.encode(x)

    def refuse(*_):
        raise BufferError

    monkeypatch.setattr(jax.dlpack, "from_dlpack", refuse)
    monkeypatch.setattr(torch, "from_dlpack", refuse)
    found = sae.encode(x)
    assert torch.equal(found.values, expected.values) and torch.equal(found.indices, expected.indices)
    assert torch.equal(sae.decode(found), sae.decode(expected))


def test_arrays_are_no_tensors():
    assert kinds.is_torch(torch.zeros(1)) and kinds.is_torch(torch.nn.Parameter(torch.zeros(1)))
    assert not kinds.is_torch(np.zeros(1)) and not kinds.is_torch(jax.numpy.zeros(1)) and not kinds.is_torch([1])


def test_torch_is_not_imported_for_arrays():
    code = (
        "import sys, numpy as np; sys.path.insert(0, 'tests'); from python.small import make_dictionary, D; "
        "sae = make_dictionary(); x = np.ones((4, D), 'f4'); sae.decode(sae.encode(x)); sae.encode(iter([x])); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
