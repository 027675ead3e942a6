"""Twenty features in a tree: TopK's latents of children absorb their parents, Matryoshka's first latents are the parents.

A parent is on in 3 rows of 10, and in 8 of 10 of those just one of its four children is, too; all directions are orthogonal.
With two active latents of a row, fewer than there are features on, a latent for "parent and child" is worth more than one
for the child (Bussmann et al., 2503.17547, section 4).
"""

import numpy as np
import pytest
from training.toys import store_of, trained

from jaxsae.dictionary import MethodConfig

PARENTS, CHILDREN, D, ROWS = 4, 4, 24, 20_000
FEATURES = PARENTS * (1 + CHILDREN)


def tree_rows(seed: int) -> np.ndarray:
    """float32 [ROWS, D]; feature i is the i-th unit vector, parents first."""
    rng = np.random.default_rng(seed)
    parent = rng.random((ROWS, PARENTS)) < 0.3
    with_child = parent & (rng.random((ROWS, PARENTS)) < 0.8)
    which = rng.integers(0, CHILDREN, (ROWS, PARENTS))
    child = with_child[:, :, None] & (which[:, :, None] == np.arange(CHILDREN))
    on = np.concatenate([parent, child.reshape(ROWS, -1)], 1)
    sizes = 1 + 0.1 * rng.normal(size=on.shape)
    return np.pad(on * sizes, ((0, 0), (0, D - FEATURES))).astype(np.float32)


@pytest.fixture(scope="module")
def tree_store(tmp_path_factory):
    return store_of(tmp_path_factory.mktemp("tree"), tree_rows(0))


def cosines(store, workdir, seed, **switches) -> np.ndarray:
    """[latents, features] between decoder rows and the features' directions."""
    dictionary = trained(store, workdir, seed, 3000, MethodConfig(width=FEATURES, k=2, **switches))
    W_dec = np.asarray(dictionary.params.W_dec)
    return (W_dec / np.linalg.norm(W_dec, axis=1, keepdims=True))[:, :FEATURES]


def parents_and_absorbed(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best cosine with each parent; and with their own parent, of latents that stand for a child."""
    children = matrix[:, PARENTS:]
    stands_for = children.argmax(1)
    its_parent = matrix[np.arange(len(matrix)), stands_for // CHILDREN]
    return matrix[:, :PARENTS].max(0), its_parent[children.max(1) > 0.5]


@pytest.mark.parametrize("seed", [0, 1])
def test_matryoshka_recovers_the_parents_that_topk_absorbs(seed, tree_store, tmp_path):
    plain = cosines(tree_store, tmp_path / "topk", seed, architecture="topk")
    nested = cosines(tree_store, tmp_path / "nested", seed, architecture="matryoshka", prefixes=(PARENTS, FEATURES))
    (_, absorbed), (parents, free) = parents_and_absorbed(plain), parents_and_absorbed(nested)
    assert len(absorbed) >= 12 and np.median(absorbed) > 0.6
    assert len(free) >= 12 and np.median(free) < 0.2
    # Prefixes begin with the parents: the first latents are they, where TopK has them anywhere or nowhere.
    assert np.sort(nested[:PARENTS, :PARENTS].max(0))[1:].min() > 0.85 and parents.mean() > 0.85
