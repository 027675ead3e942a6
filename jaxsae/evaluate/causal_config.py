"""The flags of the suite `causal`."""

import dataclasses

from jaxsae.config import check, check_positive, option


@dataclasses.dataclass(frozen=True)
class CausalConfig:
    """Which latents are changed, and where."""

    causal_latents: tuple[int, ...] = option(
        (),
        "causal: latents that are ablated and clamped, by number; default: half of --causal_count those with the largest "
        "mean activation times the length of their direction, half spread over the others by that",
    )
    causal_count: int = option(8, "causal: how many latents, where --causal_latents names none")
    causal_sequences: int = option(64, "causal: games or sequences on which single latents are changed, at most")
    causal_pairs: str = option(
        "",
        'causal: JSONL of pairs of contexts, {"a": TEXT, "b": TEXT}, or of games lists of moves, {"a": ["D3", ...], '
        '"b": [...]}; default: --causal_pair_count held-out contexts whose last token, or move, was changed for another',
    )
    causal_pair_count: int = option(192, "causal: pairs that are made where --causal_pairs gives none, at most")
    causal_square: str = option(
        "",
        "causal: square of the board that is flipped, such as D3; default: the one that decides most about legal moves",
    )
    causal_price: float = option(
        0.3,
        "causal: the most that turning a state may cost, KL in nats among all other tokens; strengths are chosen within that",
    )
    causal_boards: int = option(256, "causal: positions, each of another game, in which it is flipped, at most")

    def __post_init__(self):
        check_positive(self, "causal_count", "causal_sequences", "causal_pair_count", "causal_price", "causal_boards")
        for latent in self.causal_latents:
            check(latent >= 0, "causal_latents", latent, "latents are counted from 0")
