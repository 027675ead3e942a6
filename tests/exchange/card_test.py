"""Model cards: figures beside baselines and intervals, the command, the data, and nothing of this machine."""

import dataclasses
import json

import pytest
import yaml

from jaxsae.config import write_flag_file
from jaxsae.dictionary import MethodConfig
from jaxsae.evaluate.summary import Figure, Summary, as_json
from jaxsae.exchange import ExportConfig, export
from jaxsae.exchange.card_figures import NONE, shown
from jaxsae.exchange.publish_names import flag_line, without_paths
from jaxsae.training import TrainConfig, save_dictionary
from jaxsae.training.run import SET_IMPORTED

pytest.importorskip("huggingface_hub")
TOKENS = 4096


def evaluated(run, suite: str = "reconstruction", tokens: int = TOKENS, **changes) -> None:
    """Figures of a suite, as `evaluate` leaves them."""
    figures = [
        Figure("FVU", 0.1234, (0.1111, 0.1357), baselines={"mean": 1.0, "pca_k": 0.61}, note="of | what is left"),
        Figure("dead latents", 0.25, percent=True),
    ]
    parts = {"title": suite.title(), "sample": "668 held-out rows", "says": "It leaves 12.3%.", "limits": "Not why."}
    summary = as_json(Summary(**parts | changes, figures=figures))
    (run / "eval").mkdir(parents=True, exist_ok=True)
    (run / "eval" / f"{suite}.json").write_text(json.dumps({"trained_tokens": tokens, "summary": summary}))


@pytest.fixture
def run(make_dictionary, tmp_path):
    path = tmp_path / "runs" / "one"
    dictionary = make_dictionary("batchtopk")
    about = {
        "model": "lab/llama",
        "tokens": TOKENS,
        "store": str(tmp_path / "gone"),
        "text": ["lab/stories", "/a/b.jsonl"],
    }
    dictionary = dataclasses.replace(dictionary, metadata=dictionary.metadata | about | {"step": 7, "seed": 3})
    save_dictionary(path, dictionary)
    flags = TrainConfig(
        store=str(tmp_path / "stores/llama"), workdir=str(path), tokens=TOKENS, method=MethodConfig(128, "batchtopk", 8)
    )
    write_flag_file(path / "config.flags", flags, "train")
    return path


def card(run, tmp_path, **changes) -> str:
    flags = {"run": str(run), "format": "saelens", "push": "lab/sae", "dry_run": True, "output": str(tmp_path / "out")}
    return (export(ExportConfig(**flags | changes)) / "README.md").read_text()


