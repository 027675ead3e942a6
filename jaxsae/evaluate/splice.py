"""What a model loses when a dictionary's reconstruction stands in for its activations at one site.

Here the Othello GPT; language models that read text are in `splice_text.py`.

Cross-entropy is taken against the exact target, uniform over the legal next moves, so that it has no
sampling noise of its own. Loss recovered is 1 - (CE_spliced - CE) / (CE_zero - CE): for comparison only,
since zeros are a weak baseline; the mean activation stands beside them.
"""

from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.evaluate import games as play
from jaxsae.evaluate import says, splice_text
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.run import number
from jaxsae.evaluate.splice_figures import STAND_INS, interval, log_softmax, recovered, with_interval
from jaxsae.lm.gpt import check_sites
from jaxsae.lm.othello import CONTEXT, Games, loss_floor
from jaxsae.progress import Progress


def evaluate(context: Context) -> dict[str, Any]:
    """Splices the dictionary in at the harvested positions, and beside that at all positions.

    Returns:
      `tokens`, `games`, `floor`, `ce`, `whole_games` (`tokens`, `ce` and `floor` at all plies, of the model as it is),
      then `ce_spliced`, `ce_zero`, `ce_mean`, `delta_ce` with `delta_ce_interval` (95%, over games), `kl` of original ||
      spliced with its interval, `kl_zero`, `kl_mean`, `loss_recovered`, `faithfulness`, `legal_top1` and
      `next_token_agreement` of each; `all_positions` has the same where every position is replaced.
      Nats a move; all are measured from the first harvested position to the last of the game.
    """
    if splice_text.reads_text(context):
        return splice_text.evaluate(context)
    config, model, site = context.config, context.model, context.site
    play.check_plays_othello(model)
    check_sites(model.config, [site], flag="site")  # a transcoder's is none
    games = play.held_out_games(config.games, config.seed, play.SPLICE)
    measured = slice(context.positions.start, CONTEXT)
    places = {"harvested": context.positions, "all": slice(0, CONTEXT)}
    logits = run(context.dictionary, model, site, games, context.mean, places, config.games_per_batch)
    legal = games.legal_tokens()
    whole_games = whole(logits["original"], legal)
    legal = legal[:, measured]
    logits = {key: value[:, measured] for key, value in logits.items()}
    counts = {"tokens": legal.shape[0] * legal.shape[1], "games": len(games)}
    positions = {"replaced": _ends(context.positions), "measured": _ends(measured)}
    head = counts | {"positions": positions, "floor": loss_floor(legal)}
    head |= {"whole_games": whole_games}
    return head | compare(logits, "harvested", legal) | {"all_positions": compare(logits, "all", legal)}


def whole(logits_GxPxV: np.ndarray, legal_GxPxV: np.ndarray) -> dict[str, Any]:
    """`tokens`, `ce` and its `floor` of the model as it is, at all plies of games; as `train_lm` counts them."""
    target = legal_GxPxV / legal_GxPxV.sum(-1, keepdims=True)
    ce = -(target * log_softmax(logits_GxPxV)).sum(-1)
    return {"tokens": ce.size, "ce": ce.mean(), "floor": loss_floor(legal_GxPxV)}


def run(
    dictionary: Dictionary, model, site: str, games: Games, mean: np.ndarray, places: dict[str, slice], size: int
) -> dict:
    """Logits [G, 59, vocabulary] of the model as it is, "original", and of each (place, stand-in)."""
    keys = ["original", *((place, name) for place in places for name in STAND_INS)]
    out: dict[Any, list[np.ndarray]] = {key: [] for key in keys}
    with Progress(len(games), "splice", "game") as bar:
        for rows, moves in play.batches(games, size):
            count = rows.stop - rows.start
            logits, x = play.read(model, moves, site)
            x_BxTxD = np.asarray(x, np.float32)
            stand_ins = {
                "spliced": np.asarray(dictionary.reconstruct(x_BxTxD.reshape(-1, x.shape[-1]))).reshape(x.shape),
                "zero": np.zeros_like(x_BxTxD),
                "mean": np.broadcast_to(mean, x.shape),
            }
            out["original"].append(np.asarray(logits)[:count])
            for place, where in places.items():
                for name, values in stand_ins.items():
                    mixed = x_BxTxD.copy()
                    mixed[:, where] = values[:, where]
                    out[place, name].append(np.asarray(play.spliced(model, moves, mixed, site))[:count])
            bar.advance(count)
    return {key: np.concatenate(parts) for key, parts in out.items()}


def compare(logits: dict[Any, np.ndarray], place: str, legal_GxPxV: np.ndarray) -> dict[str, Any]:
    """Figures of the original beside those of each stand-in at `place`."""
    runs = {"original": logits["original"]} | {name: logits[place, name] for name in STAND_INS}
    logs = {name: log_softmax(values) for name, values in runs.items()}
    target = legal_GxPxV / legal_GxPxV.sum(-1, keepdims=True)
    losses = {name: -(target * log).sum(-1) for name, log in logs.items()}  # [G, P]
    ce = {name: loss.mean() for name, loss in losses.items()}
    picks = {name: log.argmax(-1) for name, log in logs.items()}
    by_game = (losses["spliced"] - losses["original"]).mean(1)
    chance = np.exp(logs["original"])
    kl = {name: (chance * (logs["original"] - logs[name])).sum(-1).mean(1) for name in STAND_INS}  # [G]
    return {
        "ce": ce["original"],
        **{f"ce_{name}": ce[name] for name in STAND_INS},
        "delta_ce": by_game.mean(),
        "delta_ce_interval": interval(by_game),
        "kl": kl["spliced"].mean(),
        "kl_interval": interval(kl["spliced"]),
        **{f"kl_{name}": kl[name].mean() for name in ("zero", "mean")},
        "loss_recovered": recovered(ce["original"], ce["spliced"], ce["zero"]),
        "faithfulness": {"mean": recovered(ce["original"], ce["spliced"], ce["mean"])},
        "legal_top1": {k: np.take_along_axis(legal_GxPxV, p[..., None], -1).mean() for k, p in picks.items()},
        "next_token_agreement": {k: (picks[k] == picks["original"]).mean() for k in STAND_INS},
    }


def _ends(positions: slice) -> list[int]:
    return [positions.start, positions.stop - 1]


summary = says.splice


def table(results: dict[str, Any]) -> list[str]:
    """The figures in a few lines."""
    if "games" not in results:
        return splice_text.table(results)
    top1 = results["legal_top1"]
    return [
        f"ce {results['ce']:.4f}   spliced {results['ce_spliced']:.4f}   zero {results['ce_zero']:.4f}   "
        f"mean {results['ce_mean']:.4f}   floor {results['floor']:.4f}   ({results['tokens']:,} moves)",
        f"delta_ce {with_interval(results, 'delta_ce')}   kl {results['kl']:.4f}   "
        f"loss recovered {number(results['loss_recovered'])}",
        f"legal top-1 {top1['original']:.4f}   spliced {top1['spliced']:.4f}   zero {top1['zero']:.4f}",
        f"all positions: delta_ce {results['all_positions']['delta_ce']:.4f}   kl {results['all_positions']['kl']:.4f}",
    ]
