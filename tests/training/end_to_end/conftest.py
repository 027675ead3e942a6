"""Stores of two small models that can stand in a step: a Llama on letters and a GPT on games."""

import dataclasses

import pytest

from jaxsae.dictionary import MethodConfig
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.harvest.text_config import TextConfig
from jaxsae.lm import weights
from jaxsae.lm.gpt import GPTConfig, init
from jaxsae.training import OptimizerConfig, TrainConfig
from jaxsae.training.end_to_end.config import EndToEndConfig

D, WIDTH, K, BATCH = 16, 64, 4, 64
SMALL = GPTConfig(layers=3, d_model=D, heads=2)


@pytest.fixture(scope="session")
def stories_file(stories, tmp_path_factory):
    """The stories as lines; not to be changed."""
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text("\n\n".join(story.replace("\n", " ") for story in stories))
    return str(path)


@pytest.fixture(scope="session")
def llama_store(make_model, stories_file, tmp_path_factory):
    """URL of the rows of all sites of blocks 0 and 1 of a Llama of three blocks; not to be changed."""
    url = str(tmp_path_factory.mktemp("llama_store") / "store")
    corpus = TextConfig(text=(stories_file,), text_unit="paragraph", context=24)
    sites = ("resid_post.0", "resid_post.1", "mlp_in.1", "mlp_out.1")
    small = dict(batch_size=4, shard_rows=256, chunk_rows=32)
    harvest(HarvestConfig(source="hf", model=make_model("llama"), corpus=corpus, sites=sites, store=url, **small))
    return url


@pytest.fixture(scope="session")
def games_store(tmp_path_factory):
    """URL of rows of an untrained GPT of three blocks on games; not to be changed."""
    directory = tmp_path_factory.mktemp("games_store")
    weights.save(init(SMALL, seed=0), directory / "gpt.safetensors")
    url = str(directory / "store")
    small = dict(batch_size=16, shard_rows=256, chunk_rows=32, tokens=1024)
    harvest(HarvestConfig(store=url, model=str(directory / "gpt.safetensors"), sites=("resid_post.1",), **small))
    return url


@pytest.fixture
def end_to_end(request, tmp_path):
    """end_to_end(name, **flags of any group) -> a TrainConfig of 12 steps through the Llama, or the model of a `store`."""

    def make(name: str = "run", **flags) -> TrainConfig:
        groups = {"method": MethodConfig, "optimization": OptimizerConfig, "end_to_end": EndToEndConfig}
        given = {
            "method": {"width": WIDTH, "k": K, "aux_k": 8},
            "optimization": {"learning_rate": 3e-3},
            "end_to_end": {"kl": 1.0},
        }
        for group, kind in groups.items():
            names = {field.name for field in dataclasses.fields(kind)} & set(flags)
            given[group] |= {name: flags.pop(name) for name in names}
        defaults = {
            "store": flags.get("store") or request.getfixturevalue("llama_store"),
            "site": "resid_post.1",
            "workdir": str(tmp_path / name),
            "batch_size": BATCH,
            "tokens": 12 * BATCH,
            "mesh": (1, 1),
            "dead_tokens": 300,
            "checkpoint_every": 4,
            "log_every": 1,
        }
        made = {group: kind(**given[group]) for group, kind in groups.items()}
        return TrainConfig(**defaults | made | flags)

    return make
