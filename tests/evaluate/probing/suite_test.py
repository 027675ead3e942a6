"""The suite on games and on text: labels that stand in an activation are found, and all else that it says is there."""

import json

import numpy as np
import pytest

from jaxsae import cli
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate.config import EvaluateConfig as Config
from jaxsae.evaluate.context import Context, load_dictionary
from jaxsae.evaluate.probing import suite
from jaxsae.evaluate.probing_config import ProbingConfig
from jaxsae.lm import othello

SITE = "resid_post.0"
SMALL = dict(probing_k=(1, 4), probing_contexts=60, probing_rows=240)


@pytest.fixture
def probe_games(tmp_path, make_dictionary, model_path):
    def run(architecture="topk", **flags):
        dictionary = make_dictionary(architecture, model=model_path, site=SITE, source="othello")
        config = EvaluateConfig(
            run=str(tmp_path),
            suite=("probing",),
            games=4,
            games_per_batch=16,
            batch_size=512,
            probing=ProbingConfig(**SMALL | flags),
        )
        return evaluate(config, dictionary)["probing"]

    return run


def test_games_label_themselves(tmp_path, capsys, probe_games):
    found = probe_games(probing_tasks=("empty:B2", "column:D", "taken:A1"), probing_pool=("mean", "last"))
    assert [(one["set"], one["pool"]) for one in found["sets"]] == [
        ("positions", "token"),
        ("games", "mean"),
        ("games", "last"),
    ]
    positions = found["sets"][0]
    assert positions["contexts"] == {"fit": 42, "test": 18} and sum(positions["rows"].values()) == 240
    assert [task["task"] for task in positions["tasks"]] == ["empty:B2", "column:D"]
    task = positions["tasks"][0]
    assert len(task["chose"]["latents_4"]["chosen"]) == 4 and 0 < task["share"]["test"] < 1
    for name in (
        "latents_1",
        "random_dictionary_4",
        "coordinates_1",
        "pca_4",
        "pca_all",
        "raw",
        "reconstruction",
        "knn",
    ):
        for metric in ("auroc", "accuracy", "f1"):
            value, (low, high) = task["probes"][name][metric]["value"], task["probes"][name][metric]["interval"]
            assert 0 <= low <= high <= 1 and low - 1e-6 <= value <= high + 1e-6
    mean = np.mean([t["probes"]["raw"]["auroc"]["value"] for one in found["sets"][:2] for t in one["tasks"]])
    assert found["mean"]["probes"]["raw"]["auroc"]["value"] == pytest.approx(mean) and found["mean"]["tasks"] == 3
    assert "On average over 3 tasks a single latent" in found["summary"]["says"]
    assert json.loads((tmp_path / "eval" / "probing.json").read_text()) == found
    assert "latents less" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_figures(probe_games):
    first, again = (probe_games(probing_tasks=("empty:B2",)) for _ in range(2))
    assert first == again


