"""The suite for the Othello GPT: losses of whole games over their floor, on its family's curves beside the borrowed ones."""

import json

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, curves, effective_compute, evaluate, scaling_fit, splice
from jaxsae.evaluate.curves import FRONTIER, OWN
from jaxsae.evaluate.scaling_curve import PUBLISHED
from jaxsae.lm.family import shipped_family
from jaxsae.lm.othello import CONTEXT

FLOOR = shipped_family().floor
ABOUT = {"source": "othello", "model": "shipped"}
# Of plies 4 to 58, where all of the loss is; their games' floor is not the family's.
WHOLE = {"tokens": 590, "ce": FLOOR + 0.25 + 0.01, "floor": FLOOR + 0.01}
FOUND = dict(
    tokens=550, games=10, whole_games=WHOLE, ce=2.33, ce_spliced=2.36, ce_zero=6.0, ce_mean=5.0, kl=0.05,
    loss_recovered=0.98, delta_ce=0.03, delta_ce_interval=[0.02, 0.04],
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def few():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling_fit, "REPLICATES", 30)
        curves._own.cache_clear()
        yield
    curves._own.cache_clear()


@pytest.fixture
def measure(tmp_path, make_dictionary, monkeypatch):
    """measure(found, about, **flags) -> results, splice giving `found`; None: splice must not run."""

    def make(found=FOUND, about=ABOUT, **flags):
        def run(context):
            assert found is not None, "splice ran"
            make.calls += 1
            return dict(found)

        monkeypatch.setattr(splice, "evaluate", run)
        config = EvaluateConfig(run=str(tmp_path / "run"), suite=("effective_compute",), **flags)
        return evaluate(config, make_dictionary(site="resid_post.1", **about))["effective_compute"]

    make.calls = 0
    return make


def test_own_and_borrowed_curves_stand_side_by_side(measure):
    found = measure()
    assert list(found["fraction"]) == [OWN, FRONTIER, *PUBLISHED]
    assert found["applies"] == {OWN: True, FRONTIER: True, "hoffmann": False, "epoch": False}
    added = 0.03 * 550 / 590  # plies before the first that is replaced are as they were
    own = curves.read_curve(OWN)
    for name in (OWN, FRONTIER):  # by what is above the floor of these very games
        assert found["fraction"][name] == pytest.approx(curves.read_curve(name).fraction(FLOOR + 0.25, added))
    assert found["fraction"][OWN] == pytest.approx((0.25 / (0.25 + added)) ** (1 / own.exponent))
    assert found["fraction"]["epoch"] == pytest.approx(PUBLISHED["epoch"].fraction(WHOLE["ce"], added))
    d = CONTEXT * (480_000 + 279_936)
    assert found["trained"]["tokens"] == d and found["trained"]["parameters"] == 809_344
    assert found["parameters_fraction"][OWN] == pytest.approx(own.parameters_fraction(FLOOR + 0.25, added, d))
    part = 0.25 - own.B * d**-own.b
    assert found["parameters_fraction"][OWN] == pytest.approx((part / (part + added)) ** (1 / own.a))
    assert found["parameters_fraction"][FRONTIER] is None
    assert found["trained"]["loss_by_curve"] == {OWN: pytest.approx(float(own.loss(809_344, d)))}
    lines = effective_compute.table(found)
    assert any(line.startswith(f"{OWN}: {found['fraction'][OWN]:.4f} [") for line in lines)


def test_an_interval_joins_what_the_curve_and_the_splice_leave_open(measure, tmp_path):
    found = measure()
    low, high = found["fraction_interval"][OWN]
    assert low < found["fraction"][OWN] < high
    (tmp_path / "run/eval/splice.json").unlink()
    exact = measure(FOUND | {"delta_ce_interval": [0.03, 0.03]})  # the curve's alone
    assert 0 < np.diff(exact["fraction_interval"][OWN])[0] < high - low
    own = curves.read_curve(OWN)
    shares = [c.fraction(FLOOR + 0.25, 0.03 * 550 / 590) for c in own.replicated()]
    assert exact["fraction_interval"][OWN] == pytest.approx(np.quantile(shares, [0.025, 0.975]))
    assert np.diff(exact["fraction_interval"][FRONTIER])[0] == pytest.approx(0, abs=1e-12)


