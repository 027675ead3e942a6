"""Kernels that are broken on purpose are caught, and named, each time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.check import encoders, pair_sums, updates
from jaxsae.check.findings import PASSED, WRONG
from jaxsae.check.worker import run_check
from jaxsae.kernels import pairs, sparse
from jaxsae.kernels.encode_topk import api, approximate, xla
from jaxsae.training.update import UpdateRule

SIZES = 40, 16, 611


def value_off(values, indices, x):
    """One value, and no other, by a thousandth."""
    return values.at[17, 3].add(1e-3), indices


def value_off_by_rounding_to_bfloat16(values, indices, x):
    return values.astype(jnp.bfloat16).astype(jnp.float32), indices


def index_off(values, indices, x):
    return values, indices.at[5, 2].add(1)


def row_unwritten(values, indices, x):
    """One row holds what memory held."""
    return values.at[39].set(0.0), indices.at[39].set(0)


def nan_dropped(values, indices, x):
    """A strict comparison somewhere, which no NaN passes."""
    return jnp.where(jnp.isnan(values), -1.0, values), indices


def a_best_latent_missed(values, indices, x):
    """The largest of each row is left out, and all else in order."""
    return values[:, 1:], indices[:, 1:]


def a_last_latent_missing(values, indices, x):
    """The last latent of all is never a candidate: the next best stands in its place."""
    return values, jnp.where(indices == SIZES[2] - 1, 0, indices)


def wrong_type(values, indices, x):
    return values, indices.astype(jnp.uint32)


BREAKS = [
    a_last_latent_missing,
    wrong_type,
    value_off,
    value_off_by_rounding_to_bfloat16,
    index_off,
    row_unwritten,
    nan_dropped,
    a_best_latent_missed,
]


def checked(monkeypatch, broken, k=8):
    def encode(x, w, b, k):
        more = k + (broken is a_best_latent_missed)
        return broken(*xla.encode_topk(x, w, b, more), x)

    monkeypatch.setitem(api.IMPLEMENTATIONS, "xla", encode)
    check = encoders._encoder("xla", jax.devices()[0], *SIZES, k, "float32")
    return run_check(check, seed=int(np.random.default_rng().integers(2**31)))


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_encoder_is_named(monkeypatch, broken):
    finding = checked(monkeypatch, broken)
    assert finding.outcome.status == WRONG and finding.implementation == "xla"
    assert finding.outcome.message and finding.outcome.figures["cases"]


@pytest.mark.parametrize("broken", [a_last_latent_missing, lambda v, i, x: (v + 1e-3, i)])
def test_a_broken_encoder_of_one_latent_is_named(monkeypatch, broken):
    assert checked(monkeypatch, broken, k=1).outcome.status == WRONG


def test_a_sound_one_passes(monkeypatch):
    finding = checked(monkeypatch, lambda values, indices, x: (values, indices))
    assert finding.outcome.status == PASSED and 0 < finding.outcome.error < finding.outcome.bound


def test_what_is_wrong_says_where():
    values = np.array([[3.0, 2.0], [5.0, 4.0]])
    verdict = encoders.judge.compare("values", np.array([[3.0, 2.0], [5.0, 9.0]]), values, 0.0)
    assert verdict.wrong == "values: 1 of 4 are off, the first at [1, 1]: 9 for 4" and verdict.error == 5


def test_bits_that_differ_from_call_to_call_are_told(monkeypatch):
    calls = iter(range(10**6))

    def encode(x, w, b, k):
        values, indices = xla.encode_topk(x, w, b, k)
        wobble = jax.pure_callback(lambda: np.float32(next(calls)), jax.ShapeDtypeStruct((), jnp.float32))
        return values * (1 + 1e-7 * (wobble % 2)), indices

    monkeypatch.setitem(api.IMPLEMENTATIONS, "xla", encode)
    outcome = run_check(encoders._encoder("xla", jax.devices()[0], *SIZES, 8, "float32"), 0).outcome
    assert outcome.status == WRONG and "differ in their bits" in outcome.message


@pytest.mark.parametrize("kept", [7, 10, 15])  # bfloat16's, TF32's, and those of two bfloat16 numbers
def test_operands_cut_to_fewer_bits_are_told(monkeypatch, kept):
    def encode(x, w, b, k):
        cut = lambda a: jax.lax.reduce_precision(a, 8, kept)
        return xla.encode_topk(cut(x), cut(w), b, k)

    monkeypatch.setitem(api.IMPLEMENTATIONS, "xla", encode)
    outcome = run_check(encoders._encoder("xla", jax.devices()[0], *SIZES, 8, "float32"), 0).outcome
    assert outcome.status == WRONG and "gaussian: values" in outcome.message and "ties" not in outcome.message


@pytest.mark.parametrize("spoil", ["nan", "zeros", None])
def test_rows_of_a_large_batch_that_the_host_does_not_compute_are_looked_at(spoil):
    def encode(x, w, b):
        values, indices = xla.encode_topk(x, w, b, 8)
        rows = slice(1000, 1004)
        if spoil == "nan":  # as poison does
            return values.at[rows].set(jnp.nan), indices.at[rows].set(0x7FC0DEAD)
        return (values.at[rows].set(0.0), indices.at[rows].set(0)) if spoil else (values, indices)

    outcome = encoders._run_large(encode, jax.devices()[0], (2048, 16, 611), 8, "float32", np.random.default_rng(0))
    assert outcome.status == (WRONG if spoil else PASSED)


def spoiled_approximate(how):
    def encode(x, w, b, k):
        values, indices = approximate.select(x, w, b, k, 0.95)
        if how == "twice":
            return jnp.repeat(values[:, :1], k, 1), jnp.repeat(indices[:, :1], k, 1)
        if how == "negative":
            return values, indices - SIZES[2]
        return (values[:, ::-1], indices[:, ::-1]) if how == "ascending" else (values, indices)

    return encode


@pytest.mark.parametrize("how", ["sound", "twice", "negative", "ascending"])
def test_the_approximate_encoder_is_judged_by_what_it_promises(monkeypatch, how):
    monkeypatch.setitem(api.IMPLEMENTATIONS, "approximate", spoiled_approximate(how))
    outcome = run_check(encoders._encoder("approximate", jax.devices()[0], *SIZES, 8, "float32"), 0).outcome
    assert outcome.status == (PASSED if how == "sound" else WRONG), outcome.message


def test_indices_of_places_that_are_not_taken_must_point_somewhere(monkeypatch):
    sound = encoders.encode_above

    def above(*a):
        values, indices, overflow = sound(*a)
        return values, jnp.where(values == 0, 10**9, indices), overflow

    monkeypatch.setattr(encoders, "encode_above", above)
    outcome = run_check(encoders._above("xla", jax.devices()[0], "float32"), 0).outcome
    assert outcome.status == WRONG and "indices within the width" in outcome.message


def test_an_error_is_a_finding(monkeypatch):
    def encode(x, w, b, k):
        raise RuntimeError("ptxas fatal")

    monkeypatch.setitem(api.IMPLEMENTATIONS, "xla", encode)
    outcome = run_check(encoders._encoder("xla", jax.devices()[0], *SIZES, 8, "float32"), 0).outcome
    assert outcome.status == "failed" and "ptxas fatal" in outcome.message


def first(checks, start):
    return next(c for c in checks if c.name.startswith(start))


@pytest.mark.parametrize("name", ["gather_sum", "gather_dot"])
@pytest.mark.parametrize(
    "broken", [lambda y: y.at[7, 0].add(0.01), lambda y: y.at[299].set(0.0)], ids=["one off", "a row"]
)
def test_broken_sums_are_named(monkeypatch, name, broken):
    sound = getattr(pairs, name)
    monkeypatch.setattr(pairs, name, lambda *a: broken(sound(*a)))
    check = first(pair_sums.checks(jax.devices()[0]), "decode" if name == "gather_sum" else "products")
    assert run_check(check, 1).outcome.status == WRONG


def test_a_gradient_that_drops_a_pair_is_named(monkeypatch):
    sound = pairs.segment_outer
    monkeypatch.setattr(
        pairs, "segment_outer", lambda total, values, *rest: sound(total, values.at[3, 0].set(0.0), *rest)
    )
    outcome = run_check(first(pair_sums.checks(jax.devices()[0]), "gradients"), 1).outcome
    assert outcome.status == WRONG and "W_dec" in outcome.message


@pytest.mark.parametrize("what", ["mask", "zeros", "doubled", "bias"])
def test_a_selection_that_is_wrong_before_its_gradients_is_named(monkeypatch, what):
    sound = sparse.select

    def select(x, w_enc, b_enc, mask, request):
        if what == "mask":
            return sound(x, w_enc, b_enc, None, request)
        chosen = sound(x, w_enc, 0 * b_enc if what == "bias" else b_enc, mask, request)
        return chosen.replace(values={"zeros": 0, "doubled": 2}.get(what, 1) * chosen.values)

    monkeypatch.setattr(sparse, "select", select)
    outcome = run_check(first(pair_sums.checks(jax.devices()[0]), "gradients"), 1).outcome
    assert outcome.status == WRONG and "selection" in outcome.message


@pytest.mark.parametrize("how", ["moments", "blend", "count"])
def test_an_update_that_does_not_leave_out_or_count_is_named(monkeypatch, how):
    sound = UpdateRule.__call__

    def update(self, weights, gradient, rate, finite):
        new = sound(self, weights, gradient, rate, jnp.bool_(True))
        if how == "blend":
            return jax.tree.map(lambda n, o: (o + (n - o) * finite).astype(o.dtype), new, weights)
        kept = sound(self, weights, gradient, rate, finite)
        if how == "count":
            return kept.replace(moments=kept.moments._replace(count=weights.moments.count))
        return kept.replace(moments=kept.moments._replace(mu=new.moments.mu))

    monkeypatch.setattr(UpdateRule, "__call__", update)
    outcome = run_check(first(updates.checks(jax.devices()[0]), "update whole"), 1).outcome
    assert outcome.status == WRONG, outcome.message


@pytest.mark.parametrize("way", updates.WAYS)
def test_an_update_with_another_rate_is_named(monkeypatch, way):
    sound = UpdateRule.__call__
    wrong = functools.partialmethod(lambda self, w, g, rate, finite: sound(self, w, g, 1.001 * rate, finite))
    monkeypatch.setattr(UpdateRule, "__call__", wrong)
    outcome = run_check(first(updates.checks(jax.devices()[0]), f"update {way}"), 1).outcome
    assert outcome.status == WRONG and "W_enc" in outcome.message and "moment" not in outcome.message.split(":")[0]
