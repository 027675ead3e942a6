"""Checks of the update: from a gradient, or the pairs that it is a sum of, to new weights and moments, against float64."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxsae.check.findings import Outcome
from jaxsae.check.item import Check, judged, repeats, shapes_of
from jaxsae.check.judge import ULP, Verdict, compare
from jaxsae.check.pair_sums import draw_pairs, on_one, spread
from jaxsae.check.poisoned import Poisoned, bits
from jaxsae.dictionary import MethodConfig, Params, make_method
from jaxsae.dictionary.rates import DECODER
from jaxsae.kernels import PairList, group
from jaxsae.training.config import OptimizerConfig
from jaxsae.training.gradients import PairGradient
from jaxsae.training.optimizer import Moments, make_optimizer
from jaxsae.training.update import UpdateRule, Weights

BATCH, D, WIDTH, K = 300, 96, 5003, 32
RATE, COUNT = 1e-3, 7  # of a step; steps whose moments stand
SLACK = 64 * ULP  # of every term: a few dozen operations, each rounded
WAYS = {"whole": (False, False), "by blocks": (True, False), "by blocks, from pairs": (True, True)}


def checks(device: jax.Device) -> Iterator[Check]:
    """Adam on whole arrays, block by block, and block by block from pairs, with moments of both types; each also left out."""
    shapes = shapes_of(BATCH, D, WIDTH, K, "float32")
    for optimizer in ("adam", "adam_bf16"):
        for way in WAYS:
            run = functools.partial(_run, way, optimizer, device)
            yield Check(f"update {way}, {optimizer}", "kernels", "update", shapes, run)


def _run(way: str, optimizer: str, device: jax.Device, rng: np.random.Generator) -> Outcome:
    blocked, from_pairs = WAYS[way]
    method = make_method(MethodConfig(width=WIDTH, k=K))
    config = OptimizerConfig(optimizer=optimizer, b1=0.9)
    rule = UpdateRule(method, make_optimizer(config, 0), blocked=blocked)
    old, pairs = _weights(rng, jnp.bfloat16 if optimizer == "adam_bf16" else jnp.float32), _pairs(rng)
    gradient, reach = _dense_gradient(pairs, rng)

    def update(old: Weights, pairs: PairList, gradient: Params, finite: jax.Array) -> Weights:
        if from_pairs:
            grouped = group([pairs], WIDTH, rule.block_of(WIDTH, D, True))
            return rule(old, PairGradient(grouped, gradient.shared), jnp.float32(RATE), finite)
        return rule(old, gradient, jnp.float32(RATE), finite)

    arguments = old, pairs, gradient
    program = Poisoned(on_one(update, device), device, *arguments, np.bool_(True))
    found = program(*arguments, np.bool_(True))
    verdicts = _judge(found, old, gradient, reach, config)
    spoil = lambda tree: jax.tree.map(lambda a: np.full_like(a, np.nan) if a.dtype == np.float32 else a, tree)
    spoiled = old, spoil(pairs).replace(values=pairs.values), spoil(gradient)
    left_out = program(*spoiled, np.bool_(False))
    changed = bits(left_out) != bits(old)
    wrong = "a step that is not finite changes weights or moments" if changed else ""
    verdicts["left out"] = Verdict(float(changed), 0.0, wrong)
    same = repeats(program, (*arguments, np.bool_(True)), found)
    return judged(verdicts, same, compile_seconds=program.compile_seconds)


def _weights(rng: np.random.Generator, dtype) -> Weights:
    normal = lambda *shape: rng.standard_normal(shape, np.float32)
    rows = normal(WIDTH, D)
    w_dec = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    params = Params.of(normal(WIDTH, D), normal(WIDTH), w_dec, normal(D))
    like = lambda scale: jax.tree.map(lambda p: scale * normal(*p.shape), params)
    # Second moments well above 0: what divides by them must not magnify the rounding of what they are made of.
    moments = like(0.1), jax.tree.map(lambda a: 0.1 + a**2, like(0.3))
    mu, nu = (jax.tree.map(lambda a: a.astype(dtype), tree) for tree in moments)
    return Weights(params, Moments(mu, nu, np.int32(COUNT)), None)


def _pairs(rng: np.random.Generator) -> PairList:
    values, indices = draw_pairs(rng, BATCH, WIDTH, K)
    normal = lambda *shape: rng.standard_normal(shape, np.float32)
    return PairList(indices, values, normal(BATCH, K), 0.1 * normal(BATCH, D), 0.1 * normal(1, BATCH, D))


def _dense_gradient(pairs: PairList, rng: np.random.Generator) -> tuple[Params, Params]:
    """The sums of pairs, made on the host; and the roots of their terms' squares, which rounding goes by."""
    slopes = spread(np.where(pairs.values > 0, pairs.slopes, 0), pairs.indices, WIDTH).T
    values = spread(pairs.values, pairs.indices, WIDTH).T
    x, dy = pairs.x.astype(np.float64), pairs.dy[0].astype(np.float64)
    b_dec = rng.standard_normal(D, np.float32)
    sums = Params.of(slopes @ x, slopes.sum(1), values @ dy, b_dec)
    squares = Params.of(slopes**2 @ x**2, (slopes**2).sum(1), values**2 @ dy**2, np.zeros(D))
    return jax.tree.map(lambda a: a.astype(np.float32), sums), jax.tree.map(np.sqrt, squares)


def _judge(found: Weights, old: Weights, gradient: Params, reach: Params, config) -> dict[str, Verdict]:
    """Adam (Kingma & Ba, 1412.6980) on the gradient without its part along a decoder row, then rows of length 1 again."""
    verdicts = {"count": compare("steps", found.moments.count, np.float64(COUNT + 1), 0.0)}
    held = 2.0**-7 if config.optimizer == "adam_bf16" else 0.0  # up or down to one of two neighbours
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        of = lambda tree, name=name: np.asarray(getattr(tree, name), np.float64)
        g, p = of(gradient), of(old.params)
        size = np.abs(g) + of(reach)
        if name == "W_dec":
            size = size + np.linalg.norm(g, axis=1, keepdims=True)  # which the projection's sums are of
            g = g - (g * p).sum(1, keepdims=True) * p
        mu = config.b1 * of(old.moments.mu) + (1 - config.b1) * g
        nu = config.b2 * of(old.moments.nu) + (1 - config.b2) * g**2
        scales = 1 - config.b1 ** (COUNT + 1), 1 - config.b2 ** (COUNT + 1)
        moved = RATE * (DECODER if name == "W_dec" else 1) * (mu / scales[0])
        root = np.sqrt(nu / scales[1]) + config.epsilon
        new = p - moved / root
        terms = (
            config.b1 * np.abs(of(old.moments.mu)) + (1 - config.b1) * size
        )  # whose sum may be far smaller than they are
        step = RATE * DECODER * terms / scales[0] / root
        slack = SLACK * np.abs(p) + (SLACK + 4 * ULP / scales[1]) * step  # 1 - b2^t has few bits left of b2^t's
        if name == "W_dec":
            new, slack = new / np.linalg.norm(new, axis=1, keepdims=True), 2 * slack
        verdicts[name] = compare(name, of(found.params), new, slack)
        verdicts[f"{name}, first moment"] = compare(name, of(found.moments.mu), mu, SLACK * terms + held * np.abs(mu))
        verdicts[f"{name}, second moment"] = compare(name, of(found.moments.nu), nu, SLACK * (nu + size**2) + held * nu)
    return verdicts
