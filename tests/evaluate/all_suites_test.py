"""`--suite=all`: what applies is measured, what does not says why, and a flag that is wrong is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxsae.dictionary import Params
from jaxsae.errors import InputError
from jaxsae.evaluate import SUITES, EvaluateConfig, run
from jaxsae.evaluate.config import ALL
from jaxsae.lm import weights
from jaxsae.training import save_dictionary


@pytest.fixture
def prepared(make_dictionary, model_path, tmp_path):
    """prepared(flags...) -> {suite: module} of a dictionary of the tiny Othello GPT."""

    def prepare(**flags):
        dictionary = make_dictionary(model=model_path, site="resid_post.0", source="othello")
        config = EvaluateConfig(run=str(tmp_path), suite=(ALL,), games=4, **flags)
        return run.prepare(config, dictionary)[1]

    return prepare


def test_those_that_apply_are_taken_in_order_and_the_others_say_why(prepared, capsys):
    suites = prepared()
    assert list(suites) == [name for name in SUITES if name in suites]
    assert {"reconstruction", "splice", "othello", "attribution"} <= set(suites)
    assert "decomposability" not in suites and "decomposability: is for a meta-SAE" in capsys.readouterr().err


def test_costly_ones_are_left_out(prepared, capsys, monkeypatch):
    from jaxsae.evaluate import splice

    monkeypatch.setattr(splice, "COSTLY", True, raising=False)
    assert "splice" not in prepared()
    assert "splice: is costly: ask for it by name, --suite=splice" in capsys.readouterr().err


def test_what_a_suite_finds_out_at_its_work_leaves_it_out_alone(monkeypatch, capsys, tmp_path, make_dictionary):
    from jaxsae.evaluate import context, reconstruction, splice

    def refuse(context):
        raise InputError("--suite=splice: of no use here. Leave it out of --suite.")

    monkeypatch.setattr(splice, "evaluate", refuse)
    found = {"rows": 8, "fvu": 0.5, "l0": 6.0, "gamma": 1.0, "dead_fraction": 0.0, "held_out": True, "baselines": {}}
    monkeypatch.setattr(reconstruction, "evaluate", lambda context: dict(found))
    both = {"reconstruction": reconstruction, "splice": splice}
    config = EvaluateConfig(run=str(tmp_path), suite=(ALL,))
    here = context.Context(config, make_dictionary(site="resid_post.0", source="othello"))
    assert list(run.measure(here, both, quiet=True)) == ["reconstruction"]
    assert "splice is left out: of no use here.\n" in capsys.readouterr().err
    with pytest.raises(InputError, match="splice: of no use"):
        run.measure(here, {"splice": splice}, quiet=True)
    named = dataclasses.replace(here, config=dataclasses.replace(config, suite=("reconstruction", "splice")))
    with pytest.raises(InputError, match="--suite=splice"):
        run.measure(named, both, quiet=True)


def test_a_flag_that_is_wrong_is_refused_all_the_same(prepared):
    with pytest.raises(InputError, match="--control_run=nowhere"):
        prepared(control_run="nowhere")


def test_a_dictionary_with_nan_is_refused_before_anything_runs(make_dictionary, tmp_path):
    dictionary = make_dictionary(model="nowhere", site="resid_post.0", source="othello")
    W_dec = np.array(dictionary.params.W_dec)
    W_dec[3, 5:7] = np.nan
    latent = dictionary.params.latent | {"W_dec": jax.numpy.asarray(W_dec)}
    broken = dataclasses.replace(dictionary, params=Params(latent, dictionary.params.shared))
    with pytest.raises(InputError, match=f"--run={tmp_path}: W_dec of its dictionary holds NaN or Inf in 2 of 768"):
        run.evaluate(EvaluateConfig(run=str(tmp_path), suite=("splice",)), broken)


def test_all_stands_alone():
    with pytest.raises(InputError, match="--suite=all,splice"):
        EvaluateConfig(run="run", suite=(ALL, "splice"))


def test_figures_have_those_of_a_control_on_random_weights_beside_them(
    make_dictionary, tmp_path, model_path, write_store
):
    paths = {}
    for name, model in (("run", model_path), ("control", "random:3")):
        paths[name] = tmp_path / name
        d_model = weights.load(model).config.d_model
        x = np.random.default_rng(0).standard_normal((300, d_model)).astype(np.float32)
        about = {"model": model, "site": "resid_post.0", "source": "othello", "store": write_store(x, f"{name}_rows")}
        save_dictionary(str(paths[name]), make_dictionary(d_model=d_model, **about))
    flags = dict(suite=("splice",), games=4, games_per_batch=4)
    control = run.evaluate(EvaluateConfig(run=str(paths["control"]), **flags), quiet=True)["splice"]
    config = EvaluateConfig(run=str(paths["run"]), control_run=str(paths["control"]), **flags)
    figures = {f["name"]: f for f in run.evaluate(config, quiet=True)["splice"]["summary"]["figures"]}
    assert figures["delta CE"]["baselines"]["random model"] == control["delta_ce"] != figures["delta CE"]["value"]
    with pytest.raises(InputError, match="--control_run=.*belongs to model"):
        run.evaluate(EvaluateConfig(run=str(paths["control"]), control_run=str(paths["run"]), **flags), quiet=True)


def test_every_suite_sums_up_its_figures(make_dictionary, model_path, tmp_path, write_store):
    rng = np.random.default_rng(0)
    url = write_store(rng.standard_normal((200, 16)).astype(np.float32))
    dictionary = make_dictionary(model=model_path, site="resid_post.0", source="othello", store="elsewhere")
    config = EvaluateConfig(run=str(tmp_path), suite=("reconstruction",), store=url)
    run.evaluate(config, dictionary, quiet=True)
    summary = json.loads((tmp_path / "eval" / "reconstruction.json").read_text())["summary"]
    assert summary["figures"][0]["name"] == "FVU" and summary["says"].endswith(").") and summary["limits"]
