"""Runs through a model: bits of a plain step at weight 0, resume, held-out rows, batches as a function of the step."""

import dataclasses
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from training.end_to_end.conftest import BATCH

from jaxsae import cli
from jaxsae.config import to_flag_lines
from jaxsae.faults.children import Children
from jaxsae.store import open_store
from jaxsae.training import setup as setups
from jaxsae.training import train
from jaxsae.training.checkpoint import read_metadata
from jaxsae.training.end_to_end.texts import GameBatches
from jaxsae.training.program import Program


@pytest.mark.parametrize("architecture", ["topk", "relu"])
def test_at_weight_0_a_step_is_a_plain_one(architecture, end_to_end):
    """But for how the compiler rounds a larger program: bit by bit as users' programs are compiled, not without LLVM's
    passes."""
    setup = setups.Setup.of(end_to_end(architecture=architecture))
    through = dataclasses.replace(setup.through, effect=dataclasses.replace(setup.through.effect, kl=0.0))
    text = through.batches.batch(0)
    x = rows_in_a_pass(setup, text)
    state = setup.fresh_state()
    programs = [Program(setup.config, setup.widths, setup.mesh, np.float32, model) for model in (None, through)]
    copies = [jax.tree.map(lambda a: a.copy(), state) for _ in programs]
    plain = programs[0].lower().compile()(copies[0], jax.device_put(x, setup.row_sharding), programs[0].pace)
    model = programs[1].lower().compile()
    found = model(copies[1], text.put(setup.mesh), programs[1].pace, through.weights)
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * np.abs(np.asarray(b)).max())
    jax.tree.map(same, plain[0], found[0])
    assert float(found[1].terms.kl) > 0
    assert float(found[1].loss) == pytest.approx(float(plain[1].loss), rel=1e-6)


def test_without_a_weight_no_step_runs_the_model(end_to_end):
    """`--kl=0` is the plain run: there is no other path that could have other bits."""
    setup = setups.Setup.of(end_to_end(kl=0.0))
    assert setup.through is None and setup.program.through is None


def rows_in_a_pass(setup, text):
    """float32 [B, d]: the rows of a batch as a step has them."""
    effect = setup.through.effect
    device = lambda weights, text: effect.rows(effect.clean(weights, text), text)
    specs, out = (setup.through.specs, text.specs()), jax.sharding.PartitionSpec("data", None)
    run = jax.jit(jax.shard_map(device, mesh=setup.mesh, in_specs=specs, out_specs=out, check_vma=False))
    return run(setup.through.weights, text.put(setup.mesh))


