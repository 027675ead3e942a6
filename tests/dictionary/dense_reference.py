"""Dense float64 reference for the losses of the sparse-autoencoder methods, with gradients by PyTorch autograd.

Written from the equations, for tests to compare with: every array is dense, nothing is fast, nothing is shared with
the package. B rows, d = input width, n = latents; x [B, d], W_enc [n, d], b_enc [n], W_dec [n, d] (a row is one
latent's direction), b_dec [d]. Decoder rows are used as given: no unit norm is assumed, no gradient is projected.

Stop-gradients go through a dict: `held.setdefault(name, value.detach())`. Empty, it makes that a plain stop-gradient;
filled by an earlier call, it keeps that call's constants, so that finite differences can be taken of the very function
that autograd differentiates. Run as a script to take them.
"""

import numpy as np
import torch
from dictionary.dense_more import MORE, aux_term
from dictionary.dense_more import largest as _largest


def reference(
    method: str, params: dict[str, np.ndarray], x: np.ndarray, *, dead: np.ndarray | None = None, settings: dict
) -> tuple[float, dict[str, np.ndarray], dict]:
    """Loss, gradients and extras of one batch.

    params: float arrays by name; all methods have W_enc, b_enc, W_dec, b_dec; "jumprelu" adds threshold [n], "gated"
    adds r_mag [n] and b_mag [n] (there b_enc is the gate's bias). dead: bool [n] or None, read by the three TopK
    methods only. settings, by method, and for all of them optionally firing (default 1e-3):
      topk        k, aux_k, aux_coefficient (the last two are read only if some latent is dead)
      batchtopk   as topk, and row_k_max
      matryoshka  as batchtopk, and prefixes (ascending, the last one is n)
      relu        l1
      jumprelu    l0, bandwidth, and optionally target_l0
      gated       l1, and optionally frozen (default True)
    All but gated, of what is written beside x [B, d_in]: target [B, d_out], with an array W_skip [d_out, d_in] or not;
    the TopK methods an array b_pre [d_in] in place of b_dec, or pre_bias False; relu sites, widths whose norms add up.
    Returns (loss, {name: gradient, zeros where the loss doesn't depend on the array}, extras); extras has "active"
    (number of (row, latent) pairs with a positive latent), "firings" (int [n]: rows in which the latent is > firing)
    and "reconstruction" [B, d].
    """
    p = {name: _tensor(value).requires_grad_() for name, value in params.items()}
    loss, latents, x_hat = _forward(method, p, _tensor(x), dead, settings, held={})
    if "costs" in settings:  # of latents that fire often
        sizes = latents.abs() if method == "abstopk" else latents
        loss = loss + (_tensor(settings["costs"]) * sizes).sum() / len(x)
    gradients = torch.autograd.grad(loss, list(p.values()), allow_unused=True, materialize_grads=True)
    firings = (latents.abs() > settings.get("firing", 1e-3)).sum(0).numpy()
    extras = {"active": int((latents != 0).sum()), "firings": firings, "reconstruction": x_hat.detach().numpy()}
    return loss.item(), {name: g.numpy() for name, g in zip(p, gradients, strict=True)}, extras


def _tensor(array):
    return torch.tensor(np.asarray(array, dtype=np.float64))


def _forward(method, p, x, dead, settings, held):
    """(loss, latents [B, n], reconstruction [B, d]) as tensors."""
    if method in ("topk", "batchtopk", "matryoshka"):
        return _topk_family(method, p, x, dead, settings, held)
    if method in MORE:
        return MORE[method](p, x, dead, settings, held)
    return {"relu": _relu, "jumprelu": _jumprelu, "gated": _gated}[method](p, x, settings, held)


def _target(x, settings):
    return _tensor(settings["target"]) if "target" in settings else x


def _decoded(p, z, x):
    """z W_dec + b_dec of the first latents, and x W_skip^T where there is such a map."""
    return z @ p["W_dec"][: z.shape[1]] + p["b_dec"] + (x @ p["W_skip"].T if "W_skip" in p else 0)


