"""Which model and which activations a directory of Gemma Scope or Gemma Scope 2 is of.

Gemma Scope 2 says it in `config.json`; Gemma Scope in the names of its repositories and folders alone, such as
`google/gemma-scope-2b-pt-res`, `layer_20/width_16k/average_l0_71`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsae.errors import InputError
from jaxsae.exchange import provenance, sites

_REPOSITORY = re.compile(r"gemma-scope-(2b|9b|27b)-(pt|it)-(res|mlp|att|transcoders)")
_LAYER, _L0 = re.compile(r"layer_(\d+)"), re.compile(r"average_l0_(\d+)")
_HOOKS = {"resid_post": "output", "mlp_in": "pre_feedforward_layernorm.output"}
_HOOKS |= {"mlp_out": "post_feedforward_layernorm.output"}
_SITE = re.compile(r"(resid_post|mlp_in|mlp_out)\.(\d+)")


def about(path: Path, settings: Mapping[str, Any], layers: Sequence[int], transcodes: bool) -> dict[str, Any]:
    """`model`, `site` and its like, `l0`, and `transcodes`, as far as they are told.

    Args:
      path: the directory. settings: of config.json. layers: of a cross-layer transcoder, else none.

    Raises:
      InputError: it is of Gemma's embedding, whose rows the model multiplies.
    """
    found = _of_settings(settings, layers, transcodes) if settings else _of_path(path, transcodes)
    if (l0 := settings.get("l0")) is None and (match := _L0.search(str(path))):
        l0 = int(match[1])
    return found | ({"l0": l0} if isinstance(l0, int | float) and l0 >= 1 else {})


def _of_settings(settings: Mapping[str, Any], layers: Sequence[int], transcodes: bool) -> dict[str, Any]:
    model = settings.get("model_name")
    if isinstance(model, str) and model.startswith("gemma-v3"):  # as they are written there
        model = f"google/{model.replace('-v3', '-3')}"
    hooks = settings.get("hf_hook_point_in"), settings.get("hf_hook_point_out")
    transcodes = transcodes or hooks[1] is not None or "affine_connection" in settings
    if layers:
        names = [[re.sub(r"layers\.\d+\.", f"layers.{i}.", str(hook)) for i in layers] for hook in hooks]
        reads, writes = [[sites.site_of(name) for name in side] for side in names]
        told = {"site": sites.ARROW.join("+".join(side) for side in (reads, writes)), "reads": reads, "writes": writes}
        told = told if None not in hooks else {}
    else:
        told = sites.of_transcoder(*hooks) if transcodes else sites.of_autoencoder(hooks[0])
    return {"model": model, "transcodes": transcodes or bool(layers), **told}


def _of_path(path: Path, transcodes: bool) -> dict[str, Any]:
    text = str(path.absolute())
    repository, layer = _REPOSITORY.search(text), _LAYER.search(text)
    if repository is None:
        return {"transcodes": transcodes}
    if "embedding" in path.parts:
        raise InputError(
            f"--input={path}: is of rows of Gemma's embedding, which the model multiplies by sqrt(d) before anything reads "
            "them: its scale is no site's. Take a layer's."
        )
    size, form, side = repository.groups()
    model = f"google/gemma-2-{size}{'-it' if form == 'it' else ''}"
    if layer is None:
        return {"model": model, "transcodes": transcodes or side == "transcoders"}
    at = layer[1]
    if side == "transcoders":
        return {"model": model, "transcodes": True, **sites.of_transcoder(f"mlp_in.{at}", f"mlp_out.{at}")}
    names = {"res": f"resid_post.{at}", "mlp": f"mlp_out.{at}", "att": f"model.layers.{at}.self_attn.o_proj.input"}
    return {"model": model, "transcodes": transcodes, "site": names[side]}


def hooks(metadata: Mapping[str, Any], transcodes: bool) -> dict[str, str]:
    """`hf_hook_point_in`, and of a transcoder `hf_hook_point_out`, as Gemma Scope 2 calls sites."""

    def named(site: str) -> str:
        match = _SITE.fullmatch(site)
        return f"model.layers.{match[2]}.{_HOOKS[match[1]]}" if match else site

    found = {"hf_hook_point_in": named(provenance.site_name(provenance.read(metadata)))}
    if transcodes:
        found["hf_hook_point_out"] = named(provenance.site_name(provenance.written(metadata)))
    return found
