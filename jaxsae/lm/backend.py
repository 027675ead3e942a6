"""What runs a Hugging Face model: JAX over a mesh, or torch on one device."""

from collections.abc import Sequence

import jax

from jaxsae.config import check
from jaxsae.errors import InputError
from jaxsae.lm import libraries, load_torch
from jaxsae.lm.checkpoint import Checkpoint
from jaxsae.lm.decoder.families import shape_of
from jaxsae.lm.decoder.lm import check_sites
from jaxsae.progress import say

JAX, TORCH = "jax", "torch"


def choose(checkpoint: Checkpoint, sites: Sequence[str], flag: str = "sites") -> str:
    """`jax` or `torch`, for a model at some sites; `--backend=auto` says so where that is not what it mostly is.

    Args:
      flag: that names the sites, for messages.

    Raises:
      InputError: `--backend=jax` cannot run that model, or has no such site; there is no such `--device`.
    """
    options = checkpoint.options
    if options.backend == JAX:
        fix = "is for --backend=torch; JAX_PLATFORMS and --mesh say where --backend=jax runs. Leave it out"
        check(options.device == "auto", "device", options.device, fix)
        _check(checkpoint, sites, flag)
        return JAX
    if options.backend == TORCH or not _prefers_jax(checkpoint, sites, flag):
        load_torch.check_device(options.device)
        return TORCH
    return JAX


def _prefers_jax(checkpoint: Checkpoint, sites: Sequence[str], flag: str) -> bool:
    """What `--backend=auto` takes."""
    platform = jax.default_backend()
    if platform == "cpu" and libraries.has_torch():
        return False
    if checkpoint.options.device != "auto":
        return False
    try:
        _check(checkpoint, sites, flag)
    except InputError as error:
        if not libraries.has_torch():
            raise
        say(f"--backend=auto: torch runs the model, since {error}")
        return False
    say(f"--backend=auto: jax runs the model on {jax.local_device_count()} {platform} devices.")
    return True


def _check(checkpoint: Checkpoint, sites: Sequence[str], flag: str) -> None:
    """Raises `InputError` where JAX cannot run a model, or has not its sites."""
    settings = getattr(checkpoint.config, "quantization_config", None)
    if settings:
        raise InputError(
            f"--model={checkpoint.name}: its weights are quantised (quantization_config in its config.json), which is not "
            "implemented by --backend=jax. Take --backend=torch."
        )
    shape = shape_of(checkpoint.config, checkpoint.name)
    if sites:
        check_sites(shape, sites, flag)
