"""`export --push`: one commit with a card, and whatever the hub would not take is refused before anything is written."""

import json
import os
import subprocess
import sys
import tempfile

import pytest
from fake_push import FakePush, serving
from safetensors.numpy import load

from jaxsae.errors import InputError
from jaxsae.exchange import ExportConfig, export, publish, saelens
from jaxsae.training import save_dictionary

pytest.importorskip("huggingface_hub")


@pytest.fixture
def run(make_dictionary, tmp_path) -> str:
    save_dictionary(tmp_path / "run", make_dictionary("topk"))
    return str(tmp_path / "run")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving(FakePush()) as fake:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", fake.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", "hf_writes")
        yield fake


def config(run, **changes) -> ExportConfig:
    return ExportConfig(**({"run": run, "format": "saelens", "push": "lab/sae"} | changes))


@pytest.fixture
def nothing_written(monkeypatch):
    def fail(*_):
        raise AssertionError("the export was begun")

    monkeypatch.setattr(publish, "write", fail)


def test_one_commit_with_weights_and_card(hub, run, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    export(config(run, licence="mit", private=True))
    (commit,) = hub.commits
    assert sorted(commit["files"]) == ["README.md", saelens.CONFIG, saelens.WEIGHTS]
    assert commit["branch"] == "main" and "128 latents" in commit["message"] and hub.private
    assert load(commit["files"][saelens.WEIGHTS])["W_enc"].shape == (48, 128)
    card = commit["files"]["README.md"].decode()
    assert "license: mit" in card and 'snapshot_download("lab/sae")' in card and str(tmp_path) not in card
    assert not list((tmp_path / "scratch").iterdir())
    said = capsys.readouterr()
    assert f"{hub.url}/lab/sae/commit/" in said.err + said.out


def test_a_branch(hub, run, tmp_path):
    export(config(run, push="me/sae@try", output=str(tmp_path / "out")))
    assert hub.branches == ["try"] and hub.commits[0]["branch"] == "try"
    assert (tmp_path / "out" / "README.md").is_file()


def test_a_dry_run_writes_and_asks_nobody(hub, run, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    output = export(config(run, output=str(tmp_path / "out"), dry_run=True))
    assert sorted(p.name for p in output.iterdir()) == ["README.md", saelens.CONFIG, saelens.WEIGHTS]
    assert not hub.asked
    size = sum(p.stat().st_size for p in output.iterdir())
    assert f"Would push 3 files, {size:,} bytes, to lab/sae:" in capsys.readouterr().err
    export(config(run, output=str(tmp_path / "out"), dry_run=True, overwrite=True))  # the card is the export's own
    (output / "README.md").write_text("somebody's own")
    with pytest.raises(InputError, match=r"README.md, which no export wrote"):
        export(config(run, output=str(tmp_path / "out"), dry_run=True, overwrite=True))


@pytest.mark.parametrize(
    ("changes", "token", "message"),
    [
        ({}, None, "no token. Log in with `hf auth login`, or set HF_TOKEN"),
        ({}, "hf_other", "does not take the token"),
        ({}, "hf_reads", "the token may read alone"),
        ({"push": "them/sae"}, "hf_writes", "of me, who may push to me, lab, club alone"),
        ({"push": "club/sae"}, "hf_writes", "me has the role read in club, which may not push"),
        ({"licence": "made-up"}, "hf_writes", "does not take the card .*must be one of .*--licence"),
    ],
)
def test_what_the_hub_would_not_take_is_refused_first(changes, token, message, hub, run, monkeypatch, nothing_written):
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=f"--push={changes.get('push', 'lab/sae')}: .*{message}"):
        export(config(run, **changes))
    assert not hub.commits and not hub.repos


def test_no_network(run, monkeypatch, nothing_written):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_writes")
    with pytest.raises(InputError, match="--push=lab/sae: http://127.0.0.1:9 cannot be reached"):
        export(config(run))


@pytest.mark.parametrize("push", ["sae", "lab/sae/folder", "lab/../sae", "lab/sae..b", "-/sae"])
def test_names_that_are_none(push, run, nothing_written):
    with pytest.raises(InputError, match=f"--push={push}: (name a repository|is no name)"):
        export(config(run, push=push))


def test_files_there_are_in_the_way_but_for_overwrite(hub, run, monkeypatch):
    there = {"README.md": b"mine", saelens.SPARSITY: b"old", "notes.txt": b"mine", ".gitattributes": b""}
    hub.repos["lab/sae"] = dict(there)
    with monkeypatch.context() as patch:
        patch.setattr(publish, "write", None)
        with pytest.raises(InputError, match=r"has files already \(README.md, notes.txt, sparsity.safetensors\)"):
            export(config(run))
    export(config(run, overwrite=True))
    assert hub.commits[0]["deleted"] == [saelens.SPARSITY]  # of an earlier export, and not of this one
    assert hub.repos["lab/sae"]["notes.txt"] == b"mine" and hub.repos["lab/sae"]["README.md"] != b"mine"


def test_a_push_that_fails_leaves_the_export_and_no_commit(hub, run, tmp_path):
    hub.refuses = [("/commit/", 400, "no")]
    with pytest.raises(
        InputError, match=r"answered: Bad request .*no\. The export stands in .*out: `hf upload lab/sae .*out`"
    ):
        export(config(run, output=str(tmp_path / "out")))
    assert (tmp_path / "out" / saelens.WEIGHTS).is_file() and not hub.commits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"push": "", "output": ""}, "--output is required"),
        ({"push": "", "output": "o", "dry_run": True}, "--dry_run=True: is for --push"),
        ({"push": "", "output": "o", "licence": "mit"}, "--licence=mit: is for --push"),
        ({"dry_run": True}, "--dry_run=true: writes what would be pushed: name --output"),
        ({"licence": "MIT License"}, "--licence=MIT License: give the hub's name"),
        ({"format": "contexts"}, "--push=lab/sae: --format=contexts holds no weights"),
    ],
)
def test_flags_that_do_not_go_together(changes, message, run):
    with pytest.raises(InputError, match=message):
        export(config(run, **changes))


def test_without_the_package_it_says_what_to_install(run, tmp_path):
    lines = "import sys; sys.modules['huggingface_hub'] = None\nfrom jaxsae.cli import main\nmain()"
    flags = ["export", f"--run={run}", "--format=safetensors", "--push=lab/sae"]
    done = subprocess.run([sys.executable, "-c", lines, *flags], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 2 and "pip install 'jaxsae[hub]'" in done.stderr and "Traceback" not in done.stderr


def test_no_path_of_this_machine_goes_along(hub, make_dictionary, tmp_path):
    dictionary = make_dictionary("topk")
    dictionary.metadata.update(model=str(tmp_path / "models/llama"), tokenizer=str(tmp_path / "models/llama"))
    save_dictionary(tmp_path / "run", dictionary)
    for name in ("saelens", "sparsify", "safetensors"):
        export(config(str(tmp_path / "run"), format=name, push=f"me/{name}"))
        for file, content in hub.commits[-1]["files"].items():
            assert str(tmp_path).encode() not in content, file
    assert json.loads(hub.repos["me/saelens"][saelens.CONFIG])["metadata"]["model_name"] == "llama"
