"""How often latents fire: exact intervals against SciPy's, classes at their edges, design effects of planted sequences."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import binomtest

from jaxsae.evaluate.latents.counts import Counts, clopper_pearson, figures


@pytest.mark.parametrize(("hits", "rows"), [(0, 50), (1, 50), (25, 50), (50, 50), (3, 40_000)])
def test_intervals_are_those_of_clopper_and_pearson(hits, rows):
    low, high = clopper_pearson(hits, rows)
    exact = binomtest(hits, rows).proportion_ci(0.95, "exact")
    assert (float(low), float(high)) == pytest.approx((exact.low, exact.high), rel=1e-6)


def planted(sequences, size, fires):
    """Counts of one-valued latents: fires [S, n] of each sequence's rows."""
    rows = np.concatenate([np.arange(size)[:, None] < count[None] for count in fires])
    return Counts.of(sp.csr_matrix(rows.astype(np.float32)), np.repeat(np.arange(sequences), size))


def test_a_latent_that_fires_on_whole_sequences_has_the_design_effect_of_their_length():
    rng = np.random.default_rng(0)
    whole = 40 * (rng.random((400, 30)) < 0.3)
    each = rng.binomial(40, 0.3, (400, 30))
    assert planted(400, 40, whole).design_effect == pytest.approx(40, rel=0.05)
    assert planted(400, 40, each).design_effect == pytest.approx(1, abs=0.15)


def test_classes_hold_what_is_sure_and_what_is_open():
    fires = np.zeros((100, 4), int)
    fires[:, 1] = 10  # 1 in 10 exactly: neither more nor surely not
    fires[:, 2] = 50
    fires[60, 3] = 1  # silent on the first half
    counts = planted(100, 100, fires)
    found = figures(counts)
    assert found["rows"] == 10_000 and found["l0"] == pytest.approx(0.6001)
    assert found["dead"] == {"count": 1, "share": 0.25, "woken": 0.5}
    assert (found["dense"]["count"], found["dense"]["sure"], found["dense"]["open"]) == (1, 1, 1)
    # One firing in 10,000 rows says nothing of 1e-4; nor does none.
    assert (found["ultra_rare"]["count"], found["ultra_rare"]["sure"], found["ultra_rare"]["open"]) == (1, 0, 2)
    assert found["silent_below"] == pytest.approx(1 - 0.025 ** (1 / 10_000))
    assert 0.9999 ** found["rows_to_tell"] <= 0.025 < 0.9999 ** (found["rows_to_tell"] - 1)
    np.testing.assert_array_equal(counts.largest, [0, 1, 1, 1])
