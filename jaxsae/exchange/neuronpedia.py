"""Neuronpedia: files of 128 latents each, `batch-0.json` and on, as sae-dashboard 0.8.0 writes and reads them.

What its `NeuronpediaRunner` computes and its `NeuronpediaDashboardBatch` reads is filled from a record of what latents fire
on, and from the decoder. It scales decoder rows to length 1 first (`fold_W_dec_norm`), so activations here are a latent's
times the length of its row. Left empty, as its classes allow, is what neither knows: neurons and latents by the correlation
of activations (a record has that of firing), the logits of the whole vocabulary, and what it fills for other things than
dictionaries (`vector`) or for heads of attention (`decoder_weights_dist`).
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.dashboard.record import TOP, Record
from jaxsae.dashboard.words import SIGNS
from jaxsae.dictionary import Dictionary
from jaxsae.exchange import examples, provenance
from jaxsae.exchange.files import read_json
from jaxsae.files import write_json, write_text
from jaxsae.progress import Progress, say

BATCH = 128  # its runner's n_features_at_a_time, and the most that the neuronpedia package uploads at once
MOST_BATCHES = 10_000
_BLOCK = 4096  # decoder rows that are read at once
_AS_IS = str.maketrans(
    {sign: character for character, sign in SIGNS.items()}
)  # ends of lines and tabs, not signs for them
ALIGNED = 3  # its rows of each table of neurons
SETTINGS, SKIPPED, EXPLANATIONS = "run_settings.json", "skipped_indexes.json", "explanations.jsonl"
FILES = frozenset({SETTINGS, SKIPPED, EXPLANATIONS, *(f"batch-{i}.json" for i in range(MOST_BATCHES))})


def write(
    record: Record, dictionary: Dictionary, output: Path, name: str, labels: Mapping[int, str] | None = None
) -> None:
    """Writes the files into the directory `output`.

    Args:
      name: of the set of dictionaries there (`sae_set`). labels: {latent: text}, written as explanations.
    """
    words = {token: word.translate(_AS_IS) for token, word in record.words.items()}
    record, metadata, shown = dataclasses.replace(record, words=words), dictionary.metadata, record.shown
    about = {
        "model_id": examples.model_name(metadata),
        "layer": provenance.layer(provenance.written(metadata)),
        "sae_set": name,
    }
    prompts = {
        "n_prompts_total": int(record.about.get("sequences") or 0),
        "n_tokens_in_prompt": provenance.context_size(metadata) or 0,
    }
    with Progress(len(shown), "batches", " latents") as progress:
        for batch, first in enumerate(range(0, len(shown), BATCH)):
            rows = range(first, min(first + BATCH, len(shown)))
            aligned = _alignment(dictionary, shown[rows.start : rows.stop])
            features = [_feature(record, i, prompts) | aligned[i - first] for i in rows]
            whole = about | {"sae_id_suffix": None, "features": features}
            write_text(output / f"batch-{batch}.json", json.dumps(whole, allow_nan=False))
            progress.advance(len(rows))
    write_json(output / SETTINGS, _settings(record, about | prompts))
    _write_skipped(record, about, output)
    if labels:
        _write_explanations(about, labels, output)


def _feature(record: Record, i: int, prompts: Mapping[str, int]) -> dict[str, Any]:
    """A `NeuronpediaDashboardFeature` of latent shown[i], but for what its decoder row says."""
    latent = int(record.shown[i])
    norm = float(record.norm[latent]) or 1.0
    most, counts = norm * float(record.most[latent]), record.histogram[i]
    bins = len(counts) if counts.any() else 0  # it has no bars where nothing fires
    (pos, pos_values), (neg, neg_values) = examples.promoted(record, i), examples.suppressed(record, i)
    return {
        "feature_index": latent,
        "neg_str": neg,
        "neg_values": neg_values,
        "pos_str": pos,
        "pos_values": pos_values,
        "frac_nonzero": examples.rounded(record.frequency[latent]),
        "freq_hist_data_bar_values": examples.rounded(most * (np.arange(bins) + 0.5) / max(bins, 1)),
        "freq_hist_data_bar_heights": counts[:bins].tolist(),
        **prompts,
        "dataset": str(record.about.get("dataset") or ""),
        "activations": _activations(record, i, norm, most),
    }


def _activations(record: Record, i: int, norm: float, most: float) -> list[dict[str, Any]]:
    """The strongest contexts, then those of each part of 0 to `most`, the highest first."""
    bands = int(record.about.get("bands") or 0)
    shares = _shares(record, i, bands)
    edges = examples.rounded(most * np.arange(bands + 1) / max(bands, 1))
    bins = [{"bin_min": -1.0, "bin_max": examples.rounded(most), "bin_contains": -1.0}]  # of the strongest contexts
    bins += [
        {"bin_min": low, "bin_max": high, "bin_contains": share}
        for low, high, share in zip(edges[:-1], edges[1:], examples.rounded(shares), strict=True)
    ]
    found = examples.of_latent(record, i, norm)
    top = [example for example in found if example.band == TOP]
    rest = sorted((example for example in found if example.band != TOP), key=lambda example: -example.band)
    return [
        bins[example.band] | {"tokens": example.tokens, "values": example.values, "qualifying_token_index": example.at}
        for example in top + rest
    ]


def _shares(record: Record, i: int, bands: int) -> np.ndarray:
    """[bands], share of all rows in each part of 0 to the largest; the lowest has those where the latent is silent too.

    A bin of the histogram that lies in two parts is shared by length.
    """
    counts, latent = record.histogram[i], record.shown[i]
    edges = np.linspace(0, len(counts), bands + 1)
    below = np.interp(edges, np.arange(len(counts) + 1), np.concatenate([[0], np.cumsum(counts)]))
    frequency = float(record.frequency[latent])
    shares = np.diff(below) / max(counts.sum(), 1) * frequency
    shares[:1] += 1 - frequency
    return shares


def _alignment(dictionary: Dictionary, latents: np.ndarray) -> list[dict[str, Any]]:
    """The largest entries of each decoder row of length 1, and their share of the sum of all, without signs.

    Nothing of a dictionary that writes several sites: there the entries are of no one layer.
    """
    if dictionary.config.site_widths or dictionary.config.layers > 1:
        return [{}] * len(latents)
    rows = _rows(dictionary, latents)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(length > 0, length, 1)
    top = np.argsort(-rows, axis=1, kind="stable")[:, :ALIGNED]
    values = np.take_along_axis(rows, top, 1)
    total = np.abs(rows).sum(1, keepdims=True)
    shares = np.abs(values) / np.where(total > 0, total, 1)
    return [
        {
            "neuron_alignment_indices": index.tolist(),
            "neuron_alignment_values": examples.rounded(value),
            "neuron_alignment_l1": examples.rounded(share),
        }
        for index, value, share in zip(top, values, shares, strict=True)
    ]


def _rows(dictionary: Dictionary, latents: np.ndarray) -> np.ndarray:
    """Decoder rows, float64 [m, d]; by blocks, since those of a run are read out of its checkpoint."""
    W_dec, found = dictionary.params.W_dec, []
    for first in np.unique(latents // _BLOCK) * _BLOCK:
        own = latents[(latents >= first) & (latents < first + _BLOCK)]
        found.append(np.asarray(W_dec[int(first) : min(int(first) + _BLOCK, dictionary.width)])[own - first])
    return np.concatenate(found).astype(np.float64)


def _settings(record: Record, known: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of its `NeuronpediaRunnerConfig` that say something of how these files were made."""
    bands = int(record.about.get("bands") or 0)
    per_latent = [np.bincount(record.band[record.contexts(i)], minlength=bands + 1) for i in range(len(record.shown))]
    groups = np.max(per_latent, axis=0)
    return {
        **known,
        "np_set_name": known["sae_set"],
        "sae_path": "",
        "outputs_dir": "",
        "huggingface_dataset_path": str(record.about.get("dataset") or ""),
        "n_features_at_a_time": BATCH,
        "n_quantiles": bands,
        "top_acts_group_size": int(groups[TOP]),
        "quantile_group_size": int(groups[1:].max(initial=0)),
    }


