"""Planted rows counted one by one, latents judged by plain loops, and all of it wired together with a few steps."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from sklearn.metrics import f1_score

from jaxsae.config import write_flag_file
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate, rare
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.rare import table
from jaxsae.evaluate.rare.features import BLOCK, ROWS, Planted, grid
from jaxsae.evaluate.rare.figures import figures
from jaxsae.evaluate.rare.judge import f1_at, judge
from jaxsae.evaluate.rare.rows import SITE as PLANTED
from jaxsae.evaluate.rare.rows import Judged, Split, write_planted
from jaxsae.evaluate.rare.trained import config_of
from jaxsae.evaluate.rare_config import RareConfig
from jaxsae.store import open_store
from jaxsae.training import TrainConfig, save_dictionary

SITE, D = "resid_post.0", 16
SMALL = dict(rare_widths=(24, 48), rare_rows=2048, rare_steps=6, rare_judged=512, rare_features=2, rare_per_decade=2)


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((3000, D)).astype(np.float32)


@pytest.fixture
def context(tmp_path, write_store, make_dictionary, x):
    """context(flags) of a run on a store of 3,000 rows."""
    url = write_store(x)

    def make(**flags) -> Context:
        config = EvaluateConfig(run=str(tmp_path / "run"), rare=RareConfig(**SMALL | flags), batch_size=256)
        return Context(config, make_dictionary(architecture="batchtopk", store=url, site=SITE))

    return make


def planted(seed: int = 0, **flags) -> Planted:
    return Planted.of(np.array([0.1, 0.01]), 3, D, 2.0, seed, **flags)


def test_features_stand_on_their_share_of_rows_whatever_rows_are_made_beside_them():
    made = planted()
    codes = made.codes(0, 20 * BLOCK).toarray()
    np.testing.assert_array_equal(made.codes(1500, 2100).toarray(), codes[1500:2100])
    counts = (codes > 0).sum(0)
    expected = made.frequency * len(codes)
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
    lengths = codes[codes > 0]
    assert lengths.mean() == pytest.approx(2, rel=0.02) and lengths.std() == pytest.approx(0.5, rel=0.05)
    assert (planted(1).codes(0, BLOCK) != made.codes(0, BLOCK)).nnz and not np.allclose(
        planted(1).directions, made.directions
    )
    np.testing.assert_allclose(np.linalg.norm(made.directions, axis=1), 1, atol=1e-6)


def test_frequencies_are_a_grid_that_ends_where_rows_do():
    found, lowest = grid(RareConfig(rare_high=1e-2, rare_low=1e-6, rare_per_decade=2), 200_000)
    np.testing.assert_allclose(found, [1e-2, 10**-2.5, 1e-3, 10**-3.5, 1e-4, 10**-4.5], rtol=1e-6)
    assert lowest == pytest.approx(1e-6)


def test_the_store_holds_the_rows_with_their_features_and_goes_on_where_it_was_cut(context, tmp_path, x, monkeypatch):
    from jaxsae.evaluate.rare import rows as module

    c, made = context(), planted()
    split = Split.of(c)
    assert split.trained == [(0, 2048)] and split.judged == [(2488, 3000)]
    counts = write_planted(tmp_path / "planted", c, made, split, {})
    codes = made.codes(0, 2048, ROWS).toarray()
    np.testing.assert_array_equal(counts, (codes > 0).sum(0))
    store = open_store(tmp_path / "planted")
    np.testing.assert_allclose(store.read(PLANTED, 0, 2048), x[:2048] + codes @ made.directions, atol=1e-5)
    monkeypatch.setattr(module, "read", None)  # nothing is read again of what is there
    np.testing.assert_array_equal(write_planted(tmp_path / "planted", c, made, split, {}), counts)


def test_f1_is_that_of_rows_where_features_stand():
    rng = np.random.default_rng(0)
    stands, fires = rng.random(4000) < 0.1, rng.random(4000) < 0.05
    fires |= stands & (rng.random(4000) < 0.7)
    f, recall, false = stands.mean(), fires[stands].mean(), fires[~stands].mean()
    assert f1_at(f, recall, false) == pytest.approx(f1_score(stands, fires))
    assert f1_at(np.array([0.1]), np.zeros(1), np.zeros(1)) == 0


def test_a_dictionary_that_holds_the_features_is_found_to_and_another_not(context, make_dictionary):
    c, made = context(), planted()
    judged = Judged(c, made, Split.of(c))
    own = make_dictionary(architecture="topk", width=24)
    W_dec = np.asarray(own.params.W_dec).copy()
    W_dec[:6] = 3 * made.directions
    W_enc = np.asarray(own.params.W_enc).copy()
    W_enc[:6] = made.directions
    latent = own.params.latent | {"W_dec": jax.numpy.asarray(W_dec), "W_enc": jax.numpy.asarray(W_enc)}
    knows = dataclasses.replace(own, params=dataclasses.replace(own.params, latent=latent))
    found, none = (judge(d, judged, 200, made.frequency) for d in (knows, own))
    np.testing.assert_allclose(found["cosine"], 1, atol=1e-5)
    np.testing.assert_array_equal(found["latent"], np.arange(6))
    assert found["recall"].min() > 0.6 and none["cosine"].max() < 0.9 and found["absent"].max() < 0.99
    # Rates row by row, of the rows as `natural` gives them in one piece.
    rows, codes = next(judged.natural(512))
    latents = knows.encode(rows)
    on = np.zeros((512, 24), bool)
    for row in range(512):
        on[row, np.asarray(latents.indices)[row][np.asarray(latents.values)[row] != 0]] = True
    stands = codes.toarray() > 0
    np.testing.assert_allclose(found["false"], [on[~stands[:, i], i].mean() for i in range(6)])
    assert found["l0"] == pytest.approx(on.sum(1).mean())


def test_trainings_are_the_runs_own_at_other_widths(context, tmp_path):
    c = context()
    flags = TrainConfig(
        store=c.store.url,
        workdir=str(tmp_path / "run"),
        batch_size=64,
        tokens=6400,
        seed=9,
        method=MethodConfig(width=96, architecture="matryoshka", k=32, prefixes=(8, 96)),
    )
    (tmp_path / "run").mkdir()
    write_flag_file(tmp_path / "run/config.flags", flags, "train")
    made = config_of(c, "planted", "w", 24, 3)
    assert (made.method.architecture, made.method.width, made.method.k, made.method.prefixes) == (
        "matryoshka",
        24,
        24,
        (),
    )
    assert (made.batch_size, made.steps, made.seed, made.holdout_rows, made.store) == (64, 6, 3, 0, "planted")


def test_all_of_it_and_that_it_is_taken_up_where_it_was_cut(context, tmp_path, monkeypatch):
    few = dict(rare_high=0.1, rare_low=0.01, rare_widths=(24,), rare_steps=2)
    c = context(rare_keep=True, **few)
    save_dictionary(tmp_path / "run", c.dictionary)
    method = MethodConfig(width=48, architecture="topk", k=4)
    flags = TrainConfig(store=c.store.url, workdir=c.config.run, batch_size=64, tokens=640, method=method)
    write_flag_file(tmp_path / "run/config.flags", flags, "train")
    found = evaluate(dataclasses.replace(c.config, suite=("rare",)), c.dictionary, quiet=True)["rare"]
    assert list(found["widths"]) == ["24"] and found["features"] == 6 and found["rows"] == 2048
    assert len(found["widths"]["24"]["found"]) == 3 and found["widths"]["24"]["l0"] == pytest.approx(4, abs=0.1)
    assert found["power"] is None and "one width says nothing of others" in found["summary"]["limits"]
    (kept,) = (tmp_path / "run/eval/rare").iterdir()
    assert {p.name for p in kept.iterdir()} >= {"store_seed0", "seed0_width24", "seed0_width24.json"}

    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(rare, "train", never)
    again = rare.evaluate(context(**few))
    assert again["widths"]["24"]["cosine"] == pytest.approx(found["widths"]["24"]["cosine"])
    assert not (tmp_path / "run/eval/rare").exists()  # without --rare_keep
    assert json.loads((tmp_path / "run/eval/rare.json").read_text())["summary"]["figures"]


def test_figures_hold_the_law_of_what_was_judged():
    planned = np.repeat(10 ** -np.linspace(2, 4, 5), 8)
    run = lambda width, seed, least: {
        "width": width,
        "seed": seed,
        "planned": planned,
        "rows": np.round(planned * 1e5),
        "share": planned,
        "cosine": np.where(planned >= least, 0.95, np.where(planned > least / 3, 0.75, 0.5)),
        "f1": np.where(planned > 1.5e-4, 0.9, 0.6),
        "recall": planned,
        "absent": np.full(9, 0.3),
        "fvu": 0.2,
        "l0": 8.0,
    }
    runs = [run(width, seed, least) for width, least in ((24, 2e-3), (48, 2e-4)) for seed in (0, 1)]
    found = figures(RareConfig(**SMALL), runs, np.array([0.2, 0.95]), 1e-6)
    assert found["features"] == 80 and found["seeds"] == 2 and found["baselines"] == {"pca": 0.5, "absent": 0.0}
    narrow, wide = found["widths"].values()
    assert narrow["found"] == [1, 1, 0, 0, 0] and wide["found"] == [1, 1, 1, 1, 0]
    assert narrow["law"]["f50"] == pytest.approx(10**-2.75, rel=0.01)
    assert found["power"]["exponent"] == pytest.approx(np.log(10) / np.log(2), rel=0.01)
    assert narrow["laws"]["0.7"]["f50"] == pytest.approx(10**-3.25, rel=0.01) and narrow["laws"]["0.8"] == narrow["law"]
    assert wide["laws"]["0.7"]["f50"] is None  # all are found: below the rarest
    told = table(found | {"length": 1.0, "rows": 100000, "steps": 5, "batch_size": 64})
    assert any("two widths give a slope" in line for line in told)


def test_bad_flags_and_stores_are_refused_before_anything_is_written(context, tmp_path, monkeypatch):
    cases = [
        (dict(rare_widths=(256, 0)), "--rare_widths=256,0"),
        (dict(rare_widths=(512, 256)), "--rare_widths=512,256"),
        (dict(rare_high=1.0), "--rare_high=1.0: must be between 0 and 1"),
        (dict(rare_low=0.0), "--rare_low=0.0"),
        (dict(rare_low=0.1), "--rare_low=0.1: must be below"),
    ]
    for flags, message in cases:
        with pytest.raises(InputError, match=message):
            RareConfig(**flags)
    with pytest.raises(InputError, match="--rare_rows=500: .* leave 500 to train on"):
        rare.check(context(rare_rows=500))
    rescaled = dataclasses.replace(context().dictionary, config=MethodConfig(width=48, architecture="rescaled"))
    with pytest.raises(InputError, match="is a rescaled dictionary"):
        rare.check(dataclasses.replace(context(), dictionary=rescaled))
    monkeypatch.setattr("shutil.disk_usage", lambda _: dataclasses.make_dataclass("U", ["free"])(1000))
    with pytest.raises(InputError, match="--rare_rows=2048: 2,048 planted rows take .* MB left"):
        rare.check(context())
    assert not (tmp_path / "run").exists()