def rows_of(setup, text):
    """Those of the store that a batch of text is: the same model and text made them."""
    store, sequences = setup.store, setup.through.batches._sequences
    numbers = []
    for number in range(len(sequences)):
        ids, _, kept = sequences.batch(number)
        first = sequences.first_rows[number]
        for place, row in zip(np.flatnonzero(kept[0]), range(first, first + kept.sum()), strict=True):
            numbers.append((ids[0].tobytes(), place, row))
    at = {(ids, place): row for ids, place, row in numbers}
    length = text.tokens.shape[1]
    lengths = {ids: len(ids) // 4 for ids, _, _ in numbers}
    rows = []
    for flat in text.rows:
        line, place = divmod(int(flat), length)
        line = text.tokens[line]
        ids = next(i for i in lengths if line[: lengths[i]].tobytes() == i and (line[lengths[i] :] == -1).all())
        rows.append(at[ids, place])
    return np.stack([store.read("resid_post.1", row, row + 1)[0] for row in rows])


def test_a_batch_of_text_is_rows_of_the_store(end_to_end):
    setup = setups.Setup.of(end_to_end())
    text = setup.through.batches.batch(2)
    np.testing.assert_allclose(rows_in_a_pass(setup, text), rows_of(setup, text), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shards", [1, 4])
def test_rows_come_once_an_epoch_and_those_held_out_never(shards, end_to_end):
    setup = setups.Setup.of(end_to_end(mesh=(shards, 1), holdout_rows=200))
    batches = setup.through.batches
    sequences = batches._sequences
    places = []
    for step in range(batches._steps):
        text = batches.batch(step)
        each = text.tokens.shape[0] // shards
        for shard in range(shards):
            rows = text.rows[shard * BATCH // shards : (shard + 1) * BATCH // shards]
            line, place = np.divmod(rows, text.tokens.shape[1])
            assert line.max() < each
            for tokens, at in zip(text.tokens[shard * each + line], place, strict=True):
                places.append((tokens.tobytes(), int(at)))
    assert len(set(places)) == len(places) == batches._steps * BATCH
    rows = open_store(setup.config.store).rows
    allowed = {
        tuple(sequences.batch(i)[0][0]) for i in range(len(sequences)) if sequences.first_rows[i + 1] <= rows - 200
    }
    seen = {tokens for tokens, _ in places}
    longest = text.tokens.shape[1]
    padded = {
        np.pad(np.asarray(ids, np.int32), (0, longest - len(ids)), constant_values=-1).tobytes() for ids in allowed
    }
    assert seen <= padded and len(seen) > len(padded) / 2
    again = setups.Setup.of(end_to_end(mesh=(shards, 1), holdout_rows=200)).through.batches
    np.testing.assert_array_equal(again.batch(7).tokens, batches.batch(7).tokens)
    assert (batches.batch(0).tokens != batches.batch(batches._steps).tokens).any()  # the next epoch has another order


def test_games_are_a_function_of_seed_and_step():
    one, other = (GameBatches(64, seed, 2, 4, 50) for seed in (0, 1))
    np.testing.assert_array_equal(one.batch(3).tokens, GameBatches(64, 0, 2, 4, 50).batch(3).tokens)
    assert (one.batch(3).tokens != one.batch(4).tokens).any() and (one.batch(3).tokens != other.batch(3).tokens).any()
    line, place = np.divmod(one.batch(0).rows, one.shape[1])
    assert place.min() == 4 and place.max() <= 50 and line.max() < one.shape[0] // 2 and len(line) == 64


@pytest.mark.parametrize("model", ["llama", "games", "transcoder"])
def test_a_run_that_was_cut_has_the_bits_of_one_that_was_not(model, end_to_end, games_store, resumed, metrics):
    flags = {
        "llama": {"later": ("resid_post.2",)},
        "games": {"store": games_store},
        "transcoder": {"site": "", "reads": ("mlp_in.1",), "writes": ("mlp_out.1",), "transcode": True},
    }[model]
    config, state = resumed(lambda name, **more: end_to_end(name, **flags, **more))
    lines = metrics(config)
    assert all(line["kl"] > 0 for line in lines) and ("later" in lines[0]) == (model == "llama")
    assert np.isfinite(state.params.W_dec).all()


def test_steps_bring_the_divergence_down(end_to_end, metrics):
    start = end_to_end("start", kl=0.0, tokens=40 * BATCH)
    train(start)
    flags = {"initialize_from": start.workdir, "tokens": 60 * BATCH, "learning_rate": 1e-3}
    config = end_to_end("through", **flags)
    train(config)
    kl = [line["kl"] for line in metrics(config)]
    assert np.mean(kl[-10:]) < 0.8 * np.mean(kl[:3])


def test_what_a_checkpoint_says_of_it(end_to_end):
    config = end_to_end(later=("resid_post.*",), own_weight=0.5, tokens=4 * BATCH)
    trained = train(config)
    told = {"kl": 1.0, "own_weight": 0.5, "later_weight": 1.0, "later": ["resid_post.2"], "attribution": 0.0}
    assert trained.metadata["end_to_end"] == told


REFUSED = [
    (["--kl=-1"], "--kl=-1.0: must be 0 or more"),
    (
        ["--kl=0", "--lm_text=a.txt"],
        "--lm_text=a.txt: is for end-to-end training: give --kl, --later or --attribution, too",
    ),
    (["--kl=0", "--later_weight=3"], "--later_weight=3.0: needs --kl, --later or --attribution"),
    (["--later_weight=3"], "--later_weight=3.0: needs --later"),
    (["--lm_dtype=float8"], "--lm_dtype=float8: value should be one of"),
    (["--later=resid_post.0"], "--later=resid_post.0: names no site behind resid_post.1. There are resid_pre.2"),
    (["--lm=/none"], "--model=/none: no such directory"),
    (["--reads=mlp_in.1,mlp_out.1", "--site="], "--reads=mlp_in.1,mlp_out.1: end to end, one site is replaced"),
    (["--follow"], "--follow=true: steps that run the model"),
    (["--batch_size=65", "--mesh=2,1"], "--batch_size=65 does not divide over 2 data shards"),
    (["--lm_documents=0:5"], "--lm_documents=0:5: is of --lm_text: give that, too"),
    (["--batch_size=1024", "--tokens=2048", "--holdout_rows=700"], "--batch_size=1024: "),
]


@pytest.mark.parametrize("flags, message", REFUSED)
def test_what_is_refused(flags, message, end_to_end, capsys):
    config = end_to_end()
    assert cli.run(["train", *to_flag_lines(config), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not Path(config.workdir).exists()


def test_another_model_than_the_one_that_was_harvested_is_refused(end_to_end, make_model, capsys):
    config = end_to_end(lm=make_model("qwen3"))
    assert cli.run(["train", *to_flag_lines(config)]) == 2
    assert "its weights are not those that" in capsys.readouterr().err


def test_rows_of_no_model_are_refused(end_to_end, store, capsys):
    assert cli.run(["train", *to_flag_lines(end_to_end(store=store, site="")), "--width=64"]) == 2
    assert "--kl=1.0: " in (said := capsys.readouterr().err) and "give a store of --source=hf or othello" in said


def test_several_sites_train_through_one_model(end_to_end, newest_state, assert_same):
    start = end_to_end("start", site="", sites=("resid_post.*",), kl=0.0, tokens=2 * BATCH)
    train(start)
    flags = {"initialize_from": start.workdir, "tokens": 4 * BATCH}
    train(end_to_end("set", site="", sites=("resid_post.*",), **flags))
    for site in ("resid_post.0", "resid_post.1"):
        own = flags | {"initialize_from": f"{start.workdir}/{site}"}
        alone = end_to_end(f"alone_{site}", site=site, **own)
        train(alone)
        in_set = dataclasses.replace(alone, workdir=str(Path(alone.workdir).parent / "set" / site))
        assert_same(newest_state(in_set)[1], newest_state(alone)[1])


def test_two_processes_killed_and_resumed_have_the_bits_of_one(end_to_end, tmp_path):
    """On a mesh of both, whose data shards each read their own part of a step's text."""
    flags = {"mesh": (2, 2), "tokens": 24 * BATCH, "checkpoint_every": 6}
    two, one = end_to_end("two", **flags), end_to_end("one", **flags)
    command = ["train", *to_flag_lines(two)]
    with Children(tmp_path / "first", command, count=2, devices=2) as run:
        assert run.until(lambda: Path(two.workdir, "checkpoints", "6").exists())
        run.signal(1, signal.SIGKILL)
        assert run.wait(60)[1] == -signal.SIGKILL
    with Children(tmp_path / "second", command, count=2, devices=2) as run:
        assert run.wait() == [0, 0], run.output(0)
        assert "resuming" in run.output(0)
    train(one)
    sums = [read_metadata(Path(config.workdir, "checkpoints"))[1]["sums"] for config in (two, one)]
    assert sums[0] == sums[1]
