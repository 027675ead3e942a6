"""What is written may be another site than what is read, and several sites may be one: loss and gradients against dense
float64."""

import numpy as np
import pytest
from dictionary.methods_test import BATCH, WIDTH, D, arrays, check, expected, mask_of, run

from jaxsae.dictionary import Params

SITES, D_OUT = (5, 3), 12
WAYS = {"pairs": (0, "pairs"), "tiles": (0, "tiles"), "products": (WIDTH, "tiles"), "one by one": (0, None)}


def written(name, **own):
    """Parameters whose decoder rows have D_OUT numbers, with arrays of their own of such shapes; x and a target."""
    rng = np.random.default_rng(4)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    params, x = arrays(name, seed=1)
    params = params.put(W_dec=0.3 * draw(WIDTH, D_OUT), b_dec=draw(D_OUT))
    more = {n: 0.3 * draw(*shape) for n, shape in own.items()}
    return Params(params.latent, params.shared | more), x, draw(BATCH, D_OUT)


@pytest.mark.parametrize("products", [0, WIDTH])
@pytest.mark.parametrize("name", ["topk", "relu"])
def test_what_is_written_may_be_of_another_width_than_what_is_read(name, products):
    """Sites side by side: W_enc [n, d_in], W_dec [n, d_out], a bias of each."""
    params, x, target = written(name, **({"b_pre": (D,)} if name == "topk" else {}))
    found = run(name, (1, 4), params, x, mask_of(0), products=products, beside={"target": target})
    check(found, expected(name, params, x, target=target))


@pytest.mark.parametrize("shape", [(1, 1), (2, 4)])
@pytest.mark.parametrize(
    ("name", "by"),
    [
        *((name, by) for name in ("topk", "batchtopk") for by in ("pairs", "tiles", "products")),
        ("jumprelu", "one by one"),
    ],
)
def test_transcoders_with_a_map_past_the_latents(name, by, shape):
    params, x, target = written(name, W_skip=(D_OUT, D))
    dead = mask_of(0 if by == "one by one" else 26)
    found = run(name, shape, params, x, dead, False, *WAYS[by], beside={"target": target}, transcode=True, skip=True)
    check(found, expected(name, params, x, dead=dead, target=target, pre_bias=False))


@pytest.mark.parametrize("shape", [(1, 1), (2, 4)])
@pytest.mark.parametrize(
    ("name", "by"),
    [*((name, by) for name in ("topk", "batchtopk") for by in ("pairs", "products")), ("relu", "one by one")],
)
def test_crosscoders_of_two_sites(name, by, shape):
    params, x = arrays(name, seed=1)
    dead = mask_of(0 if by == "one by one" else 26)
    found = run(name, shape, params, x, dead, False, *WAYS[by], site_widths=SITES)
    check(found, expected(name, params, x, dead=dead, sites=SITES))
