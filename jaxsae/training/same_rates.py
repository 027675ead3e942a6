"""A run goes on at the rates that it was begun with, whatever their defaults are today."""

import math
from pathlib import Path
from typing import Any

from jaxsae.errors import InputError
from jaxsae.training.config import TrainConfig
from jaxsae.training.run import FLAGS


def check_same_rates(workdir: Path, config: TrainConfig, metadata: dict[str, Any], now: dict[str, float]) -> None:
    """Refuses to go on at other default rates than a run was begun with.

    Args:
      metadata: of the run's checkpoint. now: {flag: the rate that the run would go on with}.

    Raises:
      InputError: a rate is not given, and its default was another one.
    """
    sign, relu = config.optimization.optimizer == "sign", config.method.architecture == "relu"
    peak = 5e-5 if relu and not sign else (5e-3 if sign else 2e-4) / (config.method.width / 2**14) ** 0.5
    before = {"learning_rate": peak, "decoder_rate": 1.0}  # the defaults while checkpoints did not say their rates
    began = {name: metadata["dictionary"].get(name, before[name]) for name in now}
    given = lambda name: getattr(config.optimization, name) is not None
    changed = [name for name in now if not given(name) and not math.isclose(began[name], now[name], rel_tol=1e-6)]
    if changed:
        flags = " ".join(f"--{name}={began[name]:.9g}" for name in changed)
        today = " and ".join(f"{now[name]:.9g}" for name in changed)
        raise InputError(
            f"--workdir={workdir}: was begun with defaults of an older jaxsae, {flags}; today's are {today}. To go on with "
            f"them, write these flags into {workdir / FLAGS}, a line each, and give them too."
        )
