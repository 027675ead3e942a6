"""Runs suites over a dictionary, and writes and prints what they find.

A suite is a module, or a package, with `evaluate(context) -> dict`, its figures, `table(results) -> list of lines`,
`summary(results) -> Summary` of what stands in its JSON, and perhaps `check(context)`, which refuses before any suite has
begun what this one cannot judge.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError, reraise_if_disk_full
from jaxsae.evaluate.applies import OWN_CONTROL, applicable, checked, controlled, default_suites, is_of_a_flag, reason
from jaxsae.evaluate.beside_control import control_context, with_control
from jaxsae.evaluate.config import ALL, EvaluateConfig
from jaxsae.evaluate.context import Context, check_whole, load_dictionary
from jaxsae.evaluate.summary import as_json
from jaxsae.files import replace, write_json
from jaxsae.numbers import plain
from jaxsae.progress import is_first_process, say

ARRAYS = "_arrays"  # key of a suite's results that go to a .npz file instead of the JSON
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
        return context, applicable(context)
    return context, checked(context, config.suite or default_suites(dictionary))


def measure(context: Context, suites: Mapping[str, ModuleType], quiet: bool = False) -> dict[str, dict[str, Any]]:
    """Figures of each suite, written and printed; of `all` those of the suites that have something to say."""
    results, why, config = {}, {}, context.config
    beside = [name for name in suites if config.control_run and name in controlled(context) and name not in OWN_CONTROL]
    control = control_context(config) if beside else None  # before the work: it may be refused
    for name, suite in suites.items():
        try:
            found = suite.evaluate(context)
        except InputError as error:
            if config.suite != (ALL,) or is_of_a_flag(config, str(error)):
                raise
            why[name] = reason(str(error), name)  # what only its work shows; the others are no worse for it
            say(f"{name} is left out: {why[name]}")
            continue
        arrays, file = found.pop(ARRAYS, {}), found.pop(FILE, name)
        found = plain(origin(context) | found)
        summary = suite.summary(found)
        if name in beside:
            summary = with_control(name, suite, control, summary)
        found["summary"] = as_json(summary)
        results[name] = put_down(config, file, found, arrays, None if quiet else suite.table)
    if why and not results:
        raise InputError(" ".join(f"{name}: {said}" for name, said in why.items()))
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
