"""Kernels that are not to be used on this machine: JAXSAE_AVOID=mosaic_gpu,hopper_pairs.

Which kernels are right is a matter of the machine, its driver and its compiler, not of a run: `jaxsae check` finds out, and
what it finds wrong must be kept out of every command, `jaxsae.load` among them, which have no flag in common.
"""

import os

from jaxsae.errors import InputError

VARIABLE = "JAXSAE_AVOID"
ENCODERS = ("screened", "cpu", "pallas_tpu", "xla", "chunked", "mosaic_gpu")  # exact, and fit for any width
PAIRS = "hopper_pairs"  # sums over pairs on Hopper GPUs; what is left is XLA's


def avoided(name: str) -> str | None:
    """Why the kernel of this name is not to be used; None: it may be.

    Raises:
      InputError: the variable names a kernel that there is none of.
    """
    return f"is named in {VARIABLE}" if name in check_names() else None


def check_names() -> list[str]:
    """The kernels that the variable names.

    Raises:
      InputError: there is none of a name.
    """
    names = [n.strip() for n in os.environ.get(VARIABLE, "").split(",") if n.strip()]
    unknown = [n for n in names if n not in (*ENCODERS, PAIRS)]
    if unknown:
        raise InputError(
            f"{VARIABLE}={','.join(names)}: no kernel {unknown[0]!r}; there are {', '.join(ENCODERS)}, {PAIRS}"
        )
    return names


def first_left(*names: str) -> str:
    """The first of these encoders that is not avoided.

    Raises:
      InputError: none is left.
    """
    for name in names:
        if not avoided(name):
            return name
    raise InputError(f"{VARIABLE}={os.environ[VARIABLE]} leaves no encoder: {', '.join(names)} run here. Take one out.")
