"""What is written, what is refused, and what a stopped writer leaves behind."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from jaxsae.errors import DiskFullError, InputError
from jaxsae.store import Plan, StoreWriter, open_store

PLAN = Plan(rows=1000, sites={"a": 8}, settings={"seed": 0}, shard_rows=128, chunk_rows=16)


def shard_of(plan: Plan, shard: int) -> tuple[dict, dict]:
    start, stop = plan.shard_range(shard)
    x = np.random.default_rng([1, shard]).normal(size=(stop - start, 8)).astype(np.float32)
    return {"a": x}, {name: np.arange(start, stop) for name in ("tokens", "sequence", "position")}


def test_zarr_python_reads_equal_rows(write):
    path = write()
    store, group = open_store(path), zarr.open_group(path, mode="r")
    for site in store.sites:
        array = group[f"sites/{site}/activations"]
        np.testing.assert_array_equal(array[:], store.read(site, 0, 1000))
        assert array.attrs["model"] == "random" and array.attrs["context"] == 59 and array.attrs["complete"]
        np.testing.assert_array_equal(np.float32(array.attrs["mean"]), store.statistics(site).mean)
        assert array.attrs["scale"] == store.statistics(site).scale
    np.testing.assert_array_equal(group["sequence"][:], np.arange(1000))
    assert group["tokens"].dtype == np.int32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_statistics_equal_float64_numpy(write, dtype):
    store = open_store(write(dtype=dtype))
    x = store.read("resid_post.1", 0, 1000).astype(np.float64)
    statistics = store.statistics("resid_post.1")
    assert x.shape == (1000, 8) and statistics.rows == 1000
    np.testing.assert_allclose(statistics.mean, x.mean(0), rtol=1e-7)
    np.testing.assert_allclose(statistics.variance, x.var(0), rtol=1e-6)
    np.testing.assert_allclose(statistics.scale, np.sqrt(np.square(x - x.mean(0)).sum(1).mean()), rtol=1e-12)
    np.testing.assert_allclose(statistics.mean_square_norm, np.square(x).sum(1).mean(), rtol=1e-12)


def test_continues_where_it_stopped(write):
    path = write(shards=[0, 2, 5])
    assert open_store(path).completed_shards == [0, 2, 5]
    first = {p: p.stat().st_mtime_ns for p in path.glob("sites/*/activations/c/0/0")}
    write(shards=[1, 3, 4, 6])
    assert open_store(path).missing == [(896, 1000)]
    assert open_store(write(shards=[7])).missing == []
    assert len(first) == 2 and all(p.stat().st_mtime_ns == then for p, then in first.items())


def test_finish_waits_for_every_shard(tmp_path):
    writer = StoreWriter(tmp_path / "s", PLAN)
    for shard in range(PLAN.shards):
        assert writer.finish() is False and not writer.is_finished()
        writer.write_shard(shard, *shard_of(PLAN, shard))
    assert writer.finish() is True and writer.is_finished()


def test_a_shard_that_one_array_lacks_is_not_complete(write):
    path = write(shards=[0, 1, 2])
    (path / "sites/embed/activations/c/1/0").unlink()
    (path / "stats/2.json").unlink()
    assert open_store(path).completed_shards == [0, 2]


def test_refuses_other_settings_once_a_shard_is_complete(tmp_path):
    StoreWriter(tmp_path / "s", PLAN).write_shard(3, *shard_of(PLAN, 3))
    for change, words in [
        ({"settings": {"seed": 3}}, "--seed=0 in the store, 3 asked"),
        ({"model": "other"}, "--model= in the store, other asked"),
        ({"rows": 999}, "--tokens=1000 in the store, 999 asked"),
        ({"sites": {"a": 16}}, "width"),
        ({"sites": {"b": 8}}, "--sites=a in the store, b asked"),
        ({"dtype": "bfloat16"}, "--dtype=float32 in the store, bfloat16 asked"),
        ({"context": 5}, "--context=0 in the store, 5 asked"),
        ({"shard_rows": 64}, "--shard_rows=128 in the store, 64 asked"),
        ({"chunk_rows": 32}, "--chunk_rows=16 in the store, 32 asked"),
    ]:
        with pytest.raises(InputError, match=words):
            StoreWriter(tmp_path / "s", dataclasses.replace(PLAN, **change))
    assert open_store(tmp_path / "s").completed_shards == [3]


def test_begun_anew_where_no_shard_is_complete(tmp_path, capsys):
    first = StoreWriter(tmp_path / "s", dataclasses.replace(PLAN, dtype="float16", sites={"a": 8, "b": 4}))
    activations = {"a": np.ones((128, 8)), "b": np.ones((128, 4))}
    first._write_rows(0, {"sites/a/activations": activations["a"].astype(np.float16)})  # killed in its first shard
    (tmp_path / "s" / "sites" / "notes.txt").write_text("mine")
    again = StoreWriter(tmp_path / "s", PLAN)
    assert "no shard was complete: begun anew" in capsys.readouterr().err
    assert not (tmp_path / "s" / "sites" / "b" / "activations" / "zarr.json").exists()
    assert (tmp_path / "s" / "sites" / "notes.txt").exists()
    with pytest.raises(InputError, match="begun anew by another harvest while this one ran"):
        first.write_shard(1, activations, shard_of(PLAN, 1)[1])
    for shard in range(PLAN.shards):
        again.write_shard(shard, *shard_of(PLAN, shard))
    store = open_store(tmp_path / "s") if again.finish() else None
    assert store.complete and store.dtype("a") == np.float32 and list(store.sites) == ["a"]
    np.testing.assert_array_equal(store.read("a", 128, 256), shard_of(PLAN, 1)[0]["a"])


def test_removed_shards_count_as_complete(tmp_path):
    writer = StoreWriter(tmp_path / "s", PLAN)
    writer.write_shard(0, *shard_of(PLAN, 0))
    open_store(tmp_path / "s").remove("a", [0])
    with pytest.raises(InputError, match="begun with other settings"):
        StoreWriter(tmp_path / "s", dataclasses.replace(PLAN, context=5))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_refuses_rows_that_are_not_finite(tmp_path, value):
    activations, columns = shard_of(PLAN, 1)
    x = activations["a"].astype(np.float64)
    x[5, 3] = value
    words = "1e.39, and float32 ends" if 1 < value < np.inf else "NaN or Inf"
    with pytest.raises(InputError, match=f"Site a: row 133 holds {words}"):
        StoreWriter(tmp_path / "s", PLAN).write_shard(1, {"a": x}, columns)


def test_refuses_rows_of_another_shape(tmp_path):
    activations, columns = shard_of(PLAN, 0)
    with pytest.raises(InputError, match="shape"):
        StoreWriter(tmp_path / "s", PLAN).write_shard(7, activations, columns)


def test_refuses_places_that_are_not_stores(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("")
    with pytest.raises(InputError, match="is a file"):
        StoreWriter(tmp_path / "file", PLAN)
    with pytest.raises(InputError, match=r"letter\.txt"):
        StoreWriter(tmp_path / "full", PLAN)
    with pytest.raises(InputError, match="not a kvstore URL"):
        StoreWriter("nowhere://x", PLAN)


def test_file_urls_and_paths_are_the_same_place(tmp_path):
    StoreWriter(f"file://{tmp_path}/s", PLAN).write_shard(0, *shard_of(PLAN, 0))
    assert StoreWriter(tmp_path / "s", PLAN).completed_shards() == {0}


CHILD = """
import sys
sys.path.insert(0, sys.argv[2])
from writer_test import PLAN, shard_of
from jaxsae.store import StoreWriter
writer = StoreWriter(sys.argv[1], PLAN)
print("ready", flush=True)
while True:
    for shard in range(PLAN.shards):
        writer.write_shard(shard, *shard_of(PLAN, shard))
