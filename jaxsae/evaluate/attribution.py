"""What latents do to a language model's next-token loss, to first order: attribution patching with zeros as the baseline.

    a_i = f_i W_dec,i . grad_x CE

f_i are the latents of a row x, CE is the cross-entropy in nats, summed over the predictions of the row's sequence, of the
model with nothing replaced (IE_atp of Marks et al., Sparse Feature Circuits, 2403.19647, with its sign turned: zeroing the
latent adds -a_i to CE). Since what is written is sum_i f_i W_dec,i + b_dec + e, and W_skip x where there is such a map, the
parts of the error, e . grad_x CE, and of the others stand beside those of the latents, and add up.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate import says
from jaxsae.evaluate.attribution_mesh import MeshAttribution
from jaxsae.evaluate.attribution_text import SUITE, check_model, open_model
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.run import ARRAYS, number
from jaxsae.progress import Progress

STEPS = (0.01, 0.1, 1.0)  # along the error, at which the first order is tried
TOP = 20  # latents that are listed
_MEANS = ("absolute", "net", "error_absolute", "error_net", "bias_net", "skip_net", "input_absolute", "input_net")


def check(context: Context) -> None:
    """Refuses what is not of one site, and a model through which no gradient is taken.

    Raises:
      InputError: a crosscoder, a cross-layer transcoder; a masked model, one that JAX does not run.
    """
    if context.crosscodes or context.layers > 1:
        sites = ", ".join(dict.fromkeys((*context.reads, *context.writes)))
        raise InputError(
            f"--suite={SUITE}: is for dictionaries that write one site, and {context.config.run} is a "
            f"{context.dictionary.kind} of several, {sites}. Leave it out of --suite."
        )
    check_model(context)


def evaluate(context: Context) -> dict[str, Any]:
    """Attributes the loss of held-out text, or of games, to the latents of its rows.

    Returns:
      `tokens` (rows: the positions that a harvest keeps), `predictions`, `sequences`, `ce` (nats a prediction); means over
      the tokens, in nats: `absolute` of sum_i |a_i|, `net` of sum_i a_i, `error_absolute`, `error_net`, `bias_net`,
      `skip_net` where a map goes past the latents, and `input_absolute`, `input_net` of what is written as a whole, of which
      the net ones are the parts; `unexplained`, error_absolute / (absolute + error_absolute); `latents_of_half`,
      `latents_of_90_percent`: how many latents have that share of all |a_i|; `latents_a_token_of_90_percent`: how many of a
      token's own, on average over the `attributed_tokens`, those with any, as is `l0`; `baselines` {activation: the same by
      |f_i| ||W_dec,i|| and ||e||}; `first_order`, for each step t: `actual`, the change of the loss a token where the
      reconstruction's error is taken off by t, x - t e, and `predicted`, -t error_net; `top`: the latents with the most of
      all |a_i|, with their means over the tokens. Sums by latent are in `attribution.npz`.
    """
    model = open_model(context)
    attribution = MeshAttribution(model, context.dictionary, context.reads[0], context.writes[0])
    sums: dict[str, Any] = {}
    latents: dict[str, np.ndarray] = {}
    predictions = 0
    with Progress(model.sequences, SUITE, "sequence") as bar:
        for batch in model.batches():
            whole, by_latent = attribution.sums(batch, STEPS)
            for total, found in ((sums, whole), (latents, by_latent)):
                total.update({name: total.get(name, 0) + value for name, value in found.items()})
            predictions += int(batch.asked.sum())
            bar.advance(batch.sequences)
    if not all(np.isfinite(value).all() for value in sums.values()):
        raise InputError(
            f"--suite={SUITE}: activations of {'+'.join(context.writes)}, or the gradient there, hold NaN or Inf. Try "
            "--model_dtype=float32."
        )
    rows = int(sums["rows"])
    head = {"tokens": rows, "predictions": predictions, "sequences": model.sequences} | model.about
    arrays = latents | {"tokens": np.int64(rows)}
    arrays["firings"] = latents["firings"].astype(np.int64)
    return head | figures(sums, latents, predictions) | {ARRAYS: {SUITE: arrays}}


def figures(sums: Mapping[str, Any], latents: Mapping[str, np.ndarray], predictions: int) -> dict[str, Any]:
    """What `evaluate` returns of sums over all rows, {name: value}, and by latent, {name: [n]}."""
    rows = sums["rows"]
    means = {name: sums[name] / rows for name in _MEANS if name in sums}
    a_token = lambda name: sums[name] / sums["attributed"] if sums["attributed"] else None
    by_activation = {
        "unexplained": _share(sums["error_size"], sums["mass"]),
        "latents_of_half": carriers(latents["mass"], 0.5),
        "latents_of_90_percent": carriers(latents["mass"], 0.9),
        "latents_a_token_of_90_percent": a_token("most_of_mass"),
    }
    moved = zip(STEPS, sums["moved"], strict=True)
    return {
        "ce": sums["ce"] / predictions,
        **means,
        "unexplained": _share(sums["error_absolute"], sums["absolute"]),
        "latents_of_half": carriers(latents["absolute"], 0.5),
        "latents_of_90_percent": carriers(latents["absolute"], 0.9),
        "latents_a_token_of_90_percent": a_token("most"),
        "attributed_tokens": int(sums["attributed"]),
        "l0": a_token("l0"),
        "baselines": {"activation": by_activation},
        "first_order": [
            {"t": step, "actual": change / rows, "predicted": -step * means["error_net"]} for step, change in moved
        ],
        "top": _top(latents, rows),
    }


def carriers(sizes: np.ndarray, share: float) -> int:
    """How many of some sizes [n], largest first, have a share of their sum; 0 where all are 0."""
    sums = np.cumsum(np.sort(sizes)[::-1])
    return int((sums < share * sums[-1]).sum()) + 1 if sums[-1] > 0 else 0


def _share(error: float, latents: float) -> float | None:
    return error / (error + latents) if error + latents > 0 else None


def _top(latents: Mapping[str, np.ndarray], rows: float) -> list[dict[str, Any]]:
    """Of the latents with the most of all |a_i|: means over all tokens, shares of all latents' sums, firing frequency."""
    total, mass = (max(latents[name].sum(), np.finfo(float).tiny) for name in ("absolute", "mass"))
    order = np.argsort(-latents["absolute"], kind="stable")[:TOP]
    return [
        {
            "latent": int(i),
            "absolute": latents["absolute"][i] / rows,
            "net": latents["net"][i] / rows,
            "share": latents["absolute"][i] / total,
            "activation_share": latents["mass"][i] / mass,
            "frequency": latents["firings"][i] / rows,
        }
        for i in order
        if latents["absolute"][i] > 0
    ]


