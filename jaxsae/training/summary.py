"""run.json: what a run that is complete says of itself."""

from pathlib import Path

import jax

from jaxsae.files import write_json
from jaxsae.progress import is_first_process
from jaxsae.training.setup import Setup
from jaxsae.version import __version__


def write_summary(workdir: Path, setup: Setup, seconds: float, steps: int) -> None:
    """Writes it, from process 0.

    Args:
      seconds, steps: of this process, since it took the run up.
    """
    if not is_first_process():
        return
    summary = {
        "jaxsae": __version__,
        "jax": jax.__version__,
        "devices": [str(d.device_kind) for d in setup.mesh.devices.flat],
        "mesh": list(setup.mesh.devices.shape),
        "steps_of_this_process": steps,
        "seconds_of_this_process": seconds,
        "rows_in_store": setup.rows,
        "rows_held_out": setup.holdout,
        "tokens": setup.config.steps * setup.config.batch_size,
        "first_tokens": setup.config.first_steps * setup.config.batch_size,
        **setup.program.rates,
    }
    write_json(workdir / "run.json", summary)
