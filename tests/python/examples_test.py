"""Every Python example of README and docs runs, as it stands, in the order of its file."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest
from python.small import make_dictionary

import jaxsae
from jaxsae.training import save_dictionary

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(file: Path) -> list[tuple[int, str]]:
    """(its first line, code) of each block of a file."""
    text = file.read_text(encoding="utf-8")
    return [(text[: match.start(1)].count("\n") + 1, match.group(1)) for match in _BLOCK.finditer(text)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The places that examples name: a store and a run of the quickstart, small and hardly trained."""
    directory = tmp_path_factory.mktemp("quickstart")
    store, run = (str(directory / name) for name in ("store", "run"))
    jaxsae.harvest(source="othello", store=store, sites=["resid_post.1"], tokens=8192, shard_rows=4096)
    jaxsae.train(store=store, workdir=run, width=128, k=8, batch_size=512, tokens=4096, mesh=[1, 8])
    return directory


@pytest.fixture
def place(made, make_model, tmp_path, monkeypatch):
    """The working directory of a file's examples, with a model `my_model` and a run `my_run` on it beside those."""
    shutil.copytree(made, tmp_path / "runs" / "quickstart")
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        shutil.copytree(make_model("llama"), tmp_path / "my_model")
    save_dictionary(tmp_path / "my_run", make_dictionary(d=16, width=256, site="resid_post.1"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", [file for file in FILES if examples(file)], ids=lambda file: file.name)
def test_examples_run(file, place):
    names: dict = {"__name__": "example"}
    for line, code in examples(file):
        exec(compile("\n" * (line - 1) + code, str(file), "exec"), names)  # so that a traceback names the line


def test_readme_has_examples_and_they_are_found(tmp_path):
    assert len(examples(ROOT / "README.md")) >= 5
    (tmp_path / "page.md").write_text("a\n\n```python\nx = 1\n\ny = x\n```\n\n    text\n\n```python\nz = 2\n```\n")
    assert examples(tmp_path / "page.md") == [(4, "x = 1\n\ny = x\n"), (12, "z = 2\n")]
