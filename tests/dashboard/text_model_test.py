"""Dictionaries of a small Llama: its own tokens, the lens through it, and several sites as one set."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jaxsae.config import write_flag_file
from jaxsae.dashboard import collect_run
from jaxsae.dashboard.collect import collect, collect_set
from jaxsae.dashboard.settings import Settings
from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context
from jaxsae.harvest import harvest
from jaxsae.training import TrainConfig, load, save_dictionary
from jaxsae.training.every import runs_of

D, WIDTH = 16, 32
SETTINGS = Settings(rows=300, top=2, per_band=1, before=5, after=2, neighbours=4, tokens=6, drawn=3)


@pytest.fixture
def make_set(make_model, configure, tmp_path):
    """make_set(sites or reads and writes) -> the directory of a set of random dictionaries, as `train` leaves one."""

    def make(**sites):
        layers = [f"{name}.{layer}" for name in ("mlp_in", "mlp_out", "resid_post") for layer in range(2)]
        store = harvest(configure(make_model("llama"), {"documents": "0:40"}, sites=tuple(layers)))
        method = MethodConfig(width=WIDTH, k=4, transcode="reads" in sites)
        flags = {"store": store.url, "workdir": str(tmp_path / "set"), "batch_size": 16, "tokens": 16, "method": method}
        config = TrainConfig(**flags | sites)
        (tmp_path / "set").mkdir()
        write_flag_file(tmp_path / "set" / "each.flags", config, "train")
        for seed, one in enumerate(runs_of(config, store)):
            rng = np.random.default_rng(seed)
            draw = lambda *shape, rng=rng: rng.standard_normal(shape, np.float32)
            params = Params.of(draw(WIDTH, D), draw(WIDTH) / 3, draw(WIDTH, D), draw(D) / 10)
            reads, writes = one.reads or (one.site,), one.writes or (one.site,)
            about = {"store": store.url, "source": "hf", "site": "->".join(dict.fromkeys((*reads, *writes)))}
            about |= {"reads": list(reads), "writes": list(writes)} if one.reads else {}
            about |= {"model": store.metadata(reads[0])["model"], "step": one.steps, "holdout_rows": 200}
            save_dictionary(one.workdir, Dictionary(params, method, about))
            write_flag_file(Path(one.workdir) / "config.flags", one, "train")
        return tmp_path / "set"

    return make


def test_a_set_of_sites(make_set):
    path = make_set(sites=("resid_post.0", "resid_post.1"))
    with pytest.raises(InputError, match="is a set of runs"):
        collect_run(str(path))
    found = dict(collect_set(str(path), settings=SETTINGS))
    assert list(found) == ["resid_post.0", "resid_post.1"]
    first, second = found.values()
    alone = collect_run(str(path / "resid_post.1"), settings=SETTINGS)
    for field in dataclasses.fields(alone):  # but for the others, and on the rows that these leave for firing together
        if field.name not in ("about", "together"):
            np.testing.assert_array_equal(getattr(second, field.name), getattr(alone, field.name))
    assert list(first.together) == ["", "resid_post.1"] and list(second.together) == ["resid_post.0", ""]
    # What fires with what says the same from either side.
    pairs = [
        {
            (a, b) if left else (b, a): phi
            for a, ids, values in zip(record.shown.tolist(), *record.together[name], strict=True)
            for b, phi in zip(ids.tolist(), values.tolist(), strict=True)
            if b >= 0
        }
        for record, name, left in ((first, "resid_post.1", True), (second, "resid_post.0", False))
    ]
    shared = pairs[0].keys() & pairs[1].keys()
    assert len(shared) > 10 and all(pairs[0][pair] == pytest.approx(pairs[1][pair]) for pair in shared)
    # The last site's lens is the unembedding through the final norm, about one point: a linear map of directions.
    assert first.promoted.shape == (len(first.shown), 6) and "no_lens" not in first.about
    assert (np.diff(first.promoted_weights, axis=1) <= 0).all() and (first.promoted_weights > 0).any()
    assert (first.suppressed_weights[first.suppressed >= 0] < 0).all()
    used = set(first.tokens.ravel().tolist()) | set(first.promoted.ravel().tolist())
    assert used - {-1} <= set(first.words) and " " in first.words.values()
    again = dict(collect_set(str(path), settings=SETTINGS, known=found.get))
    assert again["resid_post.0"].tokens is first.tokens and again["resid_post.1"].tokens is second.tokens
    changed = dict(collect_set(str(path), settings=dataclasses.replace(SETTINGS, seed=1), known=found.get))
    assert changed["resid_post.0"].tokens is not first.tokens


def test_transcoders_are_searched_by_what_they_read(make_set):
    path = make_set(reads=("mlp_in.*",), writes=("mlp_out.*",))
    found = dict(collect_set(str(path), settings=SETTINGS))
    assert list(found) == ["mlp_out.0", "mlp_out.1"]
    one = next(iter(found.values()))
    assert one.about["site"] == "mlp_in.0->mlp_out.0" and one.start[-1] > 0 and "no_lens" not in one.about


def test_a_set_without_runs_is_refused(tmp_path):
    (tmp_path / "each.flags").write_text("--width=8\n")
    with pytest.raises(InputError, match="no run has begun"):
        dict(collect_set(str(tmp_path)))


def test_a_model_that_is_gone_leaves_the_lens_out(make_set, tmp_path):
    path = make_set(sites=("resid_post.0", "resid_post.1")) / "resid_post.0"
    dictionary = load(str(path))
    gone = dataclasses.replace(dictionary, metadata=dictionary.metadata | {"model": str(tmp_path / "gone")})
    context = Context(EvaluateConfig(run=str(path), model=str(tmp_path / "gone")), gone)
    found = collect(context, SETTINGS)
    assert found.promoted.shape == (len(found.shown), 0) and "gone" in found.about["no_lens"]
