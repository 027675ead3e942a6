"""The roofline against numbers worked out by hand."""

import dataclasses

import pytest

from jaxsae.plan.chips import CHIPS
from jaxsae.plan.roofline import Part, Sizes, affordable, auxiliary, parts

V5P = CHIPS["v5p"]
# d 4096, n 2^24 over 64 chips, k 64, B 8192: a chip has 262,144 latents and 8,192 pairs.
SIZES = Sizes(
    rows=8192,
    batch=8192,
    latents=2**18,
    d=4096,
    pairs=8192.0,
    state=24 * 2**30,
    data=1,
    forms_gradient=False,
    compute=2,
    dtype="bfloat16",
    fused=True,
)


def test_a_step_on_v5p():
    found = parts(SIZES, moved=6e9)
    seconds = {name: part.bound(V5P, "bfloat16", 64) for name, part in found.items()}
    assert seconds["encoder_matmul"] == (pytest.approx(2 * 8192 * 4096 * 2**18 / 459e12), "matmul")  # 38.3 ms
    assert seconds["encoder_matmul"][0] == pytest.approx(38.3e-3, rel=1e-3)
    assert seconds["selection"][0] == 0
    assert seconds["decode"] == (pytest.approx(2 * 8192 * 4096 * 4 / 2765e9), "memory")  # rows read, sums written
    assert seconds["gradients"][0] == pytest.approx((8192 + 8192 + 6 * 8192) * 4096 * 4 / 2765e9)
    assert seconds["update"][0] == pytest.approx(2 * 24 * 2**30 / 2765e9)  # all state read and written
    assert seconds["collectives"] == (pytest.approx(0.01), "links")  # 6 GB at 600 GB/s


def test_a_formed_gradient_is_written_and_read():
    formed = dataclasses.replace(SIZES, forms_gradient=True)
    before, after = parts(SIZES, 0), parts(formed, 0)
    gradient = 2 * 2**18 * 4096 * 4
    assert after["gradients"].memory - before["gradients"].memory == gradient
    assert after["update"].memory - before["update"].memory == gradient


def test_selection_outside_the_matmul_writes_and_reads_pre_activations():
    apart = dataclasses.replace(SIZES, fused=False)
    assert parts(apart, 0)["selection"].memory == 2 * 8192 * 2**18 * 4


def test_latents_that_all_go_by_products_take_six():
    dense = parts(dataclasses.replace(SIZES, pairs=None), 0)
    assert sum(part.flops for part in dense.values()) == 6 * 2 * 8192 * 2**18 * 4096
    assert "selection" not in dense


def test_shards_of_the_batch_exchange_pairs():
    """Each sums the gradients of its own latents over the whole batch."""
    halves = dataclasses.replace(SIZES, rows=4096, pairs=4096.0, data=2)
    whole, half = parts(SIZES, 0)["gradients"].memory, parts(halves, 0)["gradients"].memory
    assert half == whole - (4096 + 4096) * 4096 * 4


def test_vector_operations_that_stay_hidden():
    assert affordable(V5P, SIZES) == pytest.approx(255, abs=1)
    assert affordable(CHIPS["v6e"], SIZES) == pytest.approx(64, abs=1)


def test_auxk_is_five_products_with_a_tenth_of_the_latents():
    part = auxiliary(SIZES, moved=0, shards=64)
    dead = 0.1 * 2**18
    assert part.flops == pytest.approx(5 * 2 * 8192 * dead * 4096)
    gathered = 2 * dead * 4096 * (4 + 2) + 4 * dead * 4096 * 4
    assert part.memory == pytest.approx(gathered + (31 + 4) * 8192 * dead * 4)


def test_beyond_one_machine_the_network_is_the_limit():
    part = Part(links=50e9)
    assert part.bound(CHIPS["h200"], "bfloat16", 8) == (pytest.approx(50 / 450), "links")
    assert part.bound(CHIPS["h200"], "bfloat16", 16) == (pytest.approx(1.0), "network")
