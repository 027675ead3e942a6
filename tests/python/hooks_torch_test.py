"""Hooks of transformers' models against the same done by hand, and against the suite that splices."""

import numpy as np
import pytest
from python.hooked import IDS, block_output, changed_positions, logits, sae_of, with_block_output
from python.small import make_dictionary

import jaxsae
from jaxsae import hooks
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.text_model import open_text
from jaxsae.harvest import harvest
from jaxsae.training import save_dictionary

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_splice_ablate_and_steer_are_what_is_done_by_hand(model, architecture):
    model, sae = model(), sae_of(architecture=architecture)
    x = block_output(model)
    dense = np.asarray(sae.encode(x.numpy()).dense(sae.width))
    latents = [int(i) for i in np.argsort(-(dense != 0).sum((0, 1)))[:2]]
    f, rows = dense[..., latents], np.asarray(sae.params.W_dec)[latents]
    assert 0 < (f != 0).sum() < f.size
    every = {"special": ()}
    with hooks.splice(model, sae, **every):
        found = logits(model)
    np.testing.assert_allclose(found, with_block_output(model, sae.reconstruct(x)), atol=1e-5)
    with hooks.ablate(model, sae, latents, **every):
        found = logits(model)
    np.testing.assert_allclose(found, with_block_output(model, x - torch.tensor(f @ rows)), atol=1e-5)
    with hooks.steer(model, sae, {latents[0]: 3.0, latents[1]: -1.0}, **every):
        found = logits(model)
    np.testing.assert_allclose(found, with_block_output(model, x + torch.tensor(np.float32([3, -1]) @ rows)), atol=1e-5)
    with hooks.steer(model, sae, {latents[0]: 3.0, latents[1]: 0.5}, clamp=True, **every):
        found = logits(model)
    step = (np.float32([3, 0.5]) - f) @ rows
    np.testing.assert_allclose(found, with_block_output(model, x + torch.tensor(step)), atol=1e-5)
    with hooks.ablate(model, sae, latents, error=False, **every):
        found = logits(model)
    np.testing.assert_allclose(found, with_block_output(model, sae.reconstruct(x) - torch.tensor(f @ rows)), atol=1e-5)
    assert np.abs(found - logits(model)).max() > 0.01  # and none of it was nothing


@pytest.mark.parametrize("family", ["gpt2", "llama", "neox", "gemma2", "qwen3", "bert"])
def test_with_the_true_error_logits_stay_and_without_they_change(model, family):
    model, sae = model(family), sae_of("mlp_out.1")
    before = logits(model)
    with hooks.splice(model, sae, error=True):
        np.testing.assert_allclose(logits(model), before, atol=1e-5)
    with hooks.read(model, sae) as seen:
        logits(model)
    x = seen["mlp_out.1"]
    with hooks.splice(model, sae, error=x - sae.reconstruct(x)):  # of a pass in which nothing was replaced
        np.testing.assert_allclose(logits(model), before, atol=1e-5)
    with hooks.splice(model, sae):
        assert np.abs(logits(model) - before).max() > 1e-3
    np.testing.assert_array_equal(logits(model), before)


@pytest.mark.parametrize("transcodes", [False, True])
def test_splicing_costs_what_the_suite_says(model, make_model, configure, tmp_path, transcodes):
    sites = ("mlp_in.1", "mlp_out.1") if transcodes else ("resid_post.1",)
    store = harvest(configure(make_model("llama"), {"documents": "0:40"}, sites=sites))
    about = {"store": store.url, "source": "hf", "model": store.metadata(sites[0])["model"], "holdout_rows": 200}
    about |= {"reads": [sites[0]], "writes": [sites[1]]} if transcodes else {}
    sae = make_dictionary(d=16, transcode=transcodes, site="->".join(sites), **about)
    save_dictionary(run := tmp_path / "run", sae)
    config = EvaluateConfig(run=str(run), suite=("splice",), sequences_per_batch=4)
    expected = evaluate(config, quiet=True)["splice"]
    text, llama, sae = open_text(Context(config, sae)), model(), jaxsae.load(run)
    ce, spliced, count = 0.0, 0.0, 0
    for batch in text.batches():
        ce += summed_loss(llama, text, batch)
        with hooks.splice(llama, sae, positions=batch.kept):
            spliced += summed_loss(llama, text, batch)
        count += int(batch.asked.sum())
    assert count == expected["tokens"] and abs(expected["delta_ce"]) > 1e-3
    assert abs((spliced - ce) / count - expected["delta_ce"]) < 1e-4


