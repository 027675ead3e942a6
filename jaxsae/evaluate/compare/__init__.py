"""Two dictionaries of one site, latent by latent: which are shared, which split, which are new.

Of widths, seeds, architectures, checkpoints of one run, or dictionaries of other tools. Latents are matched by the cosines
of their decoder rows (`cosines.py`), named by what became of them (`kinds.py`), and held side by side by the rows that they
fire on (`firing.py`). Beside all of it: random directions (`chance.py`) and, where one is among --against, another seed.

References: Bricken et al. 2023 and Leask et al. (2502.04878) on splitting and stitching; Paulo and Belrose (2501.16615) on
seeds; matching by Hungarian as 2505.20254.
"""

from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate.against import others_of
from jaxsae.evaluate.compare.chance import CURVE
from jaxsae.evaluate.compare.firing import Rows
from jaxsae.evaluate.compare.kinds import NAMES
from jaxsae.evaluate.compare.pair import compare
from jaxsae.evaluate.compare.says import summary, table
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.run import ARRAYS
from jaxsae.progress import Progress, say

__all__ = ["check", "evaluate", "summary", "table"]


def check(context: Context) -> None:
    """Raises `InputError` as `others_of`, and where --store is given and cannot be read."""
    others_of(context, "compare")
    if context.config.store:
        context.rows  # noqa: B018


def evaluate(context: Context) -> dict[str, Any]:
    """Each dictionary of --against beside the one of --run.

    Returns:
      `threshold`, `parts`, `rows` (0: decoders alone), `curve_cosines`, `kinds` (names by number, for the arrays), and
      `against` {name: what `pair.compare` gives, `arrays`: the file that holds each latent's}.
    """
    config, others = context.config, others_of(context, "compare")
    rows = _rows(context)
    own = None if rows is None else rows.latents(context.dictionary, context.reads)
    found, arrays = {}, {}
    with Progress(len(others), "compare", "dictionary") as bar:
        for number, other in enumerate(others, 1):
            figures, of_latents = compare(context, other, rows, own)
            file = f"compare_{number}"
            found[other.name], arrays[file] = figures | {"arrays": f"{file}.npz"}, of_latents
            bar.advance(1)
    return {
        "threshold": config.compare.compare_threshold,
        "parts": config.compare.compare_parts,
        "rows": 0 if rows is None else rows.count,
        "held_out": rows is not None and context.trained_on_store,
        "latents": int(np.asarray(context.dictionary.params.W_dec).any(1).sum()),
        "kinds": list(NAMES),
        "curve_cosines": CURVE,
        "against": found,
        ARRAYS: arrays,
    }


def _rows(context: Context) -> Rows | None:
    """Rows to look at firing on; None where no store is known, or none is wanted."""
    if not context.config.compare.compare_rows:
        return None
    try:
        return Rows(context, context.config.compare.compare_rows)
    except InputError as error:
        if context.config.store:
            raise
        say(f"compare: decoders alone, without firing. {error}")
        return None