def test_figures_stand_beside_their_baselines(run, tmp_path):
    evaluated(run)
    evaluated(run, "splice", says="Of /home/me/runs/seed1 it is the better.")
    evaluated(run, "latents", tokens=TOKENS // 2)  # of an earlier end of the run
    (run / "eval" / "probing.json").write_text('{"trained_tokens": 4096}')  # an older jaxsae's
    text = card(run, tmp_path)
    row = "| FVU | 0.1234 | 0.1111 to 0.1357 | mean 1.0000, pca k 0.6100 | of \\| what is left |"
    assert text.count(row) == 2 and f"| dead latents | 25.00% | {NONE} | {NONE} | {NONE} |" in text
    assert "On 668 held-out rows." in text and "*Not why.*" in text and "Of seed1 it is the better." in text
    assert text.index("## Reconstruction") < text.index("## Splice") < text.index("## Loading it")
    assert "Not shown: latents.json, probing.json, which are of other weights or of an older jaxsae." in text


def test_front_matter_is_hugging_faces(run, tmp_path):
    text = card(run, tmp_path, licence="cc-by-4.0")
    assert yaml.safe_load(text.split("---")[1]) == {
        "base_model": "lab/llama",
        "datasets": ["lab/stories"],
        "library_name": "saelens",
        "license": "cc-by-4.0",
        "tags": ["sparse-autoencoder", "batchtopk", "mechanistic-interpretability", "jaxsae"],
    }
    assert "Of these weights: cc-by-4.0." in text and "`lab/stories`, `b.jsonl`" in text
    assert "license" not in card(run, tmp_path, output=str(tmp_path / "two")).split("---")[1]


def test_the_command_names_what_is_no_default_and_no_place(run, tmp_path):
    text = card(run, tmp_path)
    command = text.split("```bash\n")[1].split("```")[0]
    flags = "--store=llama --workdir=one --tokens=4096 --width=128 --architecture=batchtopk --k=8"
    assert " ".join(command.replace("\\", " ").split()) == f"jaxsae train {flags}"
    assert str(tmp_path) not in text
    (run / "config.flags").unlink()
    assert "it was imported into jaxsae" in card(run, tmp_path, output=str(tmp_path / "two"))


def test_an_earlier_checkpoint_has_no_figures_of_the_last_one(run, make_dictionary, tmp_path, monkeypatch):
    evaluated(run)
    monkeypatch.setattr("jaxsae.exchange.exported.Exported.is_newest", False)
    text = card(run, tmp_path)
    assert "this is that of step 7" in text and "| FVU |" not in text


@pytest.mark.parametrize("file_format", ["saelens", "sparsify", "safetensors", "dictionary_learning"])
def test_the_loading_lines_run(file_format, package, make_dictionary, tmp_path):
    package({"saelens": "sae_lens"}.get(file_format, "torch" if file_format == "safetensors" else file_format))
    import torch

    save_dictionary(tmp_path / "run", make_dictionary("topk"))
    text = card(tmp_path / "run", tmp_path, format=file_format)
    lines = text.split("```python\n")[1].split("```")[0]
    fetch = 'from huggingface_hub import snapshot_download\npath = snapshot_download("lab/sae")\n'
    assert lines.startswith(fetch)
    found = {"path": str(tmp_path / "out"), "x": torch.ones(3, 48)}
    exec(lines.removeprefix(fetch), found)
    assert found["x_hat"].shape == (3, 48)


def test_a_set_goes_out_whole(make_dictionary, load_saelens, tmp_path):
    whole = tmp_path / "set"
    for layer in (0, 1):
        dictionary = make_dictionary("topk", seed=layer)
        metadata = dictionary.metadata | {"site": f"resid_post.{layer}"}
        save_dictionary(whole / f"resid_post.{layer}", dataclasses.replace(dictionary, metadata=metadata))
        evaluated(whole / f"resid_post.{layer}", says=f"That of layer {layer}.")
    (whole / SET_IMPORTED).write_text("{}")
    evaluated(whole, "splice", says="Together they cost more.")
    text = card(whole, tmp_path)
    assert "# Sparse autoencoders of 2 sites" in text and "Together they cost more." in text
    first = text.index("## resid_post.0\n\n### Reconstruction\n\nThat of layer 0.")
    assert first < text.index("## resid_post.1\n\n### Reconstruction\n\nThat of layer 1.")
    assert 'SAE.load_from_disk(f"{path}/resid_post.0")' in text
    sae = load_saelens(tmp_path / "out" / "resid_post.1")
    assert sae.cfg.metadata.hook_name == "blocks.1.hook_resid_post"


def test_a_set_of_transcoders_is_one_set_of_circuit_tracers(make_dictionary, tmp_path, circuit_tracer):
    from circuit_tracer.transcoder.single_layer_transcoder import load_relu_transcoder

    for layer in (0, 1):
        dictionary = make_dictionary("relu", seed=layer)
        sides = {"reads": [f"mlp_in.{layer}"], "writes": [f"mlp_out.{layer}"]}
        config = dataclasses.replace(dictionary.config, transcode=True)
        save_dictionary(
            tmp_path / "set" / f"mlp_out.{layer}", dataclasses.replace(dictionary, config=config, metadata=sides)
        )
    (tmp_path / "set" / SET_IMPORTED).write_text("{}")
    output = export(ExportConfig(str(tmp_path / "set"), "circuit_tracer", str(tmp_path / "out")))
    assert sorted(p.name for p in output.iterdir()) == ["config.yaml", "layer_0.safetensors", "layer_1.safetensors"]
    assert load_relu_transcoder(str(output / "layer_1.safetensors"), 1).d_transcoder == 128


def test_names_without_places():
    assert without_paths("See /a/b/c.json and ~/x/y, at https://hf.co/a/b; gs://bucket/runs/z.") == (
        "See c.json and y, at https://hf.co/a/b; z."
    )
    assert without_paths("a 1/2 of lab/name, and/or 3 / 4") == "a 1/2 of lab/name, and/or 3 / 4"
    assert flag_line("--lm=lab/llama") == "--lm=lab/llama" and flag_line("--lm=/m/llama") == "--lm=llama"
    assert (
        flag_line("--lm_text=/a/b.txt,lab/c") == "--lm_text=b.txt,lab/c" and flag_line("--store=runs/s/") == "--store=s"
    )
    assert [shown(v) for v in (3, 12345.0, 0.5, 2e-5, None)] == ["3", "12,345", "0.5000", "2e-05", NONE]
