"""Names under which a dictionary's site may stand in a model."""

import re
from collections.abc import Collection

_LENS = re.compile(r"blocks\.(\d+)\.hook_(resid_pre|resid_post|attn_out|mlp_out)")  # TransformerLens and SAELens


def candidates(site: str, paths: Collection[str]) -> list[str]:
    """The site as it is called, as we call what TransformerLens calls so, and the one path that ends so, as sparsify names
    modules without those around the model's body."""
    found = [site]
    if match := _LENS.fullmatch(site):
        found.append(f"{match.group(2)}.{match.group(1)}")
    ends = [path for path in paths if path.endswith(f".{site}")]
    return found + (ends if len(ends) == 1 else [])
