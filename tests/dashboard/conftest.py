"""The scene of `tests/dashboard_scene.py`."""

import pytest
import scipy.sparse as sp
from dashboard_scene import Scene, dense, dictionary_of, random_rows, store_of, text_columns
from sparse_latents import sparse

from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context


@pytest.fixture
def columns():
    return text_columns()


@pytest.fixture
def x():
    return random_rows()


@pytest.fixture
def write_store(tmp_path):
    """write(x, columns, sites, name=...) -> URL of a finished store."""
    return lambda x, columns, *sites, name="store", **about: store_of(tmp_path / name, x, columns, *sites, **about)


@pytest.fixture
def make_dictionary():
    return dictionary_of


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Of a dictionary of which the store's last 500 rows were held out."""
    x, columns = random_rows(), text_columns()
    url = store_of(tmp_path_factory.mktemp("scene") / "store", x, columns, model="m", context=40)
    dictionary = dictionary_of(store=url, holdout_rows=500)
    context = Context(EvaluateConfig(run="nowhere", rows=10_000, batch_size=128), dictionary)
    return Scene(context, x, columns, dense(dictionary, x))


@pytest.fixture
def latents():
    """`sparse` as a matrix of columns."""
    return sp.csc_matrix(sparse())