def test_games_from_a_file(tmp_path, probe_games):
    games = othello.full_games(40, np.random.default_rng(0))
    rows = []
    for moves in games.moves:
        names = [f"{'ABCDEFGH'[s % 8]}{s // 8 + 1}" for s in othello.TOKEN_TO_SQUARE[moves[:30]]]
        rows.append({"moves": names, "label": "early" if "A1" in names or "H8" in names or "A8" in names else "late"})
    path = tmp_path / "corners.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = probe_games(probing_labels=(str(path),), probing_pool=("max",))["sets"]
    assert [(one["set"], one["pool"], [t["task"] for t in one["tasks"]]) for one in found] == [
        ("corners", "max", ["late"])
    ]
    by_move = [{"moves": row["moves"], "labels": [name[0] in "AB" for name in row["moves"]]} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in by_move))
    found = probe_games(probing_labels=(str(path),))["sets"]
    assert found[0]["pool"] == "token" and [t["task"] for t in found[0]["tasks"]] == ["true"]
    path.write_text("".join(json.dumps(row | {"moves": row["moves"][:3]}) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"corners: line 1: the game ends before move 5"):
        probe_games(probing_labels=(str(path),))


@pytest.fixture
def text_run(make_set):
    return make_set(sites=(SITE,)) / SITE


def test_text_with_labels_of_contexts_and_of_tokens(tmp_path, text_run):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefgh "), 12)) for _ in range(60)]
    whole, spans = tmp_path / "whole.jsonl", tmp_path / "spans.jsonl"
    whole.write_text("".join(json.dumps({"text": t, "label": t.count("a") > 1}) + "\n" for t in texts))
    rows = [{"text": t, "spans": [[i, i + 1, "vowel"] for i, c in enumerate(t) if c in "ae"]} for t in texts]
    spans.write_text("".join(json.dumps(row) + "\n" for row in rows))
    probing = ProbingConfig(probing_labels=(str(whole), str(spans)), **SMALL)
    config = EvaluateConfig(run=str(text_run), suite=("probing",), text_tokens=200, probing=probing)
    found = evaluate(config)["probing"]["sets"]
    assert [(one["set"], one["pool"]) for one in found] == [("whole", "mean"), ("whole", "max"), ("spans", "token")]
    vowels = found[2]["tasks"][0]
    expected = sum(c in "ae" for t in texts for c in t) / sum(map(len, texts))
    assert vowels["task"] == "vowel" and vowels["share"]["fit"] == pytest.approx(expected, abs=0.1)
    # A token's own letter stands in its residual: logistic regression on all of it must tell it.
    assert vowels["probes"]["raw"]["auroc"]["value"] > 0.9


def test_a_transcoder_is_probed_by_what_it_reads(tmp_path, make_set):
    run = make_set(reads=("mlp_in.*",), writes=("mlp_out.*",)) / "mlp_out.1"
    path = tmp_path / "first.jsonl"
    path.write_text("".join(json.dumps({"text": f"{c}ab cd {c}", "label": c}) + "\n" for c in "ef" * 12))
    probing = ProbingConfig(probing_labels=(str(path),), probing_pool=("mean",), **SMALL)
    found = evaluate(EvaluateConfig(run=str(run), suite=("probing",), text_tokens=100, probing=probing))["probing"]
    (one,) = found["sets"]
    assert one["tasks"][0]["probes"]["raw"]["auroc"]["value"] == 1 and "reconstruction" not in one["tasks"][0]["probes"]
    assert one["repeated"] == one["contexts"]["test"] == 8  # all texts of a class are the same


def test_what_is_refused_before_anything_is_read(tmp_path, text_run, make_dictionary, monkeypatch, capsys):
    monkeypatch.setattr(suite, "open_subject", lambda *_: pytest.fail("opened"))
    with pytest.raises(InputError, match=r"has no labels of itself: give a JSONL file with --probing_labels"):
        evaluate(EvaluateConfig(run=str(text_run), suite=("probing",)))
    path = tmp_path / "one.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n' * 12)
    assert cli.run(["evaluate", f"--run={text_run}", "--suite=probing", f"--probing_labels={path}"]) == 2
    assert "all have the label 'x'" in capsys.readouterr().err
    dictionary = make_dictionary(site=SITE, source="othello", model="shipped")
    context = Context(Config(run=str(tmp_path), probing=ProbingConfig(probing_tasks=("mine:Z1",))), dictionary)
    with pytest.raises(InputError, match=r"--probing_tasks=mine:Z1"):
        suite.check(context)
    wide = Context(EvaluateConfig(run="run", probing=ProbingConfig(probing_k=(1, 4096))), dictionary)
    with pytest.raises(InputError, match=r"--probing_k=4096: run has \d+ latents"):
        suite.check(wide)
    assert load_dictionary(str(text_run)).metadata["source"] == "hf"


def test_a_task_that_never_holds_is_refused(probe_games):
    with pytest.raises(InputError, match=r"positions, flipped:18: none of the \d+ rows that fit are of that class"):
        probe_games(probing_tasks=("flipped:18",))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"probing_k": (0, 2)}, "--probing_k=0,2: give whole numbers"),
        ({"probing_pool": ("median",)}, "--probing_pool=median: give one or more of mean"),
        ({"probing_test": 1.0}, "--probing_test=1.0: must be between"),
    ],
)
def test_flags(flags, says):
    with pytest.raises(InputError, match=says):
        ProbingConfig(**flags)
