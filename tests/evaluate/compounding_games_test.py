"""What the dictionaries of a set cost the Othello GPT together, against passes written out with NumPy."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.config import write_flag_file
from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, curves, evaluate, scaling_fit
from jaxsae.evaluate import games as play
from jaxsae.evaluate.context import load_dictionary
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.report import ReportConfig, report
from jaxsae.store import open_store
from jaxsae.training import TrainConfig, save_dictionary
from jaxsae.training.every import runs_of

D, WIDTH, GAMES = 16, 48, 7
SITES = ("resid_post.0", "mlp_out.1", "resid_post.1")
KEPT = slice(6, 41)  # as harvested


@pytest.fixture(scope="module", autouse=True)
def few():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling_fit, "REPLICATES", 20)
        curves._own.cache_clear()
        yield
    curves._own.cache_clear()


@pytest.fixture
def game_set(model_path, tmp_path):
    """game_set(sites or reads and writes) -> a set of random dictionaries of the tiny GPT."""

    def make(**sites) -> Path:
        url = str(tmp_path / "store")
        wanted = dict(sites=("mlp_in.0", "mlp_in.1", "mlp_out.0", *SITES), first_position=6, last_position=40)
        store = harvest(
            HarvestConfig(
                store=url, source="othello", model=model_path, tokens=700, shard_rows=350, chunk_rows=35, **wanted
            )
        )
        method = MethodConfig(width=WIDTH, k=6, architecture="topk", transcode="reads" in sites)
        config = TrainConfig(store=url, workdir=str(tmp_path / "set"), batch_size=16, tokens=16, method=method, **sites)
        Path(config.workdir).mkdir()
        write_flag_file(Path(config.workdir) / "each.flags", config, "train")
        for seed, one in enumerate(runs_of(config, store)):
            rng = np.random.default_rng(seed)
            draw = lambda *shape, rng=rng: rng.standard_normal(shape, np.float32)
            params = Params.of(draw(WIDTH, D), draw(WIDTH) / 3, draw(WIDTH, D) / 10, draw(D) / 10)
            about = {"store": url, "source": "othello", "model": model_path, "step": one.steps, "holdout_rows": 200}
            about |= (
                {"site": one.site} if one.site else {"reads": list(one.reads), "writes": list(one.writes), "site": "x"}
            )
            save_dictionary(one.workdir, Dictionary(params, method, about | {"first_position": 6, "last_position": 40}))
            write_flag_file(Path(one.workdir) / "config.flags", one, "train")
            (Path(one.workdir) / "metrics.jsonl").write_text('{"step": 1, "fvu": 0.5}\n')
        return Path(config.workdir)

    return make


def log_probabilities(logits):
    p = np.exp(np.asarray(logits, np.float64))
    return np.log(p / p.sum(-1, keepdims=True))


def test_the_first_ones_cost_what_passes_written_out_say(game_set, model, capsys):
    path = game_set(sites=SITES)
    results = evaluate(EvaluateConfig(run=str(path), suite=("splice",), games=GAMES, games_per_batch=4))
    found = json.loads((path / "eval" / "compounding.json").read_text())
    assert found == results["compounding"] and found["games"] == GAMES and found["tokens"] == GAMES * 53
    alone = [results[site]["splice"] for site in SITES]
    assert found["whole_games"] == pytest.approx(alone[0]["whole_games"]) and found["floor"] == alone[0]["floor"]

    games = play.held_out_games(GAMES, 0, play.SPLICE)
    moves = games.moves[:, :59].astype(np.int32)
    legal = games.legal_tokens()[:, 6:]
    target = legal / legal.sum(-1, keepdims=True)
    store = open_store(str(path.parent / "store"))

    def spliced(count: int, stand_in: str) -> np.ndarray:
        """Log-probabilities with the first `count` sites replaced, each of what the pass has there."""

        def replace(site):
            dictionary, mean = load_dictionary(str(path / site)), store.statistics(site).mean

            def function(x):
                rows = np.asarray(x)[:, KEPT].reshape(-1, D)
                made = {
                    "spliced": dictionary.reconstruct(rows),
                    "zero": 0 * rows,
                    "mean": np.tile(mean, (len(rows), 1)),
                }
                return x.at[:, KEPT].set(jnp.asarray(made[stand_in]).reshape(GAMES, -1, D))

            return function

        return log_probabilities(model(moves, replace={site: replace(site) for site in SITES[:count]})[0])[:, 6:]

    original = spliced(0, "spliced")
    by_game = lambda log: -(target * log).sum(-1).mean(1)
    for count, row in enumerate(found["rows"], 1):
        assert row["sites"] == list(SITES[:count])
        logs = {name: spliced(count, name) for name in ("spliced", "zero", "mean")}
        extra = by_game(logs["spliced"]) - by_game(original)
        half = 1.96 * extra.std(ddof=1) / np.sqrt(GAMES)
        assert row["ce"] == pytest.approx(by_game(original).mean(), rel=1e-6)
        for name, log in logs.items():
            assert row[f"ce_{name}"] == pytest.approx(by_game(log).mean(), rel=1e-5), name
            assert row["next_token_agreement"][name] == pytest.approx((log.argmax(-1) == original.argmax(-1)).mean())
        assert row["delta_ce"] == pytest.approx(extra.mean(), rel=1e-3)
        assert row["delta_ce_interval"] == pytest.approx([extra.mean() - half, extra.mean() + half], rel=1e-3, abs=1e-5)
        kl = (np.exp(original) * (original - logs["spliced"])).sum(-1).mean()
        assert row["kl"] == pytest.approx(kl, rel=1e-3) and kl > 0.01
        assert row["sum_of_each_delta_ce"] == pytest.approx(sum(one["delta_ce"] for one in alone[:count]))
        share = row["effective_compute"]["fraction"]["othello"]
        own, whole = curves.read_curve("othello"), found["whole_games"]
        expected = own.fraction(own.E + whole["ce"] - whole["floor"], row["delta_ce"] * 53 / 59)
        assert share == pytest.approx(expected) and share < 1
        assert row["effective_compute"]["fraction_interval"]["othello"][0] < share
    first = found["rows"][0]
    for name in (
        "ce_spliced",
        "delta_ce",
        "delta_ce_interval",
        "kl",
        "kl_interval",
        "kl_zero",
        "loss_recovered",
        "faithfulness",
    ):
        assert first[name] == pytest.approx(alone[0][name], rel=1e-4), name
    assert abs(row["delta_ce"] - row["sum_of_each_delta_ce"]) > 1e-3  # errors meet
    assert abs(found["error_nodes"]["kl"]) < 1e-6
    for site, x in model(moves, read=SITES)[1].items():
        rows = np.asarray(x, np.float64)[:, KEPT].reshape(-1, D)
        error = rows - np.asarray(load_dictionary(str(path / site)).reconstruct(rows.astype(np.float32)))
        share = np.square(error).sum() / np.square(rows - rows.mean(0)).sum()
        assert found["error_nodes"]["share"][site] == pytest.approx(share, rel=1e-4)
    shown = capsys.readouterr().err
    assert f"3 to resid_post.1: delta_ce {row['delta_ce']:.4f}" in shown and f"{GAMES} games" in shown
    page = report(ReportConfig(run=str(path))).read_text()
    assert f"{GAMES} games" in page and f"{row['delta_ce']:.4f}" in page and "compute, othello" in page


def test_what_cannot_be_spliced_into_games_is_refused_before_anything_runs(game_set):
    path = game_set(reads=("mlp_in.*",), writes=("mlp_out.*",))
    with pytest.raises(InputError, match=r"--suite=splice: .*is a transcoder, and in the Othello GPT"):
        evaluate(EvaluateConfig(run=str(path), suite=("reconstruction", "splice"), games=GAMES))
    assert not list(path.glob("**/eval"))
