"""Crosscoders: several sites are read and written as one, by latents whose rows have a part at each."""

import functools
from pathlib import Path

import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig, Widths, fold
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.exchange import ExportConfig, export
from jaxsae.parallel import make_mesh
from jaxsae.report import ReportConfig, report
from jaxsae.training import load, train
from jaxsae.training.setup import Setup

ROWS, WIDTH, K, BATCH = 2048, 64, 4, 16
WIDTHS = (12, 8)
READS = ("resid.0", "resid.1")
METHODS = {
    "topk": {"architecture": "topk", "k": K, "aux_k": 8},
    "batchtopk": {"architecture": "batchtopk", "k": K, "aux_k": 8},
    "relu": {"architecture": "relu", "target_l0": 0.0, "l1_coefficient": 3.0},
    "jumprelu": {"architecture": "jumprelu", "k": K},
}


def method_config(name: str, sites: tuple[int, ...] = WIDTHS) -> MethodConfig:
    return MethodConfig(width=WIDTH, site_widths=sites, **METHODS[name])


@pytest.fixture(scope="module")
def rows():
    """{site: float32 [ROWS, d]}: of features that both sites have, and of some that one has."""
    rng = np.random.default_rng(0)
    active = rng.random((ROWS, 32)) * (rng.random((ROWS, 32)) < 0.1)
    first, second = rng.normal(size=(32, 12)), rng.normal(size=(32, 8))
    first[:6], second[6:12] = 0, 0
    found = {
        "resid.0": active @ first + 2 + 0.02 * rng.normal(size=(ROWS, 12)),
        "other.0": rng.normal(size=(ROWS, 6)),
        "resid.1": 50 * (active @ second - 1 + 0.02 * rng.normal(size=(ROWS, 8))),
    }
    return {site: x.astype(np.float32) for site, x in found.items()}


@pytest.fixture(scope="module")
def store(rows, store_of):
    return store_of(rows)


@pytest.fixture
def crosscoder(configure, store):
    """crosscoder(name of METHODS, run, **flags) -> TrainConfig, as flags say it: sites' widths follow."""

    def make(name: str, run: str = "run", **flags):
        return configure(run, **{"store": store, "method": method_config(name, ()), "reads": READS} | flags)

    return make


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_ends_bit_identical_and_encodes_as_on_other_meshes(name, crosscoder, resumed):
    cut, _ = resumed(functools.partial(crosscoder, name))
    x = np.random.default_rng(0).normal(size=(9, sum(WIDTHS))).astype(np.float32)
    one, spread = (np.asarray(load(cut.workdir, mesh).reconstruct(x)) for mesh in (None, make_mesh((1, 8))))
    np.testing.assert_allclose(one, spread, rtol=1e-5, atol=1e-4)
    dictionary = load(cut.workdir)
    assert dictionary.widths == Widths(WIDTHS, 2) and dictionary.metadata["reads"] == list(READS)


