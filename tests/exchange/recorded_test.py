"""`export --format=neuronpedia` and `--format=contexts`: from the record in a run, all or nothing."""

import dataclasses
import json
import subprocess
import sys
import types

import numpy as np
import pytest
from synthetic_record import SITE, WIDTH, world

from jaxsae.dashboard.record import RECORD, save
from jaxsae.errors import InputError
from jaxsae.exchange import ExportConfig, contexts, describe_export, export, neuronpedia

FORMATS = ["neuronpedia", "contexts"]


@pytest.fixture(scope="module")
def w():
    return world()


@pytest.fixture
def run(w, monkeypatch, tmp_path):
    """A run with a record, whose dictionary is in memory."""
    fake = types.ModuleType("jaxsae.training")
    fake.load_by_range = lambda run: w.dictionary
    monkeypatch.setitem(sys.modules, "jaxsae.training", fake)
    path = tmp_path / "run"
    (path / "latents").mkdir(parents=True)
    save(w.record, path / "latents" / RECORD)
    return path


def config(run, format="contexts", **changes) -> ExportConfig:
    return ExportConfig(**{"run": str(run), "format": format, "output": str(run.parent / "out"), **changes})


def put(run, record, **about) -> None:
    save(dataclasses.replace(record, about=record.about | about), run / "latents" / RECORD)


