"""Arrays on disk arrive in the store as they are, and unusable ones are refused by name."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxsae.errors import InputError
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.harvest.array_files import open_array
from jaxsae.harvest.arrays import parse_input
from jaxsae.store import open_store
from jaxsae.store.summary import summary

X = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)


@pytest.fixture
def run(tmp_path):
    def go(*entries, **changes):
        small = {"shard_rows": 64, "chunk_rows": 16}
        config = HarvestConfig(store=str(tmp_path / "s"), source="arrays", input=entries, **small, **changes)
        return harvest(config)

    return go


def save_bfloat16(path, **tensors):
    save_file({name: x.astype(ml_dtypes.bfloat16) for name, x in tensors.items()}, path)


def test_npy_round_trip_of_several_files(run, tmp_path):
    np.save(tmp_path / "a.npy", X[:100])
    np.save(tmp_path / "b.npy", np.asfortranarray(X[100:].astype(np.float64)))
    store = run(str(tmp_path / "a.npy"), str(tmp_path / "b.npy"))
    assert store.sites == ("activations",) and store.complete
    np.testing.assert_array_equal(store.read("activations", 0, 300), X)
    np.testing.assert_array_equal(store.column("sequence", 0, 300), np.arange(300) >= 100)
    np.testing.assert_array_equal(store.column("position", 90, 110), [*range(90, 100), *range(10)])
    assert set(store.column("tokens", 0, 300)) == {-1}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_bfloat16_safetensors_round_trip(run, tmp_path, dtype):
    save_bfloat16(tmp_path / "a.safetensors", x=X)
    store = run(str(tmp_path / "a.safetensors"), dtype=dtype)
    assert store.dtype("activations").name == dtype
    np.testing.assert_array_equal(store.read("activations", 0, 300), X.astype(ml_dtypes.bfloat16))


def test_sites_tokens_and_tensor(run, tmp_path):
    save_bfloat16(tmp_path / "a.safetensors", x=X, y=-X)
    np.save(tmp_path / "b.npy", X[:, :3])
    store = run(f"one={tmp_path}/a.safetensors", f"two={tmp_path}/b.npy", tensor="y", tokens=130)
    assert store.sites == ("one", "two") and store.rows == 130 and store.d_model("two") == 3
    np.testing.assert_array_equal(store.read("one", 0, 130), (-X[:130]).astype(ml_dtypes.bfloat16))
    np.testing.assert_array_equal(store.read("two", 0, 130), X[:130, :3])


def test_files_are_mapped_not_read(tmp_path):
    np.save(tmp_path / "a.npy", X)
    save_bfloat16(tmp_path / "a.safetensors", x=X)
    for name in ("a.npy", "a.safetensors"):
        assert isinstance(open_array(str(tmp_path / name)), np.memmap)


def test_a_path_may_hold_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("lr=3.npy", X)
    assert parse_input(("lr=3.npy", "a=b.npy", "c.npy")) == {"activations": ["lr=3.npy", "c.npy"], "a": ["b.npy"]}


def test_not_finite_names_file_and_row(run, tmp_path):
    bad = X.copy()
    bad[77, 2] = np.nan
    np.save(tmp_path / "a.npy", X[:20])
    np.save(tmp_path / "b.npy", bad)
    with pytest.raises(InputError, match=r"b\.npy: row 77 holds NaN or Inf"):
        run(str(tmp_path / "a.npy"), str(tmp_path / "b.npy"))


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (-1e300, "float32", r"a\.npy: row 77 holds -1e\+300, and float32 ends at 3\.403e\+38 .*out those rows\.$"),
        (1e5, "float16", r"a\.npy: row 77 holds 1e\+05, and float16 ends at 6\.55e\+04 .*take --dtype=float32\."),
        (-np.inf, "float32", r"a\.npy: row 77 holds NaN or Inf"),
    ],
)
def test_what_overflows_is_told_from_what_is_not_finite(value, dtype, words, tmp_path):
    bad = X.astype(np.float64)
    bad[77, 2] = value
    np.save(tmp_path / "a.npy", bad)
    flags = {"store": str(tmp_path / "s"), "source": "arrays", "input": (str(tmp_path / "a.npy"),), "dtype": dtype}
    with pytest.raises(InputError, match=words):
        harvest(HarvestConfig(**flags))


def test_one_huge_value_leaves_a_store_that_opens(tmp_path):
    rows = np.random.default_rng(0).normal(size=(2048, 4)).astype(np.float32)
    rows[1000, 1] = 1e25
    np.save(tmp_path / "a.npy", rows)
    flags = {"store": str(tmp_path / "s"), "source": "arrays", "input": (str(tmp_path / "a.npy"),)}
    store = harvest(HarvestConfig(**flags))
    statistics = store.statistics("activations")
    assert "inf" not in summary(store)
    exact = rows.astype(np.float64).var(0)
    assert statistics.variance[1] == pytest.approx(exact[1], rel=1e-6) and exact[1] == pytest.approx(4.9e46, rel=0.01)
    np.testing.assert_allclose(open_store(str(tmp_path / "s")).statistics("activations").variance, exact, rtol=1e-6)
    assert "Infinity" not in (tmp_path / "s/sites/activations/activations/zarr.json").read_text()


def test_other_files_are_other_settings(run, tmp_path):
    np.save(tmp_path / "a.npy", X)
    run(str(tmp_path / "a.npy"))
    np.save(tmp_path / "b.npy", X)
    with pytest.raises(InputError, match="other settings: --input=.*a.npy.*b.npy"):
        run(str(tmp_path / "b.npy"))


def test_refuses(run, tmp_path):
    def saved(name, array):
        np.save(tmp_path / name, array, allow_pickle=True)
        return str(tmp_path / name)

    good = saved("good.npy", X)
    (tmp_path / "text.npy").write_text("not an array")
    (tmp_path / "text.safetensors").write_text("not an array at all")
    save_bfloat16(tmp_path / "two.safetensors", x=X, y=X)
    save_bfloat16(tmp_path / "short.safetensors", x=X)
    short = tmp_path / "short.safetensors"
    short.write_bytes(short.read_bytes()[:-10])
    save_file({"x": np.zeros((3, 3), np.int32)}, tmp_path / "int.safetensors")
    for entries, changes, words in [
        ([str(tmp_path / "absent.npy")], {}, "no such file"),
        ([saved("one.npy", X[0])], {}, r"one\.npy: shape \(8,\)"),
        ([saved("none.npy", X[:0])], {}, "holds nothing"),
        ([saved("ints.npy", np.ones((3, 8), int))], {}, "not floats"),
        ([saved("objects.npy", np.array([[{}]], object))], {}, "not a .npy file of plain numbers"),
        ([saved("bf16.npy", X.astype(ml_dtypes.bfloat16))], {}, "not floats"),
        ([str(tmp_path / "text.npy")], {}, "not a .npy file"),
        ([str(tmp_path / "text.safetensors")], {}, "not a safetensors file"),
        ([str(short)], {}, "cut short"),
        ([str(tmp_path / "int.safetensors")], {}, "I32, not floats"),
        ([str(tmp_path / "two.safetensors")], {}, "name one with --tensor. There are: x, y"),
        ([str(tmp_path / "two.safetensors")], {"tensor": "z"}, "--tensor=z: not in"),
        ([str(tmp_path / "a.bin")], {}, "no such file"),
        ([good, saved("narrow.npy", X[:, :3])], {}, r"narrow\.npy: d_model 3, but .*good\.npy.* has 8"),
        ([f"a={good}", f"b={saved('few.npy', X[:9])}"], {}, "a 300, b 9"),
        ([good], {"tokens": 301}, "--tokens=301: .* 300 rows"),
        ([good], {"sites": ("b",)}, "--sites=b"),
    ]:
        with pytest.raises(InputError, match=words):
            run(*entries, **changes)
    assert not (tmp_path / "s").exists()
