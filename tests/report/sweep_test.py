"""The page of a sweep, finished or not: what stands on it is in sweep.json or follows from it."""

import json
import re

import published_law as published
import pytest
from pages import Balanced, words

from jaxsae import cli
from jaxsae.errors import InputError
from jaxsae.report import ReportConfig, report
from jaxsae.sweep.fits import fit_all

WIDTHS, KS = published.WIDTHS[:4], published.KS[:3]


@pytest.fixture
def draw(tmp_path):
    """draw(members, ...) -> the page of a sweep with these members."""

    def make(members, **flags) -> str:
        (tmp_path / "sweep.json").write_text(json.dumps({"members": members, "fits": {}, "store": "runs/store"}))
        return report(ReportConfig(sweep=str(tmp_path), **flags)).read_text()

    return make


def finished():
    members = published.members(WIDTHS, KS)
    members[4]["held_out"] = True
    return members


def test_a_finished_sweep(draw, tmp_path):
    members = finished()
    page = draw(members)
    parsed, text = Balanced(page), words(page)
    links = [value for name, value in parsed.attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
    assert all(value.startswith("#") for value in links) and not {"script", "link", "img", "iframe"} & set(parsed.tags)
    assert not re.search(r"https?:|url\((?!#)|@import", page) and 'http-equiv="refresh"' not in page
    ids = [value for name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids)) and all(t in ids for t in re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert page.count("<svg") == 4 + 2 + len(KS)  # frontier, surface, compute
    assert f"{len(members)} of {len(members)}" in text and "all finished" in text
    for member in members:
        assert member["name"] in text and f"{member['figures']['fvu']:.4f}" in text
    assert f"{min(m['figures']['fvu'] for m in members):.4f}" in text
    assert (tmp_path / "report.html").stat().st_size < 2e6


def test_the_surface_shows_members_and_held_out_ones_and_the_table_what_was_predicted(draw):
    members = finished()
    page = draw(members, seed=3)
    surface, sections = re.findall(r'<svg[^>]*aria-label="[^"]*held-out ones on it".*?</svg>', page, re.DOTALL)
    for member in members:
        assert f">{member['figures']['fvu']:.3f}<" in surface  # each point with its FVU
    assert "held out" in sections
    (row,) = fit_all(members, seed=3)["architectures"]["topk"]["held_out"]
    text = words(page)
    assert f"{row['predicted']:.4f}" in text and f"{100 * row['error']:+.2f}%" in text
    assert f"{100 * abs(row['error']):.2f}%" in text  # the card


def test_constants_optima_and_targets_are_those_of_the_fits(draw):
    members = finished()
    text = words(draw(members, compute=(3e16,), target_delta_ce=(0.06,)))
    found = fit_all(members, (3e16,), (0.06,))["architectures"]["topk"]
    for law in (found["joint"], *found["tokens"], *found["compute"], *found["allocation"], found["delta_ce"]):
        for constant in law["constants"].values():
            value = constant["value"]
            assert (f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}") in text
    for law in found["allocation"]:
        assert f"{round(law['optima'][0]['width']):,}" in text
    for row in found["best_k"]:
        assert f"{row['k']:.4g}" in text
    assert "3e+16" in text and "0.06" in text


def test_an_unfinished_sweep_shows_what_there_is_and_reads_itself_again(draw):
    members = finished()[:3]
    members += [
        dict(name="broken", flags={"width": 777}, status="failed", error="loss is <NaN> at step 3", figures=None),
        dict(name="at work", flags={"width": 4096, "k": 8}, status="running", error=None, figures=None),
        dict(name="later", flags={"width": 8192, "k": 8}, status="waiting", error=None, held_out=True, figures=None),
    ]
    page = draw(members)
    text = words(page)
    assert "3 of 6" in text and "1 running, 1 waiting, 1 failed" in text and 'http-equiv="refresh"' in page
    assert "loss is <NaN> at step 3" in text and "loss is <NaN>" not in page and "777" in text
    assert "Too few members have finished for a surface" in text and "there are 3" in text
    page = draw(members[3:])
    assert "No member has finished yet" in words(page) and "<svg" not in page


def test_members_without_splice_or_curves_are_drawn_without(draw):
    members = published.members(WIDTHS, KS, figures=dict(delta_ce=None, ce=None, curve=[]))
    page = draw(members)
    assert "No member was spliced" in words(page) and "No training curves" in words(page)
    assert page.count("<svg") == 2 + 2


def test_curves_of_text_are_marked_where_the_model_plays_othello(draw, tmp_path):
    assert "read the order of the points" not in draw(finished())
    (tmp_path / "members/n2048-k8/eval").mkdir(parents=True)
    (tmp_path / "members/n2048-k8/eval/splice.json").write_text('{"games": 10}')
    assert "read the order of the points" in words(draw(finished()))


def test_members_without_k_have_their_surface(draw):
    members = published.members(WIDTHS, KS, figures=dict(architecture="relu", k=None))
    for i, member in enumerate(members):
        member["flags"] = {"l1": i}
    page = draw(members)
    assert page.count("<svg") == 3 + 1 and "has no k" in words(page)  # no dead latents by k, no sections, no compute


def test_two_architectures_have_sections_of_their_own(draw):
    members = finished()
    members += [
        dict(m, name="relu " + m["name"], figures=m["figures"] | {"architecture": "relu"}, held_out=False)
        for m in published.members(WIDTHS[:2], KS[:2])
    ]
    text = words(draw(members))
    assert "Frontier: topk" in text and "Frontier: relu" in text


def test_what_is_no_sweep_is_refused(tmp_path):
    cases = [
        (lambda p: None, "no sweep.json in it"),
        (lambda p: (p / "config.flags").write_text("--k=1"), "It holds a run: give it as --run"),
        (lambda p: (p / "sweep.json").write_text("{"), "cannot be read as JSON"),
        (lambda p: (p / "sweep.json").write_text("[]"), "holds no list of members"),
        (lambda p: (p / "sweep.json").write_text('{"members": []}'), "has no members"),
    ]
    for prepare, message in cases:
        prepare(tmp_path)
        with pytest.raises(InputError, match=message):
            report(ReportConfig(sweep=str(tmp_path)))
    with pytest.raises(InputError, match=r"--sweep=.*none: no such directory"):
        report(ReportConfig(sweep=str(tmp_path / "none")))
    assert not (tmp_path / "report.html").exists()


def test_flags(tmp_path, capsys):
    for given in ({}, {"run": "a", "sweep": "b"}):
        with pytest.raises(InputError, match="--run=DIR.*or --sweep=DIR"):
            report(ReportConfig(**given))
    for name in ("compute", "target_delta_ce"):
        with pytest.raises(InputError, match=f"--{name}=-1"):
            ReportConfig(sweep="s", **{name: (-1.0,)})
    with pytest.raises(InputError, match="--scaling_curve=x"):
        report(ReportConfig(sweep=str(tmp_path), scaling_curve="x"))
    assert cli.run(["report", f"--sweep={tmp_path}"]) == 2
    assert "no sweep.json" in capsys.readouterr().err