def _topk_family(method, p, x, dead, settings, held):
    """TopK, BatchTopK and Matryoshka.

    pre = (x - b_dec) W_enc^T + b_enc, z = ReLU of the selected entries, x_hat = z W_dec + b_dec.
    TopK selects k in each row. The two others select the B k largest of the whole batch out of each row's row_k_max
    best (of equal ones: lowest row, then lowest latent; all candidates, if those are fewer than B k).
    L = mean over prefixes m of sum (x - x_hat_m)^2 / (B d) + alpha sum ||e - e_hat||^2 / sum ||e||^2, where x_hat_m
    uses latents i < m only (m = n alone, except in Matryoshka), e = stop(x - x_hat), e_hat = z_aux W_dec, and z_aux =
    ReLU of each row's aux_k largest entries of pre among the dead latents. No dead latent, or e = 0: no aux term.
    """
    subtracted = p.get("b_pre", p["b_dec"]) if settings.get("pre_bias", True) else 0
    pre = (x - subtracted) @ p["W_enc"].T + p["b_enc"]
    if method == "topk":
        selected = _largest(pre, settings["k"])
    else:
        candidates = _largest(pre, settings["row_k_max"])
        flat = pre.masked_fill(~candidates, -torch.inf).reshape(1, -1)
        selected = _largest(flat, len(x) * settings["k"]).reshape(pre.shape) & candidates
    z = torch.where(selected, pre.relu(), 0.0)
    target, x_hat = _target(x, settings), _decoded(p, z, x)

    prefixes = settings["prefixes"] if method == "matryoshka" else [pre.shape[1]]
    errors = [(target - _decoded(p, z[:, :m], x)).square().sum() for m in prefixes]
    loss = sum(errors) / (target.numel() * len(prefixes))

    return loss + aux_term(p, pre, target, x_hat, dead, settings, held), z, x_hat


def _relu(p, x, settings, _held):
    """f = ReLU(x W_enc^T + b_enc), x_hat = f W_dec + b_dec; L = (sum ||x - x_hat||^2 + l1 sum f_i ||W_dec,i||) / B."""
    f = (x @ p["W_enc"].T + p["b_enc"]).relu()
    target, x_hat = _target(x, settings), _decoded(p, f, x)
    norms = sum(part.norm(dim=1) for part in p["W_dec"].split(settings.get("sites", p["W_dec"].shape[1]), 1))
    penalty = settings["l1"] * (f * norms).sum()
    return ((target - x_hat).square().sum() + penalty) / len(x), f, x_hat


class _Step(torch.autograd.Function):
    """H(z - theta) = 1[z > theta]; dH/dz = 0, dH/dtheta = -(1/eps) rect((z - theta)/eps), rect(u) = 1[|u| < 1/2]."""

    @staticmethod
    def forward(ctx, z, theta, eps):
        ctx.save_for_backward(z, theta)
        ctx.eps = eps
        return (z > theta).to(z.dtype)

    @staticmethod
    def backward(ctx, g):
        z, theta = ctx.saved_tensors
        rect = ((z - theta).abs() / ctx.eps < 0.5).to(z.dtype)
        return None, (-g * rect / ctx.eps).sum_to_size(theta.shape), None


def _step_and_jump(z, theta, eps):
    """H and f = z H, with df/dz = H and df/dtheta = theta dH/dtheta (the last term of f is 0; it has that gradient)."""
    h = _Step.apply(z, theta, eps)
    return h, z * h.detach() + theta.detach() * (h - h.detach())


