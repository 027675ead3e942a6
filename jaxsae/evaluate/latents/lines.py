"""What the suite `latents` says of a dictionary in the terminal."""

from collections.abc import Mapping
from typing import Any

from jaxsae.evaluate.run import number
from jaxsae.evaluate.says import percent


def table(e: Mapping[str, Any]) -> list[str]:
    """The figures in a few lines."""
    told, spliced = e["frequency"], e["spliced"]
    lines = [
        f"{told['rows']:,} rows of {told['sequences']:,} {e['unit']}s (worth {told['rows'] / told['design_effect']:,.0f} "
        f"independent ones)   l0 {told['l0']:.2f}   silent {told['dead']['count']:,} (below {told['silent_below']:.1e} at "
        f"95%)   "
        f"ultra-rare {told['ultra_rare']['count']:,} (sure {told['ultra_rare']['sure']:,}, open "
        f"{told['ultra_rare']['open']:,})   dense {told['dense']['count']:,} (sure {told['dense']['sure']:,}, open "
        f"{told['dense']['open']:,})",
        f"delta_ce (kl) of activations of a share of their latent's largest and more, {spliced['predictions']:,} predictions",
    ]
    show = lambda part: "-" if part is None else f"{part['delta_ce']:.4f} ({part['kl']:.4f})"
    for cover, part in zip(e["coverage"], spliced["cuts"], strict=True):
        lines.append(
            f"{cover['cut']:4.0%}: {percent(cover['activations']):>6} of activations, {percent(cover['covered']):>6} of "
            f"tokens   alone {show(part['high'])}   at random {show(part['random'])}   of the row "
            f"{show(part['random_in_row'])}   "
            f"low alone {show(part['low'])}   fvu {number(part['high']['fvu'])}"
        )
    lines.append("   ".join(f"{name} {show(part)}" for name, part in spliced["baselines"].items()))
    for site, found in e["basis"].items():
        own, out = found["latents"], found["outliers"]
        beside = ", ".join(f"{name} {percent(part['along'])}" for name, part in found["baselines"].items())
        lines.append(
            f"{site}: along an axis {percent(own['along'])} ({beside})   participation {own['participation']:.1f} (random "
            f"{found['baselines']['random']['participation']:.1f})   outlier dimensions {out['dimensions']}, "
            f"{percent(out['share_of_variance'])} of the variance, {percent(out['share_of_decoder'])} of the decoder"
        )
    if not e.get("lens"):
        return [*lines, f"no logit lens: {e['no_lens']}"]
    found, true = e["lens"], e["lens"]["comes_true"]
    return [
        *lines,
        f"lens: promoting {percent(found['promoting']['share'])}, suppressing {percent(found['suppressing']['share'])} "
        f"(random 1% in all)   {true['of']} where it fires {percent(true['latents']['share'])} (other latents' tokens "
        f"{percent(true['shuffled']['share'])}, random {percent(true['random']['share'])})",
    ]
