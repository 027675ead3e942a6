"""Bytes that a compiled program moves: loops turn as often as they do, groups of one move nothing."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.parallel import make_mesh
from jaxsae.plan.buffers import read_report, shape_bytes, show_shape
from jaxsae.plan.collectives import Collective, find_collectives

SHARDS, N = 8, 100


def collectives(device, *arguments, out=P):
    mesh = make_mesh((1, SHARDS))
    sharded = jax.shard_map(device, mesh=mesh, in_specs=P("model"), out_specs=out(), check_vma=False)
    return find_collectives(jax.jit(sharded).lower(*arguments).compile().as_text(), SHARDS)


def test_a_sum_moves_twice_its_size_but_for_ones_own_share():
    (one,) = collectives(lambda x: jax.lax.psum(x, "model"), jnp.zeros(SHARDS * N))
    assert (one.kind, one.size, one.result_bytes, one.times) == ("all-reduce", 8, 4 * N, 1)
    assert one.moved == pytest.approx(2 * 7 / 8 * 4 * N)


def test_a_gather_moves_its_result_but_for_ones_own_share():
    (one,) = collectives(lambda x: jax.lax.all_gather(x, "model"), jnp.zeros(SHARDS * N))
    assert one.kind == "all-gather" and one.moved == pytest.approx(7 * 4 * N)


def test_a_loop_counts_as_often_as_it_turns():
    def device(x):
        turn = lambda _, y: jax.lax.fori_loop(0, 3, lambda _, z: jax.lax.psum(jnp.sin(z), "model"), y)
        return jax.lax.fori_loop(0, 5, turn, x)

    found = collectives(device, jnp.zeros(SHARDS * N))
    assert sum(one.times for one in found) == 15 and all(one.counted for one in found)


def test_a_loop_of_unknown_turns_counts_once_and_says_so():
    def device(x):
        return jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: jax.lax.psum(jnp.sin(y), "model"), x)

    assert any(one.times == 1 and not one.counted for one in collectives(device, jnp.zeros(SHARDS * N)))


def test_groups_of_one_move_nothing():
    assert not collectives(lambda x: jax.lax.psum(x, "data"), jnp.zeros(SHARDS * N), out=lambda: P("model"))


@pytest.mark.parametrize(("axes", "size"), [("data", 2), ("model", 4), (("data", "model"), 8)])
def test_groups_are_as_large_as_the_axes_they_go_over(axes, size):
    mesh = make_mesh((2, 4))
    summed = lambda x: jax.lax.psum(x, axes)
    step = jax.shard_map(summed, mesh=mesh, in_specs=P(("data", "model")), out_specs=P(), check_vma=False)
    (one,) = find_collectives(jax.jit(step).lower(jnp.zeros(SHARDS * N)).compile().as_text(), SHARDS)
    assert (one.size, one.moved) == (size, pytest.approx(2 * (size - 1) / size * 4 * N))


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", 2),
        ("[2,4]<=[8]", 4),
        ("[4,2]<=[2,4]T(1,0)", 2),
        ("{}", 8),
        ("mesh['data'=2,'model'=4] {'data'}", 2),
        ("mesh['data'=2,'model'=4] {'data','model'}", 8),
        ("mesh['data'=2,'model'=4] {'model':(1)2}", 2),
    ],
)
def test_groups_in_all_their_forms(groups, size):
    line = f"  ROOT %x = f32[8]{{0}} all-reduce(%y), channel_id=1, replica_groups={groups}, to_apply=%add"
    (one,) = find_collectives(f"ENTRY %main (y: f32[8]) -> f32[8] {{\n{line}\n}}", 8)
    assert one.size == size


def test_groups_in_an_unknown_form_are_no_number():
    line = "  ROOT %x = f32[8]{0} all-reduce(%y), replica_groups=<8x1>, to_apply=%add"
    with pytest.raises(ValueError, match="unknown form: replica_groups=<8x1>"):
        find_collectives(f"ENTRY %main (y: f32[8]) -> f32[8] {{\n{line}\n}}", 8)


TPU_TEXT = """HloModule jit_f, is_scheduled=true

%body.1 (p.1: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %p.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %sum = f32[8,128]{1,0:T(8,128)S(1)} all-reduce(%x), channel_id=1, replica_groups=[2,4]<=[8], to_apply=%add
}

%condition.1 (p.2: (s32[], f32[8,128])) -> pred[] {
  %p.2 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p.2), index=0
  %n = s32[]{:T(128)} constant(32)
  ROOT %test = pred[]{:T(512)} compare(%i, %n), direction=LT
}

%wrapped (p.3: f32[8,128]) -> f32[16,128] {
  %p.3 = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %g = f32[16,128]{1,0:T(8,128)} all-gather(%p.3), replica_groups={{0,1},{2,3},{4,5},{6,7}}, dimensions={0}
}

ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %start = ((f32[8,128]{1,0:T(8,128)}), f32[16,128]{1,0:T(8,128)}) async-start(%a), calls=%wrapped
  %pair = (f32[8,128]{1,0}, f32[8,128]{1,0}, u32[], u32[]) collective-permute-start(%a), source_target_pairs={{0,1}}
  %loop = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%t), condition=%condition.1, body=%body.1
  ROOT %out = f32[8,128]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
"""


def test_the_text_of_a_tpu_program():
    """Layouts with tiles, a loop whose turns its condition tells, collectives started and ended apart."""
    assert find_collectives(TPU_TEXT, 8) == [
        Collective("all-gather", 2, 16 * 128 * 4, 1, True, ""),
        Collective("collective-permute", 2, 8 * 128 * 4, 1, True, ""),
        Collective("all-reduce", 4, 8 * 128 * 4, 32, True, ""),
    ]


REPORT = """Memory Space: default (color=0)
Total bytes: 12884901888 (12.00GiB)
  cumulative_size;       size;       offset; used_by_n_values; shapes_list
  ------------------------------------------------------------
    4.00GiB(100%);    4.00GiB;            0;                2; 2xf32[262144,4096]

  cumulative_size;       size;       offset; used_by_n_values; shapes_list
  ------------------------------------------------------------
    2.00GiB( 80%);    2.00GiB;      8404992;               23; bf16[262144,4096], f32[2048,4,64], 2xs32[4096,128]
    2.25GiB( 90%);  256.00MiB;   2597879808;                1; f32[4096,16384]
    2.25GiB(100%);    4.00MiB;     10502144;                2; s32[8192,64], pred[8192,64]

Memory Space: vmem (color=1)
Total bytes: 10616832 (10.12MiB)
  cumulative_size;       size;       offset; used_by_n_values; shapes_list
  ------------------------------------------------------------
    8.00GiB(100%);    8.00GiB;            0;                1; f32[524288,4096]
"""


def test_the_compilers_account_of_memory():
    buffers = read_report(REPORT.replace("2x", "2\N{MULTIPLICATION SIGN}"))
    assert buffers.total == 12 * 2**30
    assert [slot.size for slot in buffers.slots] == [2 * 2**30, 2**28, 2**22]  # without arguments and other memories
    assert show_shape(buffers.largest()) == "bf16[262144,4096]"
    assert shape_bytes(buffers.largest_of_batch(262144, 4096)) == 4096 * 16384 * 4
    assert buffers.width_share(262144) == 2 * 2**30


def test_an_account_of_something_else():
    with pytest.raises(ValueError, match="memory"):
        read_report("Memory Space: vmem (color=1)\nTotal bytes: 1 (1B)\n")
