"""The suite as a whole: games and text, dictionaries of one site and of several, the lens against the unembedding."""

import dataclasses
import json

import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate.latents import lens
from jaxsae.evaluate.latents_config import LatentsConfig
from jaxsae.harvest import harvest
from jaxsae.lm.options import HFConfig
from jaxsae.lm.othello import TOKEN_TO_SQUARE, bits

SITE = "resid_post.1"
FEW = LatentsConfig(latents_sequences=4, latents_examples=3)


@pytest.fixture
def of_games(tmp_path, model_path, make_dictionary):
    """Figures of the suite on six games, its dictionary and what it wrote."""

    def run(**about):
        dictionary = make_dictionary("topk", model=model_path, source="othello", **{"site": SITE} | about)
        config = EvaluateConfig(run=str(tmp_path), suite=("latents",), games=6, games_per_batch=4, latents=FEW)
        return evaluate(config, dictionary)["latents"], dictionary, np.load(tmp_path / "eval" / "latents.npz")

    return run


def test_every_latent_is_counted_and_seen_through_the_unembedding(of_games, model, dense):
    from jaxsae.evaluate import games as play

    found, dictionary, arrays = of_games()
    games = play.held_out_games(6, 0, play.SUBJECT)
    seen = np.asarray(model(games.moves[:, :59].astype(np.int32), read=(SITE,))[1][SITE])
    rows = seen[:, 4:51].reshape(-1, 16)
    z = dense(dictionary, rows).z
    np.testing.assert_array_equal(arrays["firings"], (z > 0).sum(0))
    np.testing.assert_allclose(arrays["largest"], z.max(0), rtol=1e-4, atol=1e-5)
    assert found["frequency"]["rows"] == 6 * 47 and found["frequency"]["l0"] == pytest.approx((z > 0).sum(1).mean())
    # SITE is what the unembedding reads: rms norm without gains, about the stream.
    mean = rows.mean(0)
    stream = mean * np.sqrt(np.square(rows).sum(1).mean()) / np.linalg.norm(mean)
    w = np.asarray(dictionary.params.W_dec, np.float64)
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    scale = 1 / np.sqrt(np.square(stream).mean() + 1e-5)
    turned = scale * (w - np.outer(w @ stream, stream) * scale**2 / 16)
    weights = turned @ np.asarray(model.unembedding[...], np.float64)
    top = weights.argmax(1)
    clear = np.diff(np.sort(weights, 1)[:, -2:], axis=1).ravel() > 1e-2
    assert clear.sum() > 30
    np.testing.assert_array_equal(arrays["lens_promoted"][clear, 0], top[clear])
    np.testing.assert_allclose(arrays["lens_promoted_weights"][:, 0], weights.max(1), rtol=2e-2)
    legal = bits(games.legal[:, 4:51])[..., TOKEN_TO_SQUARE].reshape(-1, 60).astype(bool)
    share = sum(legal[z[:, i] > 0, arrays["lens_promoted"][i, 0]].sum() for i in range(48)) / (z > 0).sum()
    assert found["lens"]["comes_true"]["latents"]["share"] == pytest.approx(share)
    assert found["lens"]["comes_true"]["of"] == "legal" and len(found["lens"]["examples"]) == 3
    assert len(found["summary"]["figures"]) > 8 and "%" in found["summary"]["says"]


def test_what_is_promoted_comes_true_where_it_does():
    import scipy.sparse as sp

    latents = sp.csr_matrix(np.array([[1, 0], [1, 2], [0, 3], [0, 1.0]]))
    tops = {"latents": np.array([[5], [6]]), "both": np.array([[5, 6], [6, 5]])}
    found = lens.comes_true(latents, tops, np.array([5, 6, 6, -1]), np.array([0, 0, 1, 1]))
    assert found["firings"] == 4 and found["latents"]["share"] == 3 / 4 and found["both"]["share"] == 1
    right = np.zeros((4, 8), bool)
    right[:, 5] = True
    assert lens.comes_true(latents, tops, right, np.array([0, 0, 1, 1]))["latents"]["share"] == 2 / 5


def test_a_site_beside_the_residual_stream_has_no_lens(of_games):
    found = of_games(site="mlp_in.1")[0]
    assert "lens" not in found and "mlp_in.1" in found["no_lens"]


def config_of(run):
    hf = HFConfig(backend="torch")
    return EvaluateConfig(run=str(run), suite=("latents",), text_tokens=300, sequences_per_batch=4, latents=FEW, hf=hf)


@pytest.mark.parametrize("sites", [dict(sites=(SITE,)), dict(reads=("mlp_in.*",), writes=("mlp_out.*",))])
def test_text_of_one_site_and_between_sites(make_set, sites):
    path = make_set("batchtopk", skip="reads" in sites, **sites) / ("mlp_out.1" if "reads" in sites else SITE)
    found = evaluate(config_of(path), quiet=True)["latents"]
    assert found["unit"] == "sequence" and found["lens"]["comes_true"]["of"] == "next"
    assert found["spliced"]["cuts"][0]["high"]["kl"] > 0 and found["spliced"]["sequences"] == 4
    assert json.loads((path / "eval" / "latents.json").read_text())["summary"]["plots"]


def test_all_activations_of_a_crosscoder_cost_what_splice_says(make_model, configure, tmp_path):
    sites = ("resid_post.0", "resid_post.1")
    store = harvest(configure(make_model("llama"), {"documents": "0:40"}, sites=sites))
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape, np.float32)
    params = Params.of(draw(40, 32), draw(40) / 3, 0.1 * draw(40, 32), 0.1 * draw(32))
    about = {"store": store.url, "source": "hf", "site": "+".join(sites), "reads": list(sites), "writes": list(sites)}
    dictionary = Dictionary(params, MethodConfig(width=40, k=6, site_widths=(16, 16)), about)
    some = LatentsConfig(latents_sequences=50)
    config = dataclasses.replace(config_of(tmp_path), suite=("latents", "splice"), text_tokens=90, latents=some)
    found = evaluate(config, dictionary, quiet=True)
    assert found["latents"]["spliced"]["predictions"] == found["splice"]["tokens"]
    whole = found["latents"]["spliced"]["cuts"][0]["high"]
    assert whole["kl"] == pytest.approx(found["splice"]["kl"], rel=1e-3)
    assert whole["delta_ce"] == pytest.approx(found["splice"]["delta_ce"], rel=1e-3, abs=1e-5)
    assert set(found["latents"]["basis"]) == set(sites) and "2 sites" in found["latents"]["no_lens"]


def test_what_is_not_above_0_is_refused():
    with pytest.raises(InputError, match="--latents_sequences=0"):
        LatentsConfig(latents_sequences=0)