"""


def test_kill_leaves_a_readable_store(tmp_path):
    command = [sys.executable, "-c", CHILD, str(tmp_path / "s"), str(Path(__file__).parent)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    time.sleep(np.random.default_rng().uniform(0.02, 0.3))
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    store, writer = open_store(tmp_path / "s"), StoreWriter(tmp_path / "s", PLAN)
    for start, stop in store.available:
        store.read("a", start, stop)
    for shard in set(range(PLAN.shards)) - writer.completed_shards():
        writer.write_shard(shard, *shard_of(PLAN, shard))
    assert writer.finish()
    expected = np.concatenate([shard_of(PLAN, shard)[0]["a"] for shard in range(PLAN.shards)])
    store = open_store(tmp_path / "s")
    np.testing.assert_array_equal(store.read("a", 0, 1000), expected)
    assert store.complete and store.statistics("a").rows == 1000


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", place]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_full_disk_keeps_what_was_complete(small_disk):
    plan = dataclasses.replace(PLAN, rows=20_000, chunk_rows=128)
    writer = StoreWriter(small_disk / "s", plan)
    with pytest.raises(DiskFullError, match="the disk is full"):
        for shard in range(plan.shards):
            writer.write_shard(shard, *shard_of(plan, shard))
    store = open_store(small_disk / "s")
    assert 0 < store.rows < 20_000 and not store.complete
    for shard in store.completed_shards:
        np.testing.assert_array_equal(store.read("a", *plan.shard_range(shard)), shard_of(plan, shard)[0]["a"])
    assert json.loads((small_disk / "s" / "stats" / "0.json").read_text())["a"]["rows"] == 128
