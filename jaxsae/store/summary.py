"""What is in a store, in a screen."""

import math

import numpy as np

from jaxsae.store.reader import Store
from jaxsae.store.statistics import Statistics


def summary(store: Store) -> str:
    """Rows, origin, shards, sites with their statistics, and settings."""
    attributes = store.metadata(store.sites[0])
    state = "complete" if store.complete else f"cut short, {store.rows:,} rows are there"
    lines = [f"store     {store.url}", f"rows      {store.rows_planned:,} ({state})"]
    for name in ("model", "tokenizer", "context", "fingerprint"):
        if attributes.get(name):
            lines.append(f"{name:<9} {attributes[name]}")
    lines.append(
        f"shards    {len(store.completed_shards)} of {store.shard_rows:,} rows, chunks of {store.chunk_rows:,}"
    )
    for site in store.sites:
        megabytes = store.rows * store.d_model(site) * store.dtype(site).itemsize / 1e6
        line = f"site      {site}  d_model {store.d_model(site)}  {store.dtype(site).name}  {megabytes:,.1f} MB"
        if store.completed_shards:
            line += f"  {_described(store.statistics(site))}"
        lines.append(line)
    settings = dict(attributes.get("settings", {}))
    if positions := settings.pop("positions", None):
        dropped = ", ".join(f"{name} {count:,}" for name, count in positions["dropped"].items())
        lines.append(f"positions {positions['seen']:,} seen; no row of: {dropped or 'none'}")
    settings = ", ".join(f"{k}={v}" for k, v in settings.items())
    return "\n".join([*lines, f"settings  {settings}"])


def _described(statistics: Statistics) -> str:
    """Scale, norms (of the mean, of rows) and outlier dimensions, in a line."""
    text = f"scale {statistics.scale:.4g}  mean of norm {np.linalg.norm(statistics.mean.astype(np.float64)):.4g}"
    if not math.isnan(statistics.mean_norm):
        text += f"  rows of norm {statistics.mean_norm:.4g} (at most {statistics.max_norm:.4g})"
    if outliers := statistics.outlier_dimensions:
        shown = ", ".join(f"{i} ({ratio:.0f}x)" for i, ratio in list(outliers.items())[:4])
        text += f"  outlier dimensions {shown}" + (f" and {len(outliers) - 4} more" if len(outliers) > 4 else "")
    return text
