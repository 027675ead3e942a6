"""Neuronpedia's files: sae-dashboard's own classes read them, and their numbers are those that it would compute."""

import json

import numpy as np
import pytest
from synthetic_record import BANDS, BINS, DEAD, SEQUENCES, WIDTH, world

from jaxsae.exchange import neuronpedia

CLOSE = 1e-4  # numbers are written to five digits


@pytest.fixture(scope="module")
def w():
    return world()


@pytest.fixture(scope="module")
def folder(w, tmp_path_factory):
    path = tmp_path_factory.mktemp("neuronpedia")
    neuronpedia.write(w.record, w.dictionary, path, "mine", {7: "dates", 3: "days"})
    return path


@pytest.fixture(scope="module")
def features(folder):
    batches = [json.loads((folder / f"batch-{i}.json").read_text()) for i in range(3)]
    return {feature["feature_index"]: feature for batch in batches for feature in batch["features"]}


def test_sae_dashboard_reads_every_batch(w, folder, package):
    package("sae_dashboard")
    from sae_dashboard.neuronpedia.neuronpedia_dashboard import NeuronpediaDashboardBatch

    seen = []
    for i in range(3):
        content = json.loads((folder / f"batch-{i}.json").read_text())
        batch = NeuronpediaDashboardBatch(**content)
        assert (batch.model_id, batch.layer, batch.sae_set, batch.sae_id_suffix) == ("gpt2", 3, "mine", None)
        back = batch.to_dict()
        for feature, again in zip(content["features"], back["features"], strict=True):
            assert feature == {name: again[name] for name in feature}
            assert {name for name in again if name not in feature} == {
                *("correlated_neurons_indices", "correlated_neurons_l1", "correlated_neurons_pearson"),
                *("correlated_features_indices", "correlated_features_l1", "correlated_features_pearson"),
                *("logits_hist_data_bar_heights", "logits_hist_data_bar_values", "decoder_weights_dist", "vector"),
            }
            assert batch.features[0] == batch.features[0]  # its own comparison, which looks at types
        seen += [feature.feature_index for feature in batch.features]
    assert seen == w.record.shown.tolist() and len(seen) == WIDTH - len(DEAD)
    assert not (folder / "batch-3.json").exists()


def test_sae_dashboard_reads_the_settings(folder, package):
    package("sae_dashboard")
    from sae_dashboard.neuronpedia.neuronpedia_runner_config import NeuronpediaRunnerConfig

    config = NeuronpediaRunnerConfig(**json.loads((folder / "run_settings.json").read_text()))
    assert (config.n_prompts_total, config.n_features_at_a_time, config.n_quantiles) == (SEQUENCES, 128, BANDS)
    assert (config.top_acts_group_size, config.quantile_group_size) == (4, 2)


def test_neuronpedia_reads_the_explanations(folder, package):
    package("neuronpedia")
    from neuronpedia.np_explanation import Explanation

    found = [
        Explanation.from_np_db_json(json.loads(line))
        for line in (folder / "explanations.jsonl").read_text().splitlines()
    ]
    assert [(e.modelId, e.source, e.index, e.text) for e in found] == [
        ("gpt2", "3-mine", 3, "days"),
        ("gpt2", "3-mine", 7, "dates"),
    ]


def test_numbers_are_those_of_the_rows(w, features):
    """By sae-dashboard's formulas, over all rows, of latents times the length of their decoder rows."""
    for latent in (0, 100, 299):
        feature, acts = features[latent], w.rows[:, latent] * w.record.norm[latent]
        most, firing = acts.max(), acts[acts > 0]
        assert feature["frac_nonzero"] == pytest.approx((acts > 0).mean(), rel=CLOSE)
        centres = (np.arange(BINS) + 0.5) * most / BINS
        np.testing.assert_allclose(feature["freq_hist_data_bar_values"], centres, rtol=CLOSE)
        assert feature["freq_hist_data_bar_heights"] == np.histogram(firing, BINS, (0, most))[0].tolist()
        for activation in feature["activations"]:
            if activation["bin_min"] == -1:
                assert activation["bin_contains"] == -1 and activation["bin_max"] == pytest.approx(most, rel=CLOSE)
                continue
            low, high = activation["bin_min"], activation["bin_max"]
            assert high - low == pytest.approx(most / BANDS, rel=1e-3)
            inside = (acts >= low * (1 - CLOSE)) & (acts <= high * (1 + CLOSE))
            assert activation["bin_contains"] == pytest.approx(inside.mean(), rel=CLOSE)


def test_contexts_are_the_rows_of_their_sequences(w, features):
    feature = features[100]
    bands = [activation["bin_min"] for activation in feature["activations"]]
    assert bands[0] == -1 and bands[4:] == sorted(bands[4:], reverse=True) and len(set(bands)) > 2
    for p, activation in zip(_in_their_order(w.record, 100), feature["activations"], strict=True):
        record, at = w.record, activation["qualifying_token_index"]
        first = record.position[p] - at
        there = slice(first, first + len(activation["tokens"]))
        sequence = record.sequence[p]
        expected = np.nan_to_num(w.z[sequence, there, 100]) * record.norm[100]
        np.testing.assert_allclose(activation["values"], expected, rtol=CLOSE)
        tokens = w.tokens[sequence, there]
        assert activation["tokens"] == [f" t{t}" if t < 49 else "49" for t in tokens]
        assert activation["values"][at] > 0


def _in_their_order(record, latent):
    """Places in the record: the strongest, then from the highest band down."""
    i = record.shown.tolist().index(latent)
    own = list(record.contexts(i))
    return [p for band in (0, *range(BANDS, 0, -1)) for p in own if record.band[p] == band]


def test_rows_of_the_decoder_and_the_lens(w, features):
    row = np.asarray(w.dictionary.params.W_dec[100], np.float64)
    row /= np.linalg.norm(row)
    top = np.argsort(-row)[:3]
    feature = features[100]
    assert feature["neuron_alignment_indices"] == top.tolist()
    np.testing.assert_allclose(feature["neuron_alignment_values"], row[top], rtol=CLOSE)
    np.testing.assert_allclose(feature["neuron_alignment_l1"], abs(row[top]) / abs(row).sum(), rtol=CLOSE)
    assert feature["pos_str"] == [" t3", " t4"] and feature["neg_str"] == [" t7", " t8", " t9"]
    assert feature["pos_values"][0] > feature["pos_values"][1] and feature["neg_values"][0] < feature["neg_values"][1]


def test_decoder_rows_come_in_blocks(w, monkeypatch):
    monkeypatch.setattr(neuronpedia, "_BLOCK", 7)
    latents = np.array([0, 6, 7, 100, 299])
    expected = np.asarray(w.dictionary.params.W_dec)[latents]
    np.testing.assert_array_equal(neuronpedia._rows(w.dictionary, latents), expected)


def test_latents_that_never_fire_are_skipped(folder, w):
    skipped = json.loads((folder / "skipped_indexes.json").read_text())
    assert skipped["skipped_indexes"] == list(DEAD) and skipped["layer"] == "3"
    assert 10 ** -skipped["log_sparsity"] == pytest.approx(len(w.rows), rel=1e-3)
