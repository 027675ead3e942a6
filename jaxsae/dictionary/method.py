"""A method: a selection, an objective, penalties and a finish, and how its parameters begin.

That is all a method says. How its losses and gradients are computed, sharded, saved and applied follows from these
(`training/routes`).
"""

import dataclasses

import jax

from jaxsae.dictionary.config import MethodConfig
from jaxsae.dictionary.finish import Finish
from jaxsae.dictionary.objective import Objective
from jaxsae.dictionary.parameters import SKIP, Params, from_own_layer_on, tied_init, transcoder_init
from jaxsae.dictionary.penalty import AuxK, Penalty, Steer
from jaxsae.dictionary.penalty.adversary import Adversary
from jaxsae.dictionary.penalty.frequency import Frequency
from jaxsae.dictionary.penalty.rows import RowPenalty
from jaxsae.dictionary.rates import Rates
from jaxsae.dictionary.selection import Elementwise, Ranking
from jaxsae.dictionary.widths import Widths
from jaxsae.kernels.products import product


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of the table of architectures, with the numbers of its configuration.

    Attributes:
      aux: the auxiliary loss of dead latents, or None; rankings alone have one. penalties: terms on codes; elementwise
        selections alone have some. frequency: a term on latents that fire often, or None. rows: terms on decoder rows alone.
      pre_bias: whether a bias is subtracted from the input.
      start_norm: length of decoder rows before the first step. fits_start: whether the encoder starts at a length that is
        fitted to rows, or as long as the decoder.
      rates: learning rate and moments where no flag says them.
    """

    config: MethodConfig
    selection: Ranking | Elementwise
    objective: Objective
    finish: Finish
    rates: Rates
    aux: AuxK | None = None
    penalties: tuple[Penalty, ...] = ()
    frequency: Frequency | None = None
    rows: tuple[RowPenalty, ...] = ()
    pre_bias: bool = True
    start_norm: float = 1.0
    fits_start: bool = True

    @property
    def name(self) -> str:
        """As `--architecture` has it."""
        return self.config.architecture

    @property
    def ranks(self) -> bool:
        """Whether the selection ranks pre-activations, so that few of many latents are active."""
        return self.config.is_ranking

    @property
    def has_aux(self) -> bool:
        """Whether the loss has an auxiliary term for dead latents."""
        return self.aux is not None

    @property
    def steer(self) -> Steer | None:
        """What steers a penalty's weight to an L0, where something does."""
        return next((p.steer for p in self.penalties if getattr(p, "steer", None)), None)

    @property
    def adversary(self) -> Adversary | None:
        """The term on decoder rows for which an opponent learns, too; None: there is none."""
        return next((term for term in self.rows if isinstance(term, Adversary)), None)

    @property
    def knows_frequency(self) -> bool:
        """Whether a term hangs on how often each latent fires."""
        return self.frequency is not None or self.adversary is not None

    @property
    def anneals(self) -> bool:
        """Whether more latents are active in the first steps."""
        return self.ranks and self.selection.anneal is not None

    def without_anneal(self) -> "Method":
        """What is left to train when `anneals` is over."""
        return dataclasses.replace(self, selection=dataclasses.replace(self.selection, anneal=None))

    @property
    def unit_decoder(self) -> bool:
        """Whether decoder rows have length 1 after a step."""
        return self.finish.unit_decoder

    def init(self, key: jax.Array, widths: Widths) -> Params:
        """Parameters before the first step, in the trainer's units."""
        width = self.config.width
        if self.config.transcode:
            params = transcoder_init(key, width, widths.d_row, widths.d_out, self.config.skip)
        else:
            params = tied_init(key, width, widths.d_in, self.start_norm)
            if self.config.site_widths and self.unit_decoder:
                rows = params.W_dec / self.finish.lengths(params.W_dec)[:, None]
                params = params.put(W_enc=rows, W_dec=rows)
        return Params(params.latent | self.selection.init(width, widths.d_row), params.shared)

    def input_bias_name(self, shared: dict[str, jax.Array]) -> str | None:
        """Which of the shared parameters is subtracted from the input: `b_pre` where there is one, as where what is read
        and what is written are not the same, else `b_dec`; None: nothing."""
        return ("b_pre" if "b_pre" in shared else "b_dec") if self.pre_bias else None

    def input_bias(self, shared: dict[str, jax.Array]) -> jax.Array | None:
        """What is subtracted from the input, [d_in]; None: nothing."""
        name = self.input_bias_name(shared)
        return None if name is None else shared[name]

    def centred(self, shared: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        """What W_enc is multiplied with: x [B, d_in] less the input's bias, in the type of x."""
        bias = self.input_bias(shared)
        return x if bias is None else x - bias.astype(x.dtype)

    def base(self, shared: dict[str, jax.Array], x: jax.Array | None) -> jax.Array:
        """What is written without any latent: b_dec [d_out], or b_dec + W_skip x, float32 [B, d_out] (2501.18823).

        Args:
          x: [B, d_in], as it is read; None will do where nothing skips the latents.
        """
        if SKIP not in shared:
            return shared["b_dec"]
        return shared["b_dec"] + product(x, shared[SKIP].astype(x.dtype), 1, 1)

    def project_gradient(self, params: Params, gradient: Params, first_row: jax.Array | int = 0) -> Params:
        """`first_row`: the number of the first of the latents that there are, counted from any multiple of layers."""
        if self.config.layers > 1:
            gradient = gradient.put(W_dec=from_own_layer_on(gradient.W_dec, first_row, self.config.layers))
        return self.finish.project_gradient(params, gradient)

    def after_step(self, params: Params) -> Params:
        return self.finish.after_step(params)
