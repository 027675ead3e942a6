"""What cannot be trained is refused with exit status 2 and one message that names the thing and the fix."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from jaxsae import cli
from jaxsae.config import to_flag_lines
from jaxsae.errors import InputError
from jaxsae.parallel import make_mesh
from jaxsae.store import open_store
from jaxsae.training import load, setup, train


def test_another_configuration_in_the_directory_of_a_run(configure, refused):
    train(configure())
    message = refused(configure(seed=1, k=5))
    assert "--seed=0 (now 1)" in message and "--k=4 (now 5)" in message and "Give another --workdir" in message


def test_one_store_may_be_written_in_several_ways(configure, store, refused, monkeypatch):
    train(configure(steps=6))
    monkeypatch.chdir(Path(store).parent)
    config = configure(steps=6)
    for same in (f"./{Path(store).name}", f"{store}/", f"file://{store}"):
        train(dataclasses.replace(config, store=same))
    assert "--store=" in refused(dataclasses.replace(config, store="."))


def test_a_store_as_the_directory_of_a_run(configure, own_store, refused):
    place = own_store()
    assert f"--workdir={place}: holds a store" in refused(configure(workdir=place))
    assert not (Path(place) / "config.flags").exists()


def test_settings_that_do_not_change_the_result_may_change(configure, metrics):
    train(configure(log_every=3))
    train(configure(log_every=1, keep_checkpoints=1, prefetch=1, on_nan="skip", checkpoint_every=7, mesh=(1, 8)))
    assert [line["step"] for line in metrics(configure())] == [3, 4, 6, 8, 9, 12]  # 4 and 8 are checkpoints


def test_flags_that_were_refused_for_want_of_memory_may_be_mended_in_place(configure, refused, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(setup, "available_bytes", lambda device: 10_000)
        message = refused(configure(width=4096))
    assert "GiB on each device" in message and "smaller --width" in message
    train(configure(width=64))


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--k=65"], ["--k=65", "at most --width=64"]),
        (["--width=66"], ["--width=66 does not divide", "--mesh=2,4", "such as 68"]),
        (["--batch_size=65"], ["--batch_size=65 does not divide", "such as 66"]),
        (["--store=/no/such/store"], ["/no/such/store"]),
        (["--site=mlp"], ["--site=mlp", "activations"]),
        (["--batch_size=4096", "--tokens=8192"], ["--batch_size=4096", "2048 rows", "smaller batch"]),
        (["--seed=-1"], ["--seed=-1"]),
        (["--lazy_rows", "--ema_decay=0.9"], ["--ema_decay=0.9", "--lazy_rows=false"]),
        (["--workdir="], ["--workdir=", "name a directory"]),
        (["--initialize_from=/no/run"], ["/no/run", "no run here"]),
        (["--tokens=10"], ["--tokens=10", "less than one batch"]),
    ],
)
def test_flags_that_do_not_do(flags, parts, configure, refused):
    message = refused(configure(), *flags)
    assert all(part in message for part in parts)


@pytest.mark.parametrize("mesh", [(3, 2), (8,), (0, 8), (2, 2, 2), (4, 4)])
def test_a_mesh_that_does_not_match_the_devices(mesh, configure, refused, monkeypatch):
    monkeypatch.setattr(setup, "make_mesh", make_mesh)
    message = refused(configure(mesh=mesh))
    assert f"--mesh={','.join(map(str, mesh))}" in message and "--mesh=1,8" in message


def test_an_empty_store(configure, tmp_path, refused):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(configure(store=str(tmp_path / "empty")))


def test_a_file_where_the_run_should_be(configure, tmp_path, refused):
    (tmp_path / "run").write_text("")
    assert "is a file" in refused(configure())


def test_a_store_whose_width_has_changed_since_the_run_began(configure, own_store, rows, tmp_path, refused):
    url = own_store()
    train(configure(store=url, steps=4))
    Path(url).rename(tmp_path / "old")
    own_store(rows[:, :8].copy())
    Path(tmp_path / "run/config.flags").write_text(
        Path(tmp_path / "run/config.flags").read_text().replace("tokens=256", "tokens=512")
    )
    message = refused(configure(store=url, steps=8))
    assert "d_model 16" in message and "d_model 8" in message and "another --workdir" in message


def test_initial_weights_of_another_width(configure, refused):
    train(configure())
    message = refused(configure("other", width=128, initialize_from=configure().workdir))
    assert f"--initialize_from={configure().workdir}: has width 64 where this run has 128" in message
    assert not Path(configure("other").workdir).exists()


def test_initial_weights_are_those_of_the_other_run(configure, rows):
    config = configure(ema_decay=0.0)
    first = train(config)
    second = train(configure("other", steps=1, initialize_from=config.workdir, learning_rate=1e-9, ema_decay=0.0))
    np.testing.assert_allclose(second.params.W_dec, first.params.W_dec, atol=2e-6)
    np.testing.assert_allclose(second.params.b_enc, first.params.b_enc, atol=1e-5)
    np.testing.assert_allclose(second.reconstruct(rows[:50]), first.reconstruct(rows[:50]), atol=1e-4)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_shard_of_the_store(damage, configure, own_store, refused):
    url = own_store()
    file = Path(url, "sites/activations/activations/c/3/0")
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    if damage == "missing":
        Path(url, "sites/activations/activations/c/7").rename(Path(url, "elsewhere"))
    else:
        file.write_bytes(content if damage == "flipped" else content[:1000])
    config = configure(store=url, steps=30)
    if damage == "missing":  # a store cut short is trained on as far as it goes
        assert cli.run(["train", *to_flag_lines(config)]) == 0
    else:
        message = refused(config)
        assert "c/3/0 is damaged" in message


def mounted(path, kibibytes):
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")


def test_a_full_disk_is_said_and_the_older_checkpoint_stays_usable(configure, tmp_path, refused):
    small = tmp_path / "small"
    mounted(small, 1600)
    try:
        config = configure(workdir=str(small / "run"), width=1024, steps=40, keep_checkpoints=20, mesh=(1, 1))
        message = refused(config)
        assert "the disk is full" in message and "free some space" in message
        assert np.isfinite(load(config.workdir).params.W_enc).all()
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        assert cli.run(["train", *to_flag_lines(config)]) == 0
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_run_without_room_for_its_first_file_is_refused(configure, tmp_path, refused):
    small = tmp_path / "small"
    mounted(small, 64)
    try:
        (small / "filler").write_bytes(bytes(60 * 1024))
        assert "the disk is full" in refused(configure(workdir=str(small / "run")))
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_loading_what_is_no_run(tmp_path):
    with pytest.raises(InputError, match="no run here"):
        load(tmp_path)


def test_a_run_goes_on_with_its_own_store_alone(configure, own_store, rows, tmp_path, refused):
    """Another harvest at the same place: same shape, other rows."""
    fingerprint = lambda url: open_store(url).metadata("activations")["fingerprint"]
    url = own_store()
    first, config = fingerprint(url), configure(store=url, steps=4, checkpoint_every=2)
    train(config)
    for last in (tmp_path / "run/checkpoints").glob("4*"):
        shutil.rmtree(last)
    shutil.rmtree(url)
    second = fingerprint(own_store(rows[::-1]))
    message = refused(config)
    assert f"--store={url}: is another store than the one that" in message and first in message and second in message
    assert not (tmp_path / "run/checkpoints/4").exists()


def test_a_workdir_below_a_file(configure, tmp_path, refused):
    (tmp_path / "file").touch()
    assert "is a file, so nothing can be written below it" in refused(configure("file/run"))


def test_store_and_width_are_required(tmp_path, capsys):
    for more, message in (
        ([], "--store is required"),
        (["--store=s"], "--width is required"),
        (["--store=s", "--width=64", "--source_rows=random"], "needs --source_run"),
    ):
        assert cli.run(["train", f"--workdir={tmp_path}", *more]) == 2
        assert message in capsys.readouterr().err