def _write_skipped(record: Record, about: Mapping[str, Any], output: Path) -> None:
    """Names the latents without a page because they never fired; others without one are told of, and named nowhere."""
    silent = np.flatnonzero(record.frequency == 0)
    skipped = np.setdiff1d(silent, record.shown)
    rows = int(record.about.get("rows") or 0)
    write_json(
        output / SKIPPED,
        about
        | {
            "layer": str(about["layer"]),
            "log_sparsity": -examples.rounded(np.log10(max(rows, 1))),
            "skipped_indexes": skipped.tolist(),
        },
    )
    left = record.width - len(record.shown) - len(skipped)
    if left:
        say(f"{left:,} latents that fire are not shown in the record, and so not here.")


def _write_explanations(about: Mapping[str, Any], labels: Mapping[int, str], output: Path) -> None:
    """Lines that `Explanation.from_np_db_json` of the package neuronpedia (1.2.1) reads."""
    source = {"modelId": about["model_id"], "source": f"{about['layer']}-{about['sae_set']}"}
    lines = [json.dumps(source | {"index": latent, "description": text}) for latent, text in sorted(labels.items())]
    write_text(output / EXPLANATIONS, "\n".join(lines) + "\n")


def snippet(output: Path) -> str:
    """Python that loads the export."""
    return (
        "import json\n"
        "from sae_dashboard.neuronpedia.neuronpedia_dashboard import NeuronpediaDashboardBatch\n"
        f"batch = NeuronpediaDashboardBatch(**json.load(open({json.dumps(str(output / 'batch-0.json'))})))"
    )


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format."""
    return (path / SETTINGS).is_file() and (path / SKIPPED).is_file()


def facts(path: Path) -> dict[str, object]:
    """What is in a folder, by name."""
    settings = read_json(path / SETTINGS)
    batches = len(list(path.glob("batch-*.json")))
    return {"batches": batches} | {name: settings.get(name) for name in ("model_id", "layer", "sae_set")}
