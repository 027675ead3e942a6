"""Attributions in the GPT on games, by finite differences."""

import dataclasses

import numpy as np
import pytest

from jaxsae.evaluate import EvaluateConfig, attribution, evaluate
from jaxsae.evaluate import games as play
from jaxsae.lm.othello import CONTEXT


@pytest.mark.parametrize("reads, site", [("resid_post.0", "resid_post.0"), ("mlp_in.0", "mlp_out.0")])
def test_of_games_by_finite_differences(reads, site, model, model_path, make_dictionary, dense, tmp_path):
    """What a latent comes to is the slope of the loss by the length of its decoder row."""
    games = play.held_out_games(11, 0, play.SPLICE)
    about = {"source": "othello", "site": site, "first_position": 6, "last_position": 40}
    made = make_dictionary("batchtopk", **about)
    if reads != site:
        about |= {"reads": [reads], "writes": [site], "site": f"{reads}->{site}"}
        made = dataclasses.replace(made, config=dataclasses.replace(made.config, transcode=True), metadata=about)
    flags = dict(model=model_path, games=11, games_per_batch=4)
    config = EvaluateConfig(run=str(tmp_path / "run"), suite=("attribution",), **flags)
    found = evaluate(config, made, quiet=True)["attribution"]
    arrays = np.load(tmp_path / "run/eval/attribution.npz")
    moves = games.moves[:, :CONTEXT].astype(np.int32)
    x = np.asarray(play.read(model, moves, site)[1])
    read = np.asarray(play.read(model, moves, reads)[1]).reshape(-1, model.config.d_model)
    read = read if made.pre_bias else read + np.asarray(made.params.b_dec)  # which `dense` subtracts
    z = dense(made, read).z.reshape(*x.shape[:2], -1)[:, 6:41]

    def loss(x):
        logits = np.asarray(play.spliced(model, moves, x.astype(np.float32), site), np.float64)
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return -np.take_along_axis(logs, games.moves[:, 1:, None].astype(int), -1)[:, 6:].sum()

    assert found["tokens"] == 11 * 35 and found["predictions"] == 11 * 53 and found["games"] == 11
    assert found["ce"] == pytest.approx(loss(x) / (11 * 53), rel=1e-4)
    for latent in [row["latent"] for row in found["top"][:3]]:
        part = np.zeros_like(x)
        part[:, 6:41] = z[..., [latent]] * np.asarray(made.params.W_dec)[latent]
        slope = (loss(x + 0.004 * part) - loss(x - 0.004 * part)) / 0.008
        assert arrays["net"][latent] == pytest.approx(slope, rel=0.01, abs=1e-3 * arrays["absolute"][latent])
        assert arrays["firings"][latent] == (z[..., latent] > 0).sum()
    assert any("11 games" in line for line in attribution.table(found))
