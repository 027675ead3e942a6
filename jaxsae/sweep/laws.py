"""Scaling laws: sums of powers, L = sum_j exp(phi_j(ln x) . theta_j), with the Jacobian of ln L in closed form.

Every law of a sweep has this shape: a term is the exponential of a polynomial in the logarithms of its variables, such
as A n^-a = exp(ln A - a ln n). Losses are fitted as logarithms, since their noise is a share of them.

Fitting happens in logarithms that are centred on the members, where the columns of the Jacobian are nearly orthogonal:
ln n is about 10 and varies by 2, so that alpha and bn ln n would otherwise trade against each other. `constants_from`
leads back.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

Monomial = tuple[str, ...]  # the variables whose logarithms are multiplied; () is 1

NO_FLOOR = 1e-3
PLAIN, EXPONENTIAL, NEGATIVE = "plain", "exponential", "negative"  # how a coefficient is shown: c, exp(c), -c


@dataclasses.dataclass(frozen=True)
class Law:
    """A law y(x) = sum over terms of exp(sum over monomials of coefficient * product of ln x).

    Attributes:
      name, equation, reference: for people.
      terms: of each term its monomials; with a monomial all its divisors stand there, or centring would change the law.
      constants: (name, how it is shown) of every coefficient, terms in order.
      floor: which term is flat where a search starts; None for a law of one term.
      least: {variable: how many different values of it the law needs}.
    """

    name: str
    equation: str
    reference: str
    terms: tuple[tuple[Monomial, ...], ...]
    constants: tuple[tuple[str, str], ...]
    least: Mapping[str, int]
    floor: int | None = None

    def __post_init__(self):
        assert len(self.constants) == sum(map(len, self.terms))
        for term in self.terms:
            assert all(part in term for m in term for size in range(len(m)) for part in itertools.combinations(m, size))

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return len(self.constants)

    @property
    def upper(self) -> np.ndarray:
        """[size], the largest coefficients: a loss that falls with n, C or D does so without end, so -a is at most 0."""
        return np.array([0.0 if how == NEGATIVE else np.inf for _, how in self.constants])

    def lower(self, y: np.ndarray) -> np.ndarray:
        """[size], the smallest coefficients: a constant floor stops at 1/1000 of the smallest y, which is as good as none.

        Further down its logarithm has no gradient to come back by.
        """
        out = np.full(self.size, -np.inf)
        if self.floor is not None and self.terms[self.floor] == ((),):
            out[self.owners == self.floor] = np.log(NO_FLOOR * np.min(y))
        return out

    @property
    def owners(self) -> np.ndarray:
        """[size], the term that each coefficient belongs to."""
        return np.repeat(np.arange(len(self.terms)), [len(term) for term in self.terms])

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of what the law depends on, in order of their appearance."""
        return tuple(dict.fromkeys(v for term in self.terms for monomial in term for v in monomial))

    def features(self, x: Mapping[str, np.ndarray], centre: Mapping[str, float]) -> list[np.ndarray]:
        """Of each term float64 [N, monomials] at points `x` {variable: [N]}, logarithms taken from `centre`."""
        logs = {v: np.log(np.asarray(x[v], np.float64)) - centre.get(v, 0.0) for v in self.variables}
        ones = np.ones(np.broadcast_shapes(*(log.shape for log in logs.values())))
        column = lambda monomial: np.prod([ones, *(logs[v] for v in monomial)], axis=0)
        return [np.stack([column(monomial) for monomial in term], -1) for term in self.terms]

    def log_value(self, coefficients: np.ndarray, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """ln y [..., N] and its Jacobian [..., N, size], for coefficients [..., size].

        d ln y / d theta_j = (share of term j) * phi_j: a softmax over terms.
        """
        splits = np.cumsum([f.shape[-1] for f in features])[:-1]
        parts = np.split(coefficients, splits, axis=-1)
        exponents = np.stack([part @ f.T for part, f in zip(parts, features, strict=True)])
        exponents = np.clip(exponents, -700, 700)  # a step too far is refused by its error, not by an overflow
        top = exponents.max(0)
        shares = np.exp(exponents - top)
        total = shares.sum(0)
        shares /= total
        columns = [share[..., None] * f for share, f in zip(shares, features, strict=True)]
        return top + np.log(total), np.concatenate(columns, -1)

    def uncentre(self, centre: Mapping[str, float]) -> np.ndarray:
        """float64 [size, size]: what turns coefficients of centred logarithms into those of plain ones."""
        out = np.zeros((self.size, self.size))
        first = 0
        for term in self.terms:
            for column, monomial in enumerate(term):
                # product of (ln v - c_v), multiplied out
                for size in range(len(monomial) + 1):
                    for kept in itertools.combinations(monomial, size):
                        rest = list(monomial)
                        for v in kept:
                            rest.remove(v)
                        out[first + term.index(kept), first + column] += np.prod([-centre[v] for v in rest])
            first += len(term)
        return out

    def constants_from(self, coefficients: np.ndarray) -> dict[str, np.ndarray]:
        """{constant: its value} from plain coefficients [..., size]."""
        shown = {PLAIN: lambda c: c, EXPONENTIAL: np.exp, NEGATIVE: np.negative}
        with np.errstate(over="ignore"):  # of a refit that went astray
            return {name: shown[how](coefficients[..., i]) for i, (name, how) in enumerate(self.constants)}

    def coefficients_from(self, constants: Mapping[str, float]) -> np.ndarray:
        """The inverse of `constants_from`, float64 [size]."""
        back = {PLAIN: lambda c: c, EXPONENTIAL: np.log, NEGATIVE: np.negative}
        with np.errstate(divide="ignore"):  # a floor of 0
            values = [back[how](np.float64(constants[name])) for name, how in self.constants]
        return np.maximum(values, -700.0)

    def __call__(self, constants: Mapping[str, float], **x: np.ndarray | float) -> np.ndarray:
        """The law's value at points `x`, which broadcast, for constants by name."""
        x = dict(zip(x, np.broadcast_arrays(*(np.asarray(v, np.float64) for v in x.values())), strict=True))
        shape = next(iter(x.values())).shape
        features = self.features({name: v.ravel() for name, v in x.items()}, {})
        return np.exp(self.log_value(self.coefficients_from(constants), features)[0]).reshape(shape)


GAO = "Gao et al. 2024, arXiv 2406.04093"
JOINT = Law(
    "joint law L(n, k)",
    "L(n, k) = exp(alpha + bk ln k + bn ln n + g ln k ln n) + exp(zeta + eta ln k)",
    f"{GAO}, section 3.1",
    (((), ("k",), ("n",), ("k", "n")), ((), ("k",))),
    (("alpha", PLAIN), ("bk", PLAIN), ("bn", PLAIN), ("g", PLAIN), ("zeta", PLAIN), ("eta", PLAIN)),
    {"n": 3, "k": 3},
    floor=1,
)
JOINT_WITHOUT_FLOOR = Law(
    "joint law L(n, k) without its floor",
    "L(n, k) = exp(alpha + bk ln k + bn ln n + g ln k ln n)",
    f"{GAO}, section 3.1, first term",
    JOINT.terms[:1],
    JOINT.constants[:4],
    {"n": 2, "k": 2},
)
CONVERGENCE = Law(
    "L(n) at convergence",
    "L(n) = E + A n^-a",
    f"{GAO}, section 3.1",
    (((),), ((), ("n",))),
    (("E", EXPONENTIAL), ("A", EXPONENTIAL), ("a", NEGATIVE)),
    {"n": 4},
    floor=0,
)
TOKENS = Law(
    "tokens to converge",
    "tokens(n) = T n^p",
    f"{GAO}, section 3.1: p about 0.6 (GPT-2 small) and 0.65 (GPT-4)",
    (((), ("n",)),),
    (("T", EXPONENTIAL), ("p", PLAIN)),
    {"n": 3},
)
COMPUTE = Law(
    "L(C), the envelope over compute",
    "L(C) = E + A C^-a",
    f"{GAO}, section 3.1",
    (((),), ((), ("C",))),
    (("E", EXPONENTIAL), ("A", EXPONENTIAL), ("a", NEGATIVE)),
    {"C": 4},
    floor=0,
)
ALLOCATION = Law(
    "L(n, D), latents and tokens",
    "L(n, D) = E + A n^-a + B n^c D^-b",
    "Hoffmann et al. 2022, arXiv 2203.15556, equation 2, with latents for parameters, and a factor n^c since wider SAEs need "
    "more tokens (Gao et al., section 3.1)",
    (((),), ((), ("n",)), ((), ("n",), ("D",))),
    (("E", EXPONENTIAL), ("A", EXPONENTIAL), ("a", NEGATIVE), ("B", EXPONENTIAL), ("c", PLAIN), ("b", NEGATIVE)),
    {"n": 3, "D": 6},
    floor=0,
)
DELTA_CE = Law(
    "delta CE over n and k",
    "delta_ce(n, k) = exp(c + p ln k + q ln n)",
    f"{GAO}, section 4.1: downstream loss falls with k and n; the power law is ours",
    (((), ("k",), ("n",)),),
    (("c", PLAIN), ("p", PLAIN), ("q", PLAIN)),
    {"k": 3, "n": 2},
)
DELTA_CE_OF_K = Law(
    "delta CE over k",
    "delta_ce(k) = exp(c + p ln k)",
    DELTA_CE.reference,
    (((), ("k",)),),
    (("c", PLAIN), ("p", PLAIN)),
    {"k": 3},
)