summary = says.attribution


def table(results: Mapping[str, Any]) -> list[str]:
    """The figures in a few lines."""
    plain, top = results["baselines"]["activation"], results["top"]
    held = ", NOT held out" if results.get("held_out") is False else ""
    of = f"documents {results['documents']}{held}" if "documents" in results else f"{results['games']:,} games"
    skip = f"   skip {results['skip_net']:+.4f}" if "skip_net" in results else ""
    first = "   ".join(f"t {x['t']:g}: {x['actual']:+.2e} ({x['predicted']:+.2e})" for x in results["first_order"])
    shown = "   ".join(f"{x['latent']}: {x['absolute']:.4f} ({x['share']:.1%}, net {x['net']:+.4f})" for x in top[:5])
    return [
        f"ce {results['ce']:.4f}   ({results['tokens']:,} tokens, {results['predictions']:,} predictions, {of})",
        f"nats a token: latents {results['absolute']:.4f}, net {results['net']:+.4f}   error "
        f"{results['error_absolute']:.4f}, net {results['error_net']:+.4f}   bias {results['bias_net']:+.4f}{skip}   "
        f"all {results['input_net']:+.4f}",
        f"unexplained {number(results['unexplained'])}   (by activation {number(plain['unexplained'])})",
        f"half in {results['latents_of_half']:,} latents, 90% in {results['latents_of_90_percent']:,}   (by activation "
        f"{plain['latents_of_half']:,}, {plain['latents_of_90_percent']:,}; of {results['width']:,})",
        f"90% of a token's in {number(results['latents_a_token_of_90_percent'])} latents   (by activation "
        f"{number(plain['latents_a_token_of_90_percent'])}; l0 {number(results['l0'])})",
        f"change of the loss a token at x - t e, and what first order says   {first}",
        f"most: {shown}",
    ]
