"""Compounding error: what the first 1, 2, ... dictionaries of a set cost the model together, in the order of its sites.

Each sees what those before it made of the stream. Beside that stands the sum of what each costs alone, which it would be if
errors did not meet, and the share of training compute that is left (`effective_compute.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxsae.evaluate.context import Context
from jaxsae.evaluate.curves import read_curves
from jaxsae.evaluate.effective_compute import trained
from jaxsae.evaluate.games_together import GamesTogether
from jaxsae.evaluate.on_curves import FIGURES, on_curves
from jaxsae.evaluate.run import number
from jaxsae.evaluate.splice_figures import with_interval
from jaxsae.evaluate.splice_measure import Measured, about, check_widths, measure
from jaxsae.evaluate.splice_text import run_of
from jaxsae.evaluate.text_model import open_text, reads_text

WHAT = "compounding"


class TextTogether:
    """The dictionaries of some contexts, in the order in which the model comes to their sites, in one model and text."""

    def __init__(self, contexts: Sequence[Context]):
        """Opens the model and the text.

        Raises:
          InputError: as `open_text`; a site that the model has not, or has otherwise.
        """
        self._text = open_text(contexts[0])
        self._runs = {context.writes[0]: run_of(context) for context in contexts}
        self.sites = list(self._runs)
        check_widths(self._text, self._runs)

    def measure(self, what: str) -> Measured:
        """Of the first 1, 2, ... dictionaries, by the last one's site."""
        first = {site: self.sites[: i + 1] for i, site in enumerate(self.sites)}
        return measure(self._text, self._runs, first, what)

    def about(self, measured: Measured) -> dict[str, Any]:
        """What the figures are figures of."""
        return about(self._text, measured)


class Together:
    """All dictionaries of a set in their model, one that reads text or one that plays Othello."""

    def __init__(self, contexts: Sequence[Context]):
        """Opens the model.

        Raises:
          InputError: a scaling curve that cannot be read; as `TextTogether` or `GamesTogether`.
        """
        config, text = contexts[0].config, reads_text(contexts[0])
        self._curves, self._model_tokens = read_curves(config.scaling_curve, games=not text), config.model_tokens
        self._own_tokens = trained(contexts[0]).get("tokens")
        self._model = (TextTogether if text else GamesTogether)(contexts)

    def evaluate(self, alone: Mapping[str, float]) -> dict[str, Any]:
        """What the first 1, 2, ... of them cost.

        Args:
          alone: {site: delta CE of its dictionary alone}.

        Returns:
          `tokens` and the rest of what splice says of its text or games; `rows`, one for each number of dictionaries:
          `sites`, the figures of the suite splice, `sum_of_each_delta_ce`, and `effective_compute`, that suite's figures,
          with `refused` {curve: why it gives none}; `curves`, `notes` of that suite; `error_nodes`, at all sites.
        """
        sites = self._model.sites
        measured = self._model.measure(WHAT)
        told, rows, share = self._model.about(measured), [], {}
        for count, site in enumerate(sites, 1):
            figures, those = measured.figures(site), sites[:count]
            share = on_curves(self._curves, figures | told, self._model_tokens, self._own_tokens)
            total = {"sum_of_each_delta_ce": sum(alone[site] for site in those)}
            rows.append({"sites": those} | figures | total | {"effective_compute": {n: share[n] for n in FIGURES}})
        kept = {name: share[name] for name in ("curves", "notes")}
        return told | {"site": "+".join(sites), "rows": rows, "error_nodes": measured.error_nodes} | kept


def table(results: Mapping[str, Any]) -> list[str]:
    """A line for each number of dictionaries, and what the errors come to."""
    held = "" if results["held_out"] else ", NOT held out"
    of = f"{results['games']:,} games" if "games" in results else f"documents {results['documents']}{held}"
    last, nodes = results["rows"][-1], results["error_nodes"]
    lines = [f"ce {last['ce']:.4f}   ({results['tokens']:,} predictions, {of})"]
    for row in results["rows"]:
        faithful = " ".join(f"{base} {number(share)}" for base, share in row["faithfulness"].items())
        fractions = row["effective_compute"]["fraction"].items()
        compute = "".join(f"   {curve} {number(fraction)} of the compute" for curve, fraction in fractions)
        lines.append(
            f"{len(row['sites']):3} to {row['sites'][-1]}: delta_ce {with_interval(row, 'delta_ce')}   sum of each alone "
            f"{row['sum_of_each_delta_ce']:.4f}   kl {row['kl']:.4f}   mean {row['ce_mean'] - row['ce']:.4f}   "
            f"faithfulness by {faithful}{compute}"
        )
    shares = "   ".join(f"{site} {number(share)}" for site, share in nodes["share"].items())
    lines.append(f"error nodes: of the variance {shares}   kl with all {nodes['kl']:.1e}")
    refused = last["effective_compute"]["refused"].items()
    return lines + [f"{name}: no share of compute. {why}" for name, why in refused] + results["notes"]
