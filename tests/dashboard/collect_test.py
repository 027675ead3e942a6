"""Records of a store's rows: figures, contexts and shading against what the dictionary makes of each row, densely."""

import dataclasses
import json

import numpy as np
import pytest
from dashboard_scene import dense, store_of

from jaxsae.dashboard import collect_run
from jaxsae.dashboard import record as records
from jaxsae.dashboard.collect import collect
from jaxsae.dashboard.settings import Settings
from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context
from jaxsae.training import save_dictionary

SMALL = Settings(top=3, per_band=1, before=4, after=2, neighbours=3, drawn=5)


@pytest.fixture(scope="module")
def found(scene):
    return collect(scene.context, SMALL)


def test_figures_are_of_the_held_out_rows(scene, found):
    z = scene.z[-500:]
    assert found.about["rows"] == 500 and found.about["held_out"] and found.about["kind"] == "text"
    np.testing.assert_allclose(found.frequency, (z > 0).mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.most, z.max(0), rtol=1e-5)
    np.testing.assert_allclose(found.mean, z.sum(0) / np.maximum((z > 0).sum(0), 1), rtol=1e-5)
    assert found.shown.tolist() == np.flatnonzero(z.any(0)).tolist()
    np.testing.assert_array_equal(found.histogram.sum(1), (z > 0).sum(0)[found.shown])
    rows = np.asarray(scene.context.dictionary.params.W_dec)
    np.testing.assert_allclose(found.norm, np.linalg.norm(rows, axis=1), rtol=1e-6)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T - 2 * np.eye(len(unit))
    np.testing.assert_allclose(found.nearest_cosine, np.sort(cosines)[found.shown, :-4:-1], atol=1e-5)
    assert found.together[""][0].shape == (len(found.shown), 3)
    assert found.promoted.shape == (len(found.shown), 0) and found.about["no_lens"]


def test_contexts_are_rows_of_the_store_with_activations_of_each(scene, found):
    columns = {name: column[-500:] for name, column in scene.columns.items()}
    row_of = {(s, p): i for i, (s, p) in enumerate(zip(columns["sequence"], columns["position"], strict=True))}
    z, seen = scene.z[-500:], 0
    for i, latent in enumerate(found.shown):
        own = found.contexts(i)
        strongest = [c for c in own if found.band[c] == 0]
        best = {}
        for row in np.flatnonzero(z[:, latent]):
            sequence = columns["sequence"][row]
            best[sequence] = max(best.get(sequence, 0.0), z[row, latent])
        values = [found.values[c, found.at[c]] for c in strongest]
        np.testing.assert_allclose(values, sorted(best.values(), reverse=True)[:3], rtol=1e-5)
        for c in own:
            row, at = row_of[found.sequence[c], found.position[c]], found.at[c]
            tokens = found.tokens[c][found.tokens[c] >= 0]
            around = slice(row - at, row - at + len(tokens))
            assert tokens.tolist() == columns["tokens"][around].tolist()
            assert len(set(columns["sequence"][around].tolist())) == 1
            assert set(np.diff(columns["position"][around]).tolist()) <= {1}
            np.testing.assert_allclose(found.values[c, : len(tokens)], z[around, latent], rtol=1e-5, atol=1e-6)
            assert np.isnan(found.values[c, len(tokens) :]).all()
            seen += 1
    assert seen == found.start[-1] == len(found.tokens) > 100


def test_windows_drawn_at_random_say_all_that_fires(scene, found):
    columns = {name: column[-500:] for name, column in scene.columns.items()}
    assert found.drawn.shape == (5, 7)
    for s, tokens in enumerate(found.drawn):
        here = (columns["sequence"] == found.drawn_sequence[s]) & (columns["position"] >= found.drawn_position[s])
        rows = np.flatnonzero(here)[:7]
        assert tokens.tolist() == columns["tokens"][rows].tolist()
        fires = found.drawn_fires[found.drawn_start[s] : found.drawn_start[s + 1]]
        assert fires.tolist() == np.flatnonzero(scene.z[-500:][rows].any(0)).tolist()


def same(a, b, *but):
    for field in dataclasses.fields(a):
        if field.name not in ("about", "together", "words", *but):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)


