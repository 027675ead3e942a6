"""What several processes read are the batches of one, each its own rows alone, and an epoch has each row once."""

import json

import numpy as np

from jaxsae.faults.children import Children
from jaxsae.store import Batches, open_store

READ = """
import json, sys
from pathlib import Path
import jax, numpy as np
from jaxsae.parallel import batch_sharding, make_mesh
from jaxsae.hosts.joining import JoinConfig
from jaxsae.hosts.processes import joined
from jaxsae.faults.children import Children
from jaxsae.store import Batches, loader, local_batch, open_store

url, out, mesh, *flags = sys.argv[1:]
given = dict(f[2:].split("=") for f in flags)
number = int(given.get("process_id", 0))
join = JoinConfig(coordinator=given["coordinator"], num_processes=int(given["num_processes"]), process_id=number)
with joined(join, "test"):
    batches = Batches(open_store(url), "activations", 64, seed=3, block_bytes=2**13)
    sharding = batch_sharding(make_mesh(json.loads(mesh)))
    held = {}
    for step in range(32):
        x = local_batch(batches, step, sharding)
        for shard in x.addressable_shards:
            held[f"{step} {shard.index[0].start or 0}"] = np.asarray(shard.data)
    held["ranges"] = np.asarray(loader.local_rows(sharding, (64, 16)))
    np.savez(Path(out) / f"{number}.npz", **held)
"""


def test_batches_of_2_and_4_processes_are_those_of_one_and_each_reads_only_its_rows(store, tmp_path):
    batches = Batches(open_store(store), "activations", 64, seed=3, block_bytes=2**13)
    script = tmp_path / "read.py"
    script.write_text(READ)
    for count, devices, mesh, rows in ((2, 2, [4, 1], 32), (4, 1, [4, 1], 16), (2, 2, [1, 4], 64)):
        out = tmp_path / f"{count}-{mesh[0]}"
        with Children(out, [str(script), store, str(out), json.dumps(mesh)], count, devices) as run:
            assert run.wait(60) == [0] * count, run.output(0)
        for number in range(count):
            held = dict(np.load(out / f"{number}.npz"))
            first, last = held.pop("ranges")[0]
            assert last - first == rows and first == (number * rows) % 64
            for key, x in held.items():
                step, start = map(int, key.split())
                np.testing.assert_array_equal(x, batches[step][start : start + len(x)])


def test_an_epoch_reads_each_row_once_however_it_is_cut_by_resumes(store):
    seen = []
    for first, last in ((0, 11), (11, 12), (12, 32)):  # fresh `Batches`, as each resume has
        batches = Batches(open_store(store), "activations", 64, seed=3, block_bytes=2**13)
        seen += [row for step in range(first, last) for row in batches.rows_of(step)]
    assert sorted(seen) == list(range(2048))
