"""`report --latents --labels=FILE`: labels are checked before any work, and stand in the pages."""

import json

import pytest
from dashboard_scene import WIDTH, K, dictionary_of, random_rows, store_of, text_columns

from jaxsae.config import write_flag_file
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.exchange import ExportConfig, export
from jaxsae.report import ReportConfig, latent_pages, report
from jaxsae.training import TrainConfig, save_dictionary

SITES = ("resid_post.0", "resid_post.1")


def run_at(path, url, seed, site):
    save_dictionary(path, dictionary_of(seed, store=url, holdout_rows=400, site=site))
    (path / "metrics.jsonl").write_text('{"step": 1, "tokens": 8, "loss": 1.0}\n')
    write_flag_file(path / "config.flags", config(url, path), "train")
    return path


def config(url, path, **more):
    return TrainConfig(store=url, workdir=str(path), method=MethodConfig(width=WIDTH, k=K), **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A set of two runs."""
    path = tmp_path_factory.mktemp("labelled")
    url = store_of(path / "store", random_rows(), text_columns(), SITES)
    for seed, site in enumerate(SITES):
        run_at(path / "set" / site, url, seed, site)
    write_flag_file(path / "set" / "each.flags", config(url, path / "set", sites=SITES), "train")
    return path / "set"


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Lines of labels -> the flags, and what the pages were given."""
    told = []

    def write(run, *lines):
        path = tmp_path / "labels.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return ReportConfig(run=str(run), cards=0, latents=True, labels=str(path), output=str(tmp_path / "r.html"))

    from jaxsae.dashboard import pages

    drawn = pages.write_pages
    monkeypatch.setattr(pages, "write_pages", lambda *all: told.append(all[2]) or drawn(*all))
    write.told = told
    return write


def test_a_run_has_its_labels(whole, given):
    report(given(whole / SITES[1], {"latent": 3, "text": "a word for it"}))
    assert given.told == [{SITES[1]: {3: "a word for it"}}]


def test_a_set_has_labels_of_each(whole, given, tmp_path):
    lines = [{"latent": 3, "site": site, "text": f"seen at {site}"} for site in SITES]
    report(given(whole, *lines))
    assert given.told == [{site: {3: f"seen at {site}"} for site in SITES}]
    assert (tmp_path / "latents" / "index.html").is_file()


def test_labels_of_latents_that_are_not_there_are_refused_before_work(whole, given, tmp_path, monkeypatch):
    monkeypatch.setattr(latent_pages, "_collected", lambda *_: pytest.fail("collected before labels were read"))
    with pytest.raises(InputError, match=rf"line 1: latent {WIDTH} is not there: resid_post.0 has {WIDTH}"):
        report(given(whole / SITES[0], {"latent": WIDTH, "text": "a"}))
    with pytest.raises(InputError, match='line 1: names no "site", and there are resid_post.0, resid_post.1'):
        report(given(whole, {"latent": 0, "text": "a"}))
    assert list(tmp_path.iterdir()) == [tmp_path / "labels.jsonl"]


def test_contexts_of_a_set_become_its_labels(whole, given, tmp_path):
    """The whole way: collect, export, label, show."""
    report(ReportConfig(run=str(whole), cards=0, latents=True, around=(2, 1)))
    lines = []
    for site in SITES:
        output = export(ExportConfig(str(whole / site), "contexts", str(tmp_path / site)))
        lines += [json.loads(line) for line in (output / "contexts.jsonl").read_text().splitlines()]
    assert all(line["inactive"] for line in lines if line["frequency"] < 0.1) and lines
    report(given(whole, *(line | {"explanation": f"number {line['latent']}"} for line in lines)))
    assert {site: len(own) for site, own in given.told[-1].items()} == {
        site: sum(line["site"] == site for line in lines) for site in SITES
    }
