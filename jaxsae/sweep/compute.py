"""What a member costs to train, in floating-point operations."""


def training_flops(d_model: int, width: int, k: float | None, tokens: int) -> float:
    """Operations of the products of a sparse step, over a whole run.

    Per token: the encoder product, 2 d n, is dense; the rest touches k latents: decoding, 2 d k; the gradient by latent
    values, 2 d k; the sums that are the gradients of W_dec and W_enc, 2 d k each. In all tokens * (2 d n + 8 d k). A
    multiply and an add are two operations. Selection, the update (of order d n a step, whatever its tokens), AuxK while
    latents are dead and repeats that a kernel makes for its own ends are left out.

    Args:
      d_model: d. width: n. tokens: rows.
      k: active latents of a token; None where all latents go by products (`ranks` is False): six of 2 d n.
    """
    per_token = 2 * d_model * width + 8 * d_model * k if k is not None else 12 * d_model * width
    return float(tokens) * per_token
