"""Checks of what follows a selection: sparse decode, products and gradients, against float64.

One latent is in every row and one in none, a row has no active latent, and a third of the values are 0. Values are such that
bfloat16 holds them, since some sums take them in their table's type.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from jaxsae.check.findings import Outcome
from jaxsae.check.inputs import Inputs
from jaxsae.check.interpreted import gpu_interpreter
from jaxsae.check.item import Check, judged, repeats, shapes_of
from jaxsae.check.judge import Verdict, compare, selection, sums_bound
from jaxsae.check.poisoned import Poisoned
from jaxsae.kernels import PairList, Request, decode, encode, group, hopper_pairs, pairs
from jaxsae.parallel import make_mesh
from jaxsae.platform import target

ROWS, WIDTH, K = 300, 5003, 32
WIDE, NARROW = 256, 96  # d: of whole slabs of the Hopper kernels, and of none
TOY_ROWS, TOY_WIDTH, TOY_K = 7, 19, 5


def on_one(function: Callable, device: jax.Device) -> Callable:
    """The program of one device, as a step runs it: inside `shard_map` over a mesh of one."""
    mesh = make_mesh((1, 1), [device])
    return jax.shard_map(function, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)


def kernel_of(d: int) -> str:
    """Which code sums pairs on this device."""
    return "hopper_pairs" if hopper_pairs.runs_here(d) else "xla_pairs"


def same_bits_promised(d: int) -> bool:
    """Whether sums have an order of their own: XLA's scatter on GPUs adds as its threads arrive."""
    return target().platform != "gpu" or hopper_pairs.runs_here(d)


def checks(device: jax.Device) -> Iterator[Check]:
    """All sums at both widths of rows and in both types, then the Hopper kernels by their interpreter."""
    for d in (WIDE, NARROW):
        for dtype in ("float32", "bfloat16"):
            for name, run in (("decode", _decode), ("products", _products), ("gradients", _gradients)):
                if name != "gradients" or dtype == "float32":
                    yield _check(name, run, kernel_of(d), device, (ROWS, d, WIDTH, K), dtype)
    yield _check("block sums", _block_sums, "grouped", device, (ROWS, NARROW, WIDTH, K), "float32")
    if device.platform == "cpu" and (interpret := gpu_interpreter()):
        for name, run in (("decode", _decode), ("products", _products), ("outer sums", _outer_sums)):
            run = functools.partial(run, interpret=interpret)
            sizes = (TOY_ROWS, WIDE, TOY_WIDTH, TOY_K)
            yield _check(name, run, "hopper_pairs", device, sizes, "bfloat16", interpreted=True)


def _check(
    name: str, run: Callable, kernel: str, device, sizes: tuple[int, ...], dtype: str, interpreted=False
) -> Check:
    title = f"{name} {kernel}{' interpreted' if interpreted else ''} d {sizes[1]} {dtype}"
    return Check(
        title, "kernels", kernel, shapes_of(*sizes, dtype), functools.partial(run, device, sizes, dtype), interpreted
    )


def holds(values: np.ndarray) -> np.ndarray:
    """The nearest numbers that bfloat16 holds, in float32."""
    return values.astype(jnp.bfloat16).astype(np.float32)


