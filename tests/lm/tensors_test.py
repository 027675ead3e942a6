"""Headers of safetensors files are read without the library, and what is wrong with a file is said before it is used."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.lm.tensors import tensors_of

WHOLE = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


def _written(path, entries, data=b"\0" * 24):
    header = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_values_are_those_that_the_library_wrote(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    rng = np.random.default_rng(0)
    values = {"a": rng.normal(size=(3, 5)).astype(np.float32), "b": rng.normal(size=7).astype(np.float16)}
    values |= {"c": rng.normal(size=(2, 2)).astype(ml_dtypes.bfloat16), "d": np.zeros((0, 4), np.float32)}
    values |= {"e": np.array(3.5), "f": np.arange(6, dtype=np.int64).reshape(1, 2, 3)}
    save_file({name: values[name] for name in "abf"}, tmp_path / "1.safetensors", metadata={"format": "np"})
    save_file({name: values[name] for name in "cde"}, tmp_path / "2.safetensors")
    found = tensors_of([tmp_path / "1.safetensors", tmp_path / "2.safetensors"], "m")
    assert found.keys() == values.keys()
    for name, value in values.items():
        assert found[name].shape == value.shape and found[name].dtype == str(value.dtype)
        np.testing.assert_array_equal(found[name].mapped(), value)


@pytest.mark.parametrize(
    ("entries", "data", "message"),
    [
        (b"not json", b"", "is damaged"),
        (b"[1, 2]", b"", "is damaged"),
        (b'{"a": {"dtype": "F32"}}', b"", "is damaged"),
        (WHOLE, b"\0" * 23, "is cut short: a ends behind it"),
        ({"a": WHOLE["a"] | {"shape": [2, 4]}}, b"\0" * 32, "a has other bytes than its shape"),
        ({"a": WHOLE["a"] | {"data_offsets": [-8, 16]}}, b"\0" * 24, "a has other bytes than its shape"),
        ({"a": WHOLE["a"] | {"shape": [-2, -3]}}, b"\0" * 24, "a has other bytes than its shape"),
        ({"a": WHOLE["a"] | {"shape": [2.0, 3]}}, b"\0" * 24, "is damaged"),
        ({"a": WHOLE["a"] | {"dtype": ["F32"]}}, b"\0" * 24, "is damaged"),
        ({"a": WHOLE["a"] | {"dtype": "F8_E4M3"}}, b"\0" * 24, "a in m.safetensors is of type F8_E4M3"),
    ],
)
def test_a_damaged_file_is_named(entries, data, message, tmp_path):
    path = _written(tmp_path / "m.safetensors", entries, data)
    with pytest.raises(InputError, match=f"--model=m: .*{message}"):
        tensors_of([path], "m")


@pytest.mark.parametrize("content", [b"", b"\x10\0\0", struct.pack("<Q", 2**40) + b"{}", struct.pack("<Q", 0)])
def test_a_file_without_a_header(content, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="m.safetensors is damaged.*Get it anew"):
        tensors_of([path], "m")


def test_a_header_that_is_cut(tmp_path):
    path = _written(tmp_path / "m.safetensors", WHOLE)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="m.safetensors is damaged"):
        tensors_of([path], "m")


def test_a_pointer_of_git_lfs(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(InputError, match="Git LFS pointer.*git lfs pull"):
        tensors_of([path], "m")
