"""How long a member trains and at which rate, from its width.

Gao et al. (2406.04093): the tokens to convergence grow as n^0.6 (section 3.1.2) and the best learning rate falls as
1 / sqrt(n) (section A.3). Both are taken relative to an anchor, a width whose tokens and rate are given.
"""

from jaxsae.errors import InputError


def tokens_at(width: int, tokens: int, batch_size: int, exponent: float, anchor: int | None) -> int:
    """tokens * (width / anchor)^exponent, to the nearest whole number of batches, at least one; as given for exponent 0."""
    if not exponent:
        return tokens
    scaled = tokens * (width / anchor) ** exponent
    return batch_size * max(1, round(scaled / batch_size))


def rate_at(width: int, rate: float, exponent: float, anchor: int | None) -> float:
    """rate * (width / anchor)^exponent, to six digits, so that a flag file says the number that is trained with."""
    return float(f"{rate * (width / anchor) ** exponent:.6g}") if exponent else rate


def number(flag: str, text: str, kind: type) -> float | int:
    """A flag's value as a number.

    Raises:
      InputError: it is none.
    """
    try:
        return kind(text)
    except ValueError:
        raise InputError(f"--{flag}={text}: must be a number") from None
