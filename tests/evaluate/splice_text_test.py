"""Splicing into Hugging Face models against plain forward passes with this test's own hooks."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate.splice_figures import interval
from jaxsae.exchange import ExportConfig, export
from jaxsae.harvest import harvest
from jaxsae.training import save_dictionary

D, CONTEXT, MASK = 16, 24, 3
SITE, OTHER = "resid_post.1", "mlp_out.2"
MODULES = {
    "llama": {SITE: "model.layers.1", OTHER: "model.layers.2.mlp"},
    "gpt2": {SITE: "transformer.h.1"},
    "bert": {SITE: "bert.encoder.layer.1"},
}


@pytest.fixture
def prepared(make_model, configure, make_dictionary):
    """prepared(family, sites, reading...) -> the store of a model's first 40 stories, and its dictionaries."""

    def prepare(family: str, sites=(SITE,), **reading):
        reading = {"documents": "0:40"} | reading
        store = harvest(configure(make_model(family), reading, sites=sites))
        made = [
            make_dictionary(seed=i, store=store.url, site=site, source="hf", model=store.metadata(site)["model"])
            for i, site in enumerate(sites)
        ]
        return store, made

    return prepare


@pytest.fixture
def splice(tmp_path):
    def run(dictionary, **flags):
        config = EvaluateConfig(run=str(tmp_path / "run"), suite=("splice",), sequences_per_batch=3, **flags)
        return evaluate(config, dictionary)["splice"]

    return run


def read_eval(tmp_path, name):
    return json.loads((tmp_path / "run" / "eval" / f"{name}.json").read_text())


def log_probabilities(model, family, sequence, replacements, kept):
    """float64 [T, V] of one sequence, with functions in place of some sites' activations."""
    import torch

    def hook(function):
        def replace(_, args, output):
            x = output[0] if isinstance(output, tuple) else output
            new = x.clone()
            new[0, kept] = torch.tensor(function(x[0, kept].detach().numpy()), dtype=x.dtype)
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return replace

    modules = {site: model.get_submodule(MODULES[family][site]) for site in replacements}
    handles = [modules[site].register_forward_hook(hook(function)) for site, function in replacements.items()]
    with torch.no_grad():
        logits = model(torch.tensor(np.asarray(sequence, np.int64)[None])).logits[0]
    for handle in handles:
        handle.remove()
    return logits.double().log_softmax(-1).numpy()


def expected(transformers, directory, family, batches, replacements):
    """Mean CE of the model and of its spliced self, KL and agreement, prediction by prediction."""
    auto = transformers.AutoModelForMaskedLM if family == "bert" else transformers.AutoModelForCausalLM
    model = auto.from_pretrained(directory).eval()
    ce, ce_spliced, kl, same = [], [], [], []
    for tokens, there, kept, asked, targets in batches:
        sequence, kept = tokens[there], kept[there]
        p = log_probabilities(model, family, sequence, {}, kept)
        q = log_probabilities(model, family, sequence, replacements, kept)
        for position in np.flatnonzero(asked):
            target = targets[position]
            ce.append(-p[position, target])
            ce_spliced.append(-q[position, target])
            kl.append((np.exp(p[position]) * (p[position] - q[position])).sum())
            same.append(p[position].argmax() == q[position].argmax())
    return len(ce), *(float(np.mean(x)) for x in (ce, ce_spliced, kl, same))


def causal(table):
    """Sequences of a table with what each position has to predict, found anew."""
    for number in range(table.batches):
        for tokens, there, kept in zip(*table.batch(number), strict=True):
            targets = np.append(tokens[1:], -1)
            yield tokens, there, kept, np.isin(targets, list(range(3, 40))), targets


