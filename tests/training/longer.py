"""What the tests of more tokens share: runs that are killed at a chosen moment, their bits, and their files."""

import dataclasses
from pathlib import Path

import pytest

from jaxsae.config import read_flag_file
from jaxsae.errors import InputError
from jaxsae.training import TrainConfig, live_run, train
from jaxsae.training.checkpoint import read_metadata

BATCH, STEPS = 64, 20  # of the runs here: rows of a step, and steps; their rate falls from step 16 on
LINE = {"owner": live_run.MetricsLog, "name": "write", "after": True}


def more(config, steps, **changes):
    return dataclasses.replace(config, tokens=steps * BATCH, **changes)


def saved(config):
    return sorted(int(path.name) for path in Path(config.workdir, "checkpoints").glob("*") if path.name.isdigit())


def bits(config):
    """The newest step, and the sums of the bits of all its arrays, moments and counters among them."""
    step, metadata = read_metadata(Path(config.workdir, "checkpoints"))
    return step, metadata["sums"]


def from_nothing(config):
    """Trains what the run's flag file says, elsewhere."""
    flags = read_flag_file(Path(config.workdir, "config.flags"), TrainConfig)
    again = dataclasses.replace(flags, workdir=f"{config.workdir}-again")
    train(again)
    return again


class Killed(BaseException):
    pass


def killed(config, patch, owner, name, after=False, when=lambda *_: True):
    """Trains until `owner.name` is called, or has been."""
    plain = getattr(owner, name)

    def die(*args, **kwargs):
        if not when(*args):
            return plain(*args, **kwargs)
        if after:
            plain(*args, **kwargs)
        raise Killed

    with patch.context() as inner, pytest.raises(Killed):
        inner.setattr(owner, name, die)
        train(config)


def all_files(config):
    """Name -> content of what lies in the run's directory."""
    files = (path for path in Path(config.workdir).rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    return {str(path): path.read_bytes() for path in files}


def refused(config, match):
    """Checks that the run is refused, and that nothing in its directory has changed."""
    before = all_files(config)
    with pytest.raises(InputError, match=match) as error:
        train(config)
    assert all_files(config) == before
    return str(error.value)
