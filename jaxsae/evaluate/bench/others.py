"""The dictionaries that are benched, and what their evaluations say, taken as it stands or measured."""

import dataclasses
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxsae.config import check
from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.evaluate import run
from jaxsae.evaluate.against import Other, others_of
from jaxsae.evaluate.bench_config import NOT_BENCHED
from jaxsae.evaluate.config import SUITES
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.summary import as_json
from jaxsae.evaluate.text_model import reads_text
from jaxsae.numbers import plain
from jaxsae.progress import say
from jaxsae.training.run import CHECKPOINTS


@dataclasses.dataclass(frozen=True)
class Entry:
    """One dictionary of the table, with its own context."""

    name: str
    context: Context

    @property
    def dictionary(self) -> Dictionary:
        return self.context.dictionary

    @property
    def reads(self) -> tuple[str, ...]:
        return self.context.reads

    @property
    def writes(self) -> tuple[str, ...]:
        return self.context.writes


def entries_of(context: Context) -> list[Entry]:
    """The dictionary of --run, then those of --against, with their weights; opened once."""
    if "bench" not in context.shared:
        own = dataclasses.replace(context.config, against=())
        found = [Entry(own.run, Context(own, context.dictionary, context.shared.setdefault("bench shared", {})))]
        for other in others_of(context, "bench"):
            check_same_sites(context, other)
            found.append(_entry(context, other))
        context.shared["bench"] = found
    return context.shared["bench"]


def check_same_sites(context: Context, other: Other) -> None:
    """Raises `InputError` unless both write the same sites."""
    same = sorted(other.writes) == sorted(context.writes)
    wanted = (
        f"writes {'+'.join(other.writes)}, and --run writes {'+'.join(context.writes)}: bench those of the same sites"
    )
    check(same, "against", other.name, wanted)


def _entry(context: Context, other: Other) -> Entry:
    config = context.config
    one_site = "" if other.metadata.get("reads") else config.site  # of a transcoder the flag says nothing
    own = dataclasses.replace(config, run=other.path, against=(), site=one_site)
    dictionary = other.dictionary if config.k is None else other.dictionary.with_k(config.k)
    shared = context.shared.setdefault("bench shared", {})
    return Entry(other.name, Context(own, dictionary, shared))


def suites_of(context: Context) -> tuple[str, ...]:
    """The suites that every dictionary is to have figures of.

    Raises:
      InputError: --bench_suites names one that there is not.
    """
    given = context.config.bench.bench_suites
    known = [name for name in SUITES if name not in NOT_BENCHED]
    for name in given:
        check(name in known, "bench_suites", ",".join(given), f"{name} is none of {', '.join(known)}")
        says = hasattr(importlib.import_module(f"jaxsae.evaluate.{name}"), "summary")
        check(says, "bench_suites", ",".join(given), f"{name} has no figures that stand beside others'")
    if given:
        return given
    plain_sites = not (context.transcodes or context.crosscodes)
    return (
        ("reconstruction", "splice", "othello")
        if plain_sites and not reads_text(context)
        else ("reconstruction", "splice")
    )


def check_missing(entries: Sequence[Entry], suites: Sequence[str]) -> None:
    """Raises `InputError` where a suite that is still to be run cannot judge a dictionary."""
    for entry in entries:
        missing = tuple(suite for suite in suites if kept(entry, suite) is None)
        if missing:
            context = entry.context
            try:
                run.prepare(dataclasses.replace(context.config, suite=missing, against=()), context.dictionary, {})
            except InputError as error:
                raise InputError(f"{entry.name}, --bench_suites={','.join(suites)}: {error}") from None


def kept(entry: Entry, suite: str) -> dict[str, Any] | None:
    """What the suite's JSON says in its summary; None where it is not there, or of another state of the run."""
    config = entry.context.config
    suffix = "" if config.k is None else f"_k{config.k}"
    try:
        text = (Path(config.run) / "eval" / f"{suite}{suffix}.json").read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError):
        return None
    own = plain(run.origin(entry.context))
    same = isinstance(found, dict) and {name: found.get(name) for name in own} == own
    return found.get("summary") if same else None


def measured(entry: Entry, suite: str) -> dict[str, Any]:
    """A suite's summary, measured now, and written to the run's eval/ as `evaluate --suite` would; of a checkpoint nothing is
    written."""
    context = entry.context
    config = dataclasses.replace(context.config, suite=(suite,), against=())
    context, suites = run.prepare(config, context.dictionary, context.shared)
    module = suites[suite]
    found = module.evaluate(context)
    arrays, file = found.pop(run.ARRAYS, {}), found.pop(run.FILE, suite)
    found = plain(run.origin(context) | found)
    found["summary"] = as_json(module.summary(found))
    if Path(config.run).parent.name != CHECKPOINTS:
        run.put_down(config, file, found, arrays, None)
    return plain(found["summary"])


def gathered(entries: Sequence[Entry], suites: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """{suite: {dictionary: summary}} of the suites that are to be there, and of others that two or more have; and notes.

    Where summaries of one suite are of different samples, those that were there before are measured anew.
    """
    out: dict[str, dict[str, Any]] = {}
    notes = []
    for suite in suites:
        there = {entry.name: kept(entry, suite) for entry in entries}
        old = {name for name, found in there.items() if found}
        for entry in entries:
            if entry.name not in old:
                say(f"bench: {suite} of {entry.name}")
                there[entry.name] = measured(entry, suite)
        if len({found["sample"] for found in there.values()}) > 1:
            for entry in entries:
                if entry.name in old:
                    say(f"bench: {suite} of {entry.name} anew: it was of {there[entry.name]['sample']}")
                    there[entry.name] = measured(entry, suite)
        elif old and len(old) < len(entries):
            notes.append(f"{suite}: {len(old)} of {len(entries)} were measured before, of as many: by the same --seed?")
        out[suite] = there
    for suite in SUITES:
        if suite in (*suites, *NOT_BENCHED):
            continue
        there = {entry.name: found for entry in entries if (found := kept(entry, suite))}
        if len(there) > 1:
            out[suite] = there
            if len({found["sample"] for found in there.values()}) > 1:
                notes.append(f"{suite}: of different samples, so that its figures are not of the same rows")
    return out, notes
