"""The TPU kernel compiles for chips that are not here; its memory and its static schedule do not grow unseen."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("compile_for_tpu.py")
SIZES = "256,512,16384,32"


@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_the_kernel_compiles(topology, recorded, show, tmp_path):
    if os.environ.get("JAXSAE_REQUIRE_PLAN") != "1" and importlib.util.find_spec("libtpu") is None:
        pytest.skip("needs jaxsae[plan-tpu]")
    result = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), topology, SIZES, str(result)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.exists(), done.stderr[-3000:]
    figures = json.loads(result.read_text())
    assert figures["temporary_bytes"] < 2**20  # nothing of B x n
    for name in ("vmem_bytes", "temporary_bytes", "bundles", "spills"):
        recorded(f"pallas_tpu {topology} {name}", figures[name])
    show(
        f"pallas_tpu {topology} ({figures['chip']}), B,d,n,k {SIZES}: VMEM {figures['vmem_bytes'] / 2**20:.1f} MiB, "
        f"{figures['bundles']:,} bundles, {figures['spills']} spills, matrix unit {figures['matrix_unit']:.0%}, "
        f"vector unit {figures['vector_unit']:.0%}"
    )