def _jumprelu(p, x, settings, _held):
    """z = x W_enc^T + b_enc, f = z H(z - theta), x_hat = f W_dec + b_dec; L = sum ||x - x_hat||^2 / B + penalty.

    L0 = sum H(z - theta) / B, the mean ||f||_0 for theta >= 0. penalty = l0 L0, or l0 (L0 / target_l0 - 1)^2.
    """
    z = x @ p["W_enc"].T + p["b_enc"]
    h, f = _step_and_jump(z, p["threshold"], settings["bandwidth"])
    l0, target = h.sum() / len(x), settings.get("target_l0")
    x_hat = _decoded(p, f, x)
    penalty = settings["l0"] * (l0 if target is None else (l0 / target - 1).square())
    return (_target(x, settings) - x_hat).square().sum() / len(x) + penalty, f, x_hat


def smoothed_jumprelu_check(z, theta, eps):
    """Straight-through derivatives in theta beside the exact ones of f and H smoothed over theta; arrays like z.

    With u ~ U(-eps/2, eps/2), E g(z; theta + u) is 1/eps times the integral of g(z; t) for t from theta - eps/2 to
    theta + eps/2, so its exact derivative in theta is [g(z; theta + eps/2) - g(z; theta - eps/2)] / eps: no kernel.
    What equals what (z not at the window's edge, |z - theta| != eps/2):
      H: step_straight = step_smoothed = -(1/eps) rect((z - theta)/eps), exactly.
      f: jump_smoothed = -(z/eps) rect, jump_straight = -(theta/eps) rect: equal to leading order in eps/theta.
         jump_straight - jump_smoothed = ((z - theta)/eps) rect exactly: below 1/2 in size, against theta/eps (below
         eps/(2 theta), relatively), and odd in z - theta, so 0 on average over z spread evenly about theta.
    The squared error isn't linear in f: its straight-through gradient in theta matches its smoothed one only on
    average over z spread evenly in the window, again to leading order in eps/theta. In z nothing is smoothed.
    """
    z = _tensor(z)
    theta = _tensor(np.broadcast_to(theta, z.shape)).requires_grad_()
    here, low, high = (_step_and_jump(z, theta + shift, eps) for shift in (0.0, -eps / 2, eps / 2))
    result = {}
    for i, name in enumerate(("step", "jump")):
        result[name + "_straight"] = torch.autograd.grad(here[i].sum(), theta, retain_graph=True)[0].numpy()
        result[name + "_smoothed"] = ((high[i] - low[i]) / eps).detach().numpy()
    return result


def _gated(p, x, settings, held):
    """pi = (x - b_dec) W_enc^T + b_enc, mag = exp(r_mag) (x - b_dec) W_enc^T + b_mag, f = 1[pi > 0] ReLU(mag).

    x_hat = f W_dec + b_dec, x_gate = ReLU(pi) stop(W_dec) + stop(b_dec) (no stop if frozen is False);
    L = (sum ||x - x_hat||^2 + l1 sum ReLU(pi) + sum ||x - x_gate||^2) / B. b_dec in pi and mag is never stopped.
    """
    projection = (x - p["b_dec"]) @ p["W_enc"].T
    gate = projection + p["b_enc"]
    f = (gate > 0) * (p["r_mag"].exp() * projection + p["b_mag"]).relu()
    x_hat = f @ p["W_dec"] + p["b_dec"]
    aux = p
    if settings.get("frozen", True):
        aux = {name: held.setdefault(name, p[name].detach().clone()) for name in ("W_dec", "b_dec")}
    x_gate = gate.relu() @ aux["W_dec"] + aux["b_dec"]
    loss = (x - x_hat).square().sum() + settings["l1"] * gate.relu().sum() + (x - x_gate).square().sum()
    return loss / len(x), f, x_hat


def _finite_difference_error(method, params, x, dead, settings, step=1e-6):
    """Largest |autograd - central difference| over all entries of all arrays but the threshold."""
    p, held, errors = {name: _tensor(value) for name, value in params.items()}, {}, []
    _forward(method, p, _tensor(x), dead, settings, held)  # fills held: the constants of the unperturbed point
    for name, gradient in reference(method, params, x, dead=dead, settings=settings)[1].items():
        flat = p[name].view(-1)
        for i, expected in enumerate(gradient.ravel() if name != "threshold" else ()):
            value, losses = flat[i].item(), []
            for shift in (step, -step):
                flat[i] = value + shift
                losses.append(_forward(method, p, _tensor(x), dead, settings, held)[0].item())
            flat[i] = value
            errors.append(abs((losses[0] - losses[1]) / (2 * step) - expected))
    return np.max(errors)


