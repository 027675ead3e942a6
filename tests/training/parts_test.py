"""Things that are red or blue, and square or circle: four latents stand for the four parts, or for the four compounds.

Either explains the rows: a compound with one active latent a row, the parts with two, and better, since each part has an
amplitude of its own. Which are found is a matter of how many latents may be active, and of how they come to be so few: with
two from the start a latent that once stood for a compound stays there (BUILD_NOTES has all methods), with all four active
at first and two in the end the parts are found from every start that was tried.
"""

import numpy as np
import pytest
from training.toys import store_of, trained

from jaxsae.dictionary import MethodConfig

ROWS, D, SPREAD = 20_000, 8, 0.2


def things(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [rows, D], and bool [rows, 4]: red, blue, square, circle."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 2, (rows, 2))
    on = (kinds[:, :, None] == np.arange(2)).reshape(rows, 4)
    sizes = 1 + SPREAD * rng.normal(size=(rows, 4))
    return np.pad(on * sizes, ((0, 0), (0, D - 4))).astype(np.float32), on


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return store_of(tmp_path_factory.mktemp("things"), things(0, ROWS)[0])


def found(store: str, workdir, seed: int, **switches) -> tuple[np.ndarray, np.ndarray]:
    """The best F1 of any latent for each part and for each compound, on other rows."""
    dictionary = trained(store, workdir, seed, 2000, MethodConfig(width=4, **switches))
    x, parts = things(1, 4096)
    latents = dictionary.encode(x)
    active = np.zeros((len(x), 4), bool)
    np.put_along_axis(active, np.asarray(latents.indices), np.asarray(latents.values) != 0, 1)
    compounds = np.stack([parts[:, colour] & parts[:, shape] for colour in (0, 1) for shape in (2, 3)], 1)
    return best_f1(active, parts), best_f1(active, compounds)


def best_f1(active: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of columns of `truth` [rows, 4], by the latent of `active` [rows, 4] that fits best."""
    both = (active[:, :, None] & truth[:, None, :]).sum(0)
    return (2 * both / np.maximum(active.sum(0)[:, None] + truth.sum(0), 1)).max(0)


@pytest.mark.parametrize(("architecture", "seed"), [("topk", 0), ("topk", 1), ("batchtopk", 0)])
def test_the_four_parts_are_found_where_two_latents_are_active_in_the_end(architecture, seed, store, tmp_path):
    parts, compounds = found(store, tmp_path / "run", seed, architecture=architecture, k=2, k_start=4)
    assert parts.min() > 0.95 and compounds.max() < 0.8


@pytest.mark.parametrize("seed", [0, 1])
def test_the_four_compounds_are_found_where_one_is(seed, store, tmp_path):
    parts, compounds = found(store, tmp_path / "run", seed, architecture="topk", k=1)
    assert compounds.min() > 0.95 and parts.max() < 0.8