@pytest.mark.parametrize(("family", "packing"), [("llama", True), ("gpt2", False)])
def test_every_figure(family, packing, prepared, splice, dense, transformers, make_model, configure):
    from jaxsae.harvest.hf import open_hf

    directory = make_model(family)
    store, (dictionary,) = prepared(family, packing=packing)
    found = splice(dictionary)
    table = open_hf(configure(directory, {"documents": "40:62", "packing": packing}, batch_size=3)).sequences
    mean = store.statistics(SITE).mean
    sequences = [(t, th, k, a & (np.append(t[1:], -1) > 0), y) for t, th, k, a, y in causal(table)]
    if family == "gpt2":  # its only special token is 0
        sequences = [(t, th, k, np.append(t[1:], -1) > 0, y) for t, th, k, _, y in sequences]
    stand_ins = {
        "spliced": lambda x: dense(dictionary, x).x_hat,
        "zero": np.zeros_like,
        "mean": lambda x: np.broadcast_to(mean, x.shape),
    }
    for name, function in stand_ins.items():
        count, ce, ce_spliced, kl, same = expected(transformers, directory, family, sequences, {SITE: function})
        assert found["tokens"] == count and found["ce"] == pytest.approx(ce, rel=1e-5)
        assert found[f"ce_{name}"] == pytest.approx(ce_spliced, rel=1e-4), name
        assert found["kl" if name == "spliced" else f"kl_{name}"] == pytest.approx(kl, rel=2e-3), name
        assert found["next_token_agreement"][name] == pytest.approx(same, abs=1.5 / count)
    assert found["delta_ce"] == pytest.approx(found["ce_spliced"] - found["ce"])
    low, high = found["delta_ce_interval"]
    assert low < found["delta_ce"] < high and found["kl"] > 0
    assert found["held_out"] and found["documents"] == "40:62" and found["sequences"] == len(table)


def test_masked_models_guess_masked_tokens(prepared, splice, make_dictionary, transformers, make_model):
    _, (dictionary,) = prepared("bert")
    found, again = splice(dictionary), splice(dictionary)
    assert found == again and found["objective"] == "masked tokens"
    assert splice(dictionary, seed=1)["ce"] != found["ce"]
    letters = 22 * 25  # about
    assert 0.1 * letters < found["tokens"] < 0.2 * letters and found["kl"] > 0
    from jaxsae.evaluate.config import EvaluateConfig
    from jaxsae.evaluate.context import Context
    from jaxsae.evaluate.text_model import open_text

    text = open_text(Context(EvaluateConfig(run="r", sequences_per_batch=3), dictionary))
    batches = []
    for batch in text.batches():
        assert (batch.tokens[batch.asked] == text.tokenizer.mask).all() and (batch.targets[batch.asked] > 3).all()
        there = batch.targets >= 0
        batches += list(zip(batch.tokens, there, batch.kept, batch.asked, batch.targets, strict=True))
    directory = make_model("bert")
    count, ce, ce_zero, kl, _ = expected(transformers, directory, "bert", batches, {SITE: np.zeros_like})
    assert found["tokens"] == count and found["ce"] == pytest.approx(ce, rel=1e-5)
    assert found["ce_zero"] == pytest.approx(ce_zero, rel=1e-4) and found["kl_zero"] == pytest.approx(kl, rel=1e-3)


def test_several_sites(prepared, splice, dense, transformers, make_model, tmp_path, configure):
    from jaxsae.harvest.hf import open_hf

    _, (first, second) = prepared("llama", (SITE, OTHER))
    save_dictionary(tmp_path / "other", second)
    alone = splice(first)
    found = splice(first, splice_with=(str(tmp_path / "other"),))
    assert read_eval(tmp_path, "splice") == alone and read_eval(tmp_path, f"splice_with_{OTHER}") == found
    table = open_hf(configure(make_model("llama"), {"documents": "40:62"}, batch_size=3)).sequences
    replacements = {SITE: lambda x: dense(first, x).x_hat, OTHER: lambda x: dense(second, x).x_hat}
    figures = expected(transformers, make_model("llama"), "llama", list(causal(table)), replacements)
    assert found["ce_spliced"] == pytest.approx(figures[2], rel=1e-4) and found["kl"] == pytest.approx(
        figures[3], rel=2e-3
    )
    assert found["sites"] == [SITE, OTHER] and found["each"][SITE]["delta_ce"] == pytest.approx(alone["delta_ce"])
    assert found["kl"] != pytest.approx(alone["kl"], rel=1e-3) and found["each"].keys() == {SITE, OTHER}
    with pytest.raises(InputError, match="has a dictionary already"):
        splice(second, splice_with=(str(tmp_path / "other"),))


