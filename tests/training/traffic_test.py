"""What a step moves between devices and sets aside, read off the compiled program: neither grows with the width."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig, Widths, make_method
from jaxsae.parallel import batch_sharding, make_mesh
from jaxsae.training.config import OptimizerConfig
from jaxsae.training.optimizer import make_optimizer, schedule
from jaxsae.training.routes import choose
from jaxsae.training.routes.choose import PLANNED_SHARE
from jaxsae.training.state import abstract_state, make_init
from jaxsae.training.step import Pace, StepConfig, make_step

D, BATCH, K = 32, 64, 8
SIZES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "pred": 1}
COLLECTIVE = re.compile(
    r"= (.*?) (?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(.*?replica_groups=(\S+)"
)
ALONE = re.compile(r"\{(\{\d+\},?)+\},?|\[\d+,1\]<=.*")  # groups of one device: nothing moves


def compiled_step(shape, width, architecture="topk", **kwargs):
    mesh = make_mesh(shape, jax.devices()[: shape[0] * shape[1]])
    method = make_method(MethodConfig(width=width, k=K, architecture=architecture))
    optimizer = make_optimizer(OptimizerConfig(), 0)
    init = make_init(method, optimizer, Widths.of(D), ema=False)
    abstract = abstract_state(init, Widths.of(D), mesh)
    step = make_step(method, optimizer, StepConfig(BATCH, Widths.of(D), **kwargs), abstract, mesh)
    x = jax.ShapeDtypeStruct((BATCH, D), jnp.float32, sharding=batch_sharding(mesh))
    return step.lower(abstract, x, Pace(schedule(OptimizerConfig(), 1e-3, 100), np.int32(10**6))).compile()


def bytes_moved(text):
    """Bytes of the results of all collectives in a compiled program, each counted once."""
    total = 0
    for shapes, groups in COLLECTIVE.findall(text):
        if ALONE.fullmatch(groups):
            continue
        for dtype, dimensions in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            total += SIZES[dtype] * math.prod(int(n) for n in dimensions.split(",") if n)
    return total


def test_the_counter_sees_a_collective():
    mesh = make_mesh((1, 8))
    sum_all = jax.shard_map(
        lambda x: jax.lax.psum(x, "model"), mesh=mesh, in_specs=jax.P("model"), out_specs=jax.P(), check_vma=False
    )
    text = jax.jit(sum_all).lower(jax.ShapeDtypeStruct((8, 100), jnp.float32)).compile().as_text()
    assert bytes_moved(text) == 400


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
@pytest.mark.parametrize("shape", [(1, 8), (2, 4)])
def test_bytes_moved_do_not_grow_with_the_width(shape, architecture, monkeypatch):
    monkeypatch.setattr(choose, "widest_by_products", lambda *_: 0)  # both widths by pairs
    narrow, wide = (bytes_moved(compiled_step(shape, n, architecture).as_text()) for n in (4096, 16384))
    assert 0 < narrow == wide


# Bytes a latent: dead ones have rows of two weights and two gradients, the latter as they are summed and as they are used.
ROOM = 6 * 4 * D * PLANNED_SHARE
VECTORS = 8 * 4  # bytes a latent


@pytest.mark.parametrize(("aux", "room"), [(True, ROOM), (False, 0)])
def test_temporaries_do_not_grow_by_a_gradient(aux, room):
    """Gradients are summed block by block: what grows is vectors over the latents, and the room for dead ones."""
    narrow, wide = (compiled_step((1, 1), n, aux=aux).memory_analysis().temp_size_in_bytes for n in (2**18, 2**20))
    assert wide - narrow <= (room + VECTORS) * (2**20 - 2**18)


def test_temporaries_of_a_clipped_step_grow_by_gradients_alone():
    narrow, wide = (
        compiled_step((1, 1), n, clip_norm=1.0).memory_analysis().temp_size_in_bytes for n in (2**18, 2**20)
    )
    gradient = 4 * (2 * D + 1) * (2**20 - 2**18)  # of W_enc, W_dec and b_enc
    assert gradient / 2 < wide - narrow <= gradient + (ROOM + VECTORS) * (2**20 - 2**18)