def test_the_same_again_and_from_a_file(scene, found, tmp_path):
    same(found, collect(scene.context, SMALL))
    records.save(found, tmp_path / "r.npz")
    back = records.load(tmp_path / "r.npz")
    same(found, back)
    assert back.about == found.about == json.loads(json.dumps(found.about)) and back.words == found.words


def test_some_latents_have_what_they_have_among_all(scene, found):
    some = collect(scene.context, dataclasses.replace(SMALL, which="3,9:12"))
    assert some.shown.tolist() == [3, 9, 10, 11]
    at = np.searchsorted(found.shown, some.shown)
    np.testing.assert_array_equal(some.frequency, found.frequency)
    np.testing.assert_array_equal(some.histogram, found.histogram[at])
    np.testing.assert_array_equal(some.nearest, found.nearest[at])
    np.testing.assert_array_equal(some.together[""][0], found.together[""][0][at])
    rows = np.concatenate([np.array(found.contexts(i)) for i in at])
    for name in ("band", "sequence", "position", "tokens", "values"):
        np.testing.assert_array_equal(getattr(some, name), getattr(found, name)[rows])


def test_rows_of_training_and_other_stores_are_searched_where_asked(scene, found):
    assert collect(scene.context, dataclasses.replace(SMALL, trained_rows=True)).about["rows"] == 600
    assert collect(scene.context, dataclasses.replace(SMALL, trained_rows=True, rows=550)).about["rows"] == 550
    few = collect(scene.context, dataclasses.replace(SMALL, rows=50))
    np.testing.assert_allclose(few.frequency, (scene.z[-50:] > 0).mean(0), rtol=1e-6)


def test_a_run_by_its_directory(scene, found, tmp_path, capsys):
    save_dictionary(tmp_path / "run", scene.context.dictionary)
    own = collect_run(str(tmp_path / "run"), top=3, per_band=1, before=4, after=2, neighbours=3, drawn=5)
    same(found, own)
    said = capsys.readouterr().err
    assert "500 rows are held out, fewer than --rows=262,144; --trained_rows" in said
    again = collect_run(str(tmp_path / "run"), settings=SMALL, known=lambda name: own)
    assert again.shown is own.shown and "known already" in capsys.readouterr().err
    other = collect_run(str(tmp_path / "run"), settings=SMALL, known=lambda name: own, top=2)
    assert other.shown is not own.shown
    with pytest.raises(InputError, match="--which=24: give latents from 0 to 23"):
        collect_run(str(tmp_path / "run"), which="24")
    with pytest.raises(InputError, match="no such store"):
        collect_run(str(tmp_path / "run"), store=str(tmp_path / "gone"))


def test_rows_without_tokens_are_named_by_number(write_store, make_dictionary, x):
    none = {"tokens": np.full(600, -1), "sequence": np.zeros(600, int), "position": np.arange(600)}
    url = write_store(x, none, name="arrays")
    dictionary = make_dictionary(store=url, holdout_rows=400)
    found = collect(Context(EvaluateConfig(run="nowhere"), dictionary), SMALL)
    assert found.about["kind"] == "rows" and found.tokens.shape[1] == 1 and not found.words
    z = dense(dictionary, x)[-400:]
    for i in range(0, len(found.shown), 5):
        own = [c for c in found.contexts(i) if found.band[c] == 0]
        rows = found.tokens[own, 0] - 200
        np.testing.assert_allclose(z[rows, found.shown[i]], np.sort(z[:, found.shown[i]])[::-1][:3], rtol=1e-5)
        assert found.sequence[own].tolist() == found.tokens[own, 0].tolist() and not found.at[own].any()


def test_a_crosscoder_reads_its_sites_side_by_side(write_store, make_dictionary, x, columns):
    sites = ("resid_post.0", "resid_post.1")
    url = write_store(x, columns, sites, name="two")
    dictionary = make_dictionary(d=12, store=url, reads=list(sites), writes=list(sites), holdout_rows=300)
    config = dataclasses.replace(dictionary.config, site_widths=(6, 6))
    dictionary = dataclasses.replace(dictionary, config=config)
    found = collect(Context(EvaluateConfig(run="nowhere"), dictionary), SMALL)
    z = dense(dictionary, np.concatenate([x, 2 * x], 1))[-300:]
    np.testing.assert_allclose(found.frequency, (z > 0).mean(0), rtol=1e-6)
    assert "2 sites are written" in found.about["no_lens"]


