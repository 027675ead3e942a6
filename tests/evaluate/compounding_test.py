"""What the dictionaries of a set cost together, beside what each costs alone."""

import json
import shutil
from pathlib import Path

import pytest

from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate, text_model
from jaxsae.evaluate.curves import read_curve

TRANSCODERS = {"reads": ("mlp_in.*",), "writes": ("mlp_out.*",)}
KINDS = {"transcoders": TRANSCODERS | {"skip": True}, "autoencoders": {"sites": ("mlp_out.0", "resid_post.*")}}
SITES = {
    "transcoders": ["mlp_out.0", "mlp_out.1", "mlp_out.2"],
    "autoencoders": ["mlp_out.0", "resid_post.0", "resid_post.1", "resid_post.2"],
}


@pytest.fixture
def curve(tmp_path):
    """A scaling curve that is below the loss of a model of random weights."""
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"E": 1.0, "A": 400.0, "B": 400.0, "a": 0.34, "b": 0.28}))
    return str(path)


def config(path: Path, **flags) -> EvaluateConfig:
    return EvaluateConfig(**{"run": str(path), "suite": ("splice",), "text_tokens": 200} | flags)


def same(found: dict, expected: dict) -> None:
    """Figures of the same dictionaries at once, from another command."""
    close = lambda value: value and pytest.approx(value, rel=1e-5, abs=1e-7)  # None stays
    for name in ("ce", "ce_spliced", "ce_zero", "ce_mean", "delta_ce", "kl", "loss_recovered"):
        assert found[name] == close(expected[name]), name
    assert found["faithfulness"] == {base: close(share) for base, share in expected["faithfulness"].items()}
    assert found["delta_ce_interval"] == pytest.approx(expected["delta_ce_interval"], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_ones_cost_what_splice_with_says(kind, make_set, curve, monkeypatch, capsys):
    path, sites, opened = make_set(**KINDS[kind]), SITES[kind], []
    model = text_model.TorchLM
    monkeypatch.setattr(text_model, "TorchLM", lambda *a: opened.append(a) or model(*a))
    results = evaluate(config(path, scaling_curve=(curve, "epoch")))
    assert list(results) == [*sites, "compounding"] and len(opened) == 1  # one model for all of it
    found = json.loads((path / "eval" / "compounding.json").read_text())
    assert found == results["compounding"] and found["documents"].startswith("40:") and found["held_out"]
    alone = [json.loads((path / site / "eval" / "splice.json").read_text()) for site in sites]
    assert [results[site]["splice"] for site in sites] == alone
    assert len(found["rows"]) == len(sites)
    others = tuple(str(path / site) for site in sites[1:])
    all_at_once = evaluate(config(path / sites[0], splice_with=others), quiet=True)["splice"]
    same(found["rows"][0], alone[0])
    same(found["rows"][-1], all_at_once)
    curves = {name: read_curve(name) for name in (curve, "epoch")}
    name = curves[curve].name
    for number, row in enumerate(found["rows"], 1):
        assert row["sites"] == sites[:number]
        total = sum(figures["delta_ce"] for figures in alone[:number])
        assert row["sum_of_each_delta_ce"] == pytest.approx(total)
        compute = row["effective_compute"]
        fraction = lambda added, row=row: curves[curve].fraction(row["ce"], added)
        assert compute["fraction"][name] == pytest.approx(fraction(row["delta_ce"]))
        assert compute["fraction_interval"][name] == pytest.approx(
            sorted(fraction(added) for added in row["delta_ce_interval"])
        )
    assert ("skip" in found["rows"][-1]["faithfulness"]) == (kind == "transcoders")
    # Errors meet: together is not the sum. With the errors of all put back nothing is lost.
    assert abs(row["delta_ce"] - row["sum_of_each_delta_ce"]) > 1e-3 and row["kl"] > 1e-2
    assert abs(found["error_nodes"]["kl"]) < 1e-5 and list(found["error_nodes"]["share"]) == sites
    for site, figures in zip(sites, alone, strict=True):
        assert found["error_nodes"]["share"][site] == pytest.approx(figures["error_nodes"]["share"][site])
    shown = capsys.readouterr().err
    assert f"{len(sites)} to {sites[-1]}: delta_ce {row['delta_ce']:.4f}" in shown and "sum of each alone" in shown


def test_a_set_of_one_and_other_suites(make_set):
    path = make_set(sites=("resid_post.1",))
    results = evaluate(EvaluateConfig(run=str(path)), quiet=True)
    assert list(results) == ["resid_post.1"] and results["resid_post.1"]["reconstruction"]["fvu"] > 0
    assert not (path / "eval").exists()
    one = evaluate(config(path, k=3), quiet=True)
    (row,) = one["compounding"]["rows"]
    assert row["delta_ce"] == row["sum_of_each_delta_ce"] == one["resid_post.1"]["splice"]["delta_ce"]
    assert one["compounding"]["k"] == 3 and (path / "eval" / "compounding_k3.json").exists()


def test_what_is_not_there_is_named(make_set, monkeypatch, capsys):
    path = make_set(**TRANSCODERS)
    with pytest.raises(InputError, match="--site=mlp_out.1: .*set holds runs of several sites: give one as --run"):
        evaluate(config(path, site="mlp_out.1"))
    with pytest.raises(InputError, match="--splice_with=a,b: .*set holds runs of several sites"):
        evaluate(config(path, splice_with=("a", "b")))
    with pytest.raises(InputError, match="--suite=othello: .*mlp_out.0 is a transcoder"):
        evaluate(config(path, suite=("othello",)))
    with pytest.raises(InputError, match="--text"):  # before the first run is judged
        evaluate(config(path, suite=("reconstruction", "splice"), text=("ids.npy",)))
    assert not list(path.glob("**/eval"))
    shutil.rmtree(path / "mlp_out.1")
    flags = path / "mlp_out.2" / "config.flags"
    flags.write_text(flags.read_text().replace("--tokens=16", "--tokens=320"))
    with pytest.raises(InputError, match=r"mlp_out.1 \(no checkpoint\), mlp_out.2 \(step 1 of 20\)\. Go on with"):
        evaluate(config(path))
