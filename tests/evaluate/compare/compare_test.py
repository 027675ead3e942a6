"""A dictionary beside itself, a permuted copy, another one, checkpoints; and what is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate.compare.chance import directions
from jaxsae.evaluate.compare.kinds import ONE
from jaxsae.training import TrainConfig, save_dictionary, train

SITE, D, WIDTH = "resid_post.0", 16, 48


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((600, D)).astype(np.float32)


def permuted(dictionary, seed: int = 1):
    order = np.random.default_rng(seed).permutation(dictionary.width)
    latent = {name: array[order] for name, array in dictionary.params.latent.items()}
    return dataclasses.replace(dictionary, params=dataclasses.replace(dictionary.params, latent=latent)), order


@pytest.fixture
def runs(tmp_path, write_store, make_dictionary, x):
    """runs(name, dictionary) -> its directory; and the metadata that all have."""
    about = {"site": SITE, "store": write_store(x), "model": "m", "holdout_rows": 300}

    def save(name, dictionary):
        save_dictionary(tmp_path / name, dictionary)
        return str(tmp_path / name)

    return save, about


def compared(run, *others, **flags):
    config = EvaluateConfig(run=run, suite=("compare",), against=others, batch_size=128, **flags)
    return evaluate(config, quiet=True)["compare"]


def test_a_dictionary_and_its_permuted_copy_are_one(runs, make_dictionary, tmp_path):
    save, about = runs
    own = make_dictionary(**about)
    copy, order = permuted(own)
    names = [save("a", own), save("b", own), save("c", copy)]
    found = compared(*names)
    assert list(found["against"]) == names[1:] and found["rows"] == 300 and found["held_out"]
    for figures in found["against"].values():
        for side in ("own", "other"):
            assert figures[side]["shared"] == figures[side]["mutual"] == 1
            assert figures[side]["kinds"] == {"one": WIDTH, "split": 0, "part": 0, "sum": 0, "new": 0}
        assert figures["mcc"] == pytest.approx(1, abs=1e-5)
        assert figures["firing"]["f1"] == pytest.approx(1) and figures["firing"]["correlation"] == pytest.approx(1)
        assert figures["baselines"]["random"]["shared"] < 0.5
    with np.load(tmp_path / "a/eval/compare_2.npz") as arrays:
        np.testing.assert_array_equal(order[arrays["nearest"]], np.arange(WIDTH))
        assert (arrays["kind"] == ONE).all()
    written = json.loads((tmp_path / "a/eval/compare.json").read_text())
    assert "100.0%" in written["summary"]["says"] and len(written["summary"]["plots"]) == 2


def test_another_random_dictionary_shares_no_more_than_random_directions(runs, make_dictionary):
    save, about = runs
    run, other = save("a", make_dictionary(**about)), save("b", make_dictionary(seed=1, **about))
    found = compared(run, other)["against"][other]
    chance = found["baselines"]["random"]
    assert found["own"]["mean_max_cosine"] == pytest.approx(chance["mean_max_cosine"], abs=0.05)
    assert abs(found["own"]["shared"] - chance["shared"]) < 0.15
    assert found["firing"]["best_f1"] < 0.9


def test_directions_by_chance_have_the_rows_covariance():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4000, 5)) * [3, 1, 1, 0.1, 0.1] + [2, 0, 0, 0, 0]
    rows = np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    random, like = (directions(kind, rows, 0) for kind in ("random", "covariance"))
    np.testing.assert_allclose(np.linalg.norm(like, axis=1), 1, atol=1e-5)
    assert np.abs(random.mean(0)).max() < 0.05 and like[:, 0].mean() > 0.2
    np.testing.assert_array_less(like.var(0)[3:], rows.var(0)[0] / 10)


def test_checkpoints_of_one_run_by_their_steps(runs, tmp_path, x):
    _, about = runs
    flags = dict(store=about["store"], workdir=str(tmp_path / "run"), batch_size=32, tokens=256, checkpoint_every=4)
    train(TrainConfig(**flags, method=MethodConfig(width=WIDTH, k=4)))
    run = flags["workdir"]
    found = compared(run, f"{run}@4")["against"][f"{run}@4"]
    assert found["differs"] == {"step": [8, 4]} and found["own"]["shared"] > 0.8
    with pytest.raises(InputError, match=r"--against=.*@5: no such directory. Its checkpoints are of the steps 8, "):
        compared(run, f"{run}@5")
    with pytest.raises(InputError, match=r"--against=.*@8: is the same as --run"):
        compared(run, f"{run}@8")


def test_decoders_alone_where_no_store_is_known(runs, make_dictionary):
    save, _ = runs
    run, other = (save(name, make_dictionary(seed=s, site=SITE)) for s, name in enumerate("ab"))
    found = compared(run, other)
    assert found["rows"] == 0 and "firing" not in found["against"][other]
    with pytest.raises(InputError, match="--store=none: no such store"):
        compared(run, other, store="none")


def test_what_cannot_be_compared_is_refused_by_name(runs, make_dictionary):
    save, about = runs
    run = save("a", make_dictionary(**about))
    site = save("site", make_dictionary(**about | {"site": "embd"}))
    model = save("model", make_dictionary(**about | {"model": "n"}))
    wide = save("wide", make_dictionary(d_model=12, **about))
    meta = save("meta", make_dictionary(**about, source="decoder"))
    cases = {
        (): "--against is required by --suite=compare",
        ("none",): "--against=none: no such directory",
        (run,): "--against=.*: is the same as --run",
        (site,): r"--against=.*site: writes embd, and --run=.* writes resid_post\.0",
        (model,): "--against=.*model: is of the model n, and --run=.* of m",
        (wide,): r"--against=.*wide: has d_model 12 at resid_post\.0, and --run=.* has 16",
        (meta,): "--against=.*meta: is a meta-SAE",
    }
    for others, message in cases.items():
        with pytest.raises(InputError, match=message):
            compared(run, *others)
    with pytest.raises(InputError, match="--compare_threshold=1.5"):
        from jaxsae.evaluate.compare_config import CompareConfig

        CompareConfig(compare_threshold=1.5)


def test_a_crosscoder_is_held_up_site_by_site(runs, make_dictionary, tmp_path):
    save, _ = runs
    sites = ["s.0", "s.1"]
    about = {"site": "s.0+s.1", "reads": sites, "writes": sites}
    made = make_dictionary(d_model=2 * D, **about)
    config = MethodConfig(width=WIDTH, k=6, site_widths=(D, D))
    W = np.asarray(made.params.W_dec).copy()
    W[:8, :D] = 0  # of the second site alone
    W[8:20, D:] = 0
    latent = made.params.latent | {"W_dec": jax.numpy.asarray(W)}
    both = dataclasses.replace(made, config=config, params=dataclasses.replace(made.params, latent=latent))
    other = make_dictionary(seed=3, site="s.1")
    paths = save("a", both), save("b", permuted(both)[0]), save("c", other)
    found = compared(*paths)["against"]
    lies = found[paths[1]]["between_sites"]
    assert lies["own"]["s.1"] == lies["other"]["s.1"] == 8 and lies["own"]["s.0"] == 12 and lies["agree"] == 1
    assert lies["by_chance"] < 0.6 and lies["share_correlation"] == pytest.approx(1)
    assert found[paths[1]]["sites"]["s.0"]["own"]["latents"] == WIDTH - 8
    assert found[paths[1]]["sites"]["s.0"]["own"]["mean_max_cosine"] == pytest.approx(1, abs=1e-5)
    assert "sites" not in found[paths[2]] and found[paths[2]]["own"]["latents"] == WIDTH - 12  # at s.1
