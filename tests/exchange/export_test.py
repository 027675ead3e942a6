"""`export` and `import_`: all or nothing, and never over other people's files."""

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import jaxsae.training
from jaxsae.errors import DiskFullError, InputError
from jaxsae.exchange import ExportConfig, ImportConfig, api, export, import_, saelens

N = 128
FORMATS = ["saelens", "sparsify", "dictionary_learning"]


@pytest.fixture
def runs(monkeypatch):
    """`jaxsae.training` with runs in memory: path -> dictionary."""
    saved = {}

    def save_dictionary(run, dictionary):
        (run / "name").write_text(str(run))  # so that a run is found where it is moved to
        saved[str(run)] = dictionary

    def load(run):
        moved = Path(run) / "name"
        return saved[moved.read_text() if moved.exists() else str(run)]

    fake = types.ModuleType("jaxsae.training")
    fake.load = fake.load_by_range = load
    fake.save_dictionary, fake.__path__ = save_dictionary, jaxsae.training.__path__
    monkeypatch.setitem(sys.modules, "jaxsae.training", fake)
    return saved


@pytest.fixture
def run(runs, make_dictionary, tmp_path) -> str:
    path = tmp_path / "run"
    (path / "eval").mkdir(parents=True)
    runs[str(path)] = make_dictionary("topk")
    return str(path)


def config(run, tmp_path, **changes) -> ExportConfig:
    return ExportConfig(**({"run": run, "format": "saelens", "output": str(tmp_path / "a" / "out")} | changes))


@pytest.mark.parametrize("name", FORMATS)
def test_there_and_back(name, package, runs, run, tmp_path, capsys):
    package("torch")
    output = export(config(run, tmp_path, format=name))
    assert len(capsys.readouterr().out.strip().splitlines()) == 4
    assert import_(ImportConfig(format=name, input=str(output), output=str(tmp_path / "back"))) == tmp_path / "back"
    for field in ("W_enc", "b_enc", "W_dec", "b_dec"):
        load = sys.modules["jaxsae.training"].load
        back, there = load(tmp_path / "back").params, load(run).params
        np.testing.assert_array_equal(getattr(back, field), getattr(there, field))


@pytest.mark.parametrize("name", FORMATS)
def test_the_printed_lines_run(name, package, hide_torchvision, run, tmp_path, capsys):
    package({"saelens": "sae_lens"}.get(name, name))
    capsys.readouterr()  # sparsify prints when first imported
    export(config(run, tmp_path, format=name))
    lines = (
        hide_torchvision
        + "import torch\nx = torch.randn(3, 48)\n"
        + capsys.readouterr().out
        + "\nassert x_hat.shape == x.shape\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_an_output_in_the_way_is_refused(run, tmp_path):
    given = config(run, tmp_path)
    export(given)
    with pytest.raises(InputError, match="exists and is not empty"):
        export(given)
    export(config(run, tmp_path, overwrite=True))
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["out"]
    with pytest.raises(InputError, match="exists and is not empty"):
        import_(ImportConfig(format="saelens", input=given.output, output=given.output))


def test_overwrite_does_not_replace_a_folder_of_exports(run, tmp_path):
    for name in ("one", "two"):
        export(config(run, tmp_path, format="sparsify", output=str(tmp_path / "all" / name)))
    with pytest.raises(InputError, match=r"--output=.*all: is not an export"):
        export(config(run, tmp_path, format="sparsify", output=str(tmp_path / "all"), overwrite=True))
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["one", "two"]


def test_overwrite_replaces_exports_only(run, tmp_path):
    output = tmp_path / "a" / "out"
    output.mkdir(parents=True)
    (output / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis.tex, which no export wrote"):
        export(config(run, tmp_path, overwrite=True))
    assert (output / "thesis.tex").read_text() == "years of work"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        export(config(run, tmp_path, output=str(tmp_path / "file"), overwrite=True))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError(28, "No space left on device"), DiskFullError),
        (RuntimeError("a bug"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failed_write_leaves_nothing_and_keeps_what_was(raised, expected, run, tmp_path, monkeypatch):
    before = export(config(run, tmp_path))
    kept = (before / saelens.WEIGHTS).read_bytes()

    def fail(dictionary, output, dtype):
        (output / saelens.WEIGHTS).write_text("half")
        raise raised

    monkeypatch.setattr(saelens, "write", fail)
    for output, overwrite in ((before, True), (tmp_path / "a" / "new", False)):
        with pytest.raises(expected):
            export(config(run, tmp_path, output=str(output), overwrite=overwrite))
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["out"]
    assert (before / saelens.WEIGHTS).read_bytes() == kept


def test_frequencies_go_along_where_they_fit(run, tmp_path, capsys):
    path = tmp_path / "run" / "eval" / "frequencies.npz"
    np.savez(path, frequency=np.full(N, 0.01))
    assert (export(config(run, tmp_path)) / saelens.SPARSITY).is_file()
    for bad in (np.full(N + 1, 0.01), np.full(N, np.nan), np.array([object()])):
        np.savez(path, frequency=bad)
        assert not (export(config(run, tmp_path, overwrite=True)) / saelens.SPARSITY).exists()
        assert "without sparsity.safetensors" in capsys.readouterr().err


def test_a_missing_input_is_named(runs, tmp_path):
    with pytest.raises(InputError, match="--input=.*no such directory"):
        import_(ImportConfig(format="saelens", input=str(tmp_path / "nothing"), output=str(tmp_path / "out")))


def test_a_failed_import_leaves_nothing(run, tmp_path, monkeypatch):
    output = export(config(run, tmp_path))

    def fail(run, dictionary):
        (run / "half").write_text("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules["jaxsae.training"], "save_dictionary", fail)
    with pytest.raises(DiskFullError):
        import_(ImportConfig(format="saelens", input=str(output), output=str(tmp_path / "b" / "back")))
    assert not list((tmp_path / "b").iterdir())


def test_relu_says_that_latents_are_rescaled(runs, make_dictionary, tmp_path, capsys):
    runs["r"] = make_dictionary("relu")
    export(ExportConfig("r", "saelens", str(tmp_path / "out")))
    assert "times what it was" in capsys.readouterr().err
    assert set(api.FORMATS) == {
        *FORMATS,
        "circuit_tracer",
        "gemma_scope",
        "safetensors",
    }  # which have tests of their own


@pytest.mark.parametrize("name", FORMATS)
def test_real_runs_go_out_and_come_back(name, package, make_dictionary, tmp_path, x):
    package("torch")
    from jaxsae.training import load, save_dictionary

    save_dictionary(tmp_path / "run", make_dictionary("topk"))
    output = export(ExportConfig(str(tmp_path / "run"), name, str(tmp_path / "out")))
    back = load(import_(ImportConfig(format=name, input=str(output), output=str(tmp_path / "back"))))
    there = load(tmp_path / "run")
    np.testing.assert_array_equal(back.reconstruct(x), there.reconstruct(x))
    assert back.metadata["imported_from"] == name and back.metadata["site"] == there.metadata["site"]
