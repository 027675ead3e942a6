"""Laws against their formulas written out, their Jacobians against differences, and centring against the plain law."""

import numpy as np
import pytest
from published_law import CONSTANTS

from jaxsae.sweep import laws

ALL = [v for v in vars(laws).values() if isinstance(v, laws.Law)]


def points(law, rng, count=7):
    return {v: np.exp(rng.uniform(1, 6, count)) for v in law.variables}


def test_the_joint_law_is_the_published_one():
    c, n, k = CONSTANTS, np.array([1e3, 1e5]), np.array([8.0, 100.0])
    first = np.exp(c["alpha"] + c["bk"] * np.log(k) + c["bn"] * np.log(n) + c["g"] * np.log(k) * np.log(n))
    wanted = first + np.exp(c["zeta"] + c["eta"] * np.log(k))
    np.testing.assert_allclose(laws.JOINT(c, n=n, k=k), wanted, rtol=1e-12)
    np.testing.assert_allclose(laws.JOINT_WITHOUT_FLOOR(c, n=n, k=k), first, rtol=1e-12)
    np.testing.assert_allclose(laws.JOINT(c, n=n[:, None], k=k[None])[1, 1], wanted[1])


def test_the_other_laws_are_their_equations():
    n, d = np.array([1e3, 1e5]), np.array([1e8, 1e7])
    three = dict(E=0.1, A=3.0, a=0.3)
    np.testing.assert_allclose(laws.CONVERGENCE(three, n=n), 0.1 + 3 * n**-0.3)
    np.testing.assert_allclose(laws.COMPUTE(three, C=n), 0.1 + 3 * n**-0.3)
    np.testing.assert_allclose(laws.TOKENS(dict(T=5.0, p=0.6), n=n), 5 * n**0.6)
    whole = three | dict(B=7.0, b=0.4, c=0.2)
    np.testing.assert_allclose(laws.ALLOCATION(whole, n=n, D=d), 0.1 + 3 * n**-0.3 + 7 * n**0.2 * d**-0.4)
    np.testing.assert_allclose(laws.CONVERGENCE(three | {"E": 0.0}, n=n), 3 * n**-0.3)
    np.testing.assert_allclose(laws.DELTA_CE(dict(c=0.5, p=-0.7, q=-0.1), k=n, n=d), np.exp(0.5) * n**-0.7 * d**-0.1)


@pytest.mark.parametrize("law", ALL, ids=lambda law: law.name)
def test_jacobian_centring_and_constants(law):
    rng = np.random.default_rng(law.size)
    x, coefficients = points(law, rng), rng.normal(0, 0.3, (3, law.size))
    centre = {v: float(np.log(values).mean()) for v, values in x.items()}
    features = law.features(x, centre)
    value, jacobian = law.log_value(coefficients, features)
    assert value.shape == (3, 7) and jacobian.shape == (3, 7, law.size)
    for i in range(law.size):
        step = np.zeros(law.size)
        step[i] = 1e-6
        up, down = (law.log_value(coefficients + sign * step, features)[0] for sign in (1, -1))
        np.testing.assert_allclose(jacobian[..., i], (up - down) / 2e-6, atol=1e-7)
    plain = law.uncentre(centre) @ coefficients[0]
    np.testing.assert_allclose(law.log_value(plain, law.features(x, {}))[0], value[0], rtol=1e-10)
    constants = law.constants_from(plain)
    np.testing.assert_allclose(law.coefficients_from(constants), plain)
    np.testing.assert_allclose(np.log(law(constants, **x)), value[0])
