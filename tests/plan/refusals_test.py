"""What `jaxsae plan` refuses, before it compiles anything."""

import importlib.util

import pytest

from jaxsae import cli
from jaxsae.plan import run, topology

GIVEN = {"topology": "v5p:4x4x4", "d_model": "64", "width": "4096", "k": "4", "batch_size": "64"}


@pytest.fixture(autouse=True)
def never_compiles(monkeypatch):
    monkeypatch.setattr(run, "compile_step", lambda config: pytest.fail("compiled"))


def refused(capsys, **flags):
    """The one message of a refusal."""
    status = cli.run(["plan", *(f"--{name}={value}" for name, value in (GIVEN | flags).items())])
    said = capsys.readouterr()
    assert status == 2 and not said.out and "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize(
    "name",
    [
        "v9:2x2",
        "v5p",
        "v5p:4x4",
        "v5p:3x3x3",
        "v5p:2x2x3",
        "v5e:32x32",
        "v5e:32x8",
        "v6e:2x6",
        "h200:12",
        "v5e:0x2",
        "a100:8",
    ],
)
def test_a_topology_that_does_not_exist(capsys, name):
    said = refused(capsys, topology=name)
    assert f"--topology={name}" in said
    assert all(family in said for family in ("v4:", "v5e:", "v5p:", "v6e:", "tpu7x:", "h100:", "h200:"))


@pytest.mark.parametrize(("name", "extra"), [("v5p:4x4x4", "plan-tpu"), ("h200:8", "plan-gpu")])
def test_a_missing_compiler(capsys, monkeypatch, name, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    said = refused(capsys, topology=name)
    assert f"pip install 'jaxsae[{extra}]'" in said


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ({"k": "4097"}, ("--k=4097", "--width=4096")),
        ({"width": "4095"}, ("--width=4095", "multiple of 64", "4096")),
        ({"mesh": "2,16"}, ("--mesh=2,16", "64 devices", "--mesh=1,64")),
        ({"mesh": "64"}, ("--mesh=64", "--mesh=1,64")),
        ({"mesh": "64,1", "batch_size": "65"}, ("--batch_size=65", "multiple of 64")),
        ({"d_model": "0"}, ("--d_model=0",)),
        ({"width": str(2**32)}, (f"--width={2**32}", "at most")),
        ({"json": "/nowhere/plan.json"}, ("--json=/nowhere/plan.json", "cannot be written")),
    ],
)
def test_sizes_and_files(capsys, flags, parts):
    said = refused(capsys, **flags)
    assert all(part in said for part in parts)


def test_a_folder_as_the_file(capsys, tmp_path):
    assert "cannot be written" in refused(capsys, json=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "count"),
    [("v5p:4x4x4", 64), ("v5e:16x16", 256), ("v4:2x2x1", 4), ("tpu7x:2x2x1", 8), ("h200:8", 8), ("V6E:1x1", 1)],
)
def test_devices_of_a_topology(name, count):
    assert topology.Topology.of(name).count == count


def test_a_larger_slice_doubles():
    larger = topology.Topology.of("v5p:4x4x4").larger()
    assert larger.count == 128
    assert topology.Topology.of("v5e:16x16").larger() is None
    assert str(topology.Topology.of("v5e:1x1").larger()) == "v5e:2x2"
    assert str(topology.Topology.of("v5p:4x4x8").larger()) == "v5p:4x8x8"
    assert str(topology.Topology.of("h200:3").larger()) == "h200:6"
    assert str(topology.Topology.of("h200:6").larger()) == "h200:16"
