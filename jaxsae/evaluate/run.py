"""Runs suites over a dictionary, and writes and prints what they find.

A suite is a module, or a package, with `evaluate(context) -> dict`, its figures, `table(results) -> list of lines`,
`summary(results) -> Summary` of what stands in its JSON, and perhaps `check(context)`, which refuses before any suite has
begun what this one cannot judge.
"""

import dataclasses
import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from jaxsae.config import check, leaves, to_dict
from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError, reraise_if_disk_full
from jaxsae.evaluate.beside_control import control_context, with_control
from jaxsae.evaluate.config import ALL, SUITES, EvaluateConfig
from jaxsae.evaluate.context import Context, check_there, check_whole, is_meta_sae, load_dictionary
from jaxsae.evaluate.summary import as_json
from jaxsae.files import replace, write_json
from jaxsae.numbers import plain
from jaxsae.progress import is_first_process, say

ARRAYS = "_arrays"  # key of a suite's results that go to a .npz file instead of the JSON
OF_META_SAES = ("decomposability", "reconstruction")
BETWEEN_SITES = ("reconstruction", "splice", "effective_compute", "attribution", "latents", "causal", "probing", "absorption")
OWN_CONTROL = ("othello", "probing", "absorption", "decomposability")  # which have --control_run among their own baselines
CONTROLLED = ("reconstruction", "splice", "latents", "causal", *OWN_CONTROL)  # which take it
FILE = "_file"  # key under which a suite names its JSON where that is not the suite's name


def evaluate(
    config: EvaluateConfig, dictionary: Dictionary | None = None, quiet: bool = False
) -> dict[str, dict[str, Any]]:
    """Evaluates a dictionary and writes RUN/eval/<suite>.json for each suite, whole or not at all.

    Args:
      config: what to measure, and on what.
      dictionary: the one to evaluate; default: the one that `config.run` holds.
      quiet: print no tables.

    Returns:
      {suite: its figures, as they stand in the JSON}.

    Raises:
      InputError: no such run, store, site or model; widths that differ; NaN in the activations.
    """
    return measure(*prepare(config, dictionary), quiet)


def prepare(
    config: EvaluateConfig, dictionary: Dictionary | None = None, shared: dict[str, Any] | None = None
) -> tuple[Context, dict[str, ModuleType]]:
    """What the suites are given, and {name: suite}, once each has seen that it can judge this dictionary.

    Args:
      shared: what is opened once for several evaluations.

    Raises:
      InputError: as `evaluate`.
    """
    if dictionary is None:
        dictionary = load_dictionary(config.run, config.mesh)
    if config.k is not None:
        dictionary = dictionary.with_k(config.k)
    check_whole(dictionary, config.run)
    context = Context(config, dictionary, {} if shared is None else shared)
    if config.suite == (ALL,):
        return context, _applicable(context)
    return context, _checked(context, config.suite or default_suites(dictionary))


def _checked(context: Context, names: tuple[str, ...]) -> dict[str, ModuleType]:
    """{name: suite}, once each has seen that it can judge the dictionary."""
    _check_names(context, names)
    suites = {name: importlib.import_module(f"jaxsae.evaluate.{name}") for name in names}
    for suite in suites.values():
        if hasattr(suite, "check"):
            suite.check(context)
    return suites


def _applicable(context: Context) -> dict[str, ModuleType]:
    """{name: suite} of those that can judge the dictionary with the flags that are given; the others say why not."""
    config, found, why = context.config, {}, {}
    for name in SUITES:
        # A control is of some suites alone; the others run without.
        own = config if name in _controlled(context) else dataclasses.replace(config, control_run="")
        try:
            suite = _checked(dataclasses.replace(context, config=own), (name,))[name]
        except InputError as error:
            if _is_of_a_flag(config, str(error)):
                raise
            why[name] = str(error)
            continue
        if getattr(suite, "COSTLY", False):
            why[name] = f"is costly: ask for it by name, --suite={name}"
        else:
            found[name] = suite
    if not found:
        raise InputError(" ".join(why.values()))
    say("left out:", *(f"  {name}: {reason}" for name, reason in why.items())) if why else None
    return found


