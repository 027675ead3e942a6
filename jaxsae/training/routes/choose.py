"""Which route a method takes on a device: by its kind, and for rankings by what either costs.

The rule for rankings of all latents was measured on CPUs (`tests/studies/routes.py`, BUILD_NOTES); dead latents go by
products everywhere, as long as there are no more of them than were planned for.
"""

import math
from typing import Literal

from jaxsae.dictionary import Method
from jaxsae.kernels import rows_travel
from jaxsae.platform import target_platform
from jaxsae.training.routes.pairs import requests_of
from jaxsae.training.update import UpdateRule

Route = Literal["pairs", "ranked", "elementwise"]
DeadRoute = Literal["pairs", "tiles"]
# Dead latents for which room is made: all of a dictionary of so many, of a wider one no fewer and at least this share.
PLANNED, PLANNED_SHARE = 8192, 1 / 8
WHOLE_NUMBERS = 2**23  # pre-activations of a whole batch that may stand where it is ranked as one


def route_of(method: Method, rows: int, width: int, d_out: int, shards: int) -> Route:
    """How the latents that reconstruct are found: `width` of them are on this device, and the batch of `rows` rows is
    split over `shards`."""
    if not method.ranks:
        return "elementwise"
    if method.objective.ranks:  # which of a row's latents are how large is known of lists alone
        return "pairs"
    k, own = method.selection.request(rows).k, rows // shards
    if method.selection.whole_batch and own * width > WHOLE_NUMBERS:
        return "pairs"
    # Products form gradients, which shards of the batch then add up: no more than rows and pairs would move.
    moves_less = shards > 1 and rows_travel([(own, min(k, width))], width, d_out, shards)
    return "pairs" if moves_less or width > widest_by_products(k, d_out) else "ranked"


def widest_by_products(k: int, d_out: int) -> int:
    """Latents up to which five products cost less than lists of k pairs a row: some 110 for each of the k where a row has
    64 numbers, 94 at 128, 69 at 384. Not measured on accelerators, where lists come from fused kernels."""
    return round(k * max(40, 110 - 16 * math.log2(d_out / 64))) if target_platform() == "cpu" else 0


def capacity_for_dead(width: int) -> int:
    """Dead latents among `width` for which a step makes room; of more it makes pairs."""
    return min(width, max(PLANNED, int(width * PLANNED_SHARE)))


def goes_in_pairs(
    method: Method, rows: int, update: UpdateRule, width: int, d_out: int, shards: int, dead: DeadRoute | None
) -> bool:
    """Whether no gradient of a shard's `width` latents is formed: `update` takes pairs, and exchanging them over
    `shards` of the batch of `rows` rows is the cheaper way."""
    if not update.takes_blocks or route_of(method, rows, width, d_out, shards) != "pairs":
        return False
    requests = requests_of(method, rows, d_out, dead == "pairs")
    return rows_travel([(rows // shards, min(r.k, width)) for r in requests], width, d_out, shards)


def forms_gradient(method: Method, rows: int, update: UpdateRule, width: int, d_out: int, shards: int) -> bool:
    """Whether a whole gradient stands at some time of a step."""
    if not method.ranks:
        return not update.takes_blocks
    ways: tuple[DeadRoute | None, ...] = (None, "pairs") if needs_pairs_for_dead(method, width) else (None,)
    return not all(goes_in_pairs(method, rows, update, width, d_out, shards, dead) for dead in ways)


def needs_pairs_for_dead(method: Method, width: int) -> bool:
    """Whether more latents may be dead than there is room for."""
    return method.has_aux and capacity_for_dead(width) < width
