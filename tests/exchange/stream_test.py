"""Exports by ranges of latents: the bytes of whole arrays, memory for a range alone, and other types."""

import tracemalloc
import zipfile
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.exchange import circuit_tracer, dictionary_learning, ranges, saelens, sparsify, stream, weights

N, D = 128, 48  # of `make_dictionary`


@pytest.fixture
def small_ranges(monkeypatch):
    """Ranges of 16 latents."""
    monkeypatch.setattr(ranges, "ROWS", 16)
    monkeypatch.setattr(ranges, "BYTES", 1)


def whole(dictionary, form, pre_bias: bool) -> dict[str, np.ndarray]:
    """The tensors of a form, made of whole arrays."""
    w = weights.unit_rows(weights.of_dictionary(dictionary), dictionary.config)
    w = weights.one_threshold(weights.set_pre_bias(w, dictionary.pre_bias, pre_bias), dictionary)
    laid = lambda ours, letters: w.arrays[ours].T if letters == "dn" else w.arrays[ours]
    return {theirs: np.ascontiguousarray(laid(*form)) for theirs, form in form.items()}


METHODS = ["topk", "abstopk", "batchtopk", "matryoshka", "jumprelu", "jumprelu_tanh", "gated", "rescaled", "relu"]


@pytest.mark.parametrize("architecture", METHODS)
def test_the_bytes_are_those_of_whole_arrays(architecture, make_dictionary, small_ranges, tmp_path):
    dictionary = make_dictionary(architecture)
    assert len(list(ranges.ranges(dictionary))) == 8
    saelens.write(dictionary, tmp_path)
    form = saelens.FORMS[saelens.name_in("saelens", dictionary)]
    save_file(whole(dictionary, form, dictionary.pre_bias), tmp_path / "expected")
    assert (tmp_path / saelens.WEIGHTS).read_bytes() == (tmp_path / "expected").read_bytes()


def test_the_bytes_of_sparsifys_file(make_dictionary, small_ranges, tmp_path):
    dictionary = make_dictionary("topk")
    sparsify.write(dictionary, tmp_path)
    save_file(whole(dictionary, sparsify.FORM, True), tmp_path / "expected")
    assert (tmp_path / sparsify.WEIGHTS).read_bytes() == (tmp_path / "expected").read_bytes()


@pytest.mark.parametrize("architecture", [m for m in METHODS if m != "abstopk"])
def test_the_tensors_of_a_torch_file(architecture, torch, make_dictionary, small_ranges, tmp_path):
    dictionary = make_dictionary(architecture)
    name = dictionary_learning.name_in("dictionary_learning", dictionary)
    dictionary_learning.write(dictionary, tmp_path)
    path = tmp_path / dictionary_learning.WEIGHTS
    found = torch.load(path, weights_only=True)
    expected = whole(dictionary, dictionary_learning.FORMS[name], name != "JumpReluAutoEncoder")
    assert set(found) - set(expected) <= {"k", "threshold", "group_sizes"}
    for tensor, array in expected.items():
        np.testing.assert_array_equal(found[tensor].numpy(), array, err_msg=tensor)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None  # sums are those of what was filled in
    assert path.stat().st_size < 4 * sum(array.size for array in expected.values()) + 5000


def wide(width: int) -> Dictionary:
    rng = np.random.default_rng(0)
    rows = lambda: rng.standard_normal((width, 64)).astype(np.float32)
    params = Params.of(W_enc=rows(), b_enc=rows()[:, 0], W_dec=rows(), b_dec=rows()[0])
    metadata = {"site": "mlp_in.0->mlp_out.0", "reads": ["mlp_in.0"], "writes": ["mlp_out.0"]}
    return Dictionary(params, MethodConfig(width, "relu", transcode=True), metadata)


