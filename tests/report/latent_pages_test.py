"""The folder latents/ beside a report: whole or not at all, and nothing of anyone else's."""

import json

import numpy as np
import pytest
from dashboard_scene import ROWS, WIDTH, K, dictionary_of, random_rows, store_of, text_columns
from pages import Balanced

from jaxsae import cli
from jaxsae.config import write_flag_file
from jaxsae.dashboard import pages, record
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.report import ReportConfig, latent_pages, report
from jaxsae.training import TrainConfig, save_dictionary

HELD_OUT = 400


@pytest.fixture
def written(monkeypatch):
    """[records of each call] of a writer in the place of the pages' own."""
    calls = []

    def write_pages(folder, records, labels):
        calls.append({name: records[name] for name in records})
        (folder / "data").mkdir()
        (folder / "data" / "0.js").write_text("0")
        (folder / "index.html").write_text("the pages")
        return folder / "index.html"

    monkeypatch.setattr(pages, "write_pages", write_pages)
    return calls


@pytest.fixture
def run(tmp_path):
    url = store_of(tmp_path / "store", random_rows(), text_columns())
    return run_at(tmp_path / "run", url)


def train_config(url, path, **more):
    return TrainConfig(store=url, workdir=str(path), method=MethodConfig(width=WIDTH, k=K), **more)


def run_at(path, url, seed=0, **more):
    save_dictionary(path, dictionary_of(seed, store=url, holdout_rows=HELD_OUT, **more))
    (path / "metrics.jsonl").write_text('{"step": 1, "tokens": 8, "loss": 1.0}\n')
    write_flag_file(path / "config.flags", train_config(url, path), "train")
    return path


def links(page):
    return [value for name, value in Balanced(page.read_text()).attributes if name == "href"]


def test_records_and_pages_stand_beside_the_report(run, written, tmp_path, capsys):
    plain = report(ReportConfig(run=str(run), cards=0))
    assert links(plain) == [] and "--latents" in plain.read_text() and not (run / "latents").exists()
    page = report(ReportConfig(run=str(run), cards=0, latents=True, which="0:9", around=(3, 1), top=2, per_band=0))
    found = record.load(run / "latents" / "record.npz")
    assert list(written[0]) == ["resid_post.0"] and found.about["rows"] == HELD_OUT
    assert found.shown.tolist() == list(range(9)) and found.tokens.shape[1] == 5 and not found.band.any()
    assert links(page) == ["latents/index.html"]
    assert links(report(ReportConfig(run=str(run), cards=0))) == ["latents/index.html"]  # they stay
    out = tmp_path / "elsewhere" / "a.html"
    report(ReportConfig(run=str(run), cards=0, latents=True, output=str(out)))
    assert (out.parent / "latents" / "record.npz").is_file() and links(out) == ["latents/index.html"]


def test_a_second_call_replaces_what_the_first_wrote(run, written, monkeypatch, capsys):
    given = dict(run=str(run), cards=0, latents=True)
    report(ReportConfig(**given))
    first = record.load(run / "latents" / "record.npz")
    report(ReportConfig(**given))
    assert "known already" in capsys.readouterr().err
    report(ReportConfig(**given, top=1))
    assert "known already" not in capsys.readouterr().err
    second = record.load(run / "latents" / "record.npz")
    assert len(second.tokens) < len(first.tokens) and len(written) == 3
    before = {p: p.read_bytes() for p in (run / "latents").rglob("*") if p.is_file()}

    def fail(*_):
        raise OSError("broken")

    monkeypatch.setattr(pages, "write_pages", fail)
    with pytest.raises(OSError, match="broken"):
        report(ReportConfig(**given, top=2))
    assert {p: p.read_bytes() for p in (run / "latents").rglob("*") if p.is_file()} == before
    assert not [p for p in run.iterdir() if "partial" in p.name or "old" in p.name]


def test_files_that_are_not_ours_are_left_alone(run, written):
    folder, given = run / "latents", dict(run=str(run), cards=0, latents=True)
    folder.mkdir()
    report(ReportConfig(**given))  # an empty folder holds nobody's
    (folder / "data" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"latents/data/notes.txt is there, and no `jaxsae report --latents` wrote it"):
        report(ReportConfig(**given))
    assert len(written) == 1 and (folder / "data" / "notes.txt").read_text() == "mine"
    (folder / "data" / "notes.txt").unlink()
    (folder / "written.json").write_text("[")
    with pytest.raises(InputError, match="is there, and no"):
        report(ReportConfig(**given))


def test_a_file_in_the_place_of_the_folder_is_refused(run, written):
    (run / "latents").write_text("a file")
    with pytest.raises(InputError, match="latents is there, and no"):
        report(ReportConfig(run=str(run), cards=0, latents=True))


def test_what_cannot_be_collected_is_refused_and_leaves_nothing(run, written, tmp_path):
    for change, message in (
        ({"which": "24"}, "--which=24: give latents from 0 to 23"),
        ({"store": str(tmp_path / "none")}, "no such store"),
    ):
        with pytest.raises(InputError, match=message):
            report(ReportConfig(run=str(run), cards=0, latents=True, **change))
    assert not (run / "latents").exists() and not (run / "report.html").exists() and not written


def test_a_set_has_one_folder(tmp_path, written):
    sites = ("resid_post.0", "resid_post.1")
    url = store_of(tmp_path / "store", random_rows(), text_columns(), sites)
    for seed, site in enumerate(sites):
        run_at(tmp_path / "set" / site, url, seed, site=site)
    path = tmp_path / "set"
    write_flag_file(path / "each.flags", train_config(url, path, sites=sites), "train")
    assert "--latents" in report(ReportConfig(run=str(path))).read_text()
    page = report(ReportConfig(run=str(path), latents=True))
    assert list(written[0]) == list(sites) and "latents/index.html" in links(page)
    for name, other in zip(sites, reversed(sites), strict=True):
        found = record.load(path / "latents" / f"{name}.npz")
        assert set(found.together) == {"", other} and found.about["site"] == name
    assert json.loads((path / "latents" / "written.json").read_text())["files"] == [
        "data/0.js",
        "index.html",
        *(f"{site}.npz" for site in sites),
    ]
    assert latent_pages.link(path / "report.html") == "latents/index.html"
    assert np.isfinite(record.load(path / "latents" / "resid_post.0.npz").frequency).all() and ROWS > HELD_OUT


@pytest.mark.parametrize("old", ["8", "0", "1"])
def test_the_number_that_latents_once_took_names_cards(old, run, capsys):
    assert cli.run(["report", f"--run={run}", f"--latents={old}"]) == 2
    assert "--cards=N is how many latents report.html shows" in capsys.readouterr().err
    with pytest.raises(InputError, match=f"--latents={old}: .*--cards=N"):
        ReportConfig(run=str(run), latents=int(old))


def test_flags_of_pages_are_refused_without_them(run):
    for change, message in (
        ({"which": "0:3"}, "--which=0:3: is of --latents"),
        ({"trained_rows": True}, "--trained_rows=True: is of --latents"),
        ({"around": (1,)}, "--around=1: give two numbers"),
        ({"latents": True, "top": 0}, "--top=0: must be above 0"),
        ({"latents": True, "per_band": -1}, "--per_band=-1"),
    ):
        with pytest.raises(InputError, match=message):
            ReportConfig(run=str(run), **change)
    with pytest.raises(InputError, match="--sweep=s: has no --latents"):
        ReportConfig(sweep="s", latents=True)
