"""Every dictionary of a set by the suites, and what all of them cost the model together; of a run, the run alone."""

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxsae.config import check
from jaxsae.dictionary import Dictionary
from jaxsae.evaluate import compounding, run
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context
from jaxsae.progress import say
from jaxsae.training.sets import complete_runs, is_set

COMPOUNDING = "compounding"  # eval/compounding.json of a set
_OF_ONE_RUN = ("site", "splice_with", "control_run", "against")


def evaluate(config: EvaluateConfig, dictionary: Dictionary | None = None, quiet: bool = False) -> dict[str, Any]:
    """Evaluates a run as `run.evaluate` does, or each run of a set and, with the suite splice, all of them together.

    Returns:
      Of a run {suite: its figures}; of a set {site: {suite: its figures}}, and `compounding`: what stands in
      SET/eval/compounding.json, where it was measured.

    Raises:
      InputError: as `run.evaluate`; runs of a set that are missing or not trained to the end; flags that are of one run.
    """
    if dictionary is not None or not is_set(config.run):
        return run.evaluate(config, dictionary, quiet)
    _check_flags(config)
    shared: dict[str, Any] = {}
    paths = complete_runs(Path(config.run), config.store)
    opened = {path.name: run.prepare(dataclasses.replace(config, run=str(path)), shared=shared) for path in paths}
    together = _together(opened)  # before anything is measured
    results: dict[str, Any] = {}
    for number, (site, (context, suites)) in enumerate(opened.items(), 1):
        if not quiet:
            say(f"{site}, {number} of {len(opened)}")
        results[site] = run.measure(context, suites, quiet)
    if together and all("splice" in results[site] for site in opened):
        alone = {site: results[site]["splice"]["delta_ce"] for site in opened}
        found = run.origin(next(iter(opened.values()))[0]) | together.evaluate(alone)
        table = None if quiet else compounding.table
        results[COMPOUNDING] = run.put_down(config, COMPOUNDING, found, {}, table)
    return results


def _check_flags(config: EvaluateConfig) -> None:
    for name in _OF_ONE_RUN:
        value = getattr(config, name)
        shown = value if isinstance(value, str) else ",".join(value)
        check(
            not value,
            name,
            shown,
            f"{config.run} holds runs of several sites: give one as --run, or leave the flag out",
        )


def _together(opened: dict[str, tuple[Context, dict[str, ModuleType]]]) -> compounding.Together | None:
    """All dictionaries in their model, where they are to be spliced in."""
    contexts = [context for context, _ in opened.values()]
    return compounding.Together(contexts) if "splice" in next(iter(opened.values()))[1] else None
