"""The suite: figures of splice on curves, intervals that go the other way, and where a curve does not hold."""

import json

import pytest

from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, effective_compute, evaluate, scaling_fit, splice
from jaxsae.evaluate.run import origin
from jaxsae.evaluate.scaling_curve import PUBLISHED
from jaxsae.numbers import plain

EPOCH = PUBLISHED["epoch"]
SITE = "resid_post.0"
FOUND = dict(
    tokens=1000, ce=2.3, ce_spliced=2.34, delta_ce=0.04, delta_ce_interval=[0.03, 0.05], objective="next token",
    ce_zero=6.0, ce_mean=5.0, kl=0.05, loss_recovered=0.98,
)  # fmt: skip
TEXT, GAMES = {"source": "hf"}, {"source": "othello", "model": "shipped"}
PLAYED = FOUND | {"games": 700, "tokens": 550, "whole_games": {"tokens": 590, "ce": 2.21, "floor": 2.01}}


@pytest.fixture
def measure(tmp_path, make_dictionary, monkeypatch):
    """measure(found, about, **flags) -> results, splice giving `found`, of a dictionary that says `about` of itself;
    measure.calls counts its runs."""
    monkeypatch.setattr(scaling_fit, "REPLICATES", 20)

    def make(found=FOUND, about=TEXT, **flags):
        def run(context):
            make.calls += 1
            return dict(found)

        monkeypatch.setattr(splice, "evaluate", run)
        monkeypatch.setattr(splice, "table", lambda results: [])
        config = EvaluateConfig(run=str(tmp_path / "run"), suite=("effective_compute",), site=SITE, **flags)
        return evaluate(config, make_dictionary(**about))["effective_compute"]

    make.calls = 0
    return make


def test_figures_and_intervals_of_each_curve(measure, tmp_path):
    found = measure()
    assert json.loads((tmp_path / "run/eval/effective_compute.json").read_text()) == found
    assert list(found["fraction"]) == ["hoffmann", "epoch"]
    for name, curve in PUBLISHED.items():
        assert found["fraction"][name] == pytest.approx(curve.fraction(2.3, 0.04))
        low, high = found["fraction_interval"][name]
        assert (low, high) == pytest.approx((curve.fraction(2.3, 0.05), curve.fraction(2.3, 0.03)))
        assert low < found["fraction"][name] < high < 1
        assert found["parameters_fraction"][name] == pytest.approx(curve.parameters_fraction(2.3, 0.04))
        compute = found["compute"][name]
        assert compute["spliced"] / compute["original"] == pytest.approx(found["fraction"][name])
        assert found["applies"][name] and found["curves"][name]["E"] == curve.E
    assert found["notes"] == [] and found["tokens"] == 1000


def test_splice_is_read_where_it_is_there_and_measured_where_it_is_not(measure, tmp_path, make_dictionary):
    measure()
    written = json.loads((tmp_path / "run/eval/splice.json").read_text())
    assert measure.calls == 1 and written["delta_ce"] == 0.04 and written["width"] == make_dictionary().width
    measure()
    assert measure.calls == 1
    (tmp_path / "run/eval/splice.json").write_text(json.dumps(written | {"trained_tokens": 5}))
    measure()  # of another state of the run
    assert measure.calls == 2
    (tmp_path / "run/eval/splice.json").write_text("{")
    measure()
    assert measure.calls == 3


def test_splice_is_run_first_and_read_by_the_next_suite(measure, tmp_path, make_dictionary):
    measure()
    flags = dict(run=str(tmp_path / "run"), suite=("splice", "effective_compute"), site=SITE)
    assert evaluate(EvaluateConfig(**flags), make_dictionary(**TEXT))["effective_compute"]["delta_ce"] == 0.04
    assert measure.calls == 2


def test_a_curve_that_does_not_reach_the_loss_is_refused_and_others_stand(measure, tmp_path):
    found = measure(FOUND | {"ce": 1.75})
    assert list(found["fraction"]) == ["hoffmann"] and "E = 1.8172" in found["refused"]["epoch"]
    (tmp_path / "run/eval/splice.json").unlink()
    with pytest.raises(InputError, match=r"hoffmann.*E = 1\.6900.*epoch.*E = 1\.8172"):
        measure(FOUND | {"ce": 1.0})
    (tmp_path / "run/eval/splice.json").unlink()
    with pytest.raises(InputError, match=r"E = 1\.8172.*own family"):
        measure(FOUND | {"ce": 1.75}, scaling_curve=("epoch",))


@pytest.mark.parametrize(
    "found, about", [(PLAYED, GAMES), (FOUND | {"objective": "masked tokens"}, TEXT)], ids=["othello", "bert"]
)
def test_curves_of_text_do_not_apply_to_other_models(measure, found, about, tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps(dict(E=1.2, A=30, B=900, a=0.3, b=0.4)))
    results = measure(found, about, scaling_curve=("epoch", str(path)))
    assert results["applies"] == {"epoch": False, "own": True}
    assert "say nothing of its training compute" in results["notes"][0]
    assert any("say nothing" in line for line in effective_compute.table(results))
    assert "epoch, of next tokens of English text" in results["summary"]["says"]


def test_an_end_of_the_interval_that_no_compute_reaches_is_null(measure):
    found = measure(FOUND | {"ce": 1.85, "delta_ce": 0.0, "delta_ce_interval": [-0.1, 0.1]}, scaling_curve=("epoch",))
    low, high = found["fraction_interval"]["epoch"]
    assert found["fraction"]["epoch"] == 1 and low < 1 and high is None
    assert effective_compute.table(found)


def test_bad_flags_are_refused_before_anything_runs(measure):
    with pytest.raises(InputError, match="--scaling_curve=chinchilla: no such curve"):
        measure(scaling_curve=("chinchilla",))
    with pytest.raises(InputError, match="--model_tokens=0"):
        measure(model_tokens=0.0)
    with pytest.raises(InputError, match="--scaling_curve="):
        measure(scaling_curve=())
    assert measure.calls == 0


def test_origin_is_what_splice_is_compared_by(measure, make_dictionary, tmp_path):
    measure()
    written = json.loads((tmp_path / "run/eval/splice.json").read_text())
    from jaxsae.evaluate.context import Context

    context = Context(EvaluateConfig(run=str(tmp_path / "run"), site=SITE), make_dictionary(**TEXT))
    assert plain(origin(context)).items() <= written.items()