def test_it_is_judged_site_by_site(crosscoder, rows, metrics):
    flags = {"steps": 300, "mesh": (1, 1), "checkpoint_every": 300, "ema_decay": 0.0, "learning_rate": 1e-2}
    config = crosscoder("topk", **flags)
    train(config)
    found = evaluate(EvaluateConfig(run=config.workdir), quiet=True)["reconstruction"]
    x = [np.float64(rows[site][-ROWS // 32 :]) for site in READS]
    dictionary = load(config.workdir)
    y = np.split(np.float64(dictionary.reconstruct(np.concatenate(x, 1).astype(np.float32))), [12], 1)
    each = [((a - b) ** 2).sum() / ((a - a.mean(0)) ** 2).sum() for a, b in zip(x, y, strict=True)]
    assert [found["sites"][site]["fvu"] for site in READS] == pytest.approx(each, rel=1e-4)
    # 50 times larger activations at one site do not make it the only one that counts.
    spread = [np.sqrt(((rows[site] - rows[site].mean(0)) ** 2).sum(1).mean()) for site in READS]
    weights = [d * ((a - a.mean(0)) ** 2).sum() / s**2 for a, s, d in zip(x, spread, WIDTHS, strict=True)]
    assert found["fvu"] == pytest.approx(np.average(each, weights=weights), rel=1e-3)
    # Training measures the same rows about the mean of the whole store.
    assert found["fvu"] == pytest.approx(metrics(config)[-1]["held_out_fvu"], rel=0.03) and found["fvu"] < 0.4
    rows_of = np.split(np.float64(dictionary.params.W_dec), [12], 1)
    lengths = [np.linalg.norm(w, axis=1) * d**0.5 / s for w, s, d in zip(rows_of, spread, WIDTHS, strict=True)]
    shares = np.stack(lengths, 1) / np.sum(lengths, 0)[:, None]
    with np.load(Path(config.workdir) / "eval" / "site_shares.npz") as file:
        np.testing.assert_allclose(file["shares"], shares, rtol=1e-3)
    own = (shares >= 0.9).sum(0)
    assert list(found["exclusive"].values()) == list(own) and found["shared"] == (shares >= 0.25).all(1).sum()
    assert found["shared"] + own.sum() + found["between"] == WIDTH and found["shared"] > 0


def test_another_run_s_weights_are_the_initial_ones(crosscoder, configure, store):
    first = crosscoder("topk", "first", mesh=(1, 1), ema_decay=0.0)
    train(first)
    second = Setup.of(crosscoder("topk", "second", mesh=(1, 1), initialize_from=first.workdir, ema_decay=0.0))
    params, method = second.fresh_state().params, second.method
    back = fold(params, *second.normalization.sides(second.widths)[:1], method.pre_bias, method.selection)
    np.testing.assert_allclose(back.W_dec, load(first.workdir).params.W_dec, rtol=1e-4, atol=1e-4)
    reversed_sites = crosscoder("topk", "other", initialize_from=first.workdir, reads=READS[::-1])
    with pytest.raises(InputError, match="numbers of its sites 12.8 where this run has 8.12"):
        Setup.of(reversed_sites)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"reads": ("resid.0", "resid.9")}, "--reads=resid.9: .* has .*resid.1"),
        ({"reads": ("resid.0",)}, "--reads=resid.0: is one site: give --writes too"),
        ({"reads": ("resid.0", "resid.0")}, "--reads=resid.0,resid.0: names a site twice"),
        ({"site": "resid.0"}, "--site=resid.0: leave it out"),
        ({"method": method_config("topk", (8, 12))}, "--site_widths=8,12: --reads=resid.0,resid.1 have 12,8"),
        ({"method": method_config("topk"), "reads": (), "site": "resid.0"}, "--site_widths=12,8: goes with several"),
    ],
)
def test_sites_that_do_not_do_are_refused(flags, message, crosscoder):
    with pytest.raises(InputError, match=message):
        Setup.of(crosscoder("topk", **flags))


def test_what_has_one_site_does_not_take_it(crosscoder, tmp_path):
    config = crosscoder("topk", mesh=(1, 1), steps=4)
    train(config)
    with pytest.raises(InputError, match="--suite=othello: .* is a crosscoder: give some of reconstruction, splice"):
        evaluate(EvaluateConfig(run=config.workdir, suite=("othello",)), quiet=True)
    with pytest.raises(InputError, match="--format=saelens cannot hold a crosscoder"):
        export(ExportConfig(run=config.workdir, format="saelens", output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_its_page_has_its_sites(crosscoder):
    config = crosscoder("topk", mesh=(1, 1), steps=4)
    train(config)
    found = evaluate(EvaluateConfig(run=config.workdir), quiet=True)["reconstruction"]
    page = report(ReportConfig(run=config.workdir)).read_text()
    assert "Crosscoder" in page and "Site by site" in page
    assert all(f"FVU {found['sites'][site]['fvu']:.4f}" in page for site in READS)
