"""What stands at a site is made of what was seen at others, in the order of one pass."""

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.lm.stand_in import Pass, StandIn

RNG = np.random.default_rng(0)
SITES = {"in.0": RNG.normal(size=(4, 2)), "out.0": RNG.normal(size=(4, 3)), "in.1": RNG.normal(size=(4, 2))}
SITES |= {"out.1": RNG.normal(size=(4, 3))}


def through(stand_ins: dict[str, StandIn]) -> dict[str, np.ndarray]:
    """What stands at each site once the model has gone through all of them; `in.1` is `out.0`'s first two numbers."""
    hooks, stands = Pass(stand_ins, lambda x: x, lambda x, rows: rows).hooks, {}
    for site, x in SITES.items():
        stands[site] = stands["out.0"][:, :2] if site == "in.1" else x
        for at, function in hooks:
            if at == site and (new := function(stands[site])) is not None:
                stands[site] = new
    return stands


def test_several_earlier_sites_are_read_side_by_side_as_they_then_are():
    mixed = RNG.normal(size=(4, 3))
    found = through({"out.0": StandIn(lambda x: -x), "out.1": StandIn(lambda x: x @ mixed, ("in.0", "in.1"))})
    np.testing.assert_array_equal(found["out.0"], -SITES["out.0"])
    read = np.concatenate([SITES["in.0"], -SITES["out.0"][:, :2]], 1)
    np.testing.assert_array_equal(found["out.1"], read @ mixed)


def test_all_sites_that_are_read_have_to_come_before():
    with pytest.raises(InputError, match=r"site in.1 comes after out.0"):
        through({"out.0": StandIn(lambda x: x, ("in.0", "in.1"))})
