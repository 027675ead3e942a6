"""A meta-SAE's page shows its own figures and pictures, and other pages know nothing of them."""

import json

import pytest
from pages import Balanced, words

from jaxsae.report import ReportConfig, report


def decomposability() -> dict:
    shown = lambda latent, explained, metas: {
        "latent": latent,
        "explained_variance": explained,
        "meta_latents": metas,
        "weights": [0.9 / (i + 1) for i in range(len(metas))],
    }
    baselines = {
        "mean": {"explained_variance": 0.0},
        "pca_k": {"explained_variance": 0.1357, "components": 4},
        "random_dictionary": {"explained_variance": 0.2468, "k": 4, "width": 64},
        "random_decoder": {"explained_variance": 0.3579, "directions": "random"},
    }
    graph = {"file": "decomposability.npz", "edges": 1011, "edges_listed": 0, "largest": []}
    graph |= {"most_explained": [shown(3, 0.9876, [5, 8]), shown(250, 0.91, [8])]}
    graph |= {"least_explained": [shown(17, -0.1234, []), shown(18, 0.01, [61, 62])]}
    fired = {"rows": 777, "fired": {"latents": 200, "explained_variance": 0.61}}
    fired |= {"never_fired": {"latents": 56, "explained_variance": 0.42}}
    each = {"mean": 0.5432, "median": 0.5678, "below": 3, "edges": [0, 0.5, 1], "counts": [100, 153]}
    return {
        "explained_variance": 0.5544,
        "l0": 3.95,
        "dead_fraction": 0.0312,
        "latents": 256,
        "source_run": "runs/source",
        "directions": "decoder",
        "meta_latents_a_latent": {"mean": 3.95, "max": 9, "counts": [1, 2]},
        "latents_a_meta_latent": {"mean": 15.8, "max": 44, "edges": [0, 1], "counts": [64]},
        "explained_variance_of_latents": each,
        "baselines": baselines,
        "by_firing": fired,
        "graph": graph,
    }


@pytest.fixture
def meta_run(make_run, dictionary):
    """meta_run(found) -> the directory of a meta-SAE's run, with its figures where `found` are given."""

    def make(found=None):
        dictionary.metadata.update(source="decoder", site="decoder", source_run="runs/source", model="")
        run = make_run([])
        flags = run / "config.flags"
        flags.write_text(flags.read_text() + "--source_run=runs/source\n")
        if found is not None:
            (run / "eval" / "decomposability.json").write_text(json.dumps(found))
        return run

    return make


def page_of(run) -> str:
    return report(ReportConfig(run=str(run))).read_text()


def test_figures_and_pictures_are_those_of_the_file(meta_run):
    page = page_of(meta_run(decomposability()))
    text = words(page)
    for figure in ("0.5544", "0.5678", "0.5432", "3.9500", "15.8", "3.12%", "256 latents of runs/source"):
        assert figure in text
    for figure in ("PCA, 4 components 0.1357", "best 4 of 64 random directions 0.2468", "random directions 0.3579"):
        assert figure in text
    assert "0.6100" in text and "0.4200" in text and "777 rows" in text
    for label in ("latent 3: 0.9876", "latent 17: -0.1234", "meta-latent 8", "meta-latent 62", "below 0"):
        assert label in text
    assert "Meta-SAE" in text and "meta-SAE of runs/source" in text
    ids = [value for name, value in Balanced(page).attributes if name == "id"]
    assert len(ids) == len(set(ids)) and "decomposition" in ids
    for absent in ("--suite=reconstruction", "--suite=splice", "What latents fire on", "How often latents fire"):
        assert absent not in page


def test_without_the_file_the_command_that_makes_it_is_named(meta_run):
    run = meta_run()
    page = page_of(run)
    assert f"jaxsae evaluate --run={run} --suite=decomposability" in page
    assert 'id="decomposition"' not in page and "last training step" in words(page)


def test_figures_may_be_null(meta_run):
    found = dict.fromkeys(decomposability())
    assert "\N{EN DASH}" in words(page_of(meta_run(found)))


def test_other_runs_show_nothing_of_it(make_run):
    page = page_of(make_run())
    assert "decomposability" not in page and 'id="decomposition"' not in page
