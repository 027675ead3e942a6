"""The suite as a whole: changes against rows that NumPy makes, identities, planted latents, and what is refused."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae import cli
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, causal, evaluate
from jaxsae.evaluate import games as play
from jaxsae.evaluate.causal import mediate, paired, pairs, single, square
from jaxsae.evaluate.causal_config import CausalConfig
from jaxsae.evaluate.context import Context, load_dictionary
from jaxsae.evaluate.effects import divergence, seen_batches
from jaxsae.evaluate.subject import open_subject
from jaxsae.lm.options import HFConfig

SITE = "resid_post.0"
FEW = dict(causal_count=2, causal_sequences=5, causal_pair_count=8, causal_boards=16)


@pytest.fixture
def context(make_dictionary, model_path):
    dictionary = make_dictionary("topk", model=model_path, site=SITE, source="othello")
    config = EvaluateConfig(run="run", games=24, games_per_batch=8, causal=CausalConfig(**FEW))
    return Context(config, dictionary)


@pytest.fixture
def small(monkeypatch):
    """Fewer sizes and strengths, games that are fitted to and candidates."""
    for module, name, value in (
        (mediate, "SIZES", (1, 8)),
        (mediate, "MOVES", (("set", 1.0), ("shift", 8.0))),
        (mediate, "CANDIDATES", 3),
        (paired, "SIZES", (1, 8)),
        (square, "FIT_GAMES", 16),
    ):
        monkeypatch.setattr(module, name, value)


def log(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_an_ablation_is_a_direct_replacement(context, model, dense):
    subject = open_subject(context, "causal")
    parts = list(seen_batches(context, subject, 5))
    base, put_back = causal._base(context, subject, parts)
    assert put_back < 1e-5
    games, kept = subject.played[:5], slice(4, 51)
    moves = games.moves[:, :59].astype(np.int32)
    logits, seen = model(moves, read=(SITE,))
    x = np.asarray(seen[SITE])
    z = dense(context.dictionary, x[:, kept].reshape(-1, 16)).z
    latent = int(np.argsort(-(z > 0).sum(0))[3])
    largest = z.max(0)
    found, changes = single.figures(context, subject, parts, base, [latent], largest)
    W, f = np.asarray(context.dictionary.params.W_dec)[latent], z[:, latent].reshape(5, 47, 1)
    p, fires = log(logits)[:, 4:], (f[..., 0] > 0)
    fires = np.pad(fires, ((0, 0), (0, 55 - 47)))
    for value, told in ((0, found[0]["ablated"]["latent"]), (2 * largest[latent], found[0]["clamped"][2]["latent"])):
        mixed = x.copy()
        mixed[:, kept] += (value - f) * W
        q = log(model(moves, replace={SITE: lambda _, mixed=mixed: mixed})[0])[:, 4:]
        kl = (np.exp(p) * (p - q)).sum(-1)
        assert told["kl"] == pytest.approx(kl.mean(), rel=1e-3)
        assert told["kl_where_it_fires"] == pytest.approx(kl[fires].mean(), rel=1e-3)
        if not value:
            raw = np.asarray(model(moves, replace={SITE: lambda _, mixed=mixed: mixed})[0])[:, 4:]
            np.testing.assert_allclose(changes[0], (raw - np.asarray(logits)[:, 4:])[fires].mean(0), atol=1e-4)
    assert found[0]["ablated"]["random_direction"]["kl"] > 0


def test_a_latent_that_never_fires_changes_nothing_when_ablated(context):
    b_enc = np.where(np.arange(48) == 5, -1e4, context.dictionary.params.b_enc).astype(np.float32)
    silent = dataclasses.replace(context.dictionary, params=context.dictionary.params.put(b_enc=b_enc))
    context = Context(context.config, silent)
    subject = open_subject(context, "causal")
    parts = list(seen_batches(context, subject, 5))
    base, _ = causal._base(context, subject, parts)
    found, changes = single.figures(context, subject, parts, base, [5], np.ones(48))
    assert found[0]["ablated"]["latent"]["kl"] == 0 and found[0]["ablated"]["latent"]["delta_ce"] == 0
    assert found[0]["ablated"]["latent"]["kl_where_it_fires"] is None and not changes.any()
    assert found[0]["clamped"][0]["latent"]["kl"] > 0


def test_contexts_with_their_own_rows_put_back_are_unchanged(context):
    made = pairs.open_pairs(context, open_subject(context, "causal"))
    assert len(made.a) == 8 and not made.given
    logits, spill = made.a.changed(made.a.y)
    np.testing.assert_array_equal(logits, made.a.logits)
    assert not spill.any() and (divergence(made.a.logits, made.b.logits) > 0).all()
    for a, b in zip(made.a.batches, made.b.batches, strict=True):
        assert ((a.tokens != b.tokens) == a.kept).all()  # the last move alone
    some = np.arange(8) % 3 == 0
    np.testing.assert_allclose(made.b.pick(some).changed(made.b.y[some])[0], made.b.logits[some], atol=1e-5)


def test_all_that_moves_with_the_error_is_the_other_context(context, small):
    found = paired.figures(context, pairs.open_pairs(context, open_subject(context, "causal")))
    assert found["whole"]["share"] == pytest.approx(1, abs=1e-5)
    assert found["latents_of_half"] <= found["latents_of_90_percent"] <= found["moved"]
    assert found["recovered"]["latents"][0]["m"] == 1 and found["foremost"]


def test_a_latent_that_is_the_square_turns_it(context, model, small):
    """The planted latent is all of what a model with a readable square has of it: one latent does what all do."""
    subject = open_subject(context, "causal")
    task, about = square.open_task(context, subject)
    other, wanted = task.fitted.means
    direction = (wanted - other) / np.linalg.norm(wanted - other)
    params = context.dictionary.params
    middle = (other + wanted) @ direction / 2
    W = {name: np.array(getattr(params, name)) for name in ("W_enc", "W_dec", "b_enc")}
    W["W_enc"][0], W["W_dec"][0] = 20 * direction, direction
    W["b_enc"][0] = -20 * (middle - np.asarray(params.b_dec) @ direction)
    planted = dataclasses.replace(context.dictionary, params=params.put(**{k: jnp.asarray(v) for k, v in W.items()}))
    context = Context(
        dataclasses.replace(context.config, causal=CausalConfig(**FEW, causal_square=about["square"])), planted
    )
    task, again = square.open_task(context, subject)
    assert again["given"] and again["square"] == about["square"]
    ways = mediate._ways(context, task)
    assert ways.orders["latents_by_means"][0] == 0
    moved = ways.changes["latents_by_means"](task.test, 1, ("shift", 1.0)) - task.test.y
    assert np.abs(moved @ direction - np.linalg.norm(moved, axis=1)).max() < 1e-3
    found = mediate.figures(context, task)
    assert found["contexts"] == 12 and found["tuned_on"] == 4 and len(found["at_price"]["1 latent"]) == 4
    none = task.test_score(task.test.logits, task.test.logits, np.zeros(12))
    assert not none.gain.any() and not none.price.any() and (none.whole > 0).any()


def test_games_are_judged_and_written(context, tmp_path, small, capsys):
    config = dataclasses.replace(context.config, run=str(tmp_path), suite=("causal",))
    found = evaluate(config, context.dictionary)["causal"]
    assert len(found["single"]) == 2 and found["put_back_kl"] < 1e-5 and found["mediation"]["of"]["square"]
    summary = json.loads((tmp_path / "eval" / "causal.json").read_text())["summary"]
    assert any(plot["title"].startswith("Latents against probes on ") for plot in summary["plots"])
    assert np.load(tmp_path / "eval" / "causal.npz")["token_changes"].shape == (2, 60)
    assert "by probe directions" in capsys.readouterr().err
    assert evaluate(config, context.dictionary, quiet=True)["causal"] == found  # same seed, same bits


def text_config(run, **causal):
    flags = CausalConfig(**FEW | causal)
    hf = HFConfig(backend="torch")
    return EvaluateConfig(run=str(run), suite=("causal",), text_tokens=200, sequences_per_batch=4, causal=flags, hf=hf)


def test_text_by_made_pairs_and_by_those_of_a_file(make_set, tmp_path, small):
    run = make_set(sites=(SITE,)) / SITE
    found = evaluate(text_config(run), quiet=True)["causal"]
    assert found["mediation"] is None and "--causal_pairs" in found["no_mediation"]
    assert found["pairs"]["whole"]["share"] == pytest.approx(1, abs=1e-4) and found["put_back_kl"] < 1e-5
    path = tmp_path / "pairs.jsonl"
    words = [("".join(np.random.default_rng(i).choice(list("abcdefgh"), 6))) for i in range(16)]
    path.write_text("".join(json.dumps({"a": f"x {word}.", "b": f"y {word} or."}) + "\n" for word in words))
    found = evaluate(text_config(run, causal_pairs=str(path)), quiet=True)["causal"]
    assert found["pairs"]["pairs"] == 16 and found["pairs"]["given"]
    assert found["mediation"]["contexts"] == 8 and found["mediation"]["curves"]["probes"][0]["m"] == 1


def test_a_transcoder_is_changed_where_it_writes(make_set, small):
    run = make_set("batchtopk", skip=True, reads=("mlp_in.*",), writes=("mlp_out.*",)) / "mlp_out.1"
    context = Context(text_config(run), load_dictionary(str(run)))
    subject = open_subject(context, "causal")
    part = next(seen_batches(context, subject))
    there = subject.read(part.batch, ("mlp_in.1", "mlp_out.1"))
    np.testing.assert_array_equal(part.y, there["mlp_out.1"])
    np.testing.assert_allclose(part.latents.toarray(), dense_latents(context.dictionary, there["mlp_in.1"]), atol=1e-4)
    found = evaluate(context.config, quiet=True)["causal"]
    assert 0 < found["pairs"]["whole"]["share"] < 1  # the stream goes past the MLP
    assert found["put_back_kl"] < 1e-5


def dense_latents(dictionary, x):
    """A batchtopk transcoder's, which subtracts nothing before."""
    z = x @ np.asarray(dictionary.params.W_enc).T + np.asarray(dictionary.params.b_enc)
    return np.where(z > dictionary.threshold, z, 0)


