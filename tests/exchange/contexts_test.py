"""Contexts for auto-labellers: activations are those of the rows, silent windows are silent, and labels come back."""

import dataclasses
import json
import math

import numpy as np
import pytest
from synthetic_record import DEAD, SITE, WIDTH, world

from jaxsae.dashboard import labels
from jaxsae.exchange import contexts, examples


@pytest.fixture(scope="module")
def w():
    return world()


def lines_of(record, dictionary, folder):
    contexts.write(record, dictionary, folder, SITE)
    return [json.loads(line) for line in (folder / contexts.LINES).read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("contexts")


@pytest.fixture(scope="module")
def lines(w, folder):
    return lines_of(w.record, w.dictionary, folder)


def test_a_line_for_each_latent_that_fires(w, lines, folder):
    assert [line["latent"] for line in lines] == [i for i in range(WIDTH) if i not in DEAD]
    for line in lines:
        acts = w.rows[:, line["latent"]]
        assert line["site"] == SITE and line["rows"] == len(acts)
        assert line["frequency"] == pytest.approx((acts > 0).mean(), rel=1e-4)
        assert line["mean"] == pytest.approx(acts[acts > 0].mean(), rel=1e-4)
        assert line["most"] == pytest.approx(acts.max(), rel=1e-4)
    assert lines[0]["promoted"]["tokens"] == [" t3", " t4"] and len(lines[0]["promoted"]["logits"]) == 2
    about = json.loads((folder / contexts.ABOUT).read_text())
    assert about["width"] == WIDTH and about["latents"] == len(lines) and about["model"] == "gpt2"


def test_every_key_is_documented(lines):
    named = " ".join(contexts.KEYS)
    example, silent = lines[0]["examples"][0], lines[0]["inactive"][0]
    assert all(key in named for key in lines[0])
    assert all(key in named for key in example | silent)


def test_activations_raw_and_scaled(w, lines):
    for line in lines[::20]:
        most = float(w.record.most[line["latent"]])
        assert max(max(e["scaled"]) for e in line["examples"]) == 10
        for e in line["examples"]:
            first = e["position"] - e["at"]
            acts = w.z[e["sequence"], first : first + len(e["tokens"]), line["latent"]]
            np.testing.assert_allclose(e["activations"], np.nan_to_num(acts), rtol=1e-4)
            # normalize_activations of OpenAI's neuron_explainer, of one value
            bills = [min(10, math.floor(10 * max(0.0, x) / most)) for x in np.nan_to_num(acts).astype(float)]
            assert e["scaled"] == bills
            assert e.get("unknown", []) == np.flatnonzero(np.isnan(acts)).tolist()
    assert any("unknown" in e for line in lines for e in line["examples"])


def test_no_sequence_is_for_explaining_and_for_scoring(lines):
    for line in lines:
        uses = {use: {e["sequence"] for e in line["examples"] if e["use"] == use} for use in ("explain", "score")}
        assert not uses["explain"] & uses["score"] and uses["explain"]
        places = [(e["sequence"], e["position"]) for e in line["examples"]]
        assert len(set(places)) == len(places)
    top = [e["use"] for line in lines for e in line["examples"] if e["band"] == 0]
    assert 0.4 < np.mean([use == "explain" for use in top]) < 0.7


def test_silent_windows_are_silent(w, lines):
    counts = {"random": 0, "beside": 0}
    for line in lines:
        assert len(line["inactive"]) == len(line["examples"])
        places = [(e["sequence"], e["position"]) for e in line["inactive"]]
        assert len(set(places)) == len(places)
        near = {*w.record.nearest[lines.index(line)].tolist(), *w.record.together[""][0][lines.index(line)].tolist()}
        for e in line["inactive"]:
            window = w.z[e["sequence"], e["position"] : e["position"] + len(e["tokens"])]
            assert "49" not in e["tokens"]  # which has no word, and would give the window away
            assert (window[:, line["latent"]] == 0).all() and not any(e["activations"]) and len(e["tokens"]) == 8
            counts["random" if e["beside"] is None else "beside"] += 1
            if e["beside"] is not None:
                assert e["beside"] in near and (window[:, e["beside"]] > 0).any()
    assert 0.5 < counts["beside"] / counts["random"] <= 1


def test_neuronpedia_s_explainer_and_scorer_take_the_examples(lines, package):
    package("neuronpedia")
    from neuronpedia.types.autointerp.explain.default import NPExplainDefaultRequest
    from neuronpedia.types.autointerp.score.fuzz_detection import NPScoreFuzzDetectionRequest

    line, common = lines[0], {"openrouter_key": "", "model": "some/model", "secret": ""}
    given = lambda examples: [{"tokens": e["tokens"], "values": e["activations"]} for e in examples]
    explain = NPExplainDefaultRequest(activations=given(e for e in line["examples"] if e["use"] == "explain"), **common)
    assert explain.activations[0].tokens == line["examples"][0]["tokens"]
    score = given([*(e for e in line["examples"] if e["use"] == "score"), *line["inactive"]])
    request = NPScoreFuzzDetectionRequest(activations=score, explanation="days", type="detection", **common)
    assert max(request.activations[-1].values) == 0 < max(request.activations[0].values)


def test_a_latent_that_fires_in_every_window_has_no_silent_ones(w, tmp_path):
    everywhere = np.concatenate([np.arange(WIDTH)] * len(w.record.drawn)).astype(np.int32)
    start = np.arange(len(w.record.drawn) + 1) * WIDTH
    record = dataclasses.replace(w.record, drawn_fires=everywhere, drawn_start=start)
    assert all(line["inactive"] == [] for line in lines_of(record, w.dictionary, tmp_path))


def test_a_record_without_windows(w, lines, tmp_path):
    none = {f.name: f.default_factory() for f in dataclasses.fields(w.record) if f.name.startswith("drawn")}
    found = lines_of(dataclasses.replace(w.record, **none), w.dictionary, tmp_path)
    assert found == [line | {"inactive": []} for line in lines]


def test_the_same_record_gives_the_same_bytes(w, lines, folder, tmp_path):
    contexts.write(w.record, w.dictionary, tmp_path, SITE)
    for name in contexts.FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_scaled_by_hand():
    values = np.array([0, -1, 0.09, 0.1, 0.55, 0.999, 1, 2], np.float32)
    assert examples.scaled(values, 1.0) == [0, 0, 0, 1, 5, 9, 10, 10]
    assert examples.scaled(values, 0.0) == [0] * 8


def test_labels_come_back(lines, tmp_path):
    """What any labeller does: reads a line, adds a text, writes it."""
    path = tmp_path / "labels.jsonl"
    labelled = [line | {"text": f"fires on{line['examples'][0]['tokens'][0]}"} for line in lines[:20]] + lines[20:]
    path.write_text("".join(json.dumps(line) + "\n" for line in labelled))
    found = labels.read(path, {SITE: WIDTH})[SITE]
    assert len(found) == 20 and found[lines[0]["latent"]].startswith("fires on t")
