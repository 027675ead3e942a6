"""Another run's weights as the initial ones: `--initialize_from`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxsae.config import from_dict
from jaxsae.dictionary import MethodConfig, Normalization, Params, Widths, fold_row_lengths, make_method, unfold
from jaxsae.dictionary.selection import Selection
from jaxsae.errors import InputError
from jaxsae.progress import say
from jaxsae.training.config import TrainConfig
from jaxsae.training.run import find_dictionary, has_checkpoints, load, widths_of

ROUNDING = 1e-5  # of lengths in float32


def initial_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of `train` that follow from --initialize_from, {name: value}: a rescaled dictionary is as its relu run is.

    Of a run that has begun they are its own: the relu run may be gone.

    Raises:
      InputError: no dictionary is there, or, of a rescaled one, it is no relu run.
    """
    if given.get("architecture") != "rescaled":
        return {}
    run, own = given["initialize_from"], given.get("workdir") or ""
    begun = bool(own) and has_checkpoints(Path(own))
    method, _ = _described(own if begun else run)
    if not begun:
        _check_kind(run, "rescaled", method.architecture)
    return {"width": method.width, "pre_bias": make_method(method).pre_bias or None}


def check_initial(config: TrainConfig, widths: Widths) -> None:
    """Refuses weights that a run which is yet to begin cannot start from, before anything is made for it.

    Raises:
      InputError: there are none, or they are of another architecture, width, d_model or --pre_bias.
    """
    run, wanted = config.initialize_from, config.method
    if not run or has_checkpoints(Path(config.workdir)):
        return
    method, found = _described(run)
    _check_kind(run, wanted.architecture, method.architecture)
    pairs = {"width": (method.width, wanted.width), "d_model": (found.d_in, widths.d_in)}
    if wanted.transcode or method.transcode:
        pairs |= {"transcode": (method.transcode, wanted.transcode), "skip": (method.skip, wanted.skip)}
        pairs |= {"d_out": (found.d_out, widths.d_out), "layers": (method.layers, wanted.layers)}
    if wanted.site_widths or method.site_widths:
        shown = lambda c: "+".join(map(str, c.site_widths)) or "one"
        pairs["numbers of its sites"] = shown(method), shown(wanted)
    differs = [f"{name} {there} where this run has {here}" for name, (there, here) in pairs.items() if there != here]
    if differs:
        raise InputError(f"--initialize_from={run}: has {', '.join(differs)}. Give one that agrees.")
    pre_bias = make_method(method).pre_bias
    if pre_bias != make_method(wanted).pre_bias:
        raise InputError(f"--initialize_from={run}: it was trained with --pre_bias={str(pre_bias).lower()}. Give that.")


def _described(run: str) -> tuple[MethodConfig, Widths]:
    """Method and widths of the run."""
    try:
        metadata = find_dictionary(run)[2]
    except InputError as error:
        raise InputError(f"--initialize_from={run}: {error}") from error
    return from_dict(MethodConfig, metadata["method"]), widths_of(metadata)


def _check_kind(run: str, wanted: str, found: str) -> None:
    if wanted == "rescaled" and found != "relu":
        raise InputError(
            f"--initialize_from={run}: is a dictionary of --architecture={found}, and --architecture=rescaled rescales "
            "the latents of a relu one. Give a relu run."
        )
    if wanted != "rescaled" and found != wanted:
        raise InputError(
            f"--initialize_from={run}: is a dictionary of --architecture={found}, and this run of {wanted}. "
            "Give one that agrees."
        )


def initial_params(run: str, config: TrainConfig, normalization: Normalization, widths: Widths, mesh: Mesh) -> Params:
    """Another run's weights, which `check_initial` has passed, in this run's units."""
    other, method = load(run, mesh), make_method(config.method)
    read, written = normalization.sides(widths)
    params = unfold(other.params, read, other.pre_bias, other.method.selection, written)
    if method.unit_decoder:
        params = _with_unit_rows(params, run, other.method.selection, method.finish.lengths)
    if config.method.architecture == "rescaled":  # which starts as the relu is, a buffer each: a step takes them
        own = {"r_mag": jnp.zeros_like(params.b_enc), "b_mag": jnp.copy(params.b_enc)}
        params = Params(params.latent | own, params.shared)
    return params


def _with_unit_rows(
    params: Params, run: str, selection: Selection, lengths: Callable[[jax.Array], jax.Array]
) -> Params:
    """Decoder rows of length 1 and latents as large again; says where that is not the same dictionary.

    A step of this method makes rows that long in any case: without the fold their contributions would change.
    """
    norms = lengths(params.W_dec)  # sharded: other hosts hold parts of it
    low, high = float(norms.min()), float(norms.max())
    if max(abs(low - 1), abs(high - 1)) <= ROUNDING:
        return params
    if high - low > ROUNDING * high:
        say(
            f"--initialize_from={run}: its decoder rows are {low:.4g} to {high:.4g} long and this method's "
            "are 1: latents are multiplied by the length of their row. Each adds what it added, but a row's k largest "
            "may be others, so the first steps start from another FVU than `jaxsae evaluate` gives for it."
        )
    return fold_row_lengths(params, selection, norms)
