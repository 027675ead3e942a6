"""The suite: figures of a meta-SAE against float64, dictionaries that are made of parts and those that are not."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsae import cli
from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, decomposability, evaluate
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.decoder_rows import DecoderRows
from jaxsae.evaluate.matching import matched_by_random, matching_pursuit, random_dictionary
from jaxsae.parallel import make_mesh
from jaxsae.store import Plan, StoreWriter
from jaxsae.training import save_dictionary, setup, source_run

D, N, WIDTH = 16, 150, 48


def unit(x):
    x = np.asarray(x, np.float64)
    return np.divide(x, norms := np.linalg.norm(x, axis=1, keepdims=True), out=np.zeros_like(x), where=norms > 0)


@pytest.fixture
def rows():
    """float32 [150, 16] of length 1, but for one that is 0."""
    x = np.random.default_rng(0).normal(size=(N, D)) + 0.5
    x[9] = 0
    return unit(x).astype(np.float32)


@pytest.fixture
def run(tmp_path):
    """A directory with the store of rows beside it, as `train` makes it."""

    def make(x, name="meta"):
        writer = StoreWriter(tmp_path / name / "source_store", Plan(rows=len(x), sites={"decoder": D}))
        columns = dict.fromkeys(("tokens", "sequence", "position"), np.arange(len(x)))
        writer.write_shard(0, {"decoder": x}, columns)
        assert writer.finish()
        return str(tmp_path / name)

    return make


@pytest.fixture
def meta(make_dictionary):
    """meta(architecture) -> a random meta-SAE of decoder rows."""
    about = {"source": "decoder", "site": "decoder", "directions": "decoder", "source_run": "/gone/run"}
    return lambda architecture="batchtopk": make_dictionary(architecture, **about)


@pytest.mark.parametrize("architecture", ["batchtopk", "topk", "relu"])
def test_explained_variance_and_edges_are_those_of_float64(run, rows, meta, dense, architecture):
    dictionary, path = meta(architecture), run(rows)
    if architecture == "batchtopk":
        dictionary = dataclasses.replace(dictionary, threshold=0.6)
    found = evaluate(EvaluateConfig(run=path, batch_size=64), dictionary)["decomposability"]
    there = rows.any(1)
    expected, x = dense(dictionary, rows), rows.astype(np.float64)
    error = np.square(x - expected.x_hat).sum(1)
    variance = np.square(x - x[there].mean(0)).sum(1)
    each = 1 - error / variance
    on = (expected.z > 0) & there[:, None]
    assert found["explained_variance"] == pytest.approx(1 - error[there].sum() / variance[there].sum(), abs=1e-5)
    assert found["l0"] == pytest.approx(on[there].sum(1).mean()) and found["l0"] > 0
    assert (found["latents"], found["without_direction"]) == (N - 1, 1)
    assert found["explained_variance_of_latents"]["median"] == pytest.approx(np.median(each[there]), abs=1e-5)
    counts = found["explained_variance_of_latents"]
    assert sum(counts["counts"]) + counts["below"] == N - 1
    assert found["meta_latents_a_latent"]["counts"] == np.bincount(on[there].sum(1)).tolist()
    assert found["dead_meta_latents"] == (on.sum(0) == 0).sum()
    assert sum(found["latents_a_meta_latent"]["counts"]) == WIDTH
    arrays = np.load(f"{path}/eval/decomposability.npz")
    np.testing.assert_allclose(arrays["explained_variance"][there], each[there], atol=1e-4)
    assert np.isnan(arrays["explained_variance"][9])
    weights = np.zeros((N, WIDTH))
    for latent in range(N):
        edges = slice(*arrays["start"][latent : latent + 2])
        assert (np.diff(arrays["weight"][edges]) <= 0).all()
        weights[latent, arrays["meta_latent"][edges]] = arrays["weight"][edges]
    norms = np.linalg.norm(np.asarray(dictionary.params.W_dec, np.float64), axis=1)
    np.testing.assert_allclose(weights, np.where(on, expected.z * norms, 0), atol=1e-5)


def test_the_json_holds_the_largest_edges_and_the_extremes(run, rows, meta, monkeypatch):
    monkeypatch.setattr(decomposability, "LISTED", 20)
    path = run(rows)
    evaluate(EvaluateConfig(run=path, batch_size=64), meta("topk"))
    graph = json.loads(Path(f"{path}/eval/decomposability.json").read_text())["graph"]
    arrays = np.load(f"{path}/eval/{graph['file']}")
    assert graph["edges"] == len(arrays["weight"]) == arrays["start"][-1] and graph["edges_listed"] == 20
    assert len(arrays["start"]) == N + 1
    assert [e[2] for e in graph["largest"]] == pytest.approx(np.sort(arrays["weight"])[::-1][:20].tolist())
    for latent, meta_latent, weight in graph["largest"]:
        edges = slice(*arrays["start"][latent : latent + 2])
        assert arrays["weight"][edges][list(arrays["meta_latent"][edges]).index(meta_latent)] == pytest.approx(weight)
    known = arrays["explained_variance"][np.isfinite(arrays["explained_variance"])]
    for name, extreme in (("most_explained", known.max()), ("least_explained", known.min())):
        first = graph[name][0]
        assert first["explained_variance"] == pytest.approx(extreme)
        edges = slice(*arrays["start"][first["latent"] : first["latent"] + 2])
        assert first["meta_latents"] == arrays["meta_latent"][edges].tolist() and len(first["weights"]) > 0


def test_pca_explains_what_numpy_says(run, rows, meta):
    context = Context(EvaluateConfig(run=run(rows), batch_size=64), meta())
    x = rows[rows.any(1)].astype(np.float64)
    values = np.square(np.linalg.svd(x - x.mean(0), compute_uv=False))
    for k in (1, 5, D):
        assert DecoderRows.of(context).explained_by_components(k) == pytest.approx(values[:k].sum() / values.sum())


def test_matching_pursuit_takes_the_nearest_direction_and_fits_all_it_has(run, rows, meta):
    context = Context(EvaluateConfig(run=run(rows), batch_size=64), meta())
    random = random_dictionary(context)
    atoms, y = np.asarray(random.params.W_dec, np.float64), rows[:20].astype(np.float64)
    left = y.copy()
    chosen = [[] for _ in y]
    for _ in range(3):
        for i, row in enumerate(y):
            chosen[i].append(int((atoms @ left[i]).argmax()))
            basis = atoms[chosen[i]].T
            left[i] = row - basis @ np.linalg.lstsq(basis, row, rcond=None)[0]
    np.testing.assert_allclose(matching_pursuit(random, y, 3), left, atol=1e-5)
    found = [matched_by_random(context, DecoderRows.of(context), k)["explained_variance"] for k in (1, 3, 8)]
    assert 0 < found[0] < found[1] < found[2] < 1
    start = np.asarray(jax.random.normal(jax.random.key(0), (WIDTH, D)))  # as dictionaries of this seed begin
    assert np.abs(unit(start) - atoms).max(1).min() > 0.1


def made_of(parts, rng):
    """float32 [N, D]: each row two of `parts`, in random shares."""
    pairs = np.stack([rng.choice(len(parts), 2, replace=False) for _ in range(N)])
    shares = rng.uniform(0.5, 1, (N, 2))
    return unit(np.einsum("nk,nkd->nd", shares, parts[pairs])).astype(np.float32)


def as_source(path, rows):
    params = Params.of(W_enc=rows, b_enc=np.zeros(N, np.float32), W_dec=rows, b_dec=np.zeros(D, np.float32))
    params = jax.tree.map(jax.numpy.asarray, params)
    save_dictionary(path, Dictionary(params, MethodConfig(width=N, architecture="relu"), {}))
    return str(path)


def test_a_decoder_made_of_parts_is_explained_and_a_random_one_much_less(tmp_path, capsys, monkeypatch):
    for module in (setup, source_run):  # one device compiles sooner than eight
        monkeypatch.setattr(module, "make_mesh", lambda *_: make_mesh((1, 1), jax.devices()[:1]))
    rng = np.random.default_rng(1)
    source = as_source(tmp_path / "parts", made_of(np.eye(D), rng))
    few = ["--batch_size=30", "--tokens=24000", "--width=16", "--k=2", "--checkpoint_every=10000"]
    kinds = {"parts": [], "random": ["--source_rows=random"]}
    for name, more in kinds.items():
        flags = [f"--source_run={source}", f"--workdir={tmp_path / f'meta_{name}'}"]
        assert cli.run(["train", *flags, *few, *more]) == 0
    np.savez(tmp_path / "frequencies.npz", count=np.arange(N) % 3, rows=99)
    (tmp_path / "parts" / "eval").mkdir()
    (tmp_path / "frequencies.npz").rename(tmp_path / "parts" / "eval" / "frequencies.npz")
    flags = [f"--run={tmp_path / 'meta_parts'}", f"--control_run={tmp_path / 'meta_random'}"]
    assert cli.run(["evaluate", *flags]) == 0  # the suite of a meta-SAE where none is named
    assert "a meta-SAE of random directions" in capsys.readouterr().err
    found = json.loads((tmp_path / "meta_parts" / "eval" / "decomposability.json").read_text())
    base = found["baselines"]
    assert found["explained_variance"] > 0.9
    assert base["random_decoder"]["explained_variance"] < 0.65
    assert base["random_dictionary"]["explained_variance"] < found["explained_variance"] - 0.2
    assert base["pca_k"]["explained_variance"] < found["explained_variance"] - 0.2
    assert found["source_run"] == str(tmp_path / "parts") and found["trained_on_rows"]
    assert (found["by_firing"]["fired"]["latents"], found["by_firing"]["never_fired"]["latents"]) == (100, 50)
    assert found["by_firing"]["rows"] == 99
    assert found["source_step"] == found["source_step_now"] == 0
    (tmp_path / "parts" / "checkpoints" / "0").rename(tmp_path / "parts" / "checkpoints" / "7")
    np.savez(tmp_path / "parts" / "eval" / "frequencies.npz", count=np.arange(N) % 3, rows=99, step=7)
    assert cli.run(["evaluate", *flags]) == 0
    assert f"of step 0, and {tmp_path / 'parts'} is at step 7 by now" in capsys.readouterr().err
    assert json.loads((tmp_path / "meta_parts" / "eval" / "decomposability.json").read_text())["by_firing"] is None
    moved = (tmp_path / "meta_parts").rename(tmp_path / "moved")
    again = evaluate(EvaluateConfig(run=str(moved)), quiet=True)["decomposability"]
    assert again["explained_variance"] == pytest.approx(found["explained_variance"])
    assert cli.run(["inspect", str(moved)]) == 0
    shown = capsys.readouterr().out
    assert f"meta-SAE  of the decoder rows of {tmp_path / 'parts'}" in shown and "decomposability: explained" in shown


def test_without_a_control_it_says_what_is_missing(run, rows, meta, capsys):
    evaluate(EvaluateConfig(run=run(rows)), meta())
    assert "--source_rows=random" in capsys.readouterr().err


def test_what_is_no_meta_sae_is_refused(run, rows, meta, make_dictionary, tmp_path):
    other = make_dictionary("topk", site="resid_post.0", store="s")
    with pytest.raises(InputError, match="--suite=decomposability: is for a meta-SAE.*--source_run="):
        evaluate(EvaluateConfig(run=str(tmp_path / "r"), suite=("decomposability",)), other)
    save_dictionary(tmp_path / "control", other)
    with pytest.raises(InputError, match="--control_run=.*is no meta-SAE"):
        evaluate(EvaluateConfig(run=run(rows), control_run=str(tmp_path / "control")), meta())
    for about, message in (
        ({"directions": "decoder", "store_rows": 5}, "its rows are a decoder's own"),
        ({"directions": "random", "store_rows": 5}, r"has rows 5 where .* has 7\. Give one that"),
    ):
        control = tmp_path / message.split()[0]
        save_dictionary(control, Dictionary(meta().params, meta().config, {"source": "decoder"} | about))
        judged = dataclasses.replace(meta(), metadata=meta().metadata | {"store_rows": 7})
        with pytest.raises(InputError, match=f"--control_run={control}: {message}"):
            evaluate(EvaluateConfig(run=run(rows, control.name), control_run=str(control)), judged)
    for suite in ("splice", "othello,decomposability"):
        with pytest.raises(InputError, match=f"--suite={suite}: .* is a meta-SAE, .*give some of decomposability"):
            evaluate(EvaluateConfig(run=run(rows, suite), suite=tuple(suite.split(","))), meta())
    with pytest.raises(InputError, match="--control_run=.*: --suite=reconstruction has no control"):
        evaluate(EvaluateConfig(run=run(rows, "own"), suite=("reconstruction",), control_run=str(tmp_path)), meta())
    with pytest.raises(InputError, match="--control_run=none: no such directory"):
        evaluate(EvaluateConfig(run=run(rows, "second"), control_run="none"), meta())


def test_a_decoder_without_directions_and_one_that_is_all_alike(run, meta):
    with pytest.raises(InputError, match="no row has a direction"):
        evaluate(EvaluateConfig(run=run(np.zeros((5, D), np.float32))), meta())
    alike = np.tile(unit(np.ones((1, D))).astype(np.float32), (5, 1))
    found = evaluate(EvaluateConfig(run=run(alike, "alike")), meta())["decomposability"]
    assert found["latents"] == 5 and found["baselines"]["pca_k"]["components"] >= 1
