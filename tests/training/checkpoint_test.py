"""A damaged checkpoint is noticed, whatever was damaged, or it is read back bit by bit; never wrong numbers."""

import errno
import json
import logging
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint._src.futures.future import CommitFuture

from jaxsae.errors import DiskFullError, InputError
from jaxsae.hosts import processes
from jaxsae.parallel import make_mesh
from jaxsae.training import load, orbax_errors, train
from jaxsae.training.checkpoint import Checkpoints, read_metadata
from jaxsae.training.sums import sums_of_bits

# Orbax leaves the reads of a damaged checkpoint's other arrays to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def damages(files, rng):
    """(file, new content or None to delete it): each cut, emptied or deleted, and a bit flipped here and there."""
    for number, file in enumerate(files):
        content = file.read_bytes()
        yield file, (content[: len(content) // 2], b"", None)[number % 3]
        for _ in range(6 if len(content) > 10_000 else 1):
            flipped = bytearray(content)
            flipped[rng.integers(len(content))] ^= 1 << rng.integers(8)
            yield file, bytes(flipped)


def outcome(config, newest_state, expected, assert_same):
    """detected, or intact."""
    try:
        step, state = newest_state(config)
    except InputError as error:
        assert "/4: this checkpoint is damaged" in str(error) and "Remove that directory" in str(error)
        return "detected"
    assert step == 4
    assert_same(state, expected)
    return "intact"


def test_damage_to_any_file_is_detected_or_harmless(configure, newest_state, assert_same):
    config = configure(width=1024, steps=4, checkpoint_every=2, mesh=(1, 1))
    train(config)
    expected = newest_state(config)[1]
    newest = Path(config.workdir) / "checkpoints/4"
    outcomes = []
    for file, content in damages(sorted(f for f in newest.rglob("*") if f.is_file()), np.random.default_rng(0)):
        before = file.read_bytes()
        file.write_bytes(content) if content is not None else file.unlink()
        outcomes.append((file.name, len(before), outcome(config, newest_state, expected, assert_same)))
        file.write_bytes(before)
    large = [result for _, size, result in outcomes if size > 100_000]
    assert large.count("detected") > 0.8 * len(large) > 10


def flip_largest(newest: Path) -> None:
    file = max(newest.rglob("*"), key=lambda f: f.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)


def test_without_its_damaged_checkpoint_a_run_goes_on_from_the_one_before(configure, newest_state, assert_same, capsys):
    config, alone = configure("run", width=1024, steps=8), configure("alone", width=1024, steps=8)
    train(alone)
    train(config)
    flip_largest(Path(config.workdir) / "checkpoints/8")
    with pytest.raises(InputError, match=r"/8: this checkpoint is damaged .*other bits than were saved"):
        load(config.workdir)
    with pytest.raises(InputError, match=r"/8: this checkpoint is damaged"):
        train(config)
    shutil.rmtree(Path(config.workdir) / "checkpoints/8")
    train(config)
    assert "at step 6 of 8" in capsys.readouterr().err
    assert_same(newest_state(config)[1], newest_state(alone)[1])


def test_changed_metadata_are_noticed(configure):
    config = configure(steps=1)
    train(config)
    file = Path(config.workdir) / "checkpoints/1/_CHECKPOINT_METADATA"
    whole = json.loads(file.read_text())
    whole["custom_metadata"]["method"]["k"] = 5
    file.write_text(json.dumps(whole))
    with pytest.raises(InputError, match="damaged.*metadata do not have the checksum"):
        load(config.workdir)
    whole["custom_metadata"] = {"format": 1}
    file.write_text(json.dumps(whole))
    with pytest.raises(InputError, match="of format 1, and this jaxsae reads format"):
        read_metadata(file.parent.parent)


def test_sums_of_bits_are_the_same_on_every_mesh_and_see_every_bit_and_place():
    rng = np.random.default_rng(0)
    tree = {"a": rng.normal(size=(16, 24)).astype(np.float32), "b": jnp.arange(16, dtype=jnp.bfloat16)}
    tree |= {"c": np.arange(-5, 3, dtype=np.int32), "d": np.float32(2)}
    expected = sums_of_bits(tree)
    for shape, spec in (((1, 8), ("model", None)), ((2, 4), ("data", "model")), ((8, 1), (None, "data"))):
        sharding = NamedSharding(make_mesh(shape), PartitionSpec(*spec))
        assert sums_of_bits(tree | {"a": jax.device_put(tree["a"], sharding)}) == expected
    place = np.arange(16 * 24, dtype=np.uint64)
    by_hand = (tree["a"].view(np.uint32).reshape(-1) * (2 * place + 1)).sum() % 2**32
    assert expected["['a']"] == by_hand
    for bit in range(32):
        changed = tree["a"].copy()
        changed.view(np.uint32)[7, 9] ^= np.uint32(1 << bit)
        assert sums_of_bits({"a": changed})["['a']"] != by_hand
    assert sums_of_bits({"a": tree["a"][::-1].copy()})["['a']"] != by_hand


def test_orbax_does_not_talk(configure, caplog):
    with caplog.at_level(logging.INFO):
        train(configure(steps=2))
    assert not [record for record in caplog.records if record.name == "absl"]


def test_a_save_that_failed_here_is_raised_though_orbax_waits_for_the_others(tmp_path, monkeypatch):
    """Orbax meets the other processes first, who wait for this one's part."""
    monkeypatch.setattr(processes, "is_alone", lambda: False)
    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(checkpoints._saver, "is_saving_in_progress", lambda: True)
        future = CommitFuture(_without_room(), name="write")  # of Orbax: the thread that fails
        with pytest.raises(DiskFullError, match="the disk is full"):
            checkpoints.wait()
        with pytest.raises(OSError):
            future.result()
        monkeypatch.setattr(checkpoints._saver, "is_saving_in_progress", lambda: False)
        checkpoints.wait()
        assert orbax_errors.of_save() is None


def test_a_save_that_failed_ends_the_run_at_the_next_step_not_at_the_next_save(configure, metrics, monkeypatch):
    config, save = configure(steps=80, checkpoint_every=40), Checkpoints.save

    def without_room(checkpoints, *args):
        save(checkpoints, *args)
        with pytest.raises(OSError):
            CommitFuture(_without_room(), name="write").result()

    with monkeypatch.context() as patch, pytest.raises(DiskFullError, match="the disk is full"):
        patch.setattr(Checkpoints, "save", without_room)
        train(config)
    assert metrics(config)[-1]["step"] == 40
    train(config)  # from what was saved; the error is that of the run before
    assert metrics(config)[-1]["step"] == 80


async def _without_room():
    raise OSError(errno.ENOSPC, "No space left on device")


def test_errors_of_a_closed_loop_are_hidden_and_others_shown(capsys):
    orbax_errors.hide()
    for hook in (sys.excepthook, sys.__excepthook__):
        for text in ("Event loop is closed", "another error"):
            hook(RuntimeError, RuntimeError(text), None)
    assert capsys.readouterr().err.count("Event loop is closed") == 1
    before = sys.unraisablehook
    told = []
    shown = orbax_errors._without_late(told.append, lambda told: told.exc_value)
    for error in (RuntimeError("Event loop is closed"), None, RuntimeError("another error")):
        shown(SimpleNamespace(exc_value=error))
    assert [t.exc_value and str(t.exc_value) for t in told] == [None, "another error"]
    assert hasattr(before, "without_late")
