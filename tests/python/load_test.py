"""jaxsae.load: runs, checkpoints, exports of every format, hub ids; and what is none of these."""

import jax
import numpy as np
import pytest
from fake_hub import FakeHub, running
from python.small import D, make_dictionary

import jaxsae
from jaxsae.exchange.formats import FORMATS
from jaxsae.parallel import make_mesh
from jaxsae.training import save_dictionary

HAVE = [name for name in ("saelens", "sparsify", "dictionary_learning") if name in FORMATS]


@pytest.fixture(scope="module")
def sae():
    return make_dictionary(site="resid_post.2", model="shipped")


@pytest.fixture(scope="module")
def run(sae, tmp_path_factory):
    save_dictionary(path := tmp_path_factory.mktemp("runs") / "run", sae)
    return path


@pytest.fixture(scope="module", params=HAVE)
def export(request, run, tmp_path_factory):
    if request.param == "dictionary_learning":
        pytest.importorskip("torch")
    output = tmp_path_factory.mktemp("exports") / request.param
    assert jaxsae.export(run=run, format=request.param, output=output) == output
    return request.param, output


def same(found, expected):
    x = np.random.default_rng(0).normal(1, 2, (50, D)).astype(np.float32)
    np.testing.assert_allclose(found.reconstruct(x), expected.reconstruct(x), rtol=1e-4, atol=1e-4)
    return found.width == expected.width and found.config.k == expected.config.k


def test_a_run_its_checkpoints_and_one_of_them(run, sae, monkeypatch):
    for name in (run, str(run), run / "checkpoints", run / "checkpoints" / "0"):
        assert same(jaxsae.load(name), sae)
    monkeypatch.chdir(run / "checkpoints")
    assert same(jaxsae.load("."), sae) and same(jaxsae.load("0"), sae)


def test_an_export_of_any_format(export, sae):
    name, path = export
    for found in (jaxsae.load(path), jaxsae.load(str(path), format=name)):
        assert same(found, sae) and found.metadata["imported_from"] == name and found.metadata["site"] == "resid_post.2"


def test_on_a_mesh(export, run, sae):
    mesh = make_mesh((2, 4))
    for name in (export[1], run):
        found = jaxsae.load(name, mesh)
        assert found.mesh == mesh and len(found.params.W_enc.sharding.device_set) == 8 and same(found, sae)
    with pytest.raises(jaxsae.InputError, match="64 latents do not divide over 3 shards"):
        jaxsae.load(export[1], make_mesh((1, 3), jax.devices()[:3]))


def test_a_hub_id(run, sae, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    jaxsae.export(run=run, format="saelens", output=tmp_path / "e")
    files = {f"sae/{file.name}": file.read_bytes() for file in (tmp_path / "e").iterdir()}
    monkeypatch.chdir(tmp_path)
    with running(FakeHub({"own/er": files}, ())) as hub:
        for place in ("ENDPOINT", "_HF_DEFAULT_ENDPOINT"):
            monkeypatch.setattr(f"huggingface_hub.constants.{place}", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        assert same(jaxsae.load("own/er/sae"), sae)
        with pytest.raises(jaxsae.InputError, match=r"load\('own/no'\): no run here; .*own/no"):
            jaxsae.load("own/no")
        (tmp_path / "own" / "er").mkdir(parents=True)
        save_dictionary(tmp_path / "own" / "er" / "sae", make_dictionary(width=32))  # what is here comes first
        assert jaxsae.load("own/er/sae").width == 32


def test_neither_a_run_nor_an_export(tmp_path, run):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        jaxsae.InputError, match=r"is no run \(no checkpoints/\), and holds the files of no format.*saelens: cfg.json"
    ):
        jaxsae.load(tmp_path)
    with pytest.raises(jaxsae.InputError, match=r"load\('/no/such'\): no run here; no such directory"):
        jaxsae.load("/no/such")
    with pytest.raises(jaxsae.InputError, match=r"load\(k=4\): .* is a run, which says that itself; .*with_k\(k\)"):
        jaxsae.load(run, k=4)
    with pytest.raises(jaxsae.InputError, match="format='saelens'.* is a run"):
        jaxsae.load(run, format="saelens")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.flags").write_text("")
    with pytest.raises(jaxsae.InputError, match="no run here"):
        jaxsae.load(tmp_path / "begun")
