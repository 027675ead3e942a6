"""Compiles a language model's harvest for devices that are not there, in a process of its own."""

import math
from typing import TYPE_CHECKING, Any

from jaxsae.plan.child import child_main, compile_in_child, compile_lowered
from jaxsae.plan.config import PlanConfig

if TYPE_CHECKING:
    from jaxsae.lm.decoder.shape import Decoder, Split

MODULE = "jit_device"
STORED = "float32"  # as `harvest` stores activations unless it is told otherwise
_ATTENTION, _MLP = ("q", "k", "v", "o"), ("gate", "up", "down")


def compile_reading(config: PlanConfig) -> dict[str, Any]:
    """What the compiler says of a forward pass that reads, as `_main` collects it; raises as `compile_in_child` does."""
    return compile_in_child("jaxsae.plan.reading", config, "the model")


def _main(config: PlanConfig, folder: str) -> dict[str, Any]:
    """Compiles and reads; everything is in bytes and of one device."""
    import jax
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    from jaxsae.lm.decoder.lm import compiled_length
    from jaxsae.lm.decoder.load import abstract
    from jaxsae.lm.decoder.reader import reading
    from jaxsae.lm.decoder.shape import Split
    from jaxsae.parallel import DATA, MODEL, make_mesh
    from jaxsae.plan.collectives import find_collectives
    from jaxsae.plan.model import context_of, shape_at, sites_of
    from jaxsae.plan.topology import Topology
    from jaxsae.training.memory import local_bytes

    shape = shape_at(config)
    devices = Topology.of(config.topology).devices()
    mesh = make_mesh(config.mesh, devices)
    sites, context = sites_of(config, shape), context_of(config, shape)
    weights = abstract(shape, mesh, config.model_dtype, shape.blocks_for(sites))
    data = mesh.shape[DATA]
    rows, length = -(-config.sequences // data) * data, compiled_length(shape, context, context)
    tokens = jax.ShapeDtypeStruct((rows, length), "int32", sharding=NamedSharding(mesh, P(DATA, None)))
    whole = len({device.process_index for device in devices}) > 1
    lowered = reading(shape, mesh, sites, STORED, whole).lower(weights, tokens)
    outcome = compile_lowered(lowered, folder, MODULE)
    moved: dict[str, float] = {}
    for one in find_collectives(outcome.text, mesh.size):
        moved[one.kind] = moved.get(one.kind, 0) + one.moved
    held, put = local_bytes(weights), local_bytes(tokens)
    activations = len(sites) * (rows if whole else rows // data) * length * shape.d_model * 4
    split = Split.of(shape, mesh.shape[MODEL])
    products, attention = operations(shape, split, weights["blocks"], sites, rows // data, length)
    return {
        "sites": list(sites),
        "context": context,
        "compiled_length": length,
        "blocks": len(weights["blocks"]),
        "compile_seconds": outcome.seconds,
        "weights": held,
        "activations": activations,
        "workspace": max(0, outcome.buffers.total - held - put - activations),
        "refused_by_compiler": outcome.refused,
        "moved": moved,
        "product_flops": products,
        "attention_flops": attention,
    }


def operations(
    shape: "Decoder", split: "Split", blocks: list[dict[str, Any]], sites: tuple[str, ...], rows: int, length: int
) -> tuple[float, float]:
    """FLOPs of one device in products with weights, and in those of queries with keys and of their shares with values.

    Args:
      blocks: abstract weights with shardings, of the blocks that are run through. rows: sequences of one device.
    """
    from jaxsae.lm.decoder.forward import pieces
    from jaxsae.lm.decoder.shape import BLOCK_SITES

    products = attention = 0.0
    heads = split.groups * split.queries // split.shards
    deepest = max((BLOCK_SITES.index(s.split(".")[0]) for s in sites if s.endswith(f".{len(blocks) - 1}")), default=0)
    for number, (block, layer) in enumerate(zip(blocks, shape.layers, strict=False)):
        last = number == len(blocks) - 1
        names = _ATTENTION if not last or deepest >= BLOCK_SITES.index("attn_out") else ()
        pairs = sum((end - first) * (end - begin) for begin, first, end in pieces(length, layer.window)) if names else 0
        if not last or deepest >= BLOCK_SITES.index("mlp_out"):
            names += _MLP
        used = [block[name] for name in names if name in block]
        products += 2.0 * rows * length * sum(math.prod(w.sharding.shard_shape(w.shape)) for w in used)
        attention += 4.0 * rows * pairs * heads * shape.d_head
    return products, attention


if __name__ == "__main__":
    child_main(_main)