def test_what_lies_outside_of_the_family_is_said_or_refused(measure, tmp_path):
    ends = curves.read_curve(FRONTIER).losses
    assert ends[-1] == min(m.loss for m in (*shipped_family().members, *shipped_family().others))
    found = measure(FOUND | {"delta_ce": 4.0, "delta_ce_interval": None})
    assert FRONTIER in found["refused"] and f"{ends[-1]:.4f} to {ends[0]:.4f}" in found["refused"][FRONTIER]
    assert any(note.startswith(f"{OWN}: losses of") and "the law is taken to go on" in note for note in found["notes"])
    (tmp_path / "run/eval/splice.json").unlink()
    with pytest.raises(InputError, match=rf"--scaling_curve={FRONTIER}: .*outside"):
        measure(FOUND | {"delta_ce": 4.0}, scaling_curve=(FRONTIER,))


def test_what_is_known_beforehand_is_refused_before_anything_runs(measure, tmp_path):
    path = tmp_path / "high.json"
    path.write_text(json.dumps(dict(E=2.3, A=30, B=900, a=0.3, b=0.4)))
    with pytest.raises(
        InputError, match=r"--scaling_curve=high: a loss of 2\.2057 .* E = 2\.3000"
    ):  # of the model's card
        measure(None, scaling_curve=(str(path),))
    with pytest.raises(InputError, match=r"--scaling_curve=othello: is of models that play Othello"):
        measure(None, {"source": "hf"}, scaling_curve=("epoch", OWN))
    measure(scaling_curve=(OWN,))
    written = json.loads((tmp_path / "run/eval/splice.json").read_text())
    (tmp_path / "run/eval/splice.json").write_text(json.dumps(written | {"whole_games": WHOLE | {"ce": 2.0}}))
    with pytest.raises(InputError, match=r"--scaling_curve=high: a loss of 2\.0000"):  # of the splice that was read
        measure(None, scaling_curve=(str(path),))


def test_a_splice_of_an_earlier_version_is_measured_again(measure, tmp_path):
    measure()
    written = json.loads((tmp_path / "run/eval/splice.json").read_text())
    assert written.pop("whole_games") and "summary" in written
    (tmp_path / "run/eval/splice.json").write_text(json.dumps(written))
    measure()
    assert measure.calls == 2


def test_another_k_has_a_file_of_its_own(measure, tmp_path):
    measure(k=3)
    assert sorted(p.name for p in (tmp_path / "run/eval").glob("*.json")) == [
        "effective_compute_k3.json",
        "splice_k3.json",
    ]


def test_the_summary_shows_the_family_the_curve_and_both_losses(measure):
    found = measure()
    said = found["summary"]
    assert f"{found['fraction'][OWN]:.1%}" in said["says"] and "hoffmann, epoch, of next tokens" in said["says"]
    assert (
        "do not apply" in said["says"] and f"{len(shipped_family().members)} models of less compute" in said["limits"]
    )
    (plot,) = said["plots"]
    assert plot["log_x"] and plot["log_y"] and plot["x"] == sorted(plot["x"])
    values = lambda name: [(x, y) for x, y in zip(plot["x"], plot["series"][name], strict=True) if y is not None]
    assert len(values("models of the family")) == len(shipped_family().members)
    assert values("this model, by the curve") == [pytest.approx((found["compute"][OWN]["original"], 0.25))]
    assert values("spliced") == [pytest.approx((found["compute"][OWN]["spliced"], 0.25 + 0.03 * 550 / 590))]
    own = curves.read_curve(OWN)
    for x, y in values("the fitted curve"):
        assert y == pytest.approx(own.optimal_loss(x) - FLOOR)
    assert plot["guides"]["spliced"] > plot["guides"]["the model"] == pytest.approx(0.25)
    (table,) = said["tables"]
    assert [row[0] for row in table["rows"]] == list(found["fraction"]) and "809,344" in table["note"]