@pytest.mark.parametrize("name", FORMATS)
def test_the_printed_lines_run(name, run, package, capsys):
    package("sae_dashboard")
    output = export(config(run, name))
    lines = capsys.readouterr().out
    shown = "len(batch.features) == 128 and batch.sae_set == 'run'" if name == "neuronpedia" else "len(prompts) == 298"
    done = subprocess.run([sys.executable, "-c", f"{lines}\nassert {shown}\n"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(p.name for p in run.parent.iterdir()) == ["out", "run"] and output == run.parent / "out"


def test_a_record_on_disk_says_what_it_said(run, w, tmp_path):
    output = export(config(run))
    (tmp_path / "direct").mkdir()
    contexts.write(w.record, w.dictionary, tmp_path / "direct", SITE)
    assert (output / contexts.LINES).read_bytes() == (tmp_path / "direct" / contexts.LINES).read_bytes()


def test_what_is_in_them(run):
    about = describe_export(export(config(run, "neuronpedia")))
    assert "Neuronpedia" in about and "batches       3" in about and "sae_set       run" in about
    about = describe_export(export(config(run, output=str(run.parent / "other"))))
    assert "contexts" in about and "latents       298" in about and "resid_post.3" in about


@pytest.mark.parametrize("name", FORMATS)
def test_no_record(name, run):
    (run / "latents" / RECORD).unlink()
    with pytest.raises(
        InputError, match=rf"record.npz is missing. Collect it first: jaxsae report --run={run} --latents"
    ):
        export(config(run, name))
    (run / "latents" / RECORD).write_bytes(b"no")
    with pytest.raises(InputError, match=r"record.npz: is damaged"):
        export(config(run, name))
    assert [p.name for p in run.parent.iterdir()] == ["run"]


def test_a_run_of_a_set_has_its_record_with_the_others(run, w):
    """`report --run=SET --latents` writes SET/latents/NAME.npz, and calls the dictionary by its run."""
    (run.parent / "latents").mkdir()
    (run / "latents" / RECORD).rename(run.parent / "latents" / "run.npz")
    line = json.loads((export(config(run)) / contexts.LINES).read_text().splitlines()[0])
    assert line["site"] == "run"
    path = run.parent / "labels.jsonl"
    path.write_text('{"latent": 12, "site": "run", "text": "days"}\n{"latent": 3, "site": "other", "text": "x"}\n')
    with pytest.raises(InputError, match="line 2: site 'other' is not there"):
        export(config(run, "neuronpedia", labels=str(path), overwrite=True))
    (run.parent / "latents" / "other.npz").write_bytes(b"")  # one file may have the labels of a whole set
    output = export(config(run, "neuronpedia", labels=str(path), overwrite=True))
    assert len((output / "explanations.jsonl").read_text().splitlines()) == 1
    assert json.loads((output / "batch-0.json").read_text())["sae_set"] == f"{run.parent.name}-run"
    put_set = dataclasses.replace(w.record, about=w.record.about | {"d_model": 3})
    save(put_set, run.parent / "latents" / "run.npz")
    with pytest.raises(InputError, match=f"Collect it again: jaxsae report --run={run.parent} --latents"):
        export(config(run, overwrite=True))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("key", "value"), [("d_model", 17), ("architecture", "relu")])
def test_a_record_of_another_run(name, key, value, run, w):
    put(run, w.record, **{key: value})
    with pytest.raises(InputError, match=f"record.npz: is of another dictionary: its {key} is {value}, and the run's"):
        export(config(run, name))


def test_a_record_of_another_width(run, w):
    fewer = {name: getattr(w.record, name)[:-1] for name in ("frequency", "mean", "most", "norm", "auroc", "target")}
    save(dataclasses.replace(w.record, **fewer), run / "latents" / RECORD)
    with pytest.raises(InputError, match=f"its width is {WIDTH - 1}, and the run's {WIDTH}. Collect it again"):
        export(config(run))
    assert [p.name for p in run.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("name", FORMATS)
def test_rows_without_tokens(name, run, w):
    put(run, w.record, kind="rows")
    with pytest.raises(InputError, match=f"--format={name}: the rows of this run's store are of no tokens"):
        export(config(run, name))


@pytest.mark.parametrize("name", FORMATS)
def test_a_record_without_latents(name, run, w):
    put(run, dataclasses.replace(w.record, shown=w.record.shown[:0], start=w.record.start[:1]))
    with pytest.raises(InputError, match=r"shows no latent: none fired on the 690 rows"):
        export(config(run, name))


def test_an_output_in_the_way(run):
    export(config(run))
    with pytest.raises(InputError, match="exists and is not empty"):
        export(config(run))
    export(config(run, "neuronpedia", overwrite=True))
    assert neuronpedia.is_here(run.parent / "out") and not contexts.is_here(run.parent / "out")
    (run.parent / "out" / "mine.txt").write_text("")
    with pytest.raises(InputError, match="holds mine.txt, which no export wrote"):
        export(config(run, "neuronpedia", overwrite=True))


def test_labels_as_explanations(run):
    path = run.parent / "labels.jsonl"
    path.write_text('{"latent": 12, "text": "days"}\n')
    output = export(config(run, "neuronpedia", labels=str(path)))
    line = json.loads((output / "explanations.jsonl").read_text())
    assert line == {"modelId": "gpt2", "source": "3-run", "index": 12, "description": "days"}
    path.write_text('{"latent": 300, "text": "days"}\n')
    with pytest.raises(InputError, match="line 1: latent 300 is not there: resid_post.3 has 300"):
        export(config(run, "neuronpedia", labels=str(path), output=str(run.parent / "other")))
    assert not (run.parent / "other").exists()


def test_flags_of_other_formats(run):
    with pytest.raises(InputError, match="--labels=a: --format=neuronpedia alone holds labels"):
        config(run, labels="a")
    with pytest.raises(InputError, match="--k=3: is of --format with weights"):
        config(run, "neuronpedia", k=3)
    with pytest.raises(InputError, match="--dtype=bfloat16: --format=contexts has no matrices"):
        config(run, dtype="bfloat16")
    with pytest.raises(InputError, match="--also=x: --format=contexts holds one dictionary"):
        config(run, also=("x",))


def test_dead_latents_that_are_shown_have_no_bars(run, w):
    """A record that shows all: what never fired has an empty histogram and no contexts."""
    dead = np.array([5], np.int32)
    record = dataclasses.replace(
        w.record,
        shown=dead,
        start=np.zeros(2, np.int64),
        **{name: getattr(w.record, name)[:1] for name in ("promoted", "promoted_weights", "suppressed")},
        **{name: getattr(w.record, name)[:1] for name in ("suppressed_weights", "nearest", "nearest_cosine")},
        histogram=np.zeros((1, 20), np.int32),
        mean=np.full(WIDTH, np.nan, np.float32),
    )
    put(run, record)
    feature = json.loads((export(config(run, "neuronpedia")) / "batch-0.json").read_text())["features"][0]
    assert feature["freq_hist_data_bar_heights"] == feature["freq_hist_data_bar_values"] == feature["activations"] == []
    line = json.loads((export(config(run, overwrite=True)) / contexts.LINES).read_text())
    assert line["examples"] == line["inactive"] == [] and line["mean"] == 0