def test_a_cross_layer_transcoder_has_latents_of_every_layer(write_store, make_dictionary, x, columns):
    sites = ("mlp_in.0", "mlp_in.1", "mlp_out.0", "mlp_out.1")
    url = write_store(x, columns, sites, name="layers")
    one = make_dictionary(store=url, reads=list(sites[:2]), writes=list(sites[2:]), holdout_rows=300)
    wide = np.random.default_rng(5).standard_normal((24, 12)).astype(np.float32)
    params = Params.of(one.params.W_enc, one.params.b_enc, wide, np.zeros(12, np.float32))
    config = MethodConfig(width=24, k=4, architecture="batchtopk", transcode=True, layers=2)
    found = collect(
        Context(EvaluateConfig(run="nowhere"), Dictionary(params, config, one.metadata, threshold=2.0)), SMALL
    )
    z = np.float64(one.params.b_enc)
    of_layer = [np.float64(part) @ np.float64(one.params.W_enc).T + z for part in (x, 2 * x)]
    z = np.where(np.arange(24) % 2, of_layer[1], of_layer[0])[-300:]  # latent i is of layer i mod 2
    np.testing.assert_allclose(found.frequency, (z > 2).mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.most, np.where(z > 2, z, 0).max(0), rtol=1e-5)
    assert "2 sites are written" in found.about["no_lens"] and found.about["site"] == "resid_post.0"


def test_rows_of_a_meta_sae_are_all_latents_of_its_source(make_dictionary, x, tmp_path):
    none = {"tokens": np.full(600, -1), "sequence": np.zeros(600, int), "position": np.arange(600)}
    store_of(tmp_path / "source_store", x, none, ("decoder",))
    about = {
        "source": "decoder",
        "source_run": "runs/wide",
        "site": "decoder",
        "tokenizer": "othello",
        "model": "shipped",
    }
    dictionary = make_dictionary(**about | {"holdout_rows": 0})
    found = collect(Context(EvaluateConfig(run=str(tmp_path)), dictionary), SMALL)
    assert found.about["rows"] == 600 and found.about["rows_are"] == "latents of runs/wide, by number"
    np.testing.assert_allclose(found.most, dense(dictionary, x).max(0), rtol=1e-5)


def test_an_othello_crosscoder_has_rows_of_its_store(write_store, make_dictionary, x, columns):
    sites = ("resid_post.0", "resid_post.1")
    url = write_store(x, columns, sites, name="two", tokenizer="othello", model="shipped")
    about = {"reads": list(sites), "writes": list(sites), "tokenizer": "othello", "model": "shipped"}
    dictionary = make_dictionary(d=12, store=url, holdout_rows=300, **about)
    dictionary = dataclasses.replace(dictionary, config=dataclasses.replace(dictionary.config, site_widths=(6, 6)))
    found = collect(Context(EvaluateConfig(run="nowhere"), dictionary), SMALL)
    assert found.about["kind"] == "text" and "no games played" in found.about["no_boards"] and not len(found.mine)
    assert set(found.words.values()) <= {f"{c}{r}" for c in "abcdefgh" for r in range(1, 9)} and len(found.words) > 10


def test_a_dictionary_that_never_fires_is_refused(scene):
    dictionary, context = scene.context.dictionary, scene.context
    low = dictionary.params.latent | {"b_enc": dictionary.params.b_enc - 1e6}
    silent = dataclasses.replace(dictionary, params=Params(low, dictionary.params.shared))
    with pytest.raises(InputError, match="none of its 24 latents fires on the 500 rows"):
        collect(Context(context.config, silent), SMALL)
    found = collect(Context(context.config, silent), dataclasses.replace(SMALL, which="3:5"))
    assert found.shown.tolist() == [3, 4] and not found.start.any() and not found.histogram.any()


def test_nan_in_the_rows_is_refused(write_store, make_dictionary, x, columns):
    url = write_store(x, columns, name="nan")
    bad = make_dictionary(store=url, holdout_rows=300)
    context = Context(EvaluateConfig(run="nowhere"), bad)
    context.store.read = lambda site, a, b: np.full((b - a, 6), np.nan, np.float32)
    with pytest.raises(InputError, match="row 300 holds NaN or Inf"):
        collect(context, SMALL)
