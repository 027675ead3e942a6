"""Flags that make no sense are refused before anything is loaded."""

import pytest

from jaxsae.config import read_flag_file, write_flag_file
from jaxsae.errors import InputError
from jaxsae.harvest import HarvestConfig
from jaxsae.harvest.text_config import TextConfig


def test_round_trip_through_a_flag_file(tmp_path):
    configs = [
        HarvestConfig(store="s", tokens=100, sites=("embed", "resid_post.1"), model="random:0", dtype="bfloat16"),
        HarvestConfig(
            store="s", source="hf", model="m", corpus=TextConfig(text=("a.txt",), documents="-100:", packing=False)
        ),
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
        ({"dtype": "float64"}, "--dtype=float64"),
        ({"source": "hf"}, "--model"),
        ({"source": "hf", "model": "m"}, "--text"),
        ({"text": ("a.txt",)}, "--text=a.txt"),
        ({"documents": "3"}, "--documents=3"),
        ({"documents": "5:5"}, "--documents=5:5"),
        ({"skip_positions": -1}, "--skip_positions=-1"),
        ({"source": "arrays"}, "--input"),
    ],
)
def test_refuses(changes, flag):
    with pytest.raises(InputError, match=flag):
        text = {
            name: changes.pop(name)
            for name in ("text", "documents", "skip_positions")
            if name in (changes := dict(changes))
        }
        HarvestConfig(**{"store": "s", "tokens": 100, "corpus": TextConfig(**text), **changes})
