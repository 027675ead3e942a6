"""The same suite of a dictionary of a model with random weights: what a figure comes to where there is nothing to find.

Sparse autoencoders of untrained transformers have latents that look as well as others by many measures (Heap et al.,
2501.17727); a figure that is no better than theirs says nothing of what a model learnt.
"""

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from jaxsae.errors import InputError
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context, load_dictionary
from jaxsae.evaluate.summary import Summary
from jaxsae.evaluate.text_model import reads_text
from jaxsae.lm.weights import RANDOM
from jaxsae.numbers import plain
from jaxsae.progress import say

NAME = "random model"  # among a figure's baselines


def control_context(config: EvaluateConfig) -> Context | None:
    """The dictionary of `--control_run` with its own model, site and store; None where none is named.

    Raises:
      InputError: no such run; one on an Othello model that was trained.
    """
    if not config.control_run:
        return None
    dictionary = load_dictionary(config.control_run, config.mesh, flag="control_run")
    if config.k is not None:
        dictionary = dictionary.with_k(config.k)
    source = dictionary.metadata.get("model", "")
    own = dataclasses.replace(config, run=config.control_run, store="", site="", model="", control_run="")
    control = Context(own, dictionary)
    if not reads_text(control) and not source.startswith(RANDOM):  # of a language model nothing tells its weights
        raise InputError(
            f"--control_run={config.control_run} belongs to model {source!r}: give a run on random weights"
        )
    return control


def with_control(name: str, suite: ModuleType, control: Context, summary: Summary) -> Summary:
    """A summary whose figures have those of the control among their baselines, as far as it has them."""
    try:
        found = figures_of(suite, control)
    except InputError as error:
        say(f"{name}: nothing of --control_run={control.config.run}: {error}")
        return summary
    add = lambda figure: {NAME: found[figure.name]} if figure.name in found else {}
    return dataclasses.replace(
        summary,
        figures=[dataclasses.replace(f, baselines=dict(f.baselines) | add(f)) for f in summary.figures],
    )


def figures_of(suite: ModuleType, context: Context) -> Mapping[str, Any]:
    """{figure: value} of what a suite finds of a context's dictionary."""
    if hasattr(suite, "check"):
        suite.check(context)
    results = plain(suite.evaluate(context))
    return {figure.name: figure.value for figure in suite.summary(results).figures}
