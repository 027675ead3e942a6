"""Dictionaries folded with a large mean and scale, and inputs to match."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType

import jax
import numpy as np
import pytest
from fake_hub import FakeHub, ask, running

from jaxsae.dictionary import Dictionary, MethodConfig, Normalization, Params, fold, make_method

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
        b_enc=(0.3 * rng.standard_normal(N)).astype(np.float32) - (1.5 if architecture == "gated" else 0),
        W_dec=norms * rows / np.linalg.norm(rows, axis=1, keepdims=True),
        b_dec=(0.2 * rng.standard_normal(D)).astype(np.float32),
        **{name: array.astype(np.float32) for name, array in _own(architecture, rng).items()},
    )
    config = MethodConfig(width=N, architecture=architecture, k=K)
    method = make_method(config)
    params = fold(params, Normalization(mean_of(seed), 0.03), method.pre_bias, method.selection)
    metadata = {"model": "shipped", "site": "resid_post.2", "context": 59}
    return Dictionary(params, config, metadata, threshold=THRESHOLD if config.has_threshold else 0.0)


def _own(architecture: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays [N] that the method adds, in the trainer's units."""
    if architecture == "jumprelu":
        return {"threshold": rng.uniform(1.0, 3.0, N)}
    if architecture == "jumprelu_tanh":
        return {"log_threshold": np.log(rng.uniform(1.0, 3.0, N))}
    if architecture in ("gated", "rescaled"):
        return {"r_mag": 0.3 * rng.standard_normal(N), "b_mag": 0.5 * rng.standard_normal(N)}
    return {}


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


def undecided(dictionary: Dictionary, x: np.ndarray) -> np.ndarray:
    """bool [B, N]: pre-activations that float32 rounding may take over what makes a latent active, or back."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), dictionary.params)
    centred = x - p.b_dec if dictionary.pre_bias else x
    pre = centred @ p.W_enc.T + p.b_enc
    size = np.linalg.norm(centred, axis=1)[:, None] * np.linalg.norm(p.W_enc, axis=1)
    return np.abs(pre - p.latent.get("threshold", dictionary.threshold)) < 1e-6 * size


@pytest.fixture
def check_same(theirs) -> Callable:
    """check_same(dictionary, sae, x): its latents and reconstructions are ours, where rounding does not decide."""

    def check(dictionary, sae, x, tolerance=1e-5) -> None:
        latents = dictionary.encode(x)
        z, x_hat = np.asarray(latents.dense(N)), np.asarray(dictionary.decode(latents))
        their_z, their_x_hat = theirs(sae, x)
        unsure = undecided(dictionary, x)
        rows = ~unsure.any(1)
        active = (z > 0).sum(1)
        assert np.linalg.norm(x, axis=1).mean() > 300 and rows.mean() > 0.9 and len(set(active)) > 3
        assert 0 < active.mean() < N / 4 and z[z > 0].min() > dictionary.threshold
        assert relative_error(np.where(unsure, 0, their_z), np.where(unsure, 0, z)) < tolerance
        assert relative_error(their_x_hat[rows], x_hat[rows]) < tolerance

    return check


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


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """serve(repositories, ...) -> a FakeHub that huggingface_hub asks from then on, with an empty cache."""
    pytest.importorskip("huggingface_hub")
    with ExitStack() as stack:

        def start(*repositories, **more) -> FakeHub:
            hub = stack.enter_context(running(FakeHub(*repositories, **more)))
            ask(monkeypatch, hub.url, tmp_path / "cache")
            return hub

        yield start


@pytest.fixture
def circuit_tracer(package):
    """Its modules of transcoders; of its `utils`, which want an older transformers, they need one function."""
    import torch

    utils = ModuleType("circuit_tracer.utils")
    utils.get_default_device = lambda: torch.device("cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "circuit_tracer.utils", utils)
        package("circuit_tracer")
        package("circuit_tracer.transcoder")
        yield