def summed_loss(model, text, batch):
    with torch.no_grad():
        found = model(**text.lm.inputs(batch.tokens)).logits[torch.tensor(batch.asked)]
    wanted = torch.tensor(batch.targets[batch.asked]).long()
    return float(torch.nn.functional.cross_entropy(found, wanted, reduction="sum"))


def test_contexts_nest_outermost_first_and_leave_nothing_behind(model):
    model, sae, other = model(), sae_of(), sae_of(seed=1)
    before, x, every = logits(model), block_output(model), {"special": ()}
    with hooks.splice(model, sae, **every), hooks.steer(model, other, {3: 2.0}, **every):
        found = logits(model)
    row = torch.tensor(np.asarray(other.params.W_dec[3]))
    np.testing.assert_allclose(found, with_block_output(model, sae.reconstruct(x) + 2 * row), atol=1e-5)
    with hooks.steer(model, other, {3: 2.0}, **every), hooks.splice(model, sae, **every):
        found = logits(model)
    np.testing.assert_allclose(found, with_block_output(model, sae.reconstruct(x + 2 * row)), atol=1e-5)
    with pytest.raises(ZeroDivisionError), hooks.splice(model, sae), hooks.ablate(model, other, 3):
        raise ZeroDivisionError
    np.testing.assert_array_equal(logits(model), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_positions_are_masks_slices_numbers_or_follow_from_ids(model):
    model, sae = model(), sae_of()
    mask = np.random.default_rng(0).random(IDS.shape) < 0.5
    at = lambda **where: changed_positions(model, hooks.splice(model, sae, **where))
    np.testing.assert_array_equal(at(positions=mask), mask)
    np.testing.assert_array_equal(at(positions=torch.tensor(mask[0])), np.stack([mask[0]] * 2))
    np.testing.assert_array_equal(at(positions=slice(1, None)), np.stack([np.arange(7) > 0] * 2))
    np.testing.assert_array_equal(at(positions=[-1, 2]), np.stack([np.isin(np.arange(7), (2, 6))] * 2))
    np.testing.assert_array_equal(at(positions=lambda ids: ids % 2 == 0), IDS % 2 == 0)
    np.testing.assert_array_equal(at(special=[4, 15]), ~np.isin(IDS, (4, 15)))
    np.testing.assert_array_equal(at(special=()), np.ones_like(mask))
    model.config.eos_token_id = [5, 10]
    np.testing.assert_array_equal(at(), ~np.isin(IDS, (1, 5, 10)))
    np.testing.assert_array_equal(at(positions=mask), mask)
    assert not at(positions=np.zeros_like(mask)).any()


def test_generation_is_steered_token_by_token(model):
    model, sae = model(), sae_of()
    ids = torch.tensor(IDS)
    generate = lambda: model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0).numpy()
    plain = generate()
    with hooks.steer(model, sae, {3: 50.0}, special=()):
        found = generate()
        one_by_one = IDS
        for _ in range(4):
            one_by_one = np.concatenate([one_by_one, logits(model, one_by_one)[:, -1:].argmax(-1)], 1)
    np.testing.assert_array_equal(found, one_by_one)
    assert (found != plain).any()


def test_bfloat16_gradients_and_training_mode(model):
    model, sae = model().to(torch.bfloat16), sae_of()
    with hooks.splice(model, sae, error=True):
        np.testing.assert_allclose(logits(model), logits(model), atol=0)
    model = model.float().train()
    embedding = model.get_input_embeddings().weight.requires_grad_(True)
    with hooks.ablate(model, sae, [3], special=()):
        model(input_ids=torch.tensor(IDS)).logits.sum().backward()
    assert model.training and embedding.grad.abs().sum() > 0
