"""A cross-layer transcoder in place of all MLPs, against a plain model with hooks, and the files that it leaves as."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.dictionary.parameters import from_own_layer_on
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.text_model import open_text
from jaxsae.exchange import ExportConfig, export
from jaxsae.exchange.files import read_safetensors
from jaxsae.harvest import harvest
from jaxsae.training import save_dictionary

D, WIDTH, LAYERS, THRESHOLD = 16, 40, 2, 0.4
READS, WRITES = ([f"{side}.{layer}" for layer in range(LAYERS)] for side in ("mlp_in", "mlp_out"))


@pytest.fixture
def prepared(make_model, configure):
    """(the model's directory, a cross-layer transcoder of its store)."""
    directory = make_model("llama")
    store = harvest(configure(directory, {"documents": "0:40"}, sites=(*READS, *WRITES)))
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    rows = from_own_layer_on(0.1 * draw(WIDTH, LAYERS * D), 0, LAYERS)
    params = Params.of(draw(WIDTH, D), draw(WIDTH) / 3, rows, 0.1 * draw(LAYERS * D))
    config = MethodConfig(width=WIDTH, k=8, architecture="batchtopk", transcode=True, layers=LAYERS)
    about = {"store": store.url, "source": "hf", "site": "a->b", "reads": READS, "writes": WRITES}
    return directory, Dictionary(params, config, about, threshold=THRESHOLD)


def test_of_a_layer_it_is_what_writes_that_layer(prepared):
    whole = prepared[1]
    x = np.random.default_rng(1).normal(size=(9, LAYERS * D)).astype(np.float32)
    for layer in range(LAYERS):
        given = whole.of_layer(layer).reconstruct(x[:, : (layer + 1) * D])
        expected = np.split(np.asarray(whole.reconstruct(x)), LAYERS, 1)[layer]
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=r"of_layer\(2\): this cross-layer transcoder has layers 0 to 1"):
        whole.of_layer(LAYERS)


def test_in_place_of_all_mlps_it_costs_what_its_files_cost_a_plain_model(prepared, transformers, tmp_path):
    import torch

    directory, dictionary = prepared
    config = EvaluateConfig(run=str(tmp_path / "run"), suite=("splice",), sequences_per_batch=3)
    found = evaluate(config, dictionary, quiet=True)["splice"]
    save_dictionary(tmp_path / "run", dictionary)
    export(ExportConfig(run=str(tmp_path / "run"), format="circuit_tracer", output=str(tmp_path / "out")))
    model = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    file = lambda name: {
        n: np.float64(a) for n, a in read_safetensors(tmp_path / "out" / f"{name}.safetensors").items()
    }
    weights = [file(f"W_enc_{layer}") | file(f"W_dec_{layer}") for layer in range(LAYERS)]

    def logs(tokens, at, layers) -> np.ndarray:
        """Of a pass in which the MLPs of these layers give what the files make of what MLPs read in that same pass."""
        latents: dict[int, np.ndarray] = {}

        def hook(layer):
            def replace(_, args, output):
                x, w = args[0][0, at].double().numpy(), weights[layer]
                pre = x @ w[f"W_enc_{layer}"].T + w[f"b_enc_{layer}"]
                latents[layer] = np.where(pre > w[f"threshold_{layer}"], pre, 0)
                written = [z @ weights[m][f"W_dec_{m}"][:, layer - m] for m, z in latents.items()]
                new = output.clone()
                new[0, at] = torch.tensor(sum(written) + w[f"b_dec_{layer}"], dtype=new.dtype)
                return new if layer in layers else None

            return replace

        handles = [model.model.layers[layer].mlp.register_forward_hook(hook(layer)) for layer in range(LAYERS)]
        with torch.no_grad():
            out = model(tokens).logits[0].double().log_softmax(-1).numpy()
        for handle in handles:
            handle.remove()
        return out

    variants = {"plain": (), "all": range(LAYERS), **{site: (layer,) for layer, site in enumerate(WRITES)}}
    text, sums, count = open_text(Context(config, dictionary)), dict.fromkeys(variants, 0.0), 0
    for batch in text.batches():
        for row in range(len(batch.tokens)):
            there = batch.tokens[row] >= 0
            tokens = torch.tensor(batch.tokens[row][there].astype(np.int64))[None]
            at, asked = np.flatnonzero(batch.kept[row][there]), np.flatnonzero(batch.asked[row][there])
            for name, layers in variants.items():
                sums[name] -= logs(tokens, at, layers)[asked, batch.targets[row][there][asked]].sum()
            count += len(asked)
    assert found["tokens"] == count and found["sites"] == WRITES
    assert found["ce"] == pytest.approx(sums["plain"] / count, rel=1e-5)
    assert found["ce_spliced"] == pytest.approx(sums["all"] / count, rel=1e-5)
    for site in WRITES:
        assert found["each"][site]["ce_spliced"] == pytest.approx(sums[site] / count, rel=1e-5)
        assert abs(found["each"][site]["delta_ce"]) > 1e-4
    assert found["error_nodes"]["kl"] < 1e-5 < found["kl"] / 10


def test_it_is_spliced_alone(prepared, tmp_path):
    save_dictionary(tmp_path / "other", prepared[1])
    config = EvaluateConfig(run=str(tmp_path / "run"), suite=("splice",), splice_with=(str(tmp_path / "other"),))
    with pytest.raises(InputError, match="--splice_with=.*: is for a dictionary of one site"):
        evaluate(config, prepared[1], quiet=True)


def test_figures_are_of_each_layer(prepared, tmp_path):
    config = EvaluateConfig(run=str(tmp_path / "run"), store=prepared[1].metadata["store"])
    about = {n: v for n, v in prepared[1].metadata.items() if n != "store"}
    dictionary = Dictionary(prepared[1].params, prepared[1].config, about, threshold=THRESHOLD)
    found = evaluate(config, dictionary, quiet=True)["reconstruction"]
    context = Context(config, dictionary)
    x, t = (np.concatenate(parts) for parts in zip(*context.batches(), strict=True))
    y = np.asarray(dictionary.reconstruct(x))
    fvu = lambda y, t: np.square(t - y).sum() / np.square(t - t.mean(0)).sum()
    linear, total = 0.0, 0.0
    for layer, site in enumerate(WRITES):
        own = slice(layer * D, (layer + 1) * D)
        assert found["sites"][site]["fvu"] == pytest.approx(fvu(y[:, own], np.float64(t[:, own])), rel=1e-4)
        known = np.hstack([x[:, : (layer + 1) * D], np.ones((len(x), 1))]).astype(np.float64)
        wanted = t[:, own] * context.units[own]
        linear += np.square(wanted - known @ np.linalg.lstsq(known, wanted)[0]).sum()
        total += np.square(wanted - wanted.mean(0)).sum()
    assert found["baselines"]["linear"]["fvu"] == pytest.approx(linear / total, rel=1e-3)
    assert found["fvu"] == pytest.approx(fvu(y * context.units, t * np.float64(context.units)), rel=1e-4)
