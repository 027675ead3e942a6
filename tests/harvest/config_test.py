"""Flags that make no sense are refused before anything is loaded."""

import pytest

from jaxsae.config import read_flag_file, write_flag_file
from jaxsae.errors import InputError
from jaxsae.harvest import HarvestConfig


def test_round_trip_through_a_flag_file(tmp_path):
    configs = [
        HarvestConfig(store="s", tokens=100, sites=("embed", "resid_post.1"), model="random:0", dtype="bfloat16"),
        HarvestConfig(store="gs://bucket/s", source="arrays", input=("a=x.npy", "y.safetensors"), tensor="t"),
    ]
    for config in configs:
        write_flag_file(tmp_path / "f.flags", config, "harvest")
        assert read_flag_file(tmp_path / "f.flags", HarvestConfig) == config


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"tokens": None}, "--tokens"),
        ({"tokens": 0}, "--tokens=0"),
        ({"batch_size": -1}, "--batch_size=-1"),
        ({"shard_rows": 1000}, "--shard_rows=1000"),
        ({"chunk_rows": 0}, "--chunk_rows=0"),
        ({"seed": -1}, "--seed=-1"),
        ({"first_position": 59}, "--first_position=59"),
        ({"last_position": 3}, "--last_position=3"),
        ({"last_position": 59}, "--last_position=59"),
        ({"sites": ("embed", "embed")}, "--sites"),
        ({"input": ("a.npy",)}, "--input"),
        ({"tensor": "x"}, "--tensor"),
        ({"dtype": "float16"}, "--dtype=float16"),
        ({"source": "hf"}, "--source=hf"),
        ({"source": "arrays"}, "--input"),
    ],
)
def test_refuses(changes, flag):
    with pytest.raises(InputError, match=flag):
        HarvestConfig(**{"store": "s", "tokens": 100, **changes})
