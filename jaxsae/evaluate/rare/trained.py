"""The flags of a dictionary that is trained on planted rows: the run's own, at another width and for fewer steps."""

import dataclasses
from pathlib import Path

from jaxsae.config import from_dict, read_flag_file, to_dict
from jaxsae.dictionary import MethodConfig, check_switches
from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context
from jaxsae.training import TrainConfig
from jaxsae.training.end_to_end.config import EndToEndConfig
from jaxsae.training.run import CHECKPOINTS, FLAGS

BATCH = 1024  # of a run that does not say its own


def flags_of(context: Context) -> TrainConfig:
    """The run's own flags, or defaults with the dictionary's method where it has none, such as of an imported one.

    Raises:
      InputError: what it is cannot be trained from nothing.
    """
    if context.dictionary.config.architecture == "rescaled":
        raise InputError(
            f"--run={context.config.run}: is a rescaled dictionary, whose latents a relu run found. Give that run to "
            "--suite=rare."
        )
    run = Path(context.config.run)
    places = (run, run.parent.parent) if run.parent.name == CHECKPOINTS else (run,)
    file = next((place / FLAGS for place in places if (place / FLAGS).is_file()), None)
    if file:
        flags = read_flag_file(file, TrainConfig)
    else:
        flags = TrainConfig(
            store="store", workdir="run", batch_size=BATCH, tokens=BATCH, method=context.dictionary.config
        )
    return flags


def config_of(context: Context, store: str, workdir: str, width: int, seed: int) -> TrainConfig:
    """The flags of one training; what is of another width follows --rare_widths, and what reads a model is left out."""
    flags, rare = flags_of(context), context.config.rare
    return dataclasses.replace(
        flags,
        store=store,
        workdir=workdir,
        source_run="",
        source_rows="decoder",
        site="",
        sites=(),
        beside="",
        tokens=rare.rare_steps * flags.batch_size,
        first_tokens=None,
        seed=seed,
        data_seed=None,
        initialize_from="",
        finetune="",
        holdout_rows=0,  # what is judged stands in no store
        mesh=context.config.mesh,
        follow=False,
        keep_bytes=None,
        checkpoint_every=max(1, -(-rare.rare_steps // 4)),
        end_to_end=EndToEndConfig(),
        method=_method(flags.method, width),
    )


def _method(method: MethodConfig, width: int) -> MethodConfig:
    """The same at another width."""
    given, fitting = to_dict(method), to_dict(MethodConfig(width=width, architecture=method.architecture, k=1))
    given |= {"width": width, "prefixes": fitting["prefixes"], "adversary_width": None, "site_widths": ()}
    for name in ("k", "k_start", "aux_k", "target_l0", "adversary_k"):
        if given[name] is not None:
            given[name] = min(given[name], width)
    if given["ranks"] and given["ranks"][-1] != given["k"]:
        given["ranks"] = ()
    made = from_dict(MethodConfig, given)
    check_switches(made)
    return made
