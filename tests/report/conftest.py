"""A run with made-up figures, as training and evaluation write one."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params

D, N, K = 128, 256, 8


def random_dictionary(**metadata) -> Dictionary:
    """Random directions; activations of the shipped model make some of them fire."""
    rows = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    params = Params.of(W_enc=rows, b_enc=np.zeros(N, np.float32), W_dec=rows, b_dec=np.zeros(D, np.float32))
    about = {"model": "shipped", "site": "resid_post.2", "tokenizer": "othello", "context": 59}
    return Dictionary(params, MethodConfig(width=N, k=K), about | metadata)


def metrics() -> list[dict]:
    lines = []
    for step in range(50, 2001, 50):
        fvu = 0.02 + 0.9 * np.exp(-step / 300)
        rate = 2e-4 * min(1, step / 200, (2001 - step) / 400)
        line = {"step": step, "tokens": step * 512, "loss": 1.1 * fvu, "fvu": fvu, "l0": 8 - 3 * np.exp(-step / 100)}
        line |= {"dead_fraction": 0.3 * np.exp(-step / 500), "learning_rate": rate, "tokens_per_second": 40_000.0}
        line |= {"dead_window": 51_234}
        line |= {"held_out_fvu": 0.8 * np.exp(-step / 700)} if step % 500 == 0 else {}
        lines.append(line)
    return lines


def reconstruction() -> dict:
    edges = np.linspace(-6, 0, 25)
    counts = np.round(40 * np.exp(-np.square(edges[:-1] + 2.2))).astype(int)
    histogram = {"log10_edges": edges.tolist(), "counts": counts.tolist(), "never": 17}
    baselines = {"mean": {"fvu": 1.0}, "pca_k": {"fvu": 0.3456, "components": 8}}
    shares = {"dead_fraction": 0.0664, "rare_fraction": 0.0789, "dense_fraction": 0.0123}
    figures = {"fvu": 0.1234, "explained_variance": 0.8766, "l0": 7.891, "gamma": 0.9876, "k": K} | shares
    return figures | {"rows": 65536, "held_out": True, "frequency_histogram": histogram, "baselines": baselines}


def splice() -> dict:
    top1 = {"original": 0.9912, "spliced": 0.9834, "zero": 0.1, "mean": 0.2}
    ce = {"ce": 2.0011, "ce_spliced": 2.0533, "ce_zero": 3.5011, "ce_mean": 3.1011, "floor": 1.9512}
    figures = {"delta_ce": 0.0522, "delta_ce_interval": [0.0501, 0.0543], "kl": 0.0317, "loss_recovered": 0.9652}
    return ce | figures | {"tokens": 38_500, "games": 700, "legal_top1": top1}


def othello(dictionary: Dictionary) -> dict:
    rng = np.random.default_rng(1)
    auroc = np.clip(rng.uniform(0.55, 1.05, 192), None, 0.999).tolist()
    for centre in (27, 28, 35, 36):
        auroc[centre] = None
    latent = [-1 if a is None else int(i) for a, i in zip(auroc, rng.integers(0, dictionary.width, 192), strict=True)]
    count = lambda total: {"empty": total - 20, "mine": 11, "theirs": 9, "total": total}
    rest = {"held_out_total": 77, "mean_best_auroc": 0.8123, "coverage": 0.4567, "board_f1": 0.3456}
    baselines = {name: {"above_0.9": count(30 + i)} | rest for i, name in enumerate(("raw", "pca", "linear_probe"))}
    found = {"targets": 188, "rows": 32_900, "games": 700, "above_0.9": count(98)} | rest
    return found | {"best_auroc": auroc, "best_latent": latent, "baselines": baselines | {"random_model": None}}


@pytest.fixture
def dictionary() -> Dictionary:
    return random_dictionary()


@pytest.fixture
def make_run(tmp_path: Path, dictionary: Dictionary, monkeypatch) -> Callable[..., Path]:
    """make_run(suites, name="run", dictionary=...) -> the directory of a run; its dictionary is loaded from memory."""

    def make(suites=("reconstruction", "splice", "othello"), name: str = "run", dictionary=dictionary) -> Path:
        path = tmp_path / name
        (path / "eval").mkdir(parents=True)
        flags = ["--store=runs/store", "--architecture=topk", f"--width={N}", f"--k={K}", "--seed=7"]
        (path / "config.flags").write_text("\n".join(["# jaxsae train --flagfile=config.flags", "", *flags]) + "\n")
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics()))
        summary = {
            "jaxsae": "0.1.0",
            "jax": "0.10.2",
            "devices": ["cpu"],
            "mesh": [1, 1],
            "seconds_of_this_process": 12.5,
        }
        (path / "run.json").write_text(json.dumps(summary))
        makers = {"reconstruction": reconstruction, "splice": splice, "othello": lambda: othello(dictionary)}
        for suite in suites:
            (path / "eval" / f"{suite}.json").write_text(json.dumps(makers[suite]()))
        frequency = np.linspace(0.001, 0.2, N)
        np.savez(path / "eval" / "frequencies.npz", frequency=frequency, mean_active=10 * frequency)
        monkeypatch.setattr("jaxsae.report.latents.load_dictionary", lambda run: dictionary)
        return path

    return make
