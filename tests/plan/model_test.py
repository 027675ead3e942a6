"""A language model beside the step: from its config.json alone, for devices that are not here."""

import importlib.util
import json
import os
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from jaxsae import cli
from jaxsae.dictionary import MethodConfig
from jaxsae.lm.decoder.families import shape_of
from jaxsae.lm.decoder.load import abstract
from jaxsae.lm.decoder.shape import Split
from jaxsae.parallel import make_mesh
from jaxsae.plan import PlanConfig, model, reading, run
from jaxsae.plan.chips import CHIPS
from jaxsae.plan.topology import PLUGINS, Topology

LAYERS, D, HEADS, H, HIDDEN, WINDOW, LENGTH = 3, 256, 4, 64, 512, 64, 128
GEMMA = dict(
    model_type="gemma3_text", hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=2,
    head_dim=H, intermediate_size=HIDDEN, vocab_size=1000, sliding_window=WINDOW, query_pre_attn_scalar=64,
    layer_types=["sliding_attention", "full_attention", "sliding_attention"], max_position_embeddings=512,
)  # fmt: skip
BLOCK = 2 * D * HEADS * H + 2 * D * 2 * H + 3 * D * HIDDEN  # q and o, k and v, the MLP


@pytest.fixture
def directory(transformers, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(GEMMA))
    return str(tmp_path)


def _status(capsys, **flags):
    given = {"topology": "v5e:2x2", "width": "4096", "k": "8", "batch_size": "128"} | flags
    status = cli.run(["plan", *(f"--{name}={value}" for name, value in given.items())])
    return status, capsys.readouterr()


def _need_compiler(topology):
    """Skips the test where the compiler is not installed, unless it has to be."""
    module, _, extra = PLUGINS[Topology.of(topology).chip.platform]
    if os.environ.get("JAXSAE_REQUIRE_PLAN") != "1" and importlib.util.find_spec(module.split(".")[0]) is None:
        pytest.skip(f"needs jaxsae[{extra}]")


