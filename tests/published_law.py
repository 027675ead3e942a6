"""Members as a sweep would have them, with losses drawn from the published joint law."""

import numpy as np

from jaxsae.sweep.laws import JOINT

# Gao et al., arXiv 2406.04093, GPT-4; what is drawn from, not what is compared with a table
CONSTANTS = dict(alpha=-0.5, bk=0.26, bn=-0.017, g=-0.042, zeta=-1.32, eta=-0.085)
WIDTHS, KS = [2.0**i for i in range(11, 19)], [2.0**i for i in range(3, 10)]
TIME = 1000.0  # tokens at width 1 after which a curve has fallen to 1.6 times its end; grows as n^0.6
FLOPS = 4000.0  # a token and latent


def losses(widths=WIDTHS, ks=KS, noise: float = 0.01, seed=0):
    """(n [N], k [N], loss [N]) of the grid, each loss off by a normal share of itself."""
    n, k = (a.ravel().astype(float) for a in np.meshgrid(widths, ks))
    rng = np.random.default_rng(seed)
    return n, k, JOINT(CONSTANTS, n=n, k=k) * (1 + noise * rng.standard_normal(n.size))


def member(n: int, k: int, fvu: float, length: float = 50.0, **changes) -> dict:
    """A finished member whose curve falls as a power of tokens / n^0.6 to its FVU."""
    tokens = np.geomspace(0.01, 1, 60) * length * TIME * n**0.6
    curve = fvu * (1 + 0.6 * (tokens / (TIME * n**0.6)) ** -1.2)
    points = [
        dict(tokens=int(t), flops=FLOPS * n * t, fvu=float(v), loss=float(v))
        for t, v in zip(tokens, curve, strict=True)
    ]
    figures = dict(
        width=int(n), k=k, d_model=64, seed=0, architecture="topk", learning_rate=1e-3, tokens=int(tokens[-1])
    )
    figures |= dict(steps=100, flops=FLOPS * n * tokens[-1], fvu=float(fvu), l0=float(k), dead_fraction=0.01, loss=fvu)
    figures |= dict(delta_ce=2.0 * k**-0.7 * n**-0.15, ce=2.5, ce_spliced=None, rows=1000, curve=points)
    figures |= changes.pop("figures", {})
    about = dict(name=f"n{n:g}-k{k:g}", flags={"width": n, "k": k}, status="finished", error=None, held_out=False)
    return about | changes | {"figures": figures}


def members(widths=WIDTHS[:5], ks=KS[:4], noise=0.005, seed=0, **changes) -> list[dict]:
    """A grid of them."""
    rows = zip(*losses(widths, ks, noise, seed), strict=True)
    return [member(int(n), int(k), loss, **changes) for n, k, loss in rows]
