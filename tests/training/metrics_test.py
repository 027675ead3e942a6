"""metrics.jsonl, run.json, the memory table and the average of the weights say what is the case."""

import io
import json
import struct
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxsae.errors import InputError
from jaxsae.inspect import InspectConfig, inspect
from jaxsae.training import load, memory, metrics, program, setup, train
from jaxsae.training.checkpoint import Checkpoints
from jaxsae.training.memory import MemoryPlan, check_fits, plan_memory
from jaxsae.training.metrics import MetricsLog, read_metrics
from jaxsae.training.run import find_checkpoints
from jaxsae.training.setup import Setup

CONTRACT = ("step", "tokens", "loss", "fvu", "l0", "dead_fraction", "learning_rate", "tokens_per_second")


def test_metrics_and_summary_have_the_keys_that_others_read(configure, rows):
    config = configure(steps=10, log_every=4)
    train(config)
    lines = [json.loads(line) for line in Path(config.workdir, "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 10]
    assert all(set(CONTRACT) <= set(line) for line in lines)
    assert [line["tokens"] for line in lines] == [256, 512, 640]
    assert all(line["l0"] <= 4 and 0 < line["fvu"] < 2 and line["tokens_per_second"] > 0 for line in lines)
    summary = json.loads(Path(config.workdir, "run.json").read_text())
    assert summary["mesh"] == [2, 4] and summary["rows_in_store"] == 2048 and summary["rows_held_out"] == 64
    assert (summary["learning_rate"], summary["decoder_rate"]) == (3e-3, 4)
    assert list(Path(config.workdir, "tensorboard").glob("events*"))


def test_the_first_line_is_what_the_fresh_weights_do_on_the_first_batch(configure, metrics):
    config = configure(steps=1, ema_decay=0.0)
    train(config)
    made = Setup.of(config)
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), made.fresh_state().params)
    y = (made.batches[0].astype(np.float64) - made.normalization.mean) * made.normalization.scale
    pre = (y - params.b_dec) @ params.W_enc.T + params.b_enc
    np.put_along_axis(pre, np.argsort(-pre, 1, kind="stable")[:, 4:], 0, 1)
    z = np.maximum(pre, 0)
    error = y - z @ params.W_dec - params.b_dec
    (line,) = metrics(config)
    np.testing.assert_allclose(line["loss"], (error**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(line["fvu"], (error**2).sum() / (y**2).sum(), rtol=1e-5)
    assert line["l0"] == (z > 0).sum() / 64 and line["dead_fraction"] is None  # in 64 rows none can be dead


def test_the_fvu_of_rows_that_are_not_centred_is_over_their_variance(configure, rows, metrics):
    config = configure(steps=1, normalize="none", ema_decay=0.0)
    train(config)
    made = Setup.of(config)
    x, params = made.batches[0].astype(np.float64), jax.tree.map(np.asarray, made.fresh_state().params)
    variance = np.square(rows - rows.mean(0)).sum(1).mean() / np.square(rows).sum(1).mean()
    pre = np.maximum((x - params.b_dec) @ params.W_enc.T, 0)
    np.put_along_axis(pre, np.argsort(-pre, 1)[:, 4:], 0, 1)
    error = np.square(x - params.b_dec - pre @ params.W_dec).sum()
    assert variance < 0.9
    assert metrics(config)[0]["fvu"] == pytest.approx(error / np.square(x).sum() / variance, rel=1e-4)


def test_lines_after_the_checkpoint_and_lines_cut_short_are_dropped(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.write({"step": step, "loss": 1 / step})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "lo')
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]
    with MetricsLog(tmp_path, 2) as log:
        log.write({"step": 3, "loss": 7.0})
    assert [(line["step"], line["loss"]) for line in read_metrics(path)] == [(1, 1.0), (2, 0.5), (3, 7.0)]


def test_the_average_is_the_bias_corrected_mean_of_the_weights(configure):
    config = configure(steps=5, ema_decay=0.8, checkpoint_every=1, keep_checkpoints=9)
    dictionary, made = train(config), Setup.of(config)
    average = 0.0
    with Checkpoints(Path(config.workdir) / "checkpoints", 9) as checkpoints:
        for step in range(1, 6):
            average = 0.8 * average + 0.2 * np.asarray(
                checkpoints.restore(step, made.abstract).params.W_dec, np.float64
            )
        last = np.asarray(checkpoints.restore(5, made.abstract).params.W_dec)
    average /= np.linalg.norm(average, axis=1, keepdims=True)  # the averages of unit rows are shorter
    np.testing.assert_allclose(dictionary.params.W_dec, average, rtol=1e-5, atol=1e-6)
    assert np.abs(last - np.asarray(dictionary.params.W_dec)).max() > 1e-3


@pytest.mark.parametrize(("optimizer", "matrix_moments"), [("adam", 8), ("adam_bf16", 4), ("sign", 0)])
def test_the_memory_table_is_the_bytes_of_one_device(optimizer, matrix_moments, configure):
    config = configure(mesh=(1, 8), optimizer=optimizer, ema_decay=0.0, width=128)
    n, d = 128 // 8, 16
    numbers = 2 * n * d + n + d  # W_enc, W_dec and b_enc are split over the shards, b_dec is on all
    plan = plan_memory(Setup.of(config).abstract, batch_bytes=6 * 4 * 64 * d, forms_gradient=True)
    count = 4 if optimizer != "sign" else 0
    assert plan.parameters == plan.gradients == 4 * numbers
    assert plan.moments == matrix_moments * numbers + count + 4 * n  # and since_fired
    assert plan.total == plan.parameters + plan.moments + plan.gradients + plan.batch
    _, compiled_plan, _ = Setup.of(config).compile()
    assert compiled_plan.batch == (config.prefetch + 2) * 4 * 64 * d and compiled_plan.workspace >= 0


def test_an_average_costs_the_parameters_once_more(configure):
    without, with_average = (plan_memory(Setup.of(configure(ema_decay=e)).abstract, 0, True) for e in (0.0, 0.9))
    assert with_average.parameters == 2 * without.parameters and with_average.moments == without.moments


def test_what_cannot_fit_is_refused_before_it_is_compiled(configure, monkeypatch):
    check_fits(MemoryPlan(10, 20, 30, 40), 100)
    check_fits(MemoryPlan(10, 20, 30, 40), None)
    with pytest.raises(InputError, match="adam_bf16"):
        check_fits(MemoryPlan(10, 20, 30, 40), 99)
    monkeypatch.setattr(setup, "available_bytes", lambda device: 1000)
    monkeypatch.setattr(program, "make_step", lambda *_: pytest.fail("it was compiled"))
    with pytest.raises(InputError, match="smaller --width"):
        train(configure())


def test_the_table_says_each_part_and_the_total():
    lines = MemoryPlan(2**30, 2**31, 0, 0, 2**29).lines(2**33)
    assert [line.split()[0] for line in lines[1:]] == [
        "parameters", "moments", "gradients", "batch", "workspace", "total",
    ]  # fmt: skip
    assert "3.500 GiB of 8.0 GiB" in lines[-1]
    assert memory.available_bytes(jax.devices()[0]) > 0


def test_inspect_tells_a_run_even_where_its_last_line_was_cut(configure, capsys):
    config = configure(steps=4)
    train(config)
    closing = capsys.readouterr().err.splitlines()[-1]
    assert (
        closing.startswith(f"{config.workdir}: 4 steps in ")
        and "fvu " in closing
        and "jaxsae evaluate --run=" in closing
    )
    path = Path(config.workdir, "metrics.jsonl")
    path.write_text(path.read_text() + '{"step": 5, "loss": 0.')
    text = inspect(InspectConfig(path=config.workdir))
    assert "topk, 64 latents, d_model 16, k 4" in text and "step      4" in text and "loss" in text
    assert text in capsys.readouterr().out


def test_a_run_is_found_by_its_directory_or_that_of_its_checkpoints(configure):
    config = configure(steps=1)
    train(config)
    checkpoints = Path(config.workdir) / "checkpoints"
    assert find_checkpoints(config.workdir) == find_checkpoints(checkpoints) == checkpoints
    np.testing.assert_array_equal(load(checkpoints).params.W_enc, load(config.workdir).params.W_enc)


def scalars(directory):
    """{step: {name: value}} of the event files in the order of their runs, as TensorBoard shows them."""
    shown = {}
    runs = []
    for path in directory.glob("events*"):
        data, events = path.read_bytes(), []
        while data:  # a record: length, its sum, the event, its sum
            (length,) = struct.unpack("<Q", data[:8])
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
        runs.append(events)
    for events in sorted(runs, key=lambda events: events[1].step):
        shown = {step: values for step, values in shown.items() if step < events[1].step}
        for event in events[2:]:
            shown.setdefault(event.step, {}).update({v.tag: v.simple_value for v in event.summary.value})
    return shown


def test_tensorboard_shows_what_metrics_hold_also_after_a_resume(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.write({"step": step, "loss": step / 2, "fvu": float("nan")})
    assert scalars(tmp_path / "tensorboard") == {step: {"train/loss": step / 2} for step in (1, 2, 3)}
    with MetricsLog(tmp_path, 1) as log:  # within the same second: the first file stays
        log.write({"step": 2, "loss": 0.25})
    assert len(list((tmp_path / "tensorboard").glob("events*"))) == 2
    assert scalars(tmp_path / "tensorboard") == {1: {"train/loss": 0.5}, 2: {"train/loss": 0.25}}


def test_a_board_without_room_ends_its_own_run_and_no_later_one(tmp_path, monkeypatch):
    """Its buffered events once came out in a thread, 30 seconds on, and ended whatever run was there by then."""
    monkeypatch.setattr(metrics, "FLUSH_SECONDS", -1)
    alive = set(threading.enumerate())
    for name in ("full", "next"):
        (tmp_path / name).mkdir()
    with pytest.raises(OSError, match="No space left"), MetricsLog(tmp_path / "full", 0) as full:
        full._board._writer._py_recordio_writer._writer = io.BufferedWriter(io.FileIO("/dev/full", "w"))
        full.write({"step": 1, "loss": 0.5})
    assert set(threading.enumerate()) == alive
    with MetricsLog(tmp_path / "next", 0) as log:
        log.write({"step": 1, "loss": 0.5})
    assert scalars(tmp_path / "next" / "tensorboard") == {1: {"train/loss": 0.5}}
