"""A transcoder in the place of its MLP, against a plain forward pass with a hook of this test's own."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.harvest import harvest
from jaxsae.lm.load_torch import find
from jaxsae.lm.stand_in import StandIn
from jaxsae.lm.torch_lm import TorchConfig, TorchLM
from jaxsae.training import save_dictionary

D, WIDTH, K = 16, 40, 6
READ, WRITTEN, MLP = "mlp_in.1", "mlp_out.1", "model.layers.1.mlp"


def transcoder(about: dict, seed: int = 0) -> Dictionary:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    params = Params.of(draw(WIDTH, D), draw(WIDTH) / 3, 0.1 * draw(WIDTH, D), 0.1 * draw(D))
    params = Params(params.latent, params.shared | {"W_skip": draw(D, D) / D})
    return Dictionary(params, MethodConfig(width=WIDTH, k=K, transcode=True, skip=True), about)


@pytest.fixture
def prepared(make_model, configure):
    """(the model's directory, its store, a transcoder of it)."""
    directory = make_model("llama")
    store = harvest(configure(directory, {"documents": "0:40"}, sites=(READ, WRITTEN)))
    about = {"store": store.url, "source": "hf", "site": f"{READ}->{WRITTEN}", "reads": [READ], "writes": [WRITTEN]}
    return directory, store, transcoder(about)


def test_it_stands_where_the_mlp_wrote(prepared, transformers, tmp_path):
    import torch

    directory, _, dictionary = prepared
    config = EvaluateConfig(run=str(tmp_path / "run"), suite=("splice",), sequences_per_batch=3)
    found = evaluate(config, dictionary, quiet=True)["splice"]
    model = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    p = {n: np.float64(a) for n, a in (dictionary.params.latent | dictionary.params.shared).items()}

    def written(x: np.ndarray) -> np.ndarray:
        pre = x @ p["W_enc"].T + p["b_enc"]
        kept = pre >= -np.sort(-pre, 1)[:, [K - 1]]
        return np.where(kept & (pre > 0), pre, 0) @ p["W_dec"] + p["b_dec"] + x @ p["W_skip"].T

    from jaxsae.evaluate.context import Context
    from jaxsae.evaluate.text_model import open_text

    text, sums, count = open_text(Context(config, dictionary)), np.zeros(2), 0
    for batch in text.batches():
        for row in range(len(batch.tokens)):
            there = batch.tokens[row] >= 0
            tokens = torch.tensor(batch.tokens[row][there].astype(np.int64))[None]
            at = np.flatnonzero(batch.kept[row][there])

            def hook(_, args, output, at=at):
                new = output.clone()
                new[0, at] = torch.tensor(written(args[0][0, at].double().numpy()), dtype=new.dtype)
                return new

            with torch.no_grad():
                plain = model(tokens).logits[0].double().log_softmax(-1).numpy()
                handle = model.get_submodule(MLP).register_forward_hook(hook)
                spliced = model(tokens).logits[0].double().log_softmax(-1).numpy()
                handle.remove()
            for position in np.flatnonzero(batch.asked[row][there]):
                target = batch.targets[row][there][position]
                sums += -plain[position, target], -spliced[position, target]
                count += 1
    assert found["tokens"] == count and found["sites"] == [WRITTEN]
    np.testing.assert_allclose([found["ce"], found["ce_spliced"]], sums / count, rtol=1e-5)
    assert abs(found["delta_ce"]) > 1e-4


def test_a_second_one_sees_what_the_first_made_of_the_stream(prepared, make_model, configure, tmp_path):
    directory, _, dictionary = prepared
    later = dict(dictionary.metadata) | {"reads": ["mlp_in.2"], "writes": ["mlp_out.2"], "site": "mlp_in.2->mlp_out.2"}
    both = harvest(
        configure(
            directory, {"documents": "0:40"}, sites=(READ, WRITTEN, "mlp_in.2", "mlp_out.2"), store=str(tmp_path / "b")
        )
    )
    first = transcoder(dict(dictionary.metadata) | {"store": both.url})
    save_dictionary(tmp_path / "second", transcoder(later | {"store": both.url}, seed=1))
    config = EvaluateConfig(
        run=str(tmp_path / "run"), suite=("splice",), splice_with=(str(tmp_path / "second"),), sequences_per_batch=3
    )
    found = evaluate(config, first, quiet=True)["splice"]
    assert found["sites"] == [WRITTEN, "mlp_out.2"] and set(found["each"]) == {WRITTEN, "mlp_out.2"}
    assert found["delta_ce"] not in [found["each"][site]["delta_ce"] for site in found["each"]]


def test_what_comes_later_cannot_be_read(make_model):
    lm = TorchLM(find(make_model("llama"), TorchConfig()))
    tokens = np.arange(8, dtype=np.int32)[None]
    with pytest.raises(InputError, match=r"site mlp_in.2 comes after mlp_out.1"):
        lm.logits(tokens, tokens >= 0, {"mlp_out.1": StandIn(lambda x: x, "mlp_in.2")})


def test_another_site_cannot_be_asked_for(prepared, tmp_path):
    config = EvaluateConfig(run=str(tmp_path / "run"), suite=("reconstruction",), site="mlp_in.1")
    with pytest.raises(InputError, match="--site=mlp_in.1: .* is a transcoder, mlp_in.1->mlp_out.1"):
        evaluate(config, prepared[2], quiet=True)
