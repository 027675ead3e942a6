"""A crosscoder's reconstructions at its sites, against plain forward passes with hooks of this test's own."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.text_model import open_text
from jaxsae.harvest import harvest
from jaxsae.training import save_dictionary

D, WIDTH, K = 16, 40, 6
SITES = ("resid_post.0", "resid_post.1")
BLOCKS = {site: f"model.layers.{site[-1]}" for site in SITES}


@pytest.fixture
def prepared(make_model, configure):
    """(the model's directory, a crosscoder of its store)."""
    directory = make_model("llama")
    store = harvest(configure(directory, {"documents": "0:40"}, sites=SITES))
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    params = Params.of(draw(WIDTH, 2 * D), draw(WIDTH) / 3, 0.1 * draw(WIDTH, 2 * D), 0.1 * draw(2 * D))
    about = {"store": store.url, "source": "hf", "site": "+".join(SITES), "reads": list(SITES), "writes": list(SITES)}
    return directory, Dictionary(params, MethodConfig(width=WIDTH, k=K, site_widths=(D, D)), about)


def test_each_site_and_all_of_them_are_as_in_a_plain_model(prepared, transformers, tmp_path):
    import torch

    directory, dictionary = prepared
    config = EvaluateConfig(run=str(tmp_path / "run"), suite=("splice",), sequences_per_batch=3)
    found = evaluate(config, dictionary, quiet=True)["splice"]
    model = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    p = {n: np.float64(a) for n, a in (dictionary.params.latent | dictionary.params.shared).items()}

    def reconstructed(x: np.ndarray) -> np.ndarray:
        pre = (x - p["b_dec"]) @ p["W_enc"].T + p["b_enc"]
        kept = pre >= -np.sort(-pre, 1)[:, [K - 1]]
        return np.where(kept & (pre > 0), pre, 0) @ p["W_dec"] + p["b_dec"]

    def logs(tokens, hooks: dict) -> np.ndarray:
        handles = [model.get_submodule(BLOCKS[site]).register_forward_hook(hook) for site, hook in hooks.items()]
        with torch.no_grad():
            out = model(tokens).logits[0].double().log_softmax(-1).numpy()
        for handle in handles:
            handle.remove()
        return out

    variants = {"all": SITES, **{site: (site,) for site in SITES}}
    text, sums, count = open_text(Context(config, dictionary)), dict.fromkeys(["plain", *variants], 0.0), 0
    for batch in text.batches():
        for row in range(len(batch.tokens)):
            there = batch.tokens[row] >= 0
            tokens = torch.tensor(batch.tokens[row][there].astype(np.int64))[None]
            at, seen = np.flatnonzero(batch.kept[row][there]), {}

            def keep(site, seen=seen, at=at):
                def hook(_, args, output):
                    seen[site] = (output[0] if isinstance(output, tuple) else output)[0, at].double().numpy()

                return hook

            plain = logs(tokens, {site: keep(site) for site in SITES})
            y = np.split(reconstructed(np.concatenate([seen[site] for site in SITES], 1)), 2, 1)
            y = dict(zip(SITES, y, strict=True))

            def put(site, y=y, at=at):
                def hook(_, args, output):
                    whole = output[0] if isinstance(output, tuple) else output
                    new = whole.clone()
                    new[0, at] = torch.tensor(y[site], dtype=new.dtype)
                    return (new, *output[1:]) if isinstance(output, tuple) else new

                return hook

            spliced = {name: logs(tokens, {site: put(site) for site in sites}) for name, sites in variants.items()}
            for position in np.flatnonzero(batch.asked[row][there]):
                target = batch.targets[row][there][position]
                for name, values in {"plain": plain, **spliced}.items():
                    sums[name] -= values[position, target]
                count += 1
    assert found["tokens"] == count and found["sites"] == list(SITES)
    assert found["ce"] == pytest.approx(sums["plain"] / count, rel=1e-5)
    assert found["ce_spliced"] == pytest.approx(sums["all"] / count, rel=1e-5)
    for site in SITES:
        assert found["each"][site]["ce_spliced"] == pytest.approx(sums[site] / count, rel=1e-5)
        assert abs(found["each"][site]["delta_ce"]) > 1e-4


def test_it_is_spliced_alone(prepared, tmp_path):
    save_dictionary(tmp_path / "other", prepared[1])
    config = EvaluateConfig(run=str(tmp_path / "run"), suite=("splice",), splice_with=(str(tmp_path / "other"),))
    with pytest.raises(InputError, match="--splice_with=.*: is for a dictionary of one site"):
        evaluate(config, prepared[1], quiet=True)
    one = Dictionary(
        Params.of(jnp.ones((4, D)), jnp.zeros(4), jnp.ones((4, D)), jnp.zeros(D)),
        MethodConfig(width=4, k=1),
        prepared[1].metadata | {"site": SITES[0]},
    )
    with pytest.raises(InputError, match="--splice_with=.*: is a crosscoder, which is spliced alone"):
        evaluate(config, one, quiet=True)
