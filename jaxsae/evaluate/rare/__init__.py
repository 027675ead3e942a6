"""Which features a dictionary is too narrow for: features of known frequencies are planted in rows, and looked for again.

Rows of the run's own store, with random directions added to them on known shares of the rows, from one in a hundred down;
dictionaries of several widths are trained on them as the run was, and each planted feature is found or not (`judge.py`). The
frequency at which half are found falls with the width, by a law that is fitted with intervals (`law.py`).

Reference: Templeton et al., Scaling Monosemanticity (Anthropic 2024), where the frequency at which a concept has a latent
falls with the number of alive latents; there the concepts are real, and their frequencies are estimates.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.config import check as check_flag
from jaxsae.config import to_dict
from jaxsae.errors import reraise_if_disk_full
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.rare.features import Planted, grid
from jaxsae.evaluate.rare.figures import figures
from jaxsae.evaluate.rare.judge import by_components, judge
from jaxsae.evaluate.rare.rows import Judged, Split, check_disk, write_planted
from jaxsae.evaluate.rare.says import summary, table
from jaxsae.evaluate.rare.trained import config_of, flags_of
from jaxsae.files import write_json
from jaxsae.numbers import plain
from jaxsae.parallel import make_mesh
from jaxsae.progress import hushed, say
from jaxsae.training import train

__all__ = ["COSTLY", "check", "evaluate", "summary", "table"]

COSTLY = True  # it trains: `--suite=all` leaves it out
_FREE = ("rare_widths", "rare_seeds", "rare_cosine", "rare_f1", "rare_keep")  # what trainings do not depend on


def check(context: Context) -> None:
    """Raises `InputError` where there are too few rows or too little disk, or the run cannot be trained from nothing."""
    split, rare = Split.of(context), context.config.rare
    batch = flags_of(context).batch_size
    fix = f"the run's batch has {batch:,} rows, and {split.count:,} are to be trained on: give more"
    check_flag(split.count >= batch, "rare_rows", rare.rare_rows, fix)
    shards, listed = make_mesh(context.config.mesh).devices.shape[1], ",".join(map(str, rare.rare_widths))
    for width in rare.rare_widths:
        fix = f"{width} does not divide over {shards} devices: give multiples of {shards}, or another --mesh"
        check_flag(width % shards == 0, "rare_widths", listed, fix)
        config_of(context, "store", "run", width, 0)
    check_disk(context, split)


def evaluate(context: Context) -> dict[str, Any]:
    """Plants, trains at each width, judges, and fits the law.

    What was done is taken up where it was cut, by the same flags; it is removed at the end, unless --rare_keep.

    Returns:
      As `figures.figures`; `rows`, `judged_rows`, `steps`, `batch_size`, `d_model`, `length` (of a planted feature, on
      average), `trained_as`: flags that were the run's own.

    Raises:
      InputError: the disk is full. Preempted: SIGTERM came; the same command goes on.
    """
    config, rare, split = context.config, context.config.rare, Split.of(context)
    frequencies, lowest = grid(rare, split.count)
    statistics = context.store.statistics(context.site)
    length = rare.rare_amplitude * statistics.scale
    if frequencies[-1] > lowest * 1.001:
        say(
            f"rare: the rarest planted features stand on {frequencies[-1]:.1e} of the {split.count:,} rows, not on "
            f"{lowest:.1e}: fewer than 5 rows teach nothing. Give more --rare_rows for rarer ones."
        )
    place = Path(config.run) / "eval" / "rare" / _name(context, split)
    runs, baselines = [], []
    for seed in range(config.seed, config.seed + rare.rare_seeds):
        planted = Planted.of(frequencies, rare.rare_features, len(statistics.mean), length, seed)
        judged = Judged(context, planted, split)
        try:
            runs += _of_a_seed(context, planted, judged, split, place)
        except OSError as error:
            reraise_if_disk_full(error, str(place))
            raise
        baselines.append(by_components(judged, config.batch_size))
    found = figures(rare, runs, np.concatenate(baselines), lowest)
    flags = flags_of(context)
    about = {"rows": split.count, "judged_rows": split.judged_count, "steps": rare.rare_steps}
    about |= {"batch_size": flags.batch_size, "d_model": len(statistics.mean), "length": length}
    trained = {"architecture": flags.method.architecture, "k": flags.method.told_k}
    about["trained_as"] = trained | {"learning_rate": flags.optimization.learning_rate}
    if not rare.rare_keep:
        shutil.rmtree(place, ignore_errors=True)
        if not any(place.parent.iterdir()):
            place.parent.rmdir()
    return about | found


def _of_a_seed(context: Context, planted: Planted, judged: Judged, split: Split, place: Path) -> list[dict[str, Any]]:
    """What became of each width's training on a seed's rows."""
    rare, seed, out = context.config.rare, planted.seed, []
    store, rows = place / f"store_seed{seed}", None
    for width in rare.rare_widths:
        name = f"seed{seed}_width{width}"
        known = place / f"{name}.json"
        if not known.is_file():
            if rows is None:
                settings = {"source": "rare", "of": context.store.url, "seed": seed, "features": len(planted.frequency)}
                rows = write_planted(store, context, planted, split, settings)
            say(f"rare: seed {seed}, width {width:,}: {rare.rare_steps:,} steps")
            config = config_of(context, str(store), str(place / name), width, seed)
            with hushed():
                dictionary = train(config)
            found = judge(dictionary, judged, context.config.batch_size, rows / split.count)
            write_json(known, plain({"seed": seed, "width": width, "rows": rows} | found))
            if not rare.rare_keep:
                shutil.rmtree(place / name, ignore_errors=True)
        # As it stands on disk, whether it was made now or before.
        out.append(json.loads(known.read_text(encoding="utf-8")) | {"planned": planted.frequency.tolist()})
        out[-1]["share"] = [stands / split.count for stands in out[-1]["rows"]]
    if not rare.rare_keep:
        shutil.rmtree(store, ignore_errors=True)
    return out


def _name(context: Context, split: Split) -> str:
    """Of the directory that holds what these flags make: others have another."""
    rare = {name: value for name, value in to_dict(context.config.rare).items() if name not in _FREE}
    made = to_dict(config_of(context, "", "run", context.config.rare.rare_widths[0], 0))
    made = {name: value for name, value in made.items() if name not in ("width", "prefixes")}
    of = {"store": context.store.url, "site": context.site, "rows": [split.trained, split.judged]}
    return hashlib.sha256(json.dumps([rare, made, of], sort_keys=True, default=str).encode()).hexdigest()[:12]
