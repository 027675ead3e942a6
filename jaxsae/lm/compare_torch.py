"""What a torch model predicts in two passes, compared in float64."""

from typing import Any

import numpy as np

_POSITIONS_AT_ONCE = 256  # of which logits stand in float64


def sums(original: Any, other: Any, asked: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Sums over each sequence's predictions, float64 [B]; as `decoder.compare.sums`, of logits [B, T, vocabulary]."""
    out = np.zeros((4, len(asked)))
    for i, there in enumerate(asked):
        where = np.flatnonzero(there)
        for start in range(0, len(where), _POSITIONS_AT_ONCE):
            part = where[start : start + _POSITIONS_AT_ONCE]
            p, q = (x[i, part].double().log_softmax(-1) for x in (original, other))
            for row, log in enumerate((p, q)):
                out[row, i] -= float(log[range(len(part)), targets[i, part]].sum())
            out[2, i] += float((p.exp() * (p - q)).sum())
            out[3, i] += float((p.argmax(-1) == q.argmax(-1)).sum())
    return dict(zip(("ce_original", "ce", "kl", "same"), out, strict=True))