def measure(context: Context, suites: Mapping[str, ModuleType], quiet: bool = False) -> dict[str, dict[str, Any]]:
    """Figures of each suite, written and printed."""
    results, config = {}, context.config
    beside = [
        name for name in suites if config.control_run and name in _controlled(context) and name not in OWN_CONTROL
    ]
    control = control_context(config) if beside else None  # before the work: it may be refused
    for name, suite in suites.items():
        found = suite.evaluate(context)
        arrays, file = found.pop(ARRAYS, {}), found.pop(FILE, name)
        found = plain(origin(context) | found)
        summary = suite.summary(found)
        if name in beside:
            summary = with_control(name, suite, control, summary)
        found["summary"] = as_json(summary)
        results[name] = put_down(config, file, found, arrays, None if quiet else suite.table)
    return results


def put_down(
    config: EvaluateConfig,
    file: str,
    found: dict[str, Any],
    arrays: dict[str, dict[str, np.ndarray]],
    table: Callable[[dict[str, Any]], list[str]] | None,
) -> dict[str, Any]:
    """Writes figures to RUN/eval, prints their `table`, and returns them as they stand in the JSON."""
    directory = Path(config.run) / "eval"
    suffix = "" if config.k is None else f"_k{config.k}"
    results, name = plain(found), file + suffix
    write(directory, name, results, {table + suffix: columns for table, columns in arrays.items()})
    if table:
        say(f"{file}  ({directory / name}.json)", *(f"  {line}" for line in table(results)))
    return results


def _is_of_a_flag(config: EvaluateConfig, message: str) -> bool:
    """Whether an error names a flag that somebody gave: it is wrong, whatever suites apply."""
    named = re.match(r"--(\w+)", message)
    values = to_dict(config)
    plainly = lambda value: list(value) if isinstance(value, tuple) else value
    given = {field.name for field, _ in leaves(EvaluateConfig) if values[field.name] != plainly(field.default)}
    return bool(named) and named[1] in given - {"run", "suite"}


def _controlled(context: Context) -> tuple[str, ...]:
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
        both = dictionary.metadata.get("beside") and any(name != "reconstruction" for name in names)
        check(not both, "suite", listed, f"{config.run} is of two models, and one alone would run: give reconstruction")
        own = dictionary.metadata.get("site")
        check(not config.site, "site", config.site, f"{kind}, {own}: leave the flag out")
        known = all(dictionary.metadata.get(side) for side in ("reads", "writes"))
        check(known, "run", config.run, "does not say which sites it reads and writes: import it from files that do")
    takes = any(name in _controlled(context) for name in names)
    fix = f"--suite={listed} has no control: leave the flag out, or give --suite={' or '.join(_controlled(context))}"
    check(takes or not config.control_run, "control_run", config.control_run, fix)
    if config.control_run:
        check_there(config.control_run, "control_run")


def default_suites(dictionary: Dictionary) -> tuple[str, ...]:
    """What is measured where no flag says it."""
    return ("decomposability",) if is_meta_sae(dictionary.metadata) else ("reconstruction",)


def origin(context: Context) -> dict[str, Any]:
    """What every suite's figures are figures of."""
    dictionary = context.dictionary
    config = dictionary.config
    return {
        "architecture": config.architecture,
        "width": dictionary.width,
        "k": config.told_k,
        "threshold": dictionary.threshold if config.has_threshold else None,
        "site": context.site,
        "trained_tokens": dictionary.metadata.get("tokens"),
    }


def write(directory: Path, name: str, results: dict[str, Any], arrays: dict[str, dict[str, np.ndarray]]) -> None:
    """Writes `name`.json, and a .npz file for each of `arrays`; process 0 does, the others do nothing."""
    if not is_first_process():
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for table, columns in arrays.items():
            replace(directory / f"{table}.npz", lambda file, columns=columns: np.savez(file, **columns))
        write_json(directory / f"{name}.json", results)
    except OSError as error:
        reraise_if_disk_full(error, str(directory))
        raise


def number(value: float | None) -> str:
    """A figure in a table, "-" where there is none."""
    return "-" if value is None else f"{value:.4f}"
