"""Dictionaries folded with a large mean and scale, and inputs to match."""

import importlib
import os
import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Normalization, Params, fold

D, N, K, ROWS = 48, 128, 8, 64
THRESHOLD = 70.0  # in units of the activations; about K of the random latents are above it


# nnsight asks for torchvision, whose wheel on PyPI is built for CUDA: beside a CPU torch its import fails, and
# that of transformers and SAELens with it. None of the packages needs it, so a broken one is taken for absent.
HIDE_TORCHVISION = """
import sys
try:
    import torchvision
except Exception:
    sys.modules["torchvision"] = None
"""


def import_package(name: str) -> ModuleType:
    """The package, or a skip; a failure where JAXSAE_REQUIRE_INTEROP=1 says that it must be there."""
    exec(HIDE_TORCHVISION, {})
    if os.environ.get("JAXSAE_REQUIRE_INTEROP") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)


def random_dictionary(architecture: str, seed: int = 0) -> Dictionary:
    """A random dictionary as a run has it: trained on centred and scaled rows, then folded."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((N, D)).astype(np.float32)
    norms = rng.uniform(0.3, 3.0, (N, 1)).astype(np.float32) if architecture == "relu" else 1.0
    params = Params.of(
        W_enc=(rows + 0.3 * rng.standard_normal((N, D))).astype(np.float32) / 7,
        b_enc=(0.3 * rng.standard_normal(N)).astype(np.float32),
        W_dec=norms * rows / np.linalg.norm(rows, axis=1, keepdims=True),
        b_dec=(0.2 * rng.standard_normal(D)).astype(np.float32),
    )
    config = MethodConfig(width=N, architecture=architecture, k=K)
    params = fold(params, Normalization(mean_of(seed), 0.03), pre_bias=architecture != "relu")
    metadata = {"model": "shipped", "site": "resid_post.2", "context": 59}
    return Dictionary(params, config, metadata, threshold=THRESHOLD if architecture == "batchtopk" else 0.0)


def mean_of(seed: int = 0) -> np.ndarray:
    """The mean that `random_dictionary` folded in: norm about 200."""
    return (30 * np.random.default_rng([seed, 1]).standard_normal(D)).astype(np.float32)


def random_inputs(seed: int = 0) -> np.ndarray:
    """float32 [ROWS, D] around that mean, of norm about 400 to 500."""
    noise = np.random.default_rng([seed, 2]).standard_normal((ROWS, D))
    return (mean_of(seed) + 45 * noise).astype(np.float32)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest error of a row, over the expected rows' typical norm."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    error = np.linalg.norm(found - expected, axis=-1).max()
    return float(error / np.sqrt(np.square(expected).sum(-1).mean()))


@pytest.fixture
def package() -> Callable[[str], ModuleType]:
    return import_package


@pytest.fixture
def hide_torchvision() -> str:
    return HIDE_TORCHVISION


@pytest.fixture
def make_dictionary() -> Callable[..., Dictionary]:
    return random_dictionary


@pytest.fixture
def relative() -> Callable[..., float]:
    return relative_error


@pytest.fixture
def torch() -> ModuleType:
    return import_package("torch")


@pytest.fixture
def load_saelens() -> Callable:
    def load(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_package("sae_lens").SAE.load_from_disk(str(path))

    return load


@pytest.fixture
def load_dictionary() -> Callable:
    def load(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_package("dictionary_learning")
            from dictionary_learning.utils import load_dictionary

            return load_dictionary(str(path), device="cpu")

    return load


@pytest.fixture
def theirs(torch) -> Callable:
    """theirs(sae, x) -> dense latents and reconstructions of another package's dictionary."""

    def run(sae, x) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            latents = sae.encode(torch.from_numpy(x))
            return latents.numpy(), sae.decode(latents).numpy()

    return run


@pytest.fixture
def randomise(torch) -> Callable:
    """Fills a module's parameters with random numbers; decoder rows then differ in length."""

    def fill(module) -> None:
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(0.2 * torch.randn_like(parameter))

    return fill


@pytest.fixture(params=["topk", "relu"])
def dictionary(request) -> Dictionary:
    return random_dictionary(request.param)


@pytest.fixture
def x() -> np.ndarray:
    return random_inputs()
