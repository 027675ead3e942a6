"""The dense float64 reference of `dense_reference.py` for methods by rank, of both signs, and of later years."""

import numpy as np
import torch


def largest(values, k):
    """Mask of the k largest entries of each row (all entries where k is larger); of equal ones the lowest index."""
    order = torch.sort(values.detach(), dim=1, descending=True, stable=True).indices
    return torch.zeros_like(values, dtype=torch.bool).scatter(1, order[:, :k], True)


def aux_term(p, pre, x, x_hat, dead, settings, held, signed=False):
    """alpha sum ||e - e_hat||^2 / sum ||e||^2 of the dead latents; 0 where none is dead."""
    if dead is None or not np.any(dead):
        return 0.0
    dead = torch.tensor(np.asarray(dead, dtype=bool))
    ranked = pre.abs() if signed else pre
    chosen = largest(ranked.masked_fill(~dead, -torch.inf), settings["aux_k"]) & dead
    e = held.setdefault("residual", (x - x_hat).detach())
    e_hat = torch.where(chosen, pre if signed else pre.relu(), 0.0) @ p["W_dec"]
    return settings["aux_coefficient"] * (e - e_hat).square().sum() / e.square().sum()


def by_rank(p, x, dead, settings, held):
    """sum_j w_j ||x - x_hat_j||^2 / (B d), x_hat_j by the j largest latents of a row; the dictionary has `k` of them."""
    pre = (x - p["b_dec"]) @ p["W_enc"].T + p["b_enc"]
    made = lambda j: torch.where(largest(pre, j), pre.relu(), 0.0)
    loss = 0.0
    for j, weight in zip(settings["ranks"], settings["weights"], strict=True):
        loss = loss + weight * (x - p["b_dec"] - made(j) @ p["W_dec"]).square().sum() / x.numel()
    z = made(settings["k"])
    x_hat = z @ p["W_dec"] + p["b_dec"]
    return loss + aux_term(p, pre, x, x_hat, dead, settings, held), z, x_hat


def abstopk(p, x, dead, settings, held):
    """The k entries of a row that are largest in size, with their signs."""
    pre = (x - p["b_dec"]) @ p["W_enc"].T + p["b_enc"]
    z = torch.where(largest(pre.abs(), settings["k"]), pre, 0.0)
    x_hat = z @ p["W_dec"] + p["b_dec"]
    loss = (x - x_hat).square().sum() / x.numel()
    return loss + aux_term(p, pre, x, x_hat, dead, settings, held, signed=True), z, x_hat


class _Jump(torch.autograd.Function):
    """h 1[h > exp(t)]; df/dh = 1[h > exp(t)], df/dt = -(exp(t)/eps) rect((h - exp(t))/eps)."""

    @staticmethod
    def forward(ctx, h, t, eps):
        ctx.save_for_backward(h, t)
        ctx.eps = eps
        return h * (h > t.exp())

    @staticmethod
    def backward(ctx, g):
        h, t = ctx.saved_tensors
        rect = ((h - t.exp()).abs() / ctx.eps < 0.5).to(h.dtype)
        return g * (h > t.exp()), (-g * t.exp() / ctx.eps * rect).sum_to_size(t.shape), None


def jumprelu_tanh(p, x, _dead, settings, _held):
    """(||x - x_hat||^2 + l_s sum tanh(c f ||W_dec||) + l_p sum ReLU(exp(t) - h) ||W_dec||) / B."""
    h, norms = x @ p["W_enc"].T + p["b_enc"], p["W_dec"].norm(dim=1)
    f = _Jump.apply(h, p["log_threshold"], settings["bandwidth"])
    x_hat = f @ p["W_dec"] + p["b_dec"]
    sparsity = (settings["tanh_scale"] * f * norms).tanh().sum()
    short = ((p["log_threshold"].exp() - h).relu() * norms).sum()
    loss = (x - x_hat).square().sum() + settings["tanh"] * sparsity + settings["pre"] * short
    return loss / len(x), f, x_hat


def rescaled(p, x, _dead, settings, _held):
    """f = 1[pi > 0] ReLU(exp(r) W_enc x + b_mag) or, without shift, exp(r) ReLU(pi); sum ||x - x_hat||^2 / (B d)."""
    projection = x @ p["W_enc"].T
    pi = projection + p["b_enc"]
    if settings["shift"]:
        f = (pi > 0) * (p["r_mag"].exp() * projection + p["b_mag"]).relu()
    else:
        f = p["r_mag"].exp() * pi.relu()
    x_hat = f @ p["W_dec"] + p["b_dec"]
    return (x - x_hat).square().sum() / x.numel(), f, x_hat


MORE = {
    "multi_topk": by_rank,
    "hierarchical_topk": by_rank,
    "abstopk": abstopk,
    "jumprelu_tanh": jumprelu_tanh,
    "rescaled": rescaled,
}
