"""The whole step compiles for devices that are not here, and takes no more memory than it did."""

import importlib.util
import os

import pytest

from jaxsae.dictionary import MethodConfig
from jaxsae.plan import PlanConfig, plan
from jaxsae.plan.topology import PLUGINS, Topology

SMALL = {"d_model": 128, "width": 4096, "k": 8, "batch_size": 128}
# Here a tile of pre-activations is a small part of all.
WIDE = {"d_model": 64, "width": 262144, "k": 8, "batch_size": 8192}
TARGETS = {"v5e:2x2": SMALL, "v5p:2x2x1": SMALL, "v6e:2x2": SMALL, "h200:4": WIDE}


def need_compiler(topology):
    """Skips the test where the compiler is not installed, unless it has to be."""
    module, _, extra = PLUGINS[Topology.of(topology).chip.platform]
    if os.environ.get("JAXSAE_REQUIRE_PLAN") != "1" and importlib.util.find_spec(module.split(".")[0]) is None:
        pytest.skip(f"needs jaxsae[{extra}]")


@pytest.mark.parametrize("topology", TARGETS)
def test_the_step_compiles(topology, recorded, show, tmp_path, capsys):
    need_compiler(topology)
    sizes = dict(TARGETS[topology])
    method = MethodConfig(width=sizes.pop("width"), k=sizes.pop("k"))
    figures = plan(PlanConfig(topology=topology, method=method, json=str(tmp_path / "plan.json"), **sizes))
    assert figures["fits"] and figures["mesh"] == [1, 4]
    matrix = method.width // 4 * sizes["d_model"]
    assert figures["parameters_bytes"] == 4 * (2 * matrix + method.width // 4 + sizes["d_model"])
    assert figures["collective_bytes"] and figures["collectives_counted"]
    assert figures["forms_gradient"] == (topology[0] == "h")  # on TPU it is summed block by block
    if sizes["batch_size"] > 4096:
        assert figures["largest_batch_temporary"]["bytes"] <= figures["batch_by_latents_bytes"] / 4
    recorded(f"plan {topology} workspace_bytes", figures["workspace_bytes"])
    show(
        f"{topology} ({figures['chip']}), d {sizes['d_model']}, n {method.width}, B {sizes['batch_size']}: "
        f"compiled in {figures['compile_seconds']:.0f} s, workspace {figures['workspace_bytes'] / 2**20:.2f} MiB, "
        f"peak {figures['peak_bytes'] / 2**20:.1f} MiB of {figures['memory_bytes'] / 2**20:,.0f}"
    )
    out = capsys.readouterr().out
    assert "fits" in out and "encoder_matmul" in out


def test_a_step_that_is_too_large_says_what_to_change(capsys):
    """State of 3 x 2 x 2^22 x 256 x 4 bytes, 24 GiB, on a chip of 15.75: the compiler refuses, the plan answers."""
    need_compiler("v5e:1x1")
    method = MethodConfig(width=2**22, k=4, aux_coefficient=0)
    figures = plan(PlanConfig(topology="v5e:1x1", d_model=256, batch_size=64, method=method))
    assert not figures["fits"] and figures["peak_bytes"] > 24 * 2**30
    changes = {one["change"]: one for one in figures["alternatives"]}
    assert changes["--optimizer=adam_bf16"]["peak_bytes"] < figures["peak_bytes"] - 7 * 2**30
    assert changes["--topology=v5e:2x2"]["fits"]
    assert "DOES NOT FIT" in capsys.readouterr().out
