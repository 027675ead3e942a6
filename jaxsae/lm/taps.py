"""What one forward pass reads and replaces, by the names of sites; a replacement is read as replaced."""

from collections.abc import Callable, Collection, Mapping

import jax

Replace = Mapping[str, Callable[[jax.Array], jax.Array]]


class Taps:
    """Called with each site of a pass and what stands there, [B, T, d_model]; gives what goes on in its place.

    Attributes:
      seen: {site: what stood there} of the sites of `read` that the pass has come to.
    """

    def __init__(self, read: Collection[str] = (), replace: Replace | None = None):
        self.read, self.replace = frozenset(read), dict(replace or {})
        self.seen: dict[str, jax.Array] = {}

    def __call__(self, site: str, x: jax.Array) -> jax.Array:
        if site in self.replace:
            x = self.replace[site](x).astype(x.dtype)
        if site in self.read:
            self.seen[site] = x
        return x

    def apart(self) -> "Taps":
        """The same with nothing seen: of a part of a pass that is differentiated by itself."""
        return Taps(self.read, self.replace)
