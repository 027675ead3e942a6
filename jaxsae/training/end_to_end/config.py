"""Flags of end-to-end training."""

import dataclasses
from typing import Literal

from jaxsae.config import check, option
from jaxsae.harvest.text_config import parse_documents


@dataclasses.dataclass(frozen=True)
class EndToEndConfig:
    """What is trained on besides the squared error of rows: what the model makes of them."""

    kl: float = option(
        0.0,
        "end to end: weight of KL(model || model with the dictionary in its place), in nats a token, beside the squared "
        "error a number. Steps then read text, not the store's rows, which give scale and held-out figures",
    )
    later: tuple[str, ...] = option(
        (), "end to end: later sites whose change counts, too, names or patterns such as 'resid_post.*'"
    )
    later_weight: float = option(1.0, "later: weight of their mean squared error, each in units of its variance")
    own_weight: float = option(1.0, "end to end: weight of the squared error at the dictionary's own site")
    attribution: float = option(
        0.0,
        "end to end: weight of sum_i |f_i W_dec,i . grad_x CE|, in nats a row: what latents do to the cross-entropy of the "
        "text, to first order (attribution dictionary learning, Anthropic 2024); aux_loss in metrics.jsonl has it",
    )
    lm: str = option(
        "", "end to end: where the language model lies that the store was harvested from; default: as the store says"
    )
    lm_text: tuple[str, ...] = option(
        (), "end to end: what it reads, as for harvest; default: the text that was harvested, but for the held-out rows"
    )
    lm_documents: str = option("", "end to end: which documents of --lm_text, FIRST:END")
    lm_dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "end to end: dtype that the model computes in; auto: as it was harvested"
    )

    def __post_init__(self):
        for name in ("kl", "later_weight", "own_weight", "attribution"):
            value = getattr(self, name)
            check(0 <= value < float("inf"), name, value, "must be 0 or more")
        parse_documents(self.lm_documents)
        if not self.runs_model:
            for name in ("lm", "lm_text", "lm_documents"):
                value = getattr(self, name)
                shown = ",".join(value) if isinstance(value, tuple) else value
                check(not value, name, shown, "is for end-to-end training: give --kl, --later or --attribution, too")
            for name in ("later_weight", "own_weight"):
                check(getattr(self, name) == 1, name, getattr(self, name), "needs --kl, --later or --attribution")
        check(bool(self.later) or self.later_weight == 1, "later_weight", self.later_weight, "needs --later")

    @property
    def runs_model(self) -> bool:
        """Whether steps run the model."""
        return self.kl > 0 or bool(self.later) or self.attribution > 0
