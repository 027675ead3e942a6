"""In which flags a command differs from the run that it is to go on with."""

from pathlib import Path

from jaxsae.config import read_flag_file, to_dict
from jaxsae.dictionary import make_method
from jaxsae.store import same_place
from jaxsae.training.config import FREE_ON_RESUME, TrainConfig


def changed_flags(flags: Path, config: TrainConfig, moved: bool) -> tuple[TrainConfig, list[str]]:
    """The configuration in a run's flag file, and the flags that may not change and have, in words.

    Args:
      moved: whether checkpoints tell the run's store, which may then stand elsewhere, or be called otherwise (`loop.py`).
    """
    begun = read_flag_file(flags, TrainConfig)
    before, now = to_dict(begun), to_dict(config)
    skipped = {*FREE_ON_RESUME, "workdir", "tokens", "first_tokens"}  # of tokens, see `more_tokens.py`
    if moved:
        skipped.add("store")
    if before["source_run"] and now["source_run"]:  # may be moved too; its rows decide (`source_run.py`)
        skipped.add("source_run")
    before |= _as_today(flags, before, config)
    differ = lambda n: not same_place(before[n], now[n]) if n == "store" else before[n] != now[n]
    shown = lambda value: "default" if value is None else value
    changes = [f"--{n}={shown(before[n])} (now {shown(now[n])})" for n in now if n not in skipped and differ(n)]
    return begun, changes


def _as_today(flags: Path, before: dict, config: TrainConfig) -> dict:
    """What files of older versions hold that is written otherwise today."""
    found, architecture = {}, config.method.architecture
    # Defaults that were numbers.
    if config.optimization.b1 is None and before["b1"] == 0.9 == make_method(config.method).rates.b1:
        found["b1"] = None
    if config.method.bandwidth is None and before["bandwidth"] == 0.3 and architecture == "jumprelu":
        found["bandwidth"] = None
    # Penalties were not steered, and a file that does not know of it is of that time.
    if architecture in ("relu", "gated") and "--tied=" not in flags.read_text(encoding="utf-8"):
        found["target_l0"] = 0.0
        if architecture == "gated" and before["b1"] is None:
            found["b1"] = 0.0
    return found
