"""What splice must say where the answer is known: of activations themselves, of a whole PCA, of a random dictionary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.dictionary.parameters import tied_init
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate import games as play
from jaxsae.evaluate.probe import principal_components
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.lm import weights

GAME_SITES = ("embed", "attn_out.2", "mlp_in.1", "mlp_out.3", *(f"resid_post.{layer}" for layer in range(4)))
TEXT_SITES = ("mlp_in.0", "mlp_out.1", "resid_post.2")
SUITE = {"suite": ("splice",)}


def signed(directions: np.ndarray, centre: np.ndarray, **about) -> Dictionary:
    """Two latents of opposite sign for each of some directions [n, d], relu: with orthonormal ones their projection about
    `centre`, and with all of these what is read itself."""
    both = np.concatenate([directions, -directions]).astype(np.float32)
    biases = np.float32(-both @ centre)  # relu takes off no centre by itself
    params = Params.of(*map(jnp.asarray, (both, biases, both, centre.astype(np.float32))))
    return Dictionary(params, MethodConfig(width=len(both), architecture="relu"), about)


def dictionaries(x: np.ndarray, **about) -> dict[str, Dictionary]:
    """Of rows [N, d]: their own coordinates, all principal components, half of these, and random latents."""
    d = x.shape[1]
    _, directions, mean = principal_components(x)
    identity = signed(np.eye(d), np.zeros(d), **about)
    pca, half = (signed(directions.T[:n], mean, **about) for n in (d, d // 2))
    random = Dictionary(
        tied_init(jax.random.key(0), 2 * d, d), MethodConfig(width=2 * d, k=2, architecture="topk"), about
    )
    return {"identity": identity, "pca": pca, "half": half, "random": random}


def check(found: dict[str, dict]) -> None:
    for name in ("identity", "pca"):
        assert found[name]["delta_ce"] == pytest.approx(0, abs=2e-5), name
        assert found[name]["kl"] == pytest.approx(0, abs=2e-5), name
        assert found[name]["next_token_agreement"]["spliced"] > 0.99
    if "half" in found:  # so that the two above are no splice that does nothing
        assert found["half"]["kl"] > 1e-4
        random = found["random"]
        assert 0.4 * random["kl_zero"] < random["kl"] < 2.5 * random["kl_zero"]


@pytest.fixture(scope="module")
def game_store(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("games") / "store")
    return harvest(
        HarvestConfig(store=path, source="othello", tokens=47 * 16, sites=GAME_SITES, shard_rows=376, chunk_rows=47)
    )


@pytest.mark.parametrize("site", GAME_SITES)
def test_of_the_othello_gpt(site, game_store, tmp_path):
    flags = SUITE | dict(store=game_store.url, site=site, model="shipped", games=4, games_per_batch=4)
    found = {}
    made = dictionaries(game_store.read(site, 0, game_store.rows), source="othello")
    for name in made if site in ("attn_out.2", "resid_post.1") else ("identity", "pca"):
        config = EvaluateConfig(run=str(tmp_path / name), **flags)
        found[name] = evaluate(config, made[name], quiet=True)["splice"]
    check(found)


def test_true_activations_at_every_site_of_the_othello_gpt_change_nothing():
    model = weights.load("shipped")
    moves = play.held_out_games(2, 0, play.SPLICE).moves[:, :59].astype(np.int32)
    logits, seen = model(moves, read=model.config.sites())
    for site, x in seen.items():
        back = np.asarray(model(moves, replace={site: lambda _, x=x: x})[0])
        np.testing.assert_array_equal(back, logits, err_msg=site)


@pytest.mark.parametrize("site", TEXT_SITES)
def test_of_a_language_model(site, make_model, configure, tmp_path):
    store = harvest(configure(make_model("llama"), {"documents": "0:40"}, sites=(site,)))
    found = {}
    for name, dictionary in dictionaries(
        store.read(site, 0, store.rows), source="hf", store=store.url, site=site
    ).items():
        config = EvaluateConfig(run=str(tmp_path / name), text_tokens=100, **SUITE)
        found[name] = evaluate(config, dictionary, quiet=True)["splice"]
    check(found)
