"""Batches are a pure function of (store, seed, step), and hold every row of an epoch once."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsae.errors import InputError
from jaxsae.store import Batches, grain_dataset, iterate, local_batch, open_store

SITE = "resid_post.1"
SMALL_BLOCK = 200 * 8 * 4  # five blocks


def epoch_rows(batches: Batches, epoch: int = 0) -> np.ndarray:
    steps = batches.steps_per_epoch
    return np.concatenate([batches.rows_of(epoch * steps + step) for step in range(steps)])


@pytest.mark.parametrize("block_bytes", [1, SMALL_BLOCK, 2**27])
@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_every_row_once_an_epoch(write, block_bytes, lanes):
    batches = Batches(open_store(write()), SITE, 40, seed=1, block_bytes=block_bytes, lanes=lanes)
    first, second = epoch_rows(batches), epoch_rows(batches, 1)
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    np.testing.assert_array_equal(np.sort(second), np.arange(1000))
    assert not np.array_equal(first, second)


def test_remainder_changes_from_epoch_to_epoch(write):
    batches = Batches(open_store(write()), SITE, 48, seed=1, block_bytes=SMALL_BLOCK)
    epochs = [set(epoch_rows(batches, epoch)) for epoch in range(2)]
    assert batches.steps_per_epoch == 20 and [len(rows) for rows in epochs] == [960, 960]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_batches_hold_the_rows_they_name(write, dtype):
    store = open_store(write(dtype=dtype))
    x = store.read(SITE, 0, 1000).astype(np.float32)
    batches = Batches(store, SITE, 48, seed=2, block_bytes=SMALL_BLOCK)
    for step in (0, 3, 19, 20, 57, 10_000):
        assert batches[step].dtype == np.float32
        np.testing.assert_array_equal(batches[step], x[batches.rows_of(step)])


def test_several_sites_stand_side_by_side_in_the_rows_that_the_widest_has_alone(write):
    store = open_store(write())
    alone = Batches(store, SITE, 48, seed=2, block_bytes=SMALL_BLOCK)
    both = Batches(store, ("embed", SITE), 48, seed=2, block_bytes=SMALL_BLOCK)
    x = np.concatenate([store.read(site, 0, 1000) for site in ("embed", SITE)], 1)
    for step in (0, 19, 20):
        np.testing.assert_array_equal(both.rows_of(step), alone.rows_of(step))
        np.testing.assert_array_equal(both[step], x[both.rows_of(step)])
        np.testing.assert_array_equal(both.read(step, 12, 30), both[step][12:30])


def test_pure_function_of_seed_and_step(write):
    path = write()
    one, two = (Batches(open_store(path), SITE, 32, seed=5, block_bytes=SMALL_BLOCK) for _ in range(2))
    steps = [40, 3, 71, 0, 12]
    ahead = {step: one[step] for step in sorted(steps)}
    for step in steps:
        np.testing.assert_array_equal(two[step], ahead[step])
    other = Batches(open_store(path), SITE, 32, seed=6, block_bytes=SMALL_BLOCK)
    assert not np.array_equal(other.rows_of(0), one.rows_of(0))


def test_rows_are_mixed_across_the_block(write):
    rows = Batches(open_store(write()), SITE, 40, seed=0).rows_of(0)
    assert len(set(rows // 16)) > 20  # of 63 chunks


@pytest.mark.parametrize(("threads", "prefetch"), [(0, 0), (1, 1), (4, 8)])
def test_iterates_from_any_step_with_any_threads(write, threads, prefetch):
    batches = Batches(open_store(write()), SITE, 48, seed=3, block_bytes=SMALL_BLOCK)
    for start in (0, 17):
        found = list(itertools.islice(iterate(batches, start, threads=threads, prefetch=prefetch), 30))
        assert [step for step, _ in found] == list(range(start, start + 30))
        for step, batch in found:
            np.testing.assert_array_equal(batch, batches[step])


def test_threads_share_blocks(write):
    store = open_store(write())
    batches = Batches(store, SITE, 48, seed=3, block_bytes=SMALL_BLOCK)
    reads, stream = [], store.stream
    store.stream = lambda path, ranges: reads.extend(ranges) or stream(path, ranges)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(batches.read, [0, 1, 2, 3] * 10))
    blocks = [batches.order.stretch(block, 0, batches.lanes).ranges for block in (0, 1)]
    expected = sorted(blocks[0] + blocks[1])  # the next one ahead, by a thread that nobody waits for
    deadline = time.monotonic() + 30
    while len(reads) < len(expected) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert batches.order.blocks_per_epoch == 5 and sorted(reads) == expected


def test_memory_is_used_again_once_no_batch_of_it_is_held(write):
    batches = Batches(open_store(write()), SITE, 40, seed=3, block_bytes=SMALL_BLOCK)
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
    sharding = NamedSharding(mesh, PartitionSpec("data", None))
    held = {step: (batches.read(step, 3, 17), local_batch(batches, step, sharding)) for step in range(0, 50, 7)}
    copies = {step: batches[step].copy() for step in held}
    for step in range(300):  # many blocks over the memory of those that nobody holds
        batches[step]
    for step, (part, array) in held.items():
        np.testing.assert_array_equal(part, copies[step][3:17])
        np.testing.assert_array_equal(array, copies[step])
    assert not batches[0].flags.writeable  # it is what other readers of the step see
    del part, array
    held.clear()
    places = {batches[step].__array_interface__["data"][0] for step in range(1000)}
    assert len(places) <= 16 * batches.order.most_steps  # of 200 blocks


def test_parts_of_a_batch(write):
    batches = Batches(open_store(write()), SITE, 48, seed=3, block_bytes=SMALL_BLOCK)
    for start, stop in [(0, 6), (6, 12), (5, 31), (47, 48)]:
        np.testing.assert_array_equal(batches.read(25, start, stop), batches[25][start:stop])


def test_a_part_reads_a_part(write):
    store = open_store(write())
    batches = Batches(store, SITE, 48, seed=3)
    stretch = batches.order.stretch(0, 0, 2)
    assert sum(stop - start for start, stop in stretch.ranges) == 960 // 4


def test_local_batch_follows_the_sharding(write):
    batches = Batches(open_store(write()), SITE, 48, seed=3)
    devices = np.array(jax.devices())
    mesh = Mesh(devices.reshape(-1, 1), ("data", "model"))
    if 48 % len(devices):
        pytest.skip("the batch does not divide over the devices")
    sharding = NamedSharding(mesh, PartitionSpec("data", None))
    array = local_batch(batches, 7, sharding)
    assert array.sharding == sharding
    np.testing.assert_array_equal(array, batches[7])
    step, array = next(iterate(batches, 9, sharding))
    assert step == 9
    np.testing.assert_array_equal(array, batches[9])


def test_grain_slices_and_repeats_nothing(write):
    batches = Batches(open_store(write()), SITE, 48, seed=3)
    step, batch = grain_dataset(batches, 100)[11]
    assert step == 111
    np.testing.assert_array_equal(batch, batches[111])


def test_held_out_rows_are_disjoint(write):
    store = open_store(write())
    train = Batches(store, SITE, 10, rows=(0, 900))
    held_out = Batches(store, SITE, 10, rows=(900, 1000))
    assert set(epoch_rows(train)) == set(range(900)) and set(epoch_rows(held_out)) == set(range(900, 1000))


def test_uses_the_complete_rows_of_a_store_cut_short(write):
    batches = Batches(open_store(write(shards=[1, 4, 7])), SITE, 10)
    rows = epoch_rows(batches)
    assert len(rows) == 360 and set(rows) == {*range(128, 256), *range(512, 640), *range(896, 1000)}
    assert np.isfinite(batches[3]).all()
    rest = Batches(open_store(write(shards=[])), SITE, 4, rows=(100, 160))
    assert set(epoch_rows(rest)) == {*range(228, 256), *range(512, 544)}


def test_refuses(write):
    path = write()
    store = open_store(path)
    with pytest.raises(InputError, match=r"batch_size=1001: .* has 1000 rows"):
        Batches(store, SITE, 1001)
    with pytest.raises(InputError, match="batch_size=0"):
        Batches(store, SITE, 0)
    with pytest.raises(InputError, match="This store has"):
        Batches(store, "resid", 10)
    with pytest.raises(InputError, match="rows 900:1100"):
        Batches(store, SITE, 10, rows=(900, 1100))
    with pytest.raises(InputError, match="seed=-1"):
        Batches(store, SITE, 10, seed=-1)
    with pytest.raises(InputError, match="of batch -1"):
        Batches(store, SITE, 10)[-1]


def test_damage_surfaces_in_the_iterating_thread(write):
    path = write()
    file = path / f"sites/{SITE}/activations/c/2/0"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(InputError, match="c/2/0 is damaged"):
        for _ in itertools.islice(iterate(Batches(open_store(path), SITE, 50)), 20):
            pass
