"""What `evaluate` says that transcoders cost a model, found again from their exports with torch and transformers alone."""

import sys
from pathlib import Path

import pytest

from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.exchange import ExportConfig, export

CONTEXT = 24


@pytest.fixture
def study(transformers, monkeypatch):
    """The study that takes an export apart."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "studies"), *sys.path])
    import compounding_by_transformers

    return compounding_by_transformers


@pytest.mark.parametrize("skip", [False, True])
def test_a_set_for_circuit_tracer(skip, make_set, make_model, stories, study, tmp_path):
    path = make_set("batchtopk", skip=skip, reads=("mlp_in.*",), writes=("mlp_out.*",))
    found = evaluate(EvaluateConfig(run=str(path), suite=("splice",)), quiet=True)["compounding"]
    first, *others = (str(path / f"mlp_out.{layer}") for layer in range(3))
    out = str(tmp_path / "out")
    export(ExportConfig(run=first, also=tuple(others), format="circuit_tracer", output=out))
    held_out = [story for story in stories[40:] if story]
    ce, added = study.added(make_model("llama"), held_out, CONTEXT, study.first_ones(study.transcoders(out)))
    assert found["rows"][0]["ce"] == pytest.approx(ce, abs=1e-4) and len(added) == 3
    for row, (extra, kl) in zip(found["rows"], added, strict=True):
        assert row["delta_ce"] == pytest.approx(extra, abs=1e-3) and row["kl"] == pytest.approx(kl, abs=1e-3)
    assert max(abs(extra) for extra, _ in added) > 0.01 and added[0][1] != pytest.approx(added[2][1], abs=0.01)


def test_one_for_sparsify(make_set, make_model, stories, study, tmp_path):
    import torch
    from safetensors.torch import load_file

    path = make_set("topk", skip=True, reads=("mlp_in.*",), writes=("mlp_out.*",)) / "mlp_out.1"
    found = evaluate(EvaluateConfig(run=str(path), suite=("splice",)), quiet=True)["splice"]
    export(ExportConfig(run=str(path), format="sparsify", output=str(tmp_path / "out")))
    (file,) = (tmp_path / "out").glob("*.safetensors")
    w = load_file(file)

    def written(x):
        pre = torch.relu(x @ w["encoder.weight"].T + w["encoder.bias"])
        top = pre.topk(6)
        z = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
        return z @ w["W_dec"] + w["b_dec"] + x @ w["W_skip"].T

    held_out = [story for story in stories[40:] if story]
    _, [(extra, kl)] = study.added(make_model("llama"), held_out, CONTEXT, [{1: written}])
    assert found["delta_ce"] == pytest.approx(extra, abs=1e-3) and found["kl"] == pytest.approx(kl, abs=1e-3)
    assert kl > 0.1