def test_an_exact_dictionary_costs_nothing(prepared, splice):
    _, (dictionary,) = prepared("llama")
    identity = np.concatenate([np.eye(D), -np.eye(D)]).astype(np.float32)
    from jaxsae.dictionary import Dictionary, MethodConfig, Params

    params = Params.of(identity, np.zeros(2 * D, np.float32), identity, np.zeros(D, np.float32))
    found = splice(Dictionary(params, MethodConfig(width=2 * D, architecture="relu"), dictionary.metadata))
    assert found["delta_ce"] == pytest.approx(0, abs=1e-6) and found["kl"] == pytest.approx(0, abs=1e-6)
    assert found["next_token_agreement"]["spliced"] == 1 and found["loss_recovered"] in (
        None,
        pytest.approx(1, abs=1e-4),
    )


def test_saelens_and_transformers_alone_agree(prepared, splice, make_model, stories, tmp_path):
    pytest.importorskip("sae_lens")
    sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))
    from saelens_delta_ce import delta_ce

    _, (dictionary,) = prepared("llama")
    found = splice(dictionary)
    save_dictionary(tmp_path / "saved", dictionary)
    export(ExportConfig(run=str(tmp_path / "saved"), format="saelens", output=str(tmp_path / "export")))
    assert json.loads((tmp_path / "export" / "cfg.json").read_text())["metadata"]["context_size"] is None
    ce, extra = delta_ce(make_model("llama"), str(tmp_path / "export"), [s for s in stories[40:] if s], 1, CONTEXT)
    assert found["ce"] == pytest.approx(ce, abs=1e-4) and found["delta_ce"] == pytest.approx(extra, abs=1e-3)


def test_what_is_read(prepared, splice, make_model, text, tmp_path):
    store, (dictionary,) = prepared("llama")
    assert splice(dictionary, documents="-5:")["documents"] == "57:62"
    assert not splice(dictionary, documents="30:50")["held_out"]
    other = tmp_path / "other.txt"
    other.write_text("an apple a day keeps the doctor away. " * 5)
    assert splice(dictionary, text=(str(other),))["held_out"]
    assert splice(dictionary, text_tokens=30)["tokens"] < 60
    gone = tmp_path / "moved.jsonl"
    shutil.copy(text, gone)  # the text that was harvested, in another place
    found = splice(dictionary, text=(str(gone),), text_tokens=30)
    assert found["documents"].startswith("40:") and found["held_out"]
    with pytest.raises(InputError, match="--suite=othello: is for dictionaries of the Othello GPT.*Leave it out"):
        evaluate(EvaluateConfig(run=str(tmp_path / "run"), suite=("reconstruction", "othello")), dictionary)
    moved = dataclasses.replace(dictionary, metadata={"site": SITE})  # an import that knows little
    assert splice(moved, store=store.url)["ce"] == splice(dictionary)["ce"]
    with pytest.raises(InputError, match="weights have changed|such directory|width"):
        splice(dictionary, model=str(tmp_path / "none"))
    with pytest.raises(InputError, match="not token ids"):
        splice(dictionary, text=("ids.npy",))


def test_nothing_held_out(prepared, splice):
    _, (dictionary,) = prepared("llama", documents="")
    with pytest.raises(InputError, match="all documents of .* were harvested.*--text"):
        splice(dictionary)


def test_interval_of_sequences_of_different_length():
    rng = np.random.default_rng(0)
    counts = rng.integers(5, 50, 4000)
    sums = counts * 0.3 + rng.normal(size=4000) * np.sqrt(counts)
    low, high = interval(sums, counts)
    assert low < 0.3 < high and high - low == pytest.approx(2 * 1.96 / np.sqrt(counts.sum()), rel=0.05)
    assert interval(sums[:1], counts[:1]) is None
