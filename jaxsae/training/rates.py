"""The rates of a run, and when its latents are dead: said when it begins, gone on with, whatever defaults are later."""

import math
from pathlib import Path
from typing import Any

from jaxsae.dictionary.penalty.auxk import half_of
from jaxsae.errors import InputError
from jaxsae.training.config import FORMER_FIRINGS, TrainConfig
from jaxsae.training.run import FLAGS


def described_rates(config: TrainConfig, rates: dict[str, float], spread: float) -> str:
    """The rates in words, with a warning where the default one is not made for the rows.

    Args:
      rates: by the names of their flags. spread: root mean square of what the numbers of a row, as the trainer sees them,
        differ from their means by.
    """
    factor = rates["decoder_rate"]
    decoder = "" if factor == 1 else f", {factor:g} times that for the decoder's rows"
    skip = f", {rates['skip_rate']:g} times for W_skip" if rates.get("skip_rate", 1) != 1 else ""
    words = f"learning rate {rates['learning_rate']:.4g}{decoder}{skip}"
    if config.optimization.learning_rate is not None or 0.1 <= spread <= 10 or not spread:
        return words
    return (
        f"{words}. WARNING: that default is for numbers that vary by about 1, and with --normalize={config.normalize} these "
        f"vary by {spread:.3g}. Train with --normalize=center_scale, or give --learning_rate"
    )


def check_same_defaults(workdir: Path, config: TrainConfig, metadata: dict[str, Any], now: dict[str, float]) -> None:
    """Refuses to go on at other defaults than a run was begun with: rates, and where AuxK works, its own.

    Args:
      metadata: of the run's checkpoint. now: {flag: the value that the run would go on with}.

    Raises:
      InputError: a value is not given, and its default was another one.
    """
    sign, relu = config.optimization.optimizer == "sign", config.method.architecture == "relu"
    peak = 5e-5 if relu and not sign else (5e-3 if sign else 2e-4) / (config.method.width / 2**14) ** 0.5
    # The defaults while checkpoints did not say what they were.
    before = {"learning_rate": peak, "decoder_rate": 1.0, "skip_rate": 1.0}
    before["dead_tokens"] = config.window_of(FORMER_FIRINGS)
    if "aux_k" in now:
        before["aux_k"] = half_of(metadata["d_model"], config.method.width)
    began = {name: metadata["dictionary"].get(name, before[name]) for name in now}
    groups = {"dead_tokens": config, "aux_k": config.method}
    given = lambda name: getattr(groups.get(name, config.optimization), name) is not None
    changed = [name for name in now if not given(name) and not math.isclose(began[name], now[name], rel_tol=1e-6)]
    if changed:
        flags = " ".join(f"--{name}={began[name]:.9g}" for name in changed)
        today = " and ".join(f"{now[name]:.9g}" for name in changed)
        raise InputError(
            f"--workdir={workdir}: was begun with defaults of an older jaxsae, {flags}; today's are {today}. To go on with "
            f"them, write these flags into {workdir / FLAGS}, a line each, and give them too."
        )
