"""Bad input ends in one clear message; files are written whole; JSON is plain."""

import json

import numpy as np
import pytest

from jaxsae.config import to_dict
from jaxsae.errors import InputError
from jaxsae.evaluate import SUITES, EvaluateConfig, evaluate
from jaxsae.evaluate import run as module
from jaxsae.lm import weights
from jaxsae.lm.gpt import GPTConfig, init
from jaxsae.store import Store

SITE = "resid_post.0"


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)


def config(tmp_path, **flags):
    return EvaluateConfig(run=str(tmp_path / "run"), **flags)


def test_unknown_suites_are_refused_with_those_there_are():
    for suite in (("reconstruction", "spliced"), ()):
        with pytest.raises(InputError, match=r"--suite=.*" + ", ".join(SUITES)):
            EvaluateConfig(run="r", suite=suite)


@pytest.mark.parametrize("name", ["rows", "batch_size", "games", "games_per_batch", "probe_rows"])
def test_counts_must_be_above_zero(name):
    with pytest.raises(InputError, match=f"--{name}=0"):
        EvaluateConfig(run="r", **{name: 0})


def test_defaults_survive_a_flag_file(tmp_path):
    from jaxsae.config import read_flag_file, write_flag_file

    given = config(tmp_path, suite=("splice", "othello"), mesh=(1, 2), first_position=0)
    write_flag_file(tmp_path / "flags", given, "evaluate")
    assert to_dict(read_flag_file(tmp_path / "flags", EvaluateConfig)) == to_dict(given)


def test_what_is_not_there_is_named(tmp_path, write_store, make_dictionary, model_path, x):
    url = write_store(x)
    cases = [
        ({}, {}, r"--store is required"),
        ({}, {"store": url}, r"--site is required"),
        ({}, {"store": str(tmp_path / "none"), "site": SITE}, r"--store=.*none: no such store"),
        ({}, {"store": url, "site": "embd"}, r"--site=embd.*This store has: resid_post\.0"),
        ({"store": url, "site": SITE}, {}, r"held out none of its rows"),
        ({"store": url, "site": SITE}, {"suite": ("splice",)}, r"--model is required"),
        ({"site": SITE}, {"suite": ("splice",), "model": model_path}, r"--store is required"),
        ({"site": "resid_post.9"}, {"suite": ("othello",), "model": model_path}, r"--site=resid_post.9: no such site"),
        (
            {"site": SITE},
            {"suite": ("othello",), "model": "none.safetensors"},
            r"--model=none.safetensors: no such file",
        ),
        ({"site": SITE}, {"suite": ("othello",), "model": "random:x"}, r"--model=random:x: give the seed"),
        ({"site": SITE}, {"suite": ("othello",), "model": model_path, "last_position": 59}, r"--last_position=59"),
        ({"site": SITE, "first_position": 60}, {"suite": ("othello",), "model": model_path}, r"--first_position=60"),
    ]
    for metadata, flags, message in cases:
        with pytest.raises(InputError, match=message):
            evaluate(config(tmp_path, **flags), make_dictionary(**metadata))
    flags = dict(suite=("othello",), site=SITE, model=model_path, control_run="none")
    with pytest.raises(InputError, match=r"--control_run=none: no such directory"):
        evaluate(config(tmp_path, **flags), make_dictionary())
    with pytest.raises(InputError, match=r"--run=.*run: no such directory"):
        evaluate(config(tmp_path))
    assert not (tmp_path / "run").exists()


def test_widths_that_differ_are_refused(tmp_path, write_store, make_dictionary, model_path, x):
    url, other = write_store(x), make_dictionary(d_model=12)
    with pytest.raises(InputError, match=r"width 12.*site resid_post\.0 of .*width 16"):
        evaluate(config(tmp_path, store=url, site=SITE), other)
    for suite in ("splice", "othello"):
        with pytest.raises(InputError, match=r"width 12.*model .*width 16"):
            evaluate(config(tmp_path, store=url, site=SITE, model=model_path, suite=(suite,)), other)


def test_a_model_of_other_tokens_is_refused(tmp_path, write_store, make_dictionary, x):
    weights.save(init(GPTConfig(vocabulary=50, layers=1, d_model=16, heads=2), 0), tmp_path / "text.safetensors")
    for suite in ("splice", "othello"):
        flags = dict(store=write_store(x), site=SITE, model=str(tmp_path / "text.safetensors"), suite=(suite,))
        with pytest.raises(InputError, match="vocabulary is 50.*needs an Othello model"):
            evaluate(config(tmp_path, **flags), make_dictionary())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_named(tmp_path, monkeypatch, write_store, make_dictionary, x, value):
    read = Store.read_ranges

    def damaged(self, path, ranges):
        out = read(self, path, ranges)
        if ranges[0][0] <= 170 < ranges[0][1]:
            out[170 - ranges[0][0], 3] = value
        return out

    monkeypatch.setattr(Store, "read_ranges", damaged)
    with pytest.raises(InputError, match=r"row 170 holds NaN or Inf"):
        evaluate(config(tmp_path, store=write_store(x), site=SITE, batch_size=100), make_dictionary())
    assert not (tmp_path / "run/eval").exists()


def test_rows_that_are_all_alike_are_refused(tmp_path, write_store, make_dictionary):
    with pytest.raises(InputError, match="all alike"):
        evaluate(config(tmp_path, store=write_store(np.ones((100, 16), np.float32)), site=SITE), make_dictionary())


def test_a_harvest_cut_short_is_evaluated_on_what_is_there(tmp_path, make_dictionary, dense, x):
    from jaxsae.store import Plan, StoreWriter

    writer = StoreWriter(tmp_path / "cut", Plan(rows=300, sites={SITE: 16}, shard_rows=64, chunk_rows=64))
    for shard in (0, 3):
        rows = slice(*writer.plan.shard_range(shard))
        columns = dict.fromkeys(("tokens", "sequence", "position"), np.arange(64))
        writer.write_shard(shard, {SITE: x[rows]}, columns)
    dictionary = make_dictionary(store=str(tmp_path / "cut"), site=SITE, holdout_rows=80)
    found = evaluate(config(tmp_path), dictionary)["reconstruction"]
    used = np.concatenate([x[48:64], x[192:256]]).astype(np.float64)
    fvu = np.square(used - dense(dictionary, used).x_hat).sum() / np.square(used - used.mean(0)).sum()
    assert found["rows"] == 80 and found["fvu"] == pytest.approx(fvu, rel=1e-5)


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    module.write(tmp_path, "splice", {"ce": 1.0}, {"curve": {"a": np.arange(3)}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.npz", "splice.json"]

    def full(file, **_):
        file.write(b"a part")
        raise OSError(28, "No space left on device")

    before = (tmp_path / "curve.npz").read_bytes()
    monkeypatch.setattr(module.np, "savez", full)
    with pytest.raises(InputError, match="disk is full"):
        module.write(tmp_path, "splice", {"ce": 2.0}, {"curve": {"a": np.arange(4)}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.npz", "splice.json"]
    assert (tmp_path / "curve.npz").read_bytes() == before
    assert json.loads((tmp_path / "splice.json").read_text()) == {"ce": 1.0}


def test_json_is_plain():
    given = {
        "a": np.float32(0.5),
        "b": np.array([1.0, np.nan]),
        "c": (np.int64(3), None),
        "d": float("inf"),
        "e": np.True_,
    }
    assert module.plain(given) == {"a": 0.5, "b": [1.0, None], "c": [3, None], "d": None, "e": True}