def test_a_pass_compiles_for_gpus(directory):
    _need_compiler("h100:4")
    flags = dict(topology="h100:4", model=directory, sites=("attn_out.0",), context=LENGTH, sequences=4, mesh=(2, 2))
    config = PlanConfig(d_model=D, method=MethodConfig(width=64, k=2), model_dtype="float32", **flags)
    found = reading.compile_reading(config)
    assert found["blocks"] == 1 and not found["refused_by_compiler"]
    assert found["weights"] == 4 * ((1000 * D + BLOCK) // 2 + 4 * D + 2 * H)
    assert found["activations"] == 2 * LENGTH * D * 4
    sums = 2 * 2 * LENGTH * D * 4  # of embeddings and attention, of two sequences each
    assert sums <= sum(found["moved"].values()) <= 1.01 * sums


def test_model_and_step_are_planned_together(directory, tmp_path, capsys):
    topology = "v5e:2x2"
    _need_compiler(topology)
    target = tmp_path / "plan.json"
    flags = dict(model=directory, sites="mlp_out.1,resid_post.1", context=str(LENGTH), sequences="4", json=str(target))
    status, said = _status(capsys, topology=topology, **flags)
    assert status == 0, said.err
    figures = json.loads(target.read_text())
    assert figures["flags"]["d_model"] == D and figures["mesh"] == [1, 4]
    ours, both = figures["model"], figures["together"]
    assert ours["blocks"] == 2 and ours["tokens"] == 4 * LENGTH
    norms = D + 2 * (4 * D + 2 * H)  # whole on each device; the final one is not read
    copied = 2 * D * 2 * H  # of two key heads a copy each, so that four shards have one
    split = 1000 * D + 2 * (BLOCK + copied)
    assert ours["weights_bytes"] == 2 * (split // 4 + norms - D)
    assert ours["activations_bytes"] == 2 * 4 * LENGTH * D * 4
    assert ours["fits"] and ours["peak_bytes"] > ours["weights_bytes"] + ours["activations_bytes"]
    sums = 5 * 4 * LENGTH * D * 2  # of embeddings, twice of attention and MLP, in bfloat16
    assert sums * 1.5 <= sum(ours["collective_bytes"].values()) <= 1.01 * sums * 1.5
    assert both["fits"] and both["peak_bytes"] < figures["peak_bytes"] + ours["peak_bytes"]
    assert both["peak_bytes"] > max(figures["peak_bytes"], ours["peak_bytes"])
    assert "model and step together" in said.out and "tokens/s at most" in said.out


def test_operations_are_counted_by_hand(transformers, directory):
    shape = model.shape_at(SimpleNamespace(model=directory))
    mesh = make_mesh((1, 2), jax.devices()[:2])
    count = lambda *sites: reading.operations(
        shape,
        Split.of(shape, 2),
        abstract(shape, mesh, jnp.bfloat16, shape.blocks_for(sites))["blocks"],
        sites,
        3,
        LENGTH,
    )
    products, attention = count("resid_post.2")
    assert products == 2 * 3 * LENGTH * 3 * BLOCK / 2
    # Of one piece no key is left out, and so a window saves nothing.
    assert attention == 2 * 2 * 3 * LENGTH**2 * (HEADS // 2) * H * 3
    assert count("attn_out.2")[0] == products - 2 * 3 * LENGTH * 3 * D * HIDDEN / 2
    assert count("resid_pre.2") == (products * 2 / 3, attention * 2 / 3)
    assert count("embed") == (0, 0)


def test_a_roofline_by_hand():
    compiled = dict(
        sites=["resid_post.0"], context=100, compiled_length=128, blocks=1, compile_seconds=1.0, weights=819 * 10**6,
        activations=0, workspace=10, refused_by_compiler=False, moved={"all-reduce": 2e9}, product_flops=197e9,
        attention_flops=394e9,
    )  # fmt: skip
    config = SimpleNamespace(model_dtype="bfloat16", sequences=5)
    found = model.model_figures(config, CHIPS["v5e"], 4, compiled)
    assert found["roofline_seconds"] == pytest.approx({"products": 1e-3, "attention": 2e-3, "collectives": 1e-2})
    assert found["forward_seconds_at_least"] == pytest.approx(0.013)
    assert found["tokens_per_second_at_most"] == pytest.approx(500 / 0.013)
    step = {"peak_bytes": 15 * 2**30, "workspace_bytes": 2**30, "memory_bytes": CHIPS["v5e"].memory, "fits": True}
    both = model.together(step, found)
    assert both == {"peak_bytes": 15 * 2**30 + 819 * 10**6, "fits": False}


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ({"model": "/nowhere"}, ("--model=/nowhere", "config.json")),
        ({"sites": "resid_post.3"}, ("--sites=resid_post.3", "resid_post.2")),
        ({"context": "513"}, ("--context=513", "at most 512")),
        ({"context": "0"}, ("--context=0",)),
        ({"sequences": "0"}, ("--sequences=0",)),
        ({"model_dtype": "int8"}, ("model_dtype", "bfloat16")),
    ],
)
def test_what_is_refused_before_anything_is_compiled(flags, parts, directory, capsys, monkeypatch):
    never = lambda config: pytest.fail("compiled")
    monkeypatch.setattr(run, "compile_step", never)
    monkeypatch.setattr(run, "compile_reading", never)
    status, said = _status(capsys, **{"model": directory} | flags)
    assert status == 2 and not said.out and all(part in said.err for part in parts)


def test_a_model_that_is_not_implemented(transformers, directory, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(GEMMA | {"use_bidirectional_attention": True}))
    status, said = _status(capsys, model=directory)
    assert status == 2 and "use_bidirectional_attention=True" in said.err
    (tmp_path / "config.json").write_text("{")
    status, said = _status(capsys, model=directory)
    assert status == 2 and "config.json cannot be read" in said.err


def test_without_a_model_the_width_is_needed(capsys):
    status, said = _status(capsys)
    assert status == 2 and "--d_model is required" in said.err


def test_a_key_head_of_its_own_for_each_shard(transformers, directory):
    """What the first test counts."""
    shape = shape_of(transformers.AutoConfig.from_pretrained(directory), "small")
    assert Split.of(shape, 4).copies == 2 and Split.of(shape, 2).copies == 1
