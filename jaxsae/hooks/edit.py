"""What is made of activations where a dictionary writes, whichever library they are arrays of.

x' = x + sum_i (g_i - f_i) W_dec,i        latents i set to g_i, of values f_i, the dictionary's error kept
x' = r(x) + ...                           the same of the reconstruction, its error left out
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import jax
import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError


class Library(Protocol):
    """What an edit needs of the library whose arrays it is given, all of rows [N, ...] in float32."""

    def constant(self, array: np.ndarray) -> Any: ...
    def reconstruct(self, dictionary: Dictionary, x: Any) -> Any: ...
    def values(self, dictionary: Dictionary, x: Any, latents: Sequence[int]) -> Any: ...
    def product(self, a: Any, b: Any) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Edit:
    """One change at one site.

    Attributes:
      reads: the sites that the dictionary reads, side by side; those of an autoencoder are (`writes`,).
      replaced: whether its reconstruction stands there, else what stood there before.
      error: of what is replaced: whether its error, as it is in the same pass, is added; or an array [..., d_out] that is.
      latents: numbers of those that are changed. targets: float32 [m], what each is set to, or by how much it is raised.
      raised: whether they are raised, whatever their values.
    """

    dictionary: Dictionary
    reads: tuple[str, ...]
    writes: str
    replaced: bool = False
    error: Any = False
    latents: tuple[int, ...] = ()
    targets: tuple[float, ...] = ()
    raised: bool = False

    @cached_property
    def directions(self) -> np.ndarray:
        """float32 [m, d_out]: the decoder's rows of `latents`."""
        with jax.ensure_compile_time_eval():  # a context may be entered while something is traced
            return np.asarray(self.dictionary.params.W_dec[np.asarray(self.latents)], np.float32)

    @property
    def reads_elsewhere(self) -> bool:
        """Whether it reads other sites than it writes."""
        return self.reads != (self.writes,)

    def parts(self, seen: Mapping[str, Any], y: Any) -> list[Any]:
        """What it reads, in the order of `reads`, of what a pass has `seen` at them, where `y` is about to be written.

        Raises:
          InputError: the pass has not come to one of them.
        """
        if not self.reads_elsewhere:
            return [y]
        if late := [site for site in self.reads if site not in seen]:
            raise InputError(f"hooks: site {late[0]} comes after {self.writes}, which is to be made of it")
        return [seen[site] for site in self.reads]

    def rows(self, x: Any, y: Any, error: Any, library: Library) -> Any:
        """What is to stand in the place of y [N, d_out], where x [N, d_in] was read.

        Args:
          error: rows of `self.error` where that is an array.
        """
        out = y
        if self.replaced:
            out = library.reconstruct(self.dictionary, x)
            if self.error is True:
                out = out + (y - out)
            elif error is not None:
                out = out + error
        if not self.latents:
            return out
        step = library.constant(np.float32(self.targets))[None]
        if not self.raised:
            step = step - library.values(self.dictionary, x, self.latents)
        return out + library.product(step, library.constant(self.directions))


def edits_of(dictionary: Dictionary, site: str | Sequence[str] | None, **changes: Any) -> list[Edit]:
    """The edits of a dictionary, one at each site that it writes.

    Args:
      site: instead of that of its metadata; of a transcoder (read, written).

    Raises:
      InputError: a crosscoder; sites that are not known or do not fit; latents that there are not, or of a cross-layer
        transcoder.
    """
    config = dictionary.config
    if config.site_widths:
        raise InputError(
            "hooks: a crosscoder reads all its sites before it writes any, and a pass comes to them one by one. Splice it by "
            "`jaxsae evaluate --suite=splice`, which runs the model twice."
        )
    _check_latents(dictionary, changes.get("latents", ()))
    reads, writes = _sites(dictionary, site)
    if config.layers == 1:
        return [Edit(dictionary, reads, writes[0], **changes)]
    if changes.get("latents"):
        raise InputError(
            "hooks: a latent of a cross-layer transcoder writes several layers. Splice it, or take one of a layer."
        )
    if not isinstance(changes.get("error", False), bool):
        raise InputError("hooks: error: an array is of one site, and a cross-layer transcoder writes several.")
    parts = range(config.layers)
    return [Edit(dictionary.of_layer(i), reads[: i + 1], writes[i], **changes) for i in parts]


def _sites(dictionary: Dictionary, site: str | Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    metadata: Mapping[str, Any] = dictionary.metadata
    if not dictionary.config.transcode:
        site = site or metadata.get("site")
        if not isinstance(site, str):
            raise InputError(
                "hooks: the dictionary does not say its site. Name it: site='resid_post.8', or a module's path."
            )
        return (site,), (site,)
    if site is None:
        reads, writes = (tuple(metadata.get(side) or ()) for side in ("reads", "writes"))
        if not reads or not writes:
            raise InputError("hooks: the transcoder does not say its sites. Name them: site=('mlp_in.8', 'mlp_out.8').")
        return reads, writes
    pair = (site,) if isinstance(site, str) else tuple(site)
    if len(pair) != 2 or dictionary.config.layers > 1:
        raise InputError(
            f"hooks: site={site!r}: a transcoder has two, (read, written), and a cross-layer one says its own."
        )
    return pair[:1], pair[1:]


def _check_latents(dictionary: Dictionary, latents: Sequence[int]) -> None:
    for latent in latents:
        if not 0 <= latent < dictionary.width:
            raise InputError(f"hooks: latent {latent}: this dictionary has 0 to {dictionary.width - 1}")
    if len(set(latents)) < len(latents):
        raise InputError("hooks: a latent is named twice")
