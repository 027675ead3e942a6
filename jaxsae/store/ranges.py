"""Rows as ascending ranges (first row, row after the last)."""

from collections.abc import Iterable

import numpy as np


def joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ascending ranges, those that touch or overlap made one."""
    out: list[tuple[int, int]] = []
    for start, stop in ranges:
        if out and out[-1][1] >= start:
            start, stop = out[-1][0], max(stop, out.pop()[1])
        out.append((start, stop))
    return out


def cut_at_chunks(ranges: list[tuple[int, int]], chunk_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranges of rows, cut where a chunk ends: int64 starts and stops."""
    starts = [np.empty(0, np.int64)]
    for start, stop in ranges:
        inside = np.arange(start // chunk_rows + 1, -(-stop // chunk_rows)) * chunk_rows
        starts.append(np.concatenate([[start], inside]).astype(np.int64))
    stops = [np.append(s[1:], stop) for s, (_, stop) in zip(starts[1:], ranges, strict=True)]
    return np.concatenate(starts), np.concatenate([np.empty(0, np.int64), *stops]).astype(np.int64)


def select(ranges: list[tuple[int, int]], first: int, last: int) -> list[tuple[int, int]]:
    """What first:last of the rows of `ranges`, counted end to end, are."""
    out, before = [], 0
    for start, stop in ranges:
        low, high = max(start, start + first - before), min(stop, start + last - before)
        if low < high:
            out.append((low, high))
        before += stop - start
    return out
