"""What the CPU encoder's layout and the grouped pairs' sort are worth, against XLA's plain ways.

    python tests/studies/cpu_encoder.py [D_MODEL WIDTH]

Prints medians of wall and CPU milliseconds: the bare encoder matmul with its [B, n] result, tiles of W x^T with maxima
over buckets, and the sort of 65,536 pairs as one word and as key and payload. Not a test: its figures stand in
BUILD_NOTES.md.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp

from jaxsae.benchmark.clock import time_in_turn
from jaxsae.kernels.encode_topk.parts.stream import LANES

BATCH, BUCKET, PAIRS = 2048, 64, 65_536


def main(d: int, width: int) -> None:
    """Times all of it in turn."""
    keys = jax.random.split(jax.random.key(0), 4)
    x, w = jax.random.normal(keys[0], (BATCH, d)), jax.random.normal(keys[1], (width, d))
    b = jax.random.normal(keys[2], (width,))

    @partial(jax.jit, static_argnums=3)
    def maxima(x, w, b, rows):
        def tile(part):
            pre = jax.lax.dot_general(w, part, LANES) + b[:, None]
            return pre.reshape(-1, BUCKET, rows).max(1)

        return jax.lax.map(tile, x.reshape(-1, rows, d))

    latent = jax.random.randint(keys[3], (PAIRS,), 0, 2**15).astype(jnp.uint32)
    number = jnp.arange(PAIRS, dtype=jnp.uint32)
    floor = jax.jit(lambda x, w: jax.lax.dot_general(x, w, LANES))
    one_word = jax.jit(lambda latent, number: jax.lax.sort((latent << 16) | number))
    two_words = jax.jit(lambda latent, number: jax.lax.sort((latent, number), num_keys=1))
    calls = {"x W^T": lambda _: floor(x, w)}
    calls |= {f"W x^T, {rows} rows, maxima": lambda _, rows=rows: maxima(x, w, b, rows) for rows in (64, 128, 256)}
    calls |= {"sort, one word": lambda _: one_word(latent, number)}
    calls |= {"sort, key and payload": lambda _: two_words(latent, number)}
    for name, taken in time_in_turn(calls, repeats=9).items():
        print(f"{name:<28}{taken.seconds * 1e3:9.1f} ms{taken.cpu_seconds * 1e3:9.1f} CPU ms")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3] or (768, 32_768)))
