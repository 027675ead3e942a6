"""Kernels that JAXSAE_AVOID names are not taken, in any command."""

import jax
import jax.numpy as jnp
import pytest

from jaxsae.errors import InputError
from jaxsae.kernels import encode_topk, hopper_pairs
from jaxsae.kernels.encode_topk import choose, hopper
from jaxsae.platform import Target


def arguments(dtype=jnp.bfloat16, width=2048):
    return jax.ShapeDtypeStruct((64, 256), dtype), jax.ShapeDtypeStruct((width, 256), dtype), 8


@pytest.fixture
def on_hopper(monkeypatch):
    card = lambda: Target("gpu", "NVIDIA H200")
    for module in (choose, hopper, hopper_pairs):
        monkeypatch.setattr(module, "target", card)


def test_on_a_hopper_gpu(monkeypatch, on_hopper):
    assert choose.explained(*arguments()) == ("mosaic_gpu", None) and hopper_pairs.runs_here(256)
    monkeypatch.setenv("JAXSAE_AVOID", "mosaic_gpu, hopper_pairs")
    assert choose.explained(*arguments()) == ("chunked", "mosaic_gpu is named in JAXSAE_AVOID")
    assert not hopper_pairs.runs_here(256)
    assert choose.refusals(*arguments())["mosaic_gpu"] == "is named in JAXSAE_AVOID"
    monkeypatch.setenv("JAXSAE_AVOID", "mosaic_gpu,chunked")
    assert choose.explained(*arguments())[0] == "xla"


def test_on_a_cpu(monkeypatch):
    monkeypatch.setattr(choose.screened, "refused", lambda: None)
    wide = arguments(jnp.float32)
    assert choose.explained(*wide)[0] == "screened"
    monkeypatch.setenv("JAXSAE_AVOID", "screened")
    assert choose.explained(*wide)[0] == "cpu"
    monkeypatch.setenv("JAXSAE_AVOID", "screened,cpu")
    assert choose.explained(*wide) == (
        "xla",
        "screened is named in JAXSAE_AVOID and cpu is named in JAXSAE_AVOID",
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [("nosuch", "no kernel 'nosuch'; there are screened"), ("screened,cpu,xla,chunked", "leaves no encoder")],
)
def test_what_cannot_be_avoided_is_said(monkeypatch, names, message):
    monkeypatch.setenv("JAXSAE_AVOID", names)
    with pytest.raises(InputError, match=f"JAXSAE_AVOID={names}.*{message}|{message}"):
        choose.explained(*arguments(jnp.float32))


def test_an_encoder_by_name_is_not_taken_either(monkeypatch):
    monkeypatch.setenv("JAXSAE_AVOID", "xla")
    x, w, b = jnp.ones((2, 4)), jnp.ones((8, 4)), jnp.zeros(8)
    with pytest.raises(InputError, match=r"--encoder=xla is named in JAXSAE_AVOID in the environment: take another"):
        encode_topk(x, w, b, 2, "xla")
    assert encode_topk(x, w, b, 2)[0].shape == (2, 2)