@pytest.mark.parametrize("file_format", [saelens, circuit_tracer])
def test_memory_is_that_of_a_range(file_format, monkeypatch, tmp_path):
    monkeypatch.setattr(ranges, "BYTES", 1 << 18)
    dictionary = wide(width=1 << 15)  # of 8 MiB each
    tracemalloc.start()
    file_format.write(dictionary, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_memory_of_a_torch_file(torch, monkeypatch, tmp_path):
    monkeypatch.setattr(ranges, "BYTES", 1 << 18)
    monkeypatch.setattr("jaxsae.exchange.torch_file._BLOCK", 1 << 18)
    dictionary = wide(width=1 << 15)
    dictionary = Dictionary(dictionary.params, MethodConfig(dictionary.width, "relu"))
    tracemalloc.start()
    dictionary_learning.write(dictionary, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
    found = torch.load(tmp_path / dictionary_learning.WEIGHTS, weights_only=True)["decoder.weight"]
    np.testing.assert_allclose(found.norm(dim=0), 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_types_in_saelens_and_sparsify(dtype, package, load_saelens, make_dictionary, small_ranges, tmp_path):
    torch, sparse_coder = package("torch"), package("sparsify").SparseCoder
    kind = stream.DTYPES[dtype]
    jump, top = make_dictionary("jumprelu"), make_dictionary("topk")
    saelens.write(jump, tmp_path, dtype=dtype)
    (tmp_path / "s").mkdir()
    sparsify.write(top, tmp_path / "s", dtype=dtype)
    with safe_open(tmp_path / saelens.WEIGHTS, "numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("W_enc"), np.asarray(jump.params.W_enc).T.astype(kind))
        for name in ("threshold", "b_enc"):  # what decides is as it was
            np.testing.assert_array_equal(file.get_tensor(name), jump.params.latent[name])
    theirs = load_saelens(tmp_path)
    assert theirs.W_dec.dtype == theirs.threshold.dtype == getattr(torch, dtype)
    coder = sparse_coder.load_from_disk(tmp_path / "s")
    assert coder.W_dec.dtype == coder.encoder.weight.dtype == getattr(torch, dtype)
    np.testing.assert_array_equal(
        coder.encoder.weight.detach().float(), np.asarray(top.params.W_enc).astype(kind).astype(np.float32)
    )


@pytest.mark.parametrize("architecture", ["jumprelu", "batchtopk", "matryoshka"])
def test_other_types_in_dictionary_learning(architecture, load_dictionary, make_dictionary, small_ranges, tmp_path):
    dictionary = make_dictionary(architecture)
    dictionary_learning.write(dictionary, tmp_path, dtype="bfloat16")
    sae, _ = load_dictionary(tmp_path)
    expected = np.asarray(dictionary.params.W_dec).astype(ml_dtypes.bfloat16).astype(np.float32)
    found = sae.decoder.weight.T if architecture == "batchtopk" else sae.W_dec
    np.testing.assert_array_equal(found.detach().numpy(), expected)
    threshold = dictionary.params.latent.get("threshold", np.float32(dictionary.threshold))
    np.testing.assert_array_equal(sae.threshold.detach().numpy(), threshold)
    assert dictionary_learning.read(tmp_path).params.W_dec.dtype == np.float32


def test_numbers_that_a_type_does_not_have_are_refused(make_dictionary, small_ranges, tmp_path):
    dictionary = make_dictionary("topk")
    dictionary = Dictionary(dictionary.params.put(W_enc=3e5 * dictionary.params.W_enc), dictionary.config)
    large = int((np.abs(np.asarray(dictionary.params.W_enc)) >= 65520).sum())
    assert 0 < large < N * D
    with pytest.raises(InputError, match=rf"--dtype=float16: {large:,} numbers of W_enc .*65504.*bfloat16 or float32"):
        saelens.write(dictionary, tmp_path, dtype="float16")
    saelens.write(dictionary, tmp_path, dtype="bfloat16")


def test_numbers_that_are_none_are_counted_over_all_ranges(make_dictionary, small_ranges, tmp_path):
    params = make_dictionary("topk").params
    W_dec = np.array(params.W_dec)
    W_dec[[3, 40, 127], 5] = np.nan, np.inf, -np.inf
    dictionary = Dictionary(params.put(W_dec=W_dec), MethodConfig(N, "topk"))
    with pytest.raises(InputError, match="3 values of W_dec are NaN or infinite"):
        saelens.write(dictionary, tmp_path)


def test_ranges_end_where_chunks_do_and_begin_with_the_first_layer(monkeypatch):
    monkeypatch.setattr(ranges, "ROWS", 4)
    monkeypatch.setattr(ranges, "BYTES", 4 * 2 * 10 * 4 * 3)  # three times 4 rows of 2 times 10 numbers
    found = lambda width, layers, chunk: [(r.start, r.stop) for r in ranges.ranges(stands_for(width, layers, chunk))]
    assert found(50, 1, 50) == [(0, 12), (12, 24), (24, 36), (36, 48), (48, 50)]
    assert found(50, 1, 16) == [(0, 12), (12, 16), (16, 28), (28, 32), (32, 44), (44, 48), (48, 50)]
    assert found(36, 3, 16) == [(0, 12), (12, 24), (24, 36)]  # 16 would begin with another layer


def stands_for(width: int, layers: int, chunk: int) -> SimpleNamespace:
    rows = SimpleNamespace(shape=(width, 10), chunk=chunk)
    params = SimpleNamespace(W_enc=rows, W_dec=rows)
    return SimpleNamespace(params=params, config=SimpleNamespace(layers=layers), width=width)
