"""What collecting takes, said before it begins where that is much."""

import os

import jax

from jaxsae.dashboard.settings import Settings
from jaxsae.dashboard.together import PRODUCTS
from jaxsae.evaluate.context import Context
from jaxsae.progress import say

CPU_RATE, FIRING_RATE = 2.5e10, 1.5e7  # multiply-adds in a second of a core: of the encoder, of what fires together
SECONDS, BYTES = 60, 1e9  # from which it is said
_BYTES = 16  # of an active latent: the matrix, and its copy for what fires together


def say_cost(context: Context, rows: int, settings: Settings, shown: int | None, sets: int = 1) -> None:
    """Says how long it takes and how much memory, by the rows and the dictionary; `sets`: how many alike."""
    seconds, memory = cost(context, rows, settings, shown)
    if seconds * sets < SECONDS and memory * sets < BYTES:
        return
    times = f" each of {sets} dictionaries" if sets > 1 else ""
    seconds = seconds * sets
    minutes = f"about {max(1, round(seconds / 60))} min" if seconds < 6000 else f"about {seconds / 3600:.1f} h"
    took = f"{minutes} on {_cores()} cores" if jax.default_backend() == "cpu" else "on its device"
    say(
        f"{rows:,} rows through {context.dictionary.width:,} latents of {context.dictionary.d_model:,}{times}: "
        f"{took}, {memory * sets / 1e9:.1f} GB of memory at most beside the parameters"
    )


def cost(context: Context, rows: int, settings: Settings, shown: int | None) -> tuple[float, float]:
    """Seconds on this machine's cores, and bytes; of methods that have no k by 64 active latents a row."""
    n, (d_in, d_out) = context.dictionary.width, (context.dictionary.d_model, context.dictionary.widths.d_out)
    m = n if shown is None else shown
    k = float(context.dictionary.config.told_k or 64)
    products, active = rows * n * d_in + (m * n * d_out if settings.parts else 0), rows * k
    firing = min(active * k, PRODUCTS) if settings.parts else 0
    contexts = min(m * settings.per_latent, active) * settings.length * 8
    return products / CPU_RATE / _cores() + firing / FIRING_RATE, active * _BYTES + contexts * 2


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