def test_what_cannot_be_changed_is_refused_at_once(context, make_set, make_model, tmp_path, monkeypatch):
    monkeypatch.setattr(causal, "open_subject", lambda *_: pytest.fail("the model was opened"))
    cases = [
        (dict(causal_latents=(3, 48)), r"--causal_latents=48: give 0 to 47"),
        (dict(causal_square="I3"), r"--causal_square=I3: give A1 to H8"),
        (dict(causal_pairs=str(tmp_path / "none")), r"--causal_pairs=.*cannot be read"),
    ]
    for flags, message in cases:
        config = dataclasses.replace(context.config, suite=("causal",), causal=CausalConfig(**flags))
        with pytest.raises(InputError, match=message):
            evaluate(config, context.dictionary)
    run = make_set(sites=(SITE,)) / SITE
    with pytest.raises(InputError, match=r"--causal_square=D3: .*text"):
        evaluate(text_config(run, causal_square="D3"))
    masked = dataclasses.replace(text_config(run), model=make_model("bert"))
    with pytest.raises(InputError, match="masked tokens"):
        causal.check(Context(masked, load_dictionary(str(run))))
    assert cli.run(["evaluate", f"--run={run}", "--suite=causal", "--causal_latents=99"]) == 2


def test_crosscoders_are_refused(context):
    sites = ["resid_post.0", "resid_post.1"]
    dictionary = context.dictionary
    method = dataclasses.replace(dictionary.config, site_widths=(8, 8))
    several = dataclasses.replace(
        dictionary, config=method, metadata=dictionary.metadata | {"reads": sites, "writes": sites}
    )
    with pytest.raises(InputError, match="writes 2 sites"):
        causal.check(Context(context.config, several))


def test_texts_that_are_the_same_tokens_are_refused(make_set, tmp_path):
    run = make_set(sites=(SITE,)) / SITE
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"a": "a" * 40, "b": "a" * 50}))  # the context is 24
    with pytest.raises(InputError, match="pair 1: both texts are the same"):
        evaluate(text_config(run, causal_pairs=str(path)))


def test_counted_from_0():
    with pytest.raises(InputError, match="--causal_latents=-1"):
        CausalConfig(causal_latents=(-1,))
    assert play.SUBJECT != play.FITTED
