"""A transcoder in the place of its MLP, against a plain forward pass with a hook of this test's own."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.harvest import harvest
from jaxsae.lm.checkpoint import find
from jaxsae.lm.options import HFConfig
from jaxsae.lm.stand_in import StandIn
from jaxsae.lm.torch_lm import TorchLM
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


def test_it_stands_where_the_mlp_wrote(prepared, transformers, tmp_path, capsys):
    import torch

    directory, store, dictionary = prepared
    config = EvaluateConfig(run=str(tmp_path / "run"), suite=("splice",), sequences_per_batch=3)
    found = evaluate(config, dictionary)["splice"]
    model = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    p = {n: np.float64(a) for n, a in (dictionary.params.latent | dictionary.params.shared).items()}

    def written(x: np.ndarray) -> np.ndarray:
        pre = x @ p["W_enc"].T + p["b_enc"]
        kept = pre >= -np.sort(-pre, 1)[:, [K - 1]]
        return np.where(kept & (pre > 0), pre, 0) @ p["W_dec"] + p["b_dec"] + x @ p["W_skip"].T

    mean = store.statistics(WRITTEN).mean
    stand_ins = {"spliced": written, "mean": lambda x: np.broadcast_to(mean, x.shape)}
    stand_ins |= {"skip": lambda x: x @ p["W_skip"].T + p["b_dec"]}
    from jaxsae.evaluate.context import Context
    from jaxsae.evaluate.text_model import open_text

    def hook(function, at, seen, _, args, output):
        x, y = (rows[0, at].double().numpy() for rows in (args[0], output))
        new, seen[:] = output.clone(), (x, y)
        new[0, at] = torch.tensor(function(x), dtype=new.dtype)
        return new

    text, count, seen = open_text(Context(config, dictionary)), 0, []
    sums, errors, outputs = dict.fromkeys(["plain", *stand_ins], 0.0), 0.0, []
    for batch in text.batches():
        for row in range(len(batch.tokens)):
            there = batch.tokens[row] >= 0
            tokens = torch.tensor(batch.tokens[row][there].astype(np.int64))[None]
            at = np.flatnonzero(batch.kept[row][there])

            with torch.no_grad():
                logs = {"plain": model(tokens).logits[0].double().log_softmax(-1).numpy()}
                for name, function in stand_ins.items():
                    handle = model.get_submodule(MLP).register_forward_hook(partial(hook, function, at, seen))
                    logs[name] = model(tokens).logits[0].double().log_softmax(-1).numpy()
                    handle.remove()
            errors += np.square(seen[1] - written(seen[0])).sum()
            outputs.append(seen[1])
            for position in np.flatnonzero(batch.asked[row][there]):
                for name, log in logs.items():
                    sums[name] -= log[position, batch.targets[row][there][position]]
                count += 1
    assert found["tokens"] == count and found["sites"] == [WRITTEN]
    ce = {name: total / count for name, total in sums.items()}
    names = ["plain", *stand_ins]
    np.testing.assert_allclose(
        [found["ce" if n == "plain" else f"ce_{n}"] for n in names], [ce[n] for n in names], rtol=1e-5
    )
    for base in ("mean", "skip"):
        share = (ce[base] - ce["spliced"]) / (ce[base] - ce["plain"]) if ce[base] > ce["plain"] else None
        assert found["faithfulness"][base] == (share and pytest.approx(share, rel=1e-2))
    outputs = np.concatenate(outputs)
    share = errors / np.square(outputs - outputs.mean(0)).sum()
    assert found["error_nodes"]["share"] == {WRITTEN: pytest.approx(share, rel=1e-4)}
    shown = capsys.readouterr().err
    assert "faithfulness by mean" in shown and f"error nodes: of the variance {WRITTEN} {share:.4f}" in shown
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
    # With its error at each of them nothing is lost, whatever the second one sees of the first.
    assert found["kl"] > 1e-3 and abs(found["error_nodes"]["kl"]) < 1e-5
    assert min(found["error_nodes"]["share"].values()) > 0.1


def test_a_map_past_the_latents_is_a_baseline_where_all_have_one(prepared, tmp_path):
    _, _, dictionary = prepared
    config = EvaluateConfig(run=str(tmp_path / "run"), suite=("splice",), sequences_per_batch=3)
    params = Params(dictionary.params.latent, {"b_dec": dictionary.params.b_dec})
    without = Dictionary(params, MethodConfig(width=WIDTH, k=K, transcode=True), dictionary.metadata)
    found = evaluate(config, without, quiet=True)["splice"]
    assert "ce_skip" not in found and set(found["faithfulness"]) == {"mean"}
    assert found["error_nodes"]["kl"] == pytest.approx(0, abs=1e-5)


def test_what_comes_later_cannot_be_read(make_model):
    lm = TorchLM(find(make_model("llama"), HFConfig()))
    tokens = np.arange(8, dtype=np.int32)[None]
    with pytest.raises(InputError, match=r"site mlp_in.2 comes after mlp_out.1"):
        lm.logits(tokens, tokens >= 0, {"mlp_out.1": StandIn(lambda x: x, ("mlp_in.2",))})


def test_another_site_cannot_be_asked_for(prepared, tmp_path):
    config = EvaluateConfig(run=str(tmp_path / "run"), suite=("reconstruction",), site="mlp_in.1")
    with pytest.raises(InputError, match="--site=mlp_in.1: .* is a transcoder, mlp_in.1->mlp_out.1"):
        evaluate(config, prepared[2], quiet=True)
