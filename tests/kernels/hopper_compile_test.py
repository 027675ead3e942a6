"""The Hopper kernels compiled for an H200, with no such card: registers, spills, length, memory. Nothing is run.

Needs the CUDA plugin of jax's own version (`pip install "jaxsae[plan-gpu]"`) and no CUDA toolkit: the plugin carries
NVIDIA's assembler. The figures recorded here are jax 0.10.2's; growth by over a tenth fails.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.kernels import hopper_pairs
from jaxsae.kernels.encode_topk import chunked, hopper
from jaxsae.kernels.encode_topk.parts.hopper_buckets import Buckets, bucket_best
from jaxsae.platform import compiling_for

pytest.importorskip("jax_plugins.xla_cuda13")

H200 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 4800000000000 l2_cache_size: 62914560 device_memory_size: 150754820096
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H200"
"""
B, N, K = 8192, 2**20, 64
# Registers a thread, bytes of spills, lines of PTX.
RECORDED = {
    ("lists", 4096): (168, 36, 7477),
    ("lists", 2304): (168, 36, 7477),
    ("sums", 4096): (56, 0, 323),
    ("sums", 2304): (55, 0, 297),
    ("products", 4096): (70, 0, 233),
    ("products", 2304): (48, 0, 191),
}


@pytest.fixture(scope="module")
def card():
    """(shape, dtype) -> an abstract array on the card; functions compile for it."""
    topology = topologies.get_topology_desc(platform="cuda", target_config=H200, topology="1x1x1")
    mesh = topologies.make_mesh(topology, (1,), ("card",))
    with compiling_for(mesh):
        yield lambda *shape, dtype=jnp.bfloat16: jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P()))


def mebibytes(compiled):
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def kernel_of(name, card, d):
    """A kernel and its arguments at full size."""
    f32, i32 = partial(card, dtype=jnp.float32), partial(card, dtype=jnp.int32)
    if name == "lists":
        buckets = hopper.choose_buckets(B, N, K)
        assert buckets == Buckets(128, 3, 2048, 2)
        return partial(bucket_best, buckets=buckets, multiprocessors=132), (card(2048, d), card(N, d), f32(N))
    if name == "sums":
        return (lambda *part: hopper_pairs.outer_sums([part], N)), (f32(B, K), i32(B, K), card(B, d))
    return hopper_pairs.gather_dot, (f32(B, d), f32(B, K), i32(B, K), card(N, d))


@pytest.mark.parametrize(("name", "d"), RECORDED)
def test_a_kernel_keeps_its_registers_and_its_length(name, d, card, monkeypatch, tmp_path):
    monkeypatch.setenv("MOSAIC_GPU_DUMP_TO", str(tmp_path))
    for kind in ("PTX", "PTXAS"):
        monkeypatch.setenv(f"MOSAIC_GPU_DUMP_{kind}", "1")
    function, arguments = kernel_of(name, card, d)
    compiled = jax.jit(function).lower(*arguments).compile()
    (report,) = tmp_path.glob("*.ptxas")
    (listing,) = tmp_path.glob("*.ptx")
    registers = int(re.search(r"Used (\d+) registers", report.read_text()).group(1))
    spills = int(re.search(r"(\d+) bytes spill stores", report.read_text()).group(1))
    length = len(listing.read_text().splitlines())
    print(f"{name} d {d}: {registers} registers, {spills} bytes spilled, {length} lines, {mebibytes(compiled):.0f} MiB")
    for found, recorded in zip((registers, spills, length), RECORDED[name, d], strict=True):
        assert found <= 1.1 * recorded
    assert mebibytes(compiled) < 32  # besides arguments and results: no [P, d] block, no copy of the result


@pytest.mark.parametrize("encode", [hopper, chunked], ids=["mosaic_gpu", "chunked"])
def test_the_whole_selection_fits_beside_the_weights(encode, card):
    arguments = card(B, 4096), card(N, 4096), card(N, dtype=jnp.float32)
    compiled = jax.jit(partial(encode.encode_topk, k=K)).lower(*arguments).compile()
    print(f"{encode.__name__}: {mebibytes(compiled):.0f} MiB, where B x n in float32 takes {B * N / 2**18:.0f}")
    assert mebibytes(compiled) < 1024


@pytest.mark.parametrize(("n", "k"), [(5003, 32), (300, 64)])
def test_a_width_that_is_no_multiple_of_a_copys_rows_compiles(n, k, card):
    arguments = card(300, 128), card(n, 128), card(n, dtype=jnp.float32)
    jax.jit(partial(hopper.encode_topk, k=k)).lower(*arguments).compile()
