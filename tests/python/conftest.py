"""Small models of transformers; what is compiled is kept."""

import pytest


@pytest.fixture
def model(make_model, transformers):
    """model(family) -> a model of three blocks."""
    load = lambda auto, family: auto.from_pretrained(make_model(family)).eval()
    masked, causal = transformers.AutoModelForMaskedLM, transformers.AutoModelForCausalLM
    return lambda family="llama": load(masked if family == "bert" else causal, family)


@pytest.fixture(scope="session", autouse=True)
def compiled_once(compilation_cache):
    """The same program is compiled once."""
