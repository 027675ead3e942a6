"""The control of a meta-SAE: one as large, trained as long, whose rows stand in for a decoder's and are of no dictionary."""

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context, is_meta_sae, load_dictionary
from jaxsae.store.schema import DECODER


def control_dictionary(context: Context) -> Dictionary | None:
    """That of --control_run; None where none is named.

    Raises:
      InputError: it is no meta-SAE, its rows are a decoder's, or it was made otherwise than the one that is judged:
        what it explains would then say nothing of this one.
    """
    run = context.config.control_run
    if not run:
        return None
    control = load_dictionary(run, context.config.mesh, "control_run")
    fix = "Give one that `train --source_run --source_rows=random` made with the same flags otherwise."
    if not is_meta_sae(control.metadata):
        raise InputError(f"--control_run={run}: is no meta-SAE. {fix}")
    if control.metadata.get("directions", DECODER) == DECODER:
        raise InputError(f"--control_run={run}: its rows are a decoder's own, and no stand-ins. {fix}")
    here, there = _made(context.dictionary), _made(control)
    differs = [f"{n} {there[n]:,} where {context.config.run} has {here[n]:,}" for n in here if here[n] != there[n]]
    if differs:
        raise InputError(f"--control_run={run}: has {', '.join(differs)}. {fix}")
    return control


def _made(dictionary: Dictionary) -> dict[str, float]:
    """What the two must have in common, by the words of an error."""
    about, config = dictionary.metadata, dictionary.config
    known = {"rows": about.get("store_rows"), "tokens": about.get("tokens")}
    sizes = {"d_model": dictionary.d_model, "width": dictionary.width, "k": config.told_k}
    return {name: n or 0 for name, n in (known | sizes).items()}
