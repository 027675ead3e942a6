"""The folder: what it replaces, what it refuses, and that nothing in it asks a network for anything."""

import dataclasses
import re
import tracemalloc
import weakref
from collections.abc import Mapping

import numpy as np
import pytest
from latent_records import made_stream, made_words, text_record
from page_blocks import read_block, read_sites
from pages import Balanced

from jaxsae.dashboard.pages import write_pages
from jaxsae.dashboard.pages.folder import slugs
from jaxsae.errors import InputError

WORDS = made_words(120)
STREAM = made_stream(len(WORDS), 5_000)


def record(n=70, seed=0, **about):
    return text_record(n, WORDS, STREAM, top=2, banded=1, length=8, seed=seed, **about)


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_record_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_pages(tmp_path / name, {"x": record()}, {"x": {0: "zero"}})
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_older_pages_are_replaced_whole_and_other_files_stay(tmp_path):
    folder = tmp_path / "latents"
    write_pages(folder, {"old": record(300), "older": record(10)}, {})
    (folder / "page" / "of-an-older-version.js").write_text("")
    (folder / "record.npz").write_text("not a page")
    assert "data/old/4.js" in files(folder)
    write_pages(folder, {"new": record(70)}, {})
    write_pages(tmp_path / "fresh", {"new": record(70)}, {})
    assert files(folder) == files(tmp_path / "fresh") | {"record.npz": b"not a page"}


@pytest.mark.parametrize("labels", [{"x": {70: "no such latent"}}, {"x": {-1: "nor such"}}, {"y": {0: "no such site"}}])
def test_labels_of_what_is_not_there_leave_everything_as_it_was(labels, tmp_path):
    folder = tmp_path / "latents"
    write_pages(folder, {"x": record()}, {})
    before = files(folder)
    with pytest.raises(InputError, match=r"--labels: .*(70|-1|'y')"):
        write_pages(folder, {"x": record(seed=1)}, labels)
    assert files(folder) == before and not list(folder.glob(".*"))


@pytest.mark.parametrize("name", ["data", "page"])
def test_other_peoples_folders_are_refused(name, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds something other than pages of latents"):
        write_pages(tmp_path, {"x": record()}, {})
    assert files(tmp_path) == {f"{name}/thesis.txt": b"mine"}
    with pytest.raises(InputError, match=r"thesis\.txt: holds something"):
        write_pages(tmp_path / name / "thesis.txt", {"x": record()}, {})


def test_a_set_has_a_folder_for_each_and_says_how_they_are_called(tmp_path):
    names = ["blocks.0/mlp", "blocks.0-mlp", "", "../up", "BLOCKS.0/MLP"]
    records = {name: record(10 + i, seed=i, site=name) for i, name in enumerate(names)}
    together = {"": records[names[0]].together[""], "../up": records[names[0]].together[""]}
    records[names[0]] = dataclasses.replace(records[names[0]], together=together)
    write_pages(tmp_path / "p", records, {names[1]: {3: "three"}})
    sites = read_sites(tmp_path / "p")["sites"]
    assert [site["name"] for site in sites] == names and [site["width"] for site in sites] == [10, 11, 12, 13, 14]
    assert [site["folder"] for site in sites] == [
        "blocks.0-mlp",
        "blocks.0-mlp-2",
        "dictionary",
        "up",
        "blocks.0-mlp-3",
    ]
    assert [site["labelled"] for site in sites] == [0, 1, 0, 0, 0] and sites[0]["together"] == ["", "../up"]
    for site, own in zip(sites, records.values(), strict=True):
        key, columns, _ = read_block(tmp_path / "p/data" / site["folder"] / "columns.js")
        assert key == f"{site['folder']}/columns"
        np.testing.assert_array_equal(columns["norm"], own.norm)
    assert len({p.parent for p in (tmp_path / "p/data").rglob("columns.js")}) == 5


def test_slugs_are_plain_and_differ():
    assert slugs(["a b", "a/b", "A-b", "...", "ü"]) == ["a-b", "a-b-2", "a-b-3", "dictionary", "dictionary-2"]


def test_no_word_of_it_needs_the_network_and_no_text_is_code(tmp_path):
    evil = "</script><script>alert(1)</script>\u2028"
    write_pages(tmp_path / "p", {evil: record(site=evil, run=evil)}, {evil: {0: evil}})
    sites = (tmp_path / "p/data/sites.js").read_text()
    assert "<" not in sites and sites.isascii() and read_sites(tmp_path / "p")["sites"][0]["name"] == evil
    for name, content in files(tmp_path / "p").items():
        text = content.decode()
        if name.startswith("data/") and name != "data/sites.js":
            assert re.fullmatch(r'receive\("[\w./-]+", "[A-Za-z0-9+/=]+"\);\n', text), name
        else:
            assert not re.search(r"""(?i)\b(https?|wss?|ftps?):|["'(]\s*//\w""", text), name
            for call in (
                "fetch(",
                "XMLHttp",
                "import(",
                "@import",
                "WebSocket",
                "EventSource",
                "Beacon",
                "@font-face",
                "url(",
            ):
                assert call not in text, (name, call)
            for way in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function(", "srcdoc"):
                assert way not in text, (name, way)


def test_the_page_is_balanced_and_allows_only_its_own_scripts(tmp_path):
    index = write_pages(tmp_path / "p", {"x": record()}, {}).read_text()
    attributes = Balanced(index.replace("<!doctype html>", "")).attributes
    (policy,) = [value for name, value in attributes if name == "content" and "default-src" in value]
    assert "default-src 'none'" in policy and "script-src 'self' file:;" in policy and "unsafe" not in policy
    assert not [name for name, _ in attributes if name.startswith("on") or name == "style"]  # the policy forbids both
    for name, value in attributes:
        if name in ("src", "href") and value not in ("#", "data:,"):
            assert (tmp_path / "p" / value).is_file(), value
    ids = [value for name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    scripts = "".join(p.read_text() for p in (tmp_path / "p/page").glob("*.js"))
    assert set(re.findall(r'\bby\("([\w-]+)"\)', scripts)) <= set(ids)
    assert max(len(p.read_text().splitlines()) for p in (tmp_path / "p").glob("page/*")) <= 250


class Lazy(Mapping):
    """Records that are made when asked for; says how many were alive together, and which were asked for."""

    def __init__(self, names):
        self.names, self.made, self.most, self.asked = names, [], 0, []

    def __getitem__(self, name):
        self.asked.append(name)
        made = record(40, seed=len(self.asked))
        self.made.append(weakref.ref(made))
        self.most = max(self.most, sum(one() is not None for one in self.made))
        return made

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)


def test_records_of_a_set_are_asked_for_once_and_let_go_of(tmp_path):
    records = Lazy(["a", "b", "c"])
    write_pages(tmp_path / "p", records, {})
    assert records.asked == ["a", "b", "c"] and records.most == 1


def test_contexts_are_written_a_page_at_a_time(tmp_path):
    """What is held above the record stays far below its contexts."""
    big = text_record(3_000, WORDS, STREAM, top=20, banded=4, length=48)
    write_pages(tmp_path / "warm", {"": record()}, {})
    tracemalloc.start()
    write_pages(tmp_path / "p", {"": big}, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (big.tokens.nbytes + big.values.nbytes) / 4, peak
