"""Names that other tools have for what jaxsae calls `resid_post.3`, `mlp_in.3`, or a module's path.

Only names that mean the same activations: a hook in front of a norm is not its output. Others stay as they are, and
`import --site` says what they are.
"""

import re
from typing import Any

from jaxsae.config import check

SIDES = ("reads", "writes")
ARROW = "->"  # between what a transcoder reads and what it writes
# Pattern of a whole name -> the site: TransformerLens, paths in Hugging Face's models, and what dictionary_learning writes.
_NAMES = (
    (r"(?:hook_embed|embed_tokens)", "embed"),
    (r"blocks\.(\d+)\.hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)", r"\2.\1"),
    (r"blocks\.(\d+)\.mlp\.hook_in", r"mlp_in.\1"),
    (r"blocks\.(\d+)\.mlp\.hook_out", r"mlp_out.\1"),
    (r"model\.layers\.(\d+)\.output", r"resid_post.\1"),
    (r"model\.layers\.(\d+)\.pre_feedforward_layernorm\.output", r"mlp_in.\1"),  # Gemma
    (r"model\.layers\.(\d+)\.post_feedforward_layernorm\.output", r"mlp_out.\1"),
    (r"(model\.layers\.\d+\..+\.input)", r"\1"),
    (r"(?:layers|h)\.(\d+)", r"resid_post.\1"),  # sparsify, from the model's own list of blocks on
    (r"(resid_pre|resid_mid|resid_post|attn_out|mlp_in|mlp_out)_layer_(\d+)", r"\1.\2"),
)
_MLP = re.compile(r"(?:layers|h)\.(\d+)\.mlp")  # whose input a transcoder reads and whose output it writes


def site_of(name: Any) -> str | None:
    """The site that a tool's name means, the name itself where none is known, None where there is no name."""
    if not isinstance(name, str) or not name:
        return None
    for pattern, site in _NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(site)
    return name


def of_autoencoder(name: Any) -> dict[str, Any]:
    """`site` of metadata; nothing where there is no name."""
    site = site_of(name)
    return {} if site is None else {"site": site}


def of_transcoder(reads: Any, writes: Any) -> dict[str, Any]:
    """`site`, `reads` and `writes` of metadata; nothing where either has no name."""
    sides = site_of(reads), site_of(writes)
    if None in sides:
        return {}
    return {"site": ARROW.join(sides), "reads": [sides[0]], "writes": [sides[1]]}


def of_module(name: Any, transcodes: bool) -> dict[str, Any]:
    """That of a module's path: what comes out of it, or, of a transcoder, what goes in and what comes out."""
    if not transcodes or not isinstance(name, str):
        return of_autoencoder(name)
    if match := _MLP.fullmatch(name):
        return of_transcoder(f"mlp_in.{match[1]}", f"mlp_out.{match[1]}")
    return of_transcoder(f"{name}.input", name)


def given(site: str, transcodes: bool, layers: int = 1) -> dict[str, Any]:
    """That of `--site`: a name, or READS->WRITES of a transcoder, with + between the sites of a cross-layer one.

    Raises:
      InputError: the one where the other is wanted, or another number of sites.
    """
    sides = [side.split("+") for side in site.split(ARROW)]
    if not transcodes:
        check(len(sides) == 1 and len(sides[0]) == 1, "site", site, "these files hold an autoencoder: name one site")
        return {"site": site}
    good = len(sides) == 2 and all(len(side) == layers and all(side) for side in sides)
    wanted = "READS->WRITES, such as 'mlp_in.3->mlp_out.3'"
    wanted += f", each of {layers} sites with + between them" if layers > 1 else ""
    check(good, "site", site, f"these files hold a transcoder: give {wanted}")
    return {"site": site, "reads": sides[0], "writes": sides[1]}
