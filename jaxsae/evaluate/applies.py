"""Which suites can judge which dictionary, and why the others cannot."""

import dataclasses
import importlib
import re
from types import ModuleType

from jaxsae.config import check, leaves, to_dict
from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.evaluate.config import SUITES, EvaluateConfig
from jaxsae.evaluate.context import Context, check_there, is_meta_sae
from jaxsae.progress import say

OF_META_SAES = ("decomposability", "reconstruction")
BETWEEN_SITES = (
    "reconstruction",
    "splice",
    "effective_compute",
    "attribution",
    "latents",
    "causal",
    "probing",
    "absorption",
    "compare",
    "bench",
)
OF_TWO_MODELS = ("reconstruction", "compare")
OWN_CONTROL = (
    "othello",
    "probing",
    "absorption",
    "decomposability",
)  # which have --control_run among their own baselines
CONTROLLED = ("reconstruction", "splice", "latents", "causal", *OWN_CONTROL)  # which take it


def checked(context: Context, names: tuple[str, ...]) -> dict[str, ModuleType]:
    """{name: suite}, once each has seen that it can judge the dictionary."""
    _check_names(context, names)
    suites = {name: importlib.import_module(f"jaxsae.evaluate.{name}") for name in names}
    for suite in suites.values():
        if hasattr(suite, "check"):
            suite.check(context)
    return suites


def applicable(context: Context) -> dict[str, ModuleType]:
    """{name: suite} of those that can judge the dictionary with the flags that are given; the others say why not."""
    config, found, why = context.config, {}, {}
    for name in SUITES:
        # A control is of some suites alone; the others run without.
        own = config if name in controlled(context) else dataclasses.replace(config, control_run="")
        if getattr(importlib.import_module(f"jaxsae.evaluate.{name}"), "COSTLY", False):
            why[name] = f"is costly: ask for it by name, --suite={name}"
            continue
        try:
            found |= checked(dataclasses.replace(context, config=own), (name,))
        except InputError as error:
            if is_of_a_flag(config, str(error)):
                raise
            why[name] = reason(str(error), name)
    if not found:
        raise InputError("--suite=all: none applies. " + " ".join(f"{name}: {said}" for name, said in why.items()))
    say("left out:", *(f"  {name}: {said}" for name, said in why.items())) if why else None
    return found


def reason(message: str, suite: str) -> str:
    """An error without what it says to those who named the suite."""
    return message.removeprefix(f"--suite={suite}: ").replace(" Leave it out of --suite.", "")


def is_of_a_flag(config: EvaluateConfig, message: str) -> bool:
    """Whether an error names a flag that somebody gave: it is wrong, whatever suites apply."""
    named = re.match(r"--(\w+)", message)
    values = to_dict(config)
    plainly = lambda value: list(value) if isinstance(value, tuple) else value
    given = {field.name for field, _ in leaves(EvaluateConfig) if values[field.name] != plainly(field.default)}
    return bool(named) and named[1] in given - {"run", "suite"}


def controlled(context: Context) -> tuple[str, ...]:
    """The suites that take --control_run: a meta-SAE's is one of other rows, and no model's."""
    return ("decomposability",) if is_meta_sae(context.dictionary.metadata) else CONTROLLED


def _check_names(context: Context, names: tuple[str, ...]) -> None:
    """Refuses suites that say nothing of this dictionary, and a control that none of them takes."""
    config, dictionary = context.config, context.dictionary
    listed = ",".join(names)
    if is_meta_sae(dictionary.metadata):
        none = next((name for name in names if name not in OF_META_SAES), None)
        fix = f"{config.run} is a meta-SAE, whose rows are no activations of a model: give some of {', '.join(OF_META_SAES)}"
        check(none is None, "suite", listed, fix)
    if dictionary.config.transcode or dictionary.config.site_widths:
        none = next((name for name in names if name not in BETWEEN_SITES), None)
        kind = f"{config.run} is a {dictionary.kind}"
        check(none is None, "suite", listed, f"{kind}: give some of {', '.join(BETWEEN_SITES)}")
        both = dictionary.metadata.get("beside") and any(name not in OF_TWO_MODELS for name in names)
        fix = f"{config.run} is of two models, and one alone would run: give {' or '.join(OF_TWO_MODELS)}"
        check(not both, "suite", listed, fix)
        own = dictionary.metadata.get("site")
        check(not config.site, "site", config.site, f"{kind}, {own}: leave the flag out")
        known = all(dictionary.metadata.get(side) for side in ("reads", "writes"))
        check(
            known,
            "run",
            config.run,
            "does not say which sites it reads and writes: import it with --site='READS->WRITES'",
        )
    takes = any(name in controlled(context) for name in names)
    fix = f"--suite={listed} has no control: leave the flag out, or give --suite={' or '.join(controlled(context))}"
    check(takes or not config.control_run, "control_run", config.control_run, fix)
    if config.control_run:
        check_there(config.control_run, "control_run")


def default_suites(dictionary: Dictionary) -> tuple[str, ...]:
    """What is measured where no flag says it."""
    return ("decomposability",) if is_meta_sae(dictionary.metadata) else ("reconstruction",)
