"""Readable sites over families of models: the tensor that their name promises, or a refusal that says why."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.lm.options import HFConfig
from jaxsae.lm.sites import reached
from jaxsae.lm.stand_in import StandIn
from jaxsae.lm.torch_lm import TorchLM

_spec = importlib.util.spec_from_file_location("families", Path(__file__).with_name("families.py"))
families = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(families)

pytestmark = pytest.mark.usefixtures("transformers")
# Of families whose sums or paths differ; all there are: tests/studies/site_families.py.
EXACT = [
    "bloom", "mpt", "glm4", "granite", "granitemoe", "hyperclovax", "afmoe", "gpt2", "gpt_neox", "gptj", "llama",
    "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "olmo",
    "olmo2", "olmo3", "phi", "phi3", "falcon", "cohere", "cohere2", "stablelm", "starcoder2", "nemotron",
    "smollm3", "gpt_oss", "openai-gpt", "codegen", "persimmon", "helium", "exaone4", "ernie4_5", "deepseek_v3", "minicpm3",
]  # fmt: skip
EXACT_MASKED = [
    "bert",
    "roberta",
    "roberta-prelayernorm",
    "megatron-bert",
    "electra",
    "distilbert",
    "esm",
    "modernbert",
]
TOKENS = np.random.default_rng(1).integers(3, families.VOCABULARY, (2, 5)).astype(np.int32)
ALL = np.ones(TOKENS.shape, bool)


@pytest.mark.parametrize(("family", "causal"), [(f, True) for f in EXACT] + [(f, False) for f in EXACT_MASKED])
def test_sites_are_what_their_names_say(family, causal):
    found = families.trial_of(family, causal)
    assert "" not in found, found
    assert {verdict.partition(":")[0] for verdict in found.values()} <= {"exact", "absent"}, found
    assert found["attn_out"] != "absent"


@pytest.mark.parametrize("family", ["doge", "dory", "deepseek_v4", "granitemoeshared"])
def test_what_cannot_be_told_is_refused(family):
    found = families.trial_of(family, True)
    assert found["mlp_out"].startswith("refused: --sites=mlp_out.1: "), found
    assert not any(verdict.startswith("wrong") for verdict in found.values())


@pytest.fixture
def load(tmp_path):
    def make(family: str, causal: bool = True, change=lambda model: None) -> TorchLM:
        change(model := families.build(family, causal))
        model.save_pretrained(tmp_path / family)
        return TorchLM.of(str(tmp_path / family), HFConfig())

    return make


@pytest.mark.parametrize("scalar", [1.0, 1.5])
def test_what_a_block_scales_after_it_has_added_it_is_refused(scalar, load):
    """A norm of Gemma 4 reads resid_pre + attn_out; then the block multiplies all of its stream."""
    lm = load("gemma4_text", change=lambda model: model.model.layers[1].layer_scalar.fill_(scalar))
    if scalar == 1:
        assert lm.widths(("attn_out.1",)) == {"attn_out.1": families.D}
        return
    for site in ("attn_out.1", "mlp_out.1"):
        with pytest.raises(InputError, match=f"--sites={site}: .* do not give what block 1 adds to its stream"):
            lm.widths((site,))


def test_a_block_that_all_layers_share_is_no_site(load):
    lm = load("albert", False)
    for site in ("resid_post.0", "embed"):
        with pytest.raises(InputError, match=rf"--sites={site}: .* is run 3 times in one forward pass.*run once"):
            lm.widths((site,))
        with pytest.raises(InputError, match=f"--site={site}: .* is run 3 times"):
            lm.logits(TOKENS, ALL, {site: StandIn(np.zeros_like)})
    assert lm.widths(("albert.embeddings.word_embeddings",)) == {"albert.embeddings.word_embeddings": families.D}


@pytest.mark.parametrize("family", ["granite", "bloom", "mpt", "glm4", "llama"])
@pytest.mark.parametrize("site", ["attn_out.1", "mlp_out.1"])
def test_what_is_spliced_is_what_the_block_adds(family, site, load):
    lm = load(family)
    plain = lm.logits(TOKENS, ALL)
    same = lm.logits(TOKENS, ALL, {site: StandIn(lambda x: x)})
    np.testing.assert_allclose(same, plain, atol=1e-5)
    names = ("resid_pre.1", "attn_out.1", "mlp_out.1", "resid_post.1")
    x = lm.read(TOKENS, ALL, names, "float32")
    np.testing.assert_allclose(x["resid_pre.1"] + x["attn_out.1"] + x["mlp_out.1"], x["resid_post.1"], atol=1e-5)
    # Twice as much of what is added is the stream with that once more: only the MLP's leaves the rest as it was.
    twice = lm.logits(TOKENS, ALL, {site: StandIn(lambda x: 2 * x)})
    assert np.abs(twice - plain).max() > 1e-4
    if site == "mlp_out.1":
        through = lm.logits(TOKENS, ALL, {"resid_post.1": StandIn(lambda x, more=x[site]: x + more)})
        np.testing.assert_allclose(twice, through, atol=1e-4)


def test_sites_sort_as_a_model_comes_to_them():
    names = ["embed", "mlp_in.2", "mlp_out.2", "resid_post.2", "mlp_out.9", "mlp_out.10", "model.layers.10.mlp"]
    assert sorted(set(names), key=reached) == names
