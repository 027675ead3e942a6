"""Directories by name: paths as they are, folders of a hub by its ids, and what is wrong in a sentence."""

import builtins
import time

import pytest
from fake_hub import COMMIT, FakeHub, ask

from jaxsae.errors import InputError
from jaxsae.exchange.hub import HubName, directory_of

huggingface_hub = pytest.importorskip("huggingface_hub")

_FILES = {
    "README.md": b"about",
    "sae/cfg.json": b"{}",
    "sae/sae_weights.safetensors": b"weights",
    "sae/pytorch_model.bin": b"a pickle",
    "sae/optimizer.pkl": b"another",
    "sae/deeper/sae_weights.safetensors": b"another's",
    "layer_1/width_16k/params.npz": b"numbers",
}


@pytest.fixture
def hub(serve) -> FakeHub:
    return serve({"own/er": _FILES, "own/top": {"cfg.json": b"{}"}, "own/gated": _FILES}, ("own/gated",))


@pytest.mark.parametrize(
    "text,name",
    [
        ("own/er", HubName("own/er")),
        ("own/er/a/b_1.5/", HubName("own/er", "a/b_1.5")),
        ("own/er@v1", HubName("own/er", "", "v1")),
        ("own/er/a@refs/pr/1", HubName("own/er", "a", "refs/pr/1")),
        ("hf://own/er/a/f.npz?revision=v1", HubName("own/er", "a/f.npz", "v1")),
        ("hf://own/er@v1/a", HubName("own/er", "a", "v1")),
        ("hf://own/er@refs/pr/1/a", HubName("own/er", "a", "refs/pr/1")),
        ("er", None),
        ("own/er/../a", None),
        ("own/er/*", None),
        ("own//er", None),
    ],
)
def test_ids_are_taken_apart(text, name):
    assert HubName.of(text) == name


def test_a_path_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/er").mkdir(parents=True)
    assert directory_of("own/er").resolve() == (tmp_path / "own/er").resolve()


def test_a_folder_is_fetched_without_pickles_and_without_the_folders_in_it(hub):
    folder = directory_of("own/er/sae")
    assert sorted(p.name for p in folder.iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    assert sorted(hub.fetched) == ["sae/cfg.json", "sae/sae_weights.safetensors"]
    assert (folder / "sae_weights.safetensors").read_bytes() == b"weights"
    assert [p.name for p in directory_of("hf://own/top").iterdir()] == ["cfg.json"]


@pytest.mark.parametrize("revision", ["", f"@{COMMIT}"])
def test_what_is_in_the_cache_needs_no_network(hub, revision, monkeypatch, tmp_path):
    folder = directory_of(f"own/er/sae{revision}")
    ask(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    assert directory_of(f"own/er/sae{revision}") == folder
    with pytest.raises(InputError, match="own/er/layer_1/width_16k.*cannot be reached.*the cache lacks its files"):
        directory_of(f"own/er/layer_1/width_16k{revision}")


@pytest.mark.parametrize("name", ["own/er/sae", f"own/er/sae@{COMMIT}"])
def test_without_a_network_it_says_so_soon(name, monkeypatch, tmp_path):
    ask(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    began = time.monotonic()
    with pytest.raises(InputError, match="--input=own/er/sae.*127.0.0.1:9 cannot be reached.*name a directory"):
        directory_of(name)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "name,says",
    [
        ("own/none", "no such directory here and no repository own/none at .*HF_TOKEN"),
        ("own/gated/sae", "own/gated is gated: accept its terms at .*/own/gated, then log in"),
        ("own/er/sae@v9", "own/er has no revision v9. Name a branch"),
        ("own/er/nothing", "own/er has no folder nothing. Name one of its folders: layer_1/width_16k, sae, sae/deeper"),
        ("own/er", "has no files .*Name one of its folders: layer_1/width_16k, sae"),
        ("own/er/layer_1", "has no files .*Name one of its folders: layer_1/width_16k"),
        ("own/er--x/a", "no such directory, and no hub id"),
        ("./own/er", "no such directory. Name one, or a hub id such as OWNER/NAME"),
        ("/own/er", "no such directory"),
        ("~/own/er", "no such directory"),
        ("er", "no such directory"),
    ],
)
def test_what_is_wrong_is_said(hub, name, says):
    with pytest.raises(InputError, match=f"--from={name}.*{says}"):
        directory_of(name, "--from")


def test_a_file_is_not_a_directory(tmp_path):
    (tmp_path / "params.npz").touch()
    with pytest.raises(InputError, match="is a file; name the directory"):
        directory_of(str(tmp_path / "params.npz"))


def test_a_hub_id_needs_the_library(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'jaxsae\[hub\]'"):
        directory_of("own/er")
