"""The page of a set: each run in a row, and what all of them cost together."""

import json
import re
from pathlib import Path

import pytest
from pages import Balanced, words

from jaxsae.errors import InputError
from jaxsae.report import ReportConfig, report

SITES = ("mlp_out.9", "mlp_out.10")


def together(**effective) -> dict:
    """What `evaluate` writes of two dictionaries."""
    compute = {"fraction": {"epoch": 0.87}, "fraction_interval": {"epoch": [0.85, 0.89]}, "refused": {}} | effective
    rows = [
        {
            "sites": list(SITES[: i + 1]),
            "ce": 2.0,
            "ce_mean": 2.7 + i,
            "delta_ce": 0.0123 + i / 10,
            "delta_ce_interval": [0.0111 + i / 10, 0.0135 + i / 10],
            "sum_of_each_delta_ce": 0.0123 + i / 20,
            "kl": 0.0222 + i / 10,
            "faithfulness": {"mean": 0.9824 - i / 10, "skip": 0.7531},
            "effective_compute": compute,
        }
        for i in range(2)
    ]
    about = {"tokens": 45250, "documents": "600:700", "held_out": False, "notes": ["a note of a curve"]}
    return about | {"rows": rows, "curves": {"epoch": {}}, "error_nodes": {"share": {}, "kl": 1.25e-12}}


@pytest.fixture
def make_set(make_run, tmp_path):
    """make_set(what compounding.json holds) -> the directory of a set of two runs."""

    def make(compounding: dict | None = None) -> Path:
        for site in SITES:
            path = make_run(("reconstruction", "splice"), name=f"set/{site}")
            splice = json.loads((path / "eval/splice.json").read_text())
            splice |= {"faithfulness": {"mean": 0.9512}, "error_nodes": {"share": {site: 0.0437}, "kl": 0.0}}
            (path / "eval/splice.json").write_text(json.dumps(splice))
        path = tmp_path / "set"
        (path / "each.flags").write_text("# jaxsae train\n\n--reads=mlp_in.*\n--architecture=batchtopk\n--width=2048\n")
        if compounding:
            (path / "eval").mkdir()
            (path / "eval/compounding.json").write_text(json.dumps(compounding))
        return path

    return make


def test_each_run_has_a_row_and_a_link_to_its_page(make_set, tmp_path):
    path = make_set()
    (path / "mlp_out.9" / "report.html").write_text("its own")
    page = report(ReportConfig(run=str(path))).read_text()
    assert [value for name, value in Balanced(page).attributes if name == "href"] == ["mlp_out.9/report.html"]
    text = words(page)
    assert text.index("mlp_out.9 ") < text.index("mlp_out.10")
    for figure in ("0.1234", "0.3456", "7.9", "6.64%", "0.0522", "95.12%", "4.37%", "batchtopk", "2048"):
        assert figure in text
    assert f"jaxsae evaluate --run={path} --suite=reconstruction,splice" in text  # what is missing
    elsewhere = report(ReportConfig(run=str(path), output=str(tmp_path / "out" / "page.html"))).read_text()
    assert 'href="../set/mlp_out.9/report.html"' in elsewhere


def test_what_all_cost_together(make_set):
    page = report(ReportConfig(run=str(make_set(together())))).read_text()
    text = words(page)
    for figure in ("0.1123", "0.1111 to 0.1135", "0.0623", "1.7000", "0.1222", "88.24%", "75.31%", "87.00%"):
        assert figure in text
    assert "85.00% to 89.00%" in text and "45,250 predictions, documents 600:700, not held out" in text
    assert "KL is 1.2e-12" in text and "a note of a curve" in text
    labels = [value for name, value in Balanced(page).attributes if name == "aria-label"]
    assert "ΔCE of 1 to 2 dictionaries: together up to 0.1123, sum of each alone up to 0.0623" in labels
    assert any("on the epoch curve: 87.00% with all" in label for label in labels)
    assert not re.search(r"https?:|url\((?!#)|@import", page)


def test_a_set_of_games_names_how_many(make_set):
    found = together() | {"games": 1000, "held_out": True}
    del found["documents"]
    assert "45,250 predictions, 1,000 games" in words(report(ReportConfig(run=str(make_set(found)))).read_text())


def test_a_curve_that_gives_none_says_why(make_set):
    none = {"fraction": {}, "fraction_interval": {}, "refused": {"epoch": "its loss is below E"}}
    page = report(ReportConfig(run=str(make_set(together(**none) | {"curves": {}})))).read_text()
    assert "No share of compute on the epoch curve: its loss is below E" in words(page)


def test_a_set_that_has_not_begun_is_refused(tmp_path):
    (tmp_path / "each.flags").write_text("--width=8\n")
    with pytest.raises(InputError, match="no run has begun: train first, `jaxsae train --flagfile=.*each.flags`"):
        report(ReportConfig(run=str(tmp_path)))
