"""Every way in which a store can be wrong ends in one clear message."""

import json
import shutil

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.store import open_store
from jaxsae.store.summary import summary


def test_reads_rows_columns_and_metadata(write):
    store = open_store(write())
    assert store.sites == ("embed", "resid_post.1") and store.rows == store.rows_planned == 1000
    assert store.d_model("embed") == 4 and store.complete and store.missing == []
    assert store.read("embed", 100, 300).shape == (200, 4)
    np.testing.assert_array_equal(store.column("position", 990, 1000), np.arange(990, 1000))
    assert store.metadata("embed")["site"] == "embed" and store.metadata("embed")["tokenizer"] == "othello"
    for word in ("1,000", "resid_post.1", "complete", "seed=0"):
        assert word in summary(store)


def test_cut_short_is_readable_and_says_so_once(write, capsys):
    store = open_store(write(shards=[0, 1, 4, 7]))
    assert capsys.readouterr().err.count("cut short") == 1
    assert store.available == [(0, 256), (512, 640), (896, 1000)] and store.rows == 488
    assert store.missing == [(256, 512), (640, 896)] and not store.complete
    x = np.concatenate([store.read("embed", *r) for r in store.available]).astype(np.float64)
    np.testing.assert_allclose(store.statistics("embed").mean, x.mean(0), rtol=1e-6)
    assert store.statistics("embed").rows == 488 and "cut short" in summary(store)
    with pytest.raises(InputError, match=r"rows 256:300 .* not written .*harvest"):
        store.read("embed", 200, 300)


def test_a_store_without_rows_opens(write):
    store = open_store(write(shards=[]))
    assert store.rows == 0 and summary(store)
    with pytest.raises(InputError, match="no statistics yet"):
        store.statistics("embed")


def test_names_what_is_not_there(write, tmp_path):
    with pytest.raises(InputError, match="no such store"):
        open_store(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty or not a store"):
        open_store(tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        open_store(tmp_path / "file")
    store = open_store(write())
    for call in (lambda: store.read("embd", 0, 1), lambda: store.d_model("embd"), lambda: store.statistics("embd")):
        with pytest.raises(InputError, match=r"embd.*This store has: embed, resid_post\.1"):
            call()
    with pytest.raises(InputError, match="no column"):
        store.column("words", 0, 1)
    with pytest.raises(InputError, match=r"not in 0:1000"):
        store.read("embed", 0, 1001)


@pytest.mark.parametrize("kept", [0, 100])
def test_truncated_metadata(write, kept):
    path = write()
    file = path / "sites/embed/activations/zarr.json"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"sites/embed/activations/zarr\.json is damaged"):
        open_store(path)


def test_missing_column_and_differing_rows(write):
    path = write()
    file = path / "sites/embed/activations/zarr.json"
    metadata = json.loads(file.read_text())
    file.write_text(json.dumps(metadata | {"shape": [900, 4]}))
    with pytest.raises(InputError, match=r"differ in rows .*embed/activations 900"):
        open_store(path)
    file.write_text(json.dumps(metadata))
    shutil.rmtree(path / "position")
    with pytest.raises(InputError, match="'position' is missing"):
        open_store(path)


def test_flipped_bit_and_truncation_name_the_file(write):
    path = write()
    store, file = open_store(path), path / "sites/embed/activations/c/3/0"
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[20] ^= 4
    for content in (bytes(flipped), whole[:-1], whole[:100], whole[:2], b""):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"activations/c/3/0 is damaged, so rows 384:512 .*Delete that file"):
            store.read("embed", 300, 600)
    file.write_bytes(whole)
    assert store.read("embed", 300, 600).shape == (300, 4)


def test_damaged_column(write):
    path = write()
    file = path / "tokens/c/0"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(InputError, match="tokens/c/0 is damaged"):
        open_store(path).column("tokens", 0, 10)


def test_a_deleted_shard_is_written_again(write):
    path = write()
    expected = open_store(path).read("embed", 0, 1000)
    (path / "sites/embed/activations/c/3/0").unlink()
    assert open_store(path).missing == [(384, 512)]
    write(shards=[3])
    store = open_store(path)
    assert store.complete
    np.testing.assert_array_equal(store.read("embed", 0, 1000), expected)