def draw_pairs(rng: np.random.Generator, batch: int, width: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and indices [B, k]: distinct in a row, a third of the values 0, one latent in every row, one row empty."""
    every, never = width - 1, int(rng.integers(width - 1))  # sums of the last latent are the last that are made
    rest = np.setdiff1d(np.arange(width), [every, never])
    indices = np.stack([np.r_[every, rng.choice(rest, k - 1, replace=False)] for _ in range(batch)]).astype(np.int32)
    values = holds(np.maximum(rng.standard_normal((batch, k), np.float32) + 0.4, 0))
    values[:, 0] = 1.5
    values[batch // 2] = 0
    return values, indices


def spread(values: np.ndarray, indices: np.ndarray, width: int) -> np.ndarray:
    """[B, k] lists as a dense float64 [B, width]."""
    out = np.zeros((len(values), width))
    np.put_along_axis(out, indices, values.astype(np.float64), 1)
    return out


def product(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """left @ right in float64, and what its sums in float32 may be off by."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    terms = (left != 0).astype(np.float64) @ np.ones_like(right)
    return left @ right, sums_bound(left**2 @ right**2, terms)


def _run(
    function: Callable, device, arguments: tuple, judge: Callable[[Any], dict[str, Verdict]], promised: bool
) -> Outcome:
    program = Poisoned(function, device, *arguments)
    found = program(*arguments)
    again = repeats(program, arguments, found)
    figures = {"compile_seconds": program.compile_seconds, "same_bits": not again}
    return judged(judge(found), again if promised else "", **figures)


def _table(rng: np.random.Generator, rows: int, d: int, dtype: str) -> np.ndarray:
    return rng.standard_normal((rows, d), np.float32).astype(jnp.dtype(dtype))


def _decode(device, sizes, dtype: str, rng, interpret=None) -> Outcome:
    """y[b] = sum_j values[b, j] table[indices[b, j]]."""
    batch, d, width, k = sizes
    values, indices = draw_pairs(rng, batch, width, k)
    table = _table(rng, width, d, dtype)
    plain = on_one(pairs.gather_sum, device)
    function = plain if interpret is None else lambda *a: hopper_pairs.gather_sum(*a, interpret)
    expected = product(spread(values, indices, width), table)
    judge = lambda found: {"sums": compare("rows", found, *expected)}
    return _run(function, device, (values, indices, table), judge, interpret is not None or same_bits_promised(d))


def _products(device, sizes, dtype: str, rng, interpret=None) -> Outcome:
    """g[b, j] = <y[b], table[indices[b, j]]> where values[b, j] is not 0. `y` has as many bits as `table` keeps of it."""
    batch, d, width, k = sizes
    values, indices = draw_pairs(rng, batch, width, k)
    table, y = _table(rng, width, d, dtype), _table(rng, batch, d, dtype).astype(np.float32)
    plain = on_one(pairs.gather_dot, device)
    function = plain if interpret is None else lambda *a: hopper_pairs.gather_dot(*a, interpret)
    dots, bound = product(y, table.T.astype(np.float32))
    of_pairs = lambda a: np.take_along_axis(a, indices, 1)
    expected, live = of_pairs(dots), values != 0

    def judge(found):
        # What stands where a value is 0 is of no account: the step masks it.
        return {"active": compare("products", np.where(live, found, 0), np.where(live, expected, 0), of_pairs(bound))}

    return _run(function, device, (y, values, indices, table), judge, True)


def _outer_sums(device, sizes, dtype: str, rng, interpret=None) -> Outcome:
    """The gradients' sums of two selections, by the Hopper kernel's interpreter; rows without a value are NaN."""
    batch, d, width, k = sizes
    lists = [(*draw_pairs(rng, batch, width, one), _table(rng, batch, d, dtype)) for one in (k, k - 2)]
    for _, _, rows in lists:
        rows[batch // 2] = np.nan
    function = lambda *flat: hopper_pairs.outer_sums([flat[:3], flat[3:]], width, interpret)
    flat = tuple(a for one in lists for a in one)
    left = np.concatenate([spread(v, i, width) for v, i, _ in lists]).T
    right = np.concatenate([np.nan_to_num(r.astype(np.float32)) for _, _, r in lists])
    sums = product(left, np.ones((len(right), 1)))

    def judge(found):
        totals, own = found
        return {
            "rows": compare("rows", totals, *product(left, right)),
            "totals": compare("totals", own[:, None], *sums),
        }

    return _run(function, device, flat, judge, True)


def _gradients(device, sizes, dtype: str, rng) -> Outcome:
    """All gradients of <dy, decode(encode(x))> for two selections, the second among a tenth of the latents."""
    batch, d, width, k = sizes
    quarters = lambda bound, *shape: (rng.integers(-4 * bound, 4 * bound + 1, shape) / 4).astype(np.float32)
    x, b_pre = quarters(3, batch, d), quarters(1, d)
    w_enc, w_dec, b_enc = (rng.standard_normal(s, np.float32) for s in ((width, d), (width, d), (width,)))
    dys = [rng.standard_normal((batch, d), np.float32) for _ in range(2)]
    among = rng.random(width) < 0.1
    requests = Request(k), Request(2 * k)

    def gradients(x, b_pre, w_enc, b_enc, w_dec, among, *dys):
        def loss(b_pre, w_enc, b_enc, w_dec):
            selected = encode(x, b_pre, w_enc, b_enc, (None, among), requests)
            return sum((y[0] * dy).sum() for y, dy in zip(decode(selected, w_dec), dys, strict=True)), selected

        grads, selected = jax.grad(loss, (0, 1, 2, 3), has_aux=True)(b_pre, w_enc, b_enc, w_dec)
        return grads, tuple((s.values, s.indices) for s in selected)

    def judge(found):
        (db_pre, dw_enc, db_enc, dw_dec), selected = found
        biases = b_enc, np.where(among, b_enc, -np.inf)
        chosen = {
            f"selection {number}": selection(values, indices, Inputs(x - b_pre, w_enc, bias, exact=False), request.k)
            for number, ((values, indices), bias, request) in enumerate(zip(selected, biases, requests, strict=True))
        }
        # From here on by the selection that was made, whose values have their rounding.
        z = np.concatenate([spread(v, i, width) for v, i in selected])
        rows, dy = np.concatenate([x - b_pre] * 2), np.concatenate(dys)
        dots, dots_bound = product(dy, w_dec.T)
        slopes = np.where(z > 0, dots, 0)
        slack = np.where(z > 0, dots_bound, 0)  # of each slope, carried through the sums that it is in
        enc, enc_bound = product(slopes.T, rows)
        enc_bound += np.sqrt((slack**2).T @ rows.astype(np.float64) ** 2)
        own, own_bound = product(slopes.T, np.ones((len(rows), 1)))
        own_bound += np.sqrt((slack**2).sum(0))[:, None]
        pre, pre_bound = product(-own.T, w_enc)
        pre_bound += np.sqrt((own_bound.T**2) @ w_enc.astype(np.float64) ** 2)
        # z is the kernel's float32 sum; what it may be off by moves W_dec's gradient as little as it is.
        return chosen | {
            "W_dec": compare("W_dec", dw_dec, *product(z.T, dy)),
            "W_enc": compare("W_enc", dw_enc, enc, enc_bound),
            "b_enc": compare("b_enc", db_enc[:, None], own, own_bound),
            "b_pre": compare("b_pre", db_pre[None], pre, pre_bound),
        }

    arguments = (x.astype(jnp.dtype(dtype)), b_pre, w_enc, b_enc, w_dec, among, *dys)
    return _run(on_one(gradients, device), device, arguments, judge, same_bits_promised(d))


def _block_sums(device, sizes, dtype: str, rng) -> Outcome:
    """The sums that a blockwise update makes of pairs, block after block."""
    batch, d, width, k = sizes
    values, indices = draw_pairs(rng, batch, width, k)
    slopes, x, dy = (rng.standard_normal(s, np.float32) for s in ((batch, k), (batch, d), (batch, d)))
    slopes[values == 0] = np.nan
    size = 1000
    blocks, rest = divmod(width, size)

    def sums(indices, values, slopes, x, dy):
        grouped = group([PairList(indices, values, slopes, x, dy[None])], width, size)
        whole = jax.lax.map(lambda number: grouped.sums(number, size), jnp.arange(blocks))
        last = grouped.sums(blocks, rest)
        return tuple(jnp.concatenate([a.reshape(-1, *a.shape[2:]), b]) for a, b in zip(whole, last, strict=True))

    def judge(found):
        dw_enc, db_enc, dw_dec = found
        slope = spread(np.where(values > 0, slopes, 0), indices, width).T
        ones = np.ones((batch, 1))
        return {
            "W_enc": compare("W_enc", dw_enc, *product(slope, x)),
            "b_enc": compare("b_enc", db_enc[:, None], *product(slope, ones)),
            "W_dec": compare("W_dec", dw_dec, *product(spread(values, indices, width).T, dy)),
        }

    return _run(sums, device, (indices, values, slopes, x, dy), judge, target().platform != "gpu")