if __name__ == "__main__":
    torch.set_num_threads(1)
    rng, B, d, n, eps = np.random.default_rng(0), 16, 8, 32, 0.3
    x, dead = rng.normal(size=(B, d)), rng.random(n) < 0.4
    shapes = {"W_enc": (n, d), "b_enc": n, "W_dec": (n, d), "b_dec": d}
    base = {name: rng.normal(size=shape) / 2 for name, shape in shapes.items()}
    topk = {"k": 4, "aux_k": 5, "aux_coefficient": 0.5, "row_k_max": 6, "prefixes": [4, 12, 32]}
    jump, theta = {"l0": 0.3, "bandwidth": eps}, rng.uniform(0.3, 0.8, size=n)
    gated = base | {name: rng.normal(size=n) / 4 for name in ("r_mag", "b_mag")}
    cases = [(method, base, topk, mask) for method in ("topk", "batchtopk", "matryoshka") for mask in (None, dead)]
    many = topk | {"k": 20, "row_k_max": 24, "aux_k": 99}  # selects negative entries too, and all dead latents
    cases += [("batchtopk", base, many, dead), ("relu", base, {"l1": 0.7}, None)]
    cases += [("jumprelu", base | {"threshold": theta}, jump | {"target_l0": t}, None) for t in (None, 3.0)]
    cases += [("gated", gated, {"l1": 0.7, "frozen": frozen}, None) for frozen in (True, False)]
    for method, params, settings, mask in cases:
        error = _finite_difference_error(method, params, x, mask, settings)
        print(f"{method:10} dead {mask is not None!s:5} max error {error:.1e}  {settings}")
        assert error < 1e-6

    z = x @ base["W_enc"].T + base["b_enc"]  # next: the threshold's gradient, by hand
    window, l0 = np.abs(z - theta) < eps / 2, (z > theta).sum() / B
    d_f = 2 / B * ((z * (z > theta)) @ base["W_dec"] + base["b_dec"] - x) @ base["W_dec"].T
    for target, d_l0 in ((None, 0.3), (3.0, 0.3 * 2 * (l0 / 3.0 - 1) / 3.0)):
        got = reference("jumprelu", base | {"threshold": theta}, x, settings=jump | {"target_l0": target})
        error = np.abs(got[1]["threshold"] + ((theta * d_f + d_l0 / B) * window).sum(0) / eps).max()
        print(f"threshold, target {target}: max error {error:.1e} ({window.sum()} pairs in the window)")
        assert error < 1e-12

    # The smoothed derivatives again, by quadrature over u and a central difference; z stays off the window's edges.
    z, u = 0.6 + np.linspace(-0.9, 0.9, 40) * eps, (np.arange(2000) + 0.5) / 2000 * eps - eps / 2
    check = smoothed_jumprelu_check(z, 0.6, eps)
    for name, value in (("step", np.ones_like(z)), ("jump", z)):
        high, low = (value * (z > 0.6 + shift + u[:, None]).mean(0) for shift in (eps / 200, -eps / 200))
        error = np.abs((high - low) / (eps / 100) - check[name + "_smoothed"]).max()
        gap = check[name + "_straight"] - check[name + "_smoothed"]
        expected = (z - 0.6) / eps * (np.abs(z - 0.6) < eps / 2) * (name == "jump")
        print(f"{name}: quadrature {error:.1e}; straight-smoothed max {np.abs(gap).max():.2f}, mean {gap.mean():.1e}")
        assert error < 1e-12 and np.abs(gap - expected).max() < 1e-12
