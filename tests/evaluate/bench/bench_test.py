"""Dictionaries side by side against plain sums; what is taken from eval/; what is refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate import games as play
from jaxsae.evaluate.bench_config import BenchConfig
from jaxsae.evaluate.context import Context
from jaxsae.lm.othello import CONTEXT
from jaxsae.training import save_dictionary

SITE, GAMES = "resid_post.0", 5


@pytest.fixture
def runs(tmp_path, write_store, make_dictionary, model_path):
    """{name: directory} of three dictionaries of a tiny GPT, the last one the first again."""
    x = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    about = {"site": SITE, "store": write_store(x), "model": model_path, "source": "othello", "holdout_rows": 100}
    made = {"a": make_dictionary(**about), "b": make_dictionary(seed=1, **about)}
    made["again"] = made["a"]
    for name, dictionary in made.items():
        save_dictionary(tmp_path / name, dictionary)
    return {name: str(tmp_path / name) for name in made}


def config(run, *others, suites=("reconstruction",), **flags):
    bench = BenchConfig(bench_suites=suites, bench_sequences=GAMES)
    return EvaluateConfig(run=run, suite=("bench",), against=others, games_per_batch=2, bench=bench, **flags)


def benched(*args, **flags):
    return evaluate(config(*args, **flags), quiet=True)["bench"]


def test_side_by_side_is_what_plain_sums_give(runs, model, make_dictionary):
    found = benched(runs["a"], runs["b"], runs["again"])
    games = play.held_out_games(GAMES, 0, play.SUBJECT)
    moves, at = games.moves[:, :CONTEXT].astype(np.int32), slice(4, 51)
    logits, seen = model(moves, read=(SITE,))
    x = np.asarray(seen[SITE], np.float32)
    expected, differences = {}, {}
    log = lambda z: z - np.log(np.exp(z).sum(-1, keepdims=True))
    for name, seed in (("a", 0), ("b", 1)):
        dictionary = make_dictionary(seed=seed)
        y = x.copy()
        y[:, at] = np.asarray(dictionary.reconstruct(x[:, at].reshape(-1, 16))).reshape(x[:, at].shape)
        error = np.square(np.float64(y - x)[:, at]).sum((1, 2))
        variance = np.square(np.float64(x[:, at]) - np.float64(x[:, at]).mean((0, 1))).sum()
        p, q = (log(np.float64(z))[:, 4:] for z in (logits, model(moves, replace={SITE: lambda _, y=y: y})[0]))
        kl = (np.exp(p) * (p - q)).sum(-1)
        targets = games.moves[:, 5 : CONTEXT + 1].astype(int)
        ce = np.take_along_axis(p - q, targets[..., None], -1)[..., 0]
        expected[name] = {"FVU": error.sum() / variance, "KL": kl.mean(), "delta CE": ce.mean()}
        differences[name] = kl.sum(1)
    columns = {c["figure"]: c for c in found["columns"] if c["suite"] == "side by side"}
    for figure in ("FVU", "KL", "delta CE"):
        np.testing.assert_allclose(
            columns[figure]["values"][:2], [expected[n][figure] for n in "ab"], rtol=2e-3, atol=2e-5
        )
        assert columns[figure]["less"][2] == 0 and columns[figure]["less_interval"][2] == [0, 0]
    less = (differences["b"] - differences["a"]) / 55
    half = 1.959964 * less.std(ddof=1) / np.sqrt(GAMES)
    np.testing.assert_allclose(columns["KL"]["less_interval"][1], [less.mean() - half, less.mean() + half], rtol=0.02)
    assert columns["L0"]["values"][0] <= 6 and found["subject"]["measured"] == GAMES
    assert columns["FVU"]["baselines"]["mean"] == pytest.approx(1) and columns["KL"]["baselines"]["zero"] > 0
    first, second, again = columns["FVU"]["ranks"]
    assert first == again and second != first  # the same one twice shares its ranks
    text = json.dumps(found["summary"])
    assert "Of 3 dictionaries a has a mean rank" in text and "paired" in text


def test_figures_that_are_there_are_taken_and_those_of_another_state_measured(runs, monkeypatch):
    from jaxsae.evaluate import reconstruction

    benched(runs["a"], runs["b"])
    measured = []
    inner = reconstruction.evaluate
    monkeypatch.setattr(reconstruction, "evaluate", lambda c: measured.append(c.config.run) or inner(c))
    benched(runs["a"], runs["b"])
    assert measured == []
    file = Path(runs["b"]) / "eval/reconstruction.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"trained_tokens": 5}))
    benched(runs["a"], runs["b"])
    assert measured == [runs["b"]]
    kept["summary"]["sample"] = "7 rows"  # of other rows than the first one's
    file.write_text(json.dumps(kept))
    del measured[:]
    found = benched(runs["a"], runs["b"])
    assert set(measured) == {runs["a"], runs["b"]} and not found["notes"]


def test_what_cannot_be_benched_is_refused(runs, tmp_path, make_dictionary, model_path):
    from jaxsae.evaluate import bench

    other = make_dictionary(site="resid_post.1", model=model_path, holdout_rows=100)
    save_dictionary(tmp_path / "site", other)
    cases = [
        ((runs["a"],), {}, "--against is required by --suite=bench"),
        ((runs["a"], "none"), {}, "--against=none: no such directory"),
        ((runs["a"], str(tmp_path / "site")), {}, r"--against=.*site: writes resid_post\.1, and --run="),
        ((runs["a"], runs["b"]), {"suites": ("spliced",)}, "--bench_suites=spliced: spliced is none of"),
        ((runs["a"], runs["b"]), {"suites": ("decomposability",)}, "--bench_suites=decomposability: "),
    ]
    for args, flags, message in cases:
        with pytest.raises(InputError, match=message):
            benched(*args, **flags)
    with pytest.raises(InputError, match="--bench_suites=compare"):
        BenchConfig(bench_suites=("compare",))
    with pytest.raises(InputError, match="--bench_sequences=1"):
        BenchConfig(bench_sequences=1)
    unknown = make_dictionary(site=SITE)
    context = Context(config(str(tmp_path / "run"), runs["b"]), unknown)
    with pytest.raises(InputError, match="--model is required by --suite=bench"):
        bench.check(context)
    assert not (tmp_path / "a/eval").exists()


def test_a_model_that_reads_text_is_run_with_each(make_set, tmp_path):
    from jaxsae.evaluate.context import load_dictionary

    run = make_set(sites=(SITE,)) / SITE
    own = load_dictionary(str(run))
    latent = {name: array[::-1] for name, array in own.params.latent.items()}
    turned = dataclasses.replace(own, params=dataclasses.replace(own.params, latent=latent))
    save_dictionary(tmp_path / "turned", turned)
    found = benched(str(run), str(tmp_path / "turned"), text_tokens=300, sequences_per_batch=3)
    columns = {c["figure"]: c for c in found["columns"] if c["suite"] == "side by side"}
    np.testing.assert_allclose(columns["KL"]["less"][1], 0, atol=1e-5)
    assert columns["KL"]["values"][0] > 0 and found["subject"]["unit"] == "sequence"
