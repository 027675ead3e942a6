"""Attributions against gradients by torch in float64 with dense latents, on every mesh, and where first order ends."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, attribution, evaluate
from jaxsae.harvest import harvest
from jaxsae.lm import libraries
from jaxsae.lm.options import HFConfig
from jaxsae.parallel import make_mesh
from jaxsae.training import load, save_dictionary

D, WIDTH, K = 16, 48, 6
SITES = ("mlp_in.1", "mlp_out.1", "resid_post.1", "resid_post.2")
KINDS = {"sae": ("resid_post.1", "resid_post.1"), "transcoder": ("mlp_in.1", "mlp_out.1")}
MEANS = ("absolute", "net", "error_absolute", "error_net", "bias_net", "input_absolute", "input_net")


@pytest.fixture
def store(make_model, configure):
    return harvest(configure(make_model("llama"), {"documents": "0:40", "packing": False}, sites=SITES))


def dictionary(store, kind="sae", architecture="topk", **changes) -> Dictionary:
    """A random one, whose latents and threshold are such that some are active and some not."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    (reads, writes), transcode = KINDS[kind], kind == "transcoder"
    config = MethodConfig(width=WIDTH, k=K, architecture=architecture, transcode=transcode, skip=transcode, **changes)
    latent = {"W_enc": draw(WIDTH, D), "b_enc": draw(WIDTH) / 3, "W_dec": draw(WIDTH, D) / 10}
    latent |= {"threshold": abs(draw(WIDTH))} if architecture == "jumprelu" else {}
    shared = {"b_dec": draw(D) / 10} | ({"W_skip": draw(D, D) / D} if transcode else {})
    about = {"store": store.url, "source": "hf", "model": store.metadata(writes)["model"]}
    about |= {"reads": [reads], "writes": [writes], "site": f"{reads}->{writes}"} if transcode else {"site": reads}
    return Dictionary(Params(latent, shared), config, about, threshold=1.5 if architecture == "batchtopk" else 0.0)


@pytest.fixture
def attribute(tmp_path):
    """attribute(dictionary, mesh, ...) -> (figures, sums by latent)."""

    def run(made: Dictionary, mesh: tuple[int, int] = (1, 1), **flags):
        if not (tmp_path / "saved").exists():
            save_dictionary(tmp_path / "saved", made)
        over = make_mesh(mesh, jax.devices()[: mesh[0] * mesh[1]])
        hf = flags.pop("hf", HFConfig())
        config = EvaluateConfig(
            run=str(tmp_path / "run"), suite=("attribution",), sequences_per_batch=3, hf=hf, **flags
        )
        found = evaluate(config, load(str(tmp_path / "saved"), mesh=over), quiet=True)["attribution"]
        return found, dict(np.load(tmp_path / "run/eval/attribution.npz"))

    return run


class Reference:
    """Dense latents and gradients in float64, sequence by sequence, of the documents that were not harvested."""

    def __init__(self, made: Dictionary, directory: str, stories: list[str]):
        import torch

        auto = libraries.import_transformers()
        self.model = auto.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64).eval()
        tokenizer = auto.AutoTokenizer.from_pretrained(directory)
        self.ids = [tokenizer(story)["input_ids"][:24] for story in stories[40:] if story]
        self.made, self.torch = made, torch
        self.sites = KINDS["transcoder" if made.config.transcode else "sae"]
        self.p = jax.tree.map(lambda a: torch.tensor(np.asarray(a, np.float64)), made.params)

    def layer(self, site: str):
        block = self.model.model.layers[1]
        return {"resid_post.1": block, "mlp_in.1": block.post_attention_layernorm, "mlp_out.1": block.mlp}[site]

    def losses(self, ids, move=None):
        """Cross-entropies of the next tokens, and what stands at the read and the written site."""
        seen = {}

        def hook(site, _, args, output):
            x = output[0] if isinstance(output, tuple) else output
            if site == self.sites[1] and move is not None:
                x = x + move
            seen[site] = x[0]
            return (x, *output[1:]) if isinstance(output, tuple) else x

        handles = [self.layer(site).register_forward_hook(partial(hook, site)) for site in {*self.sites}]
        tokens = self.torch.tensor([ids])
        logs = self.model(tokens, use_cache=False).logits[0].log_softmax(-1)
        for handle in handles:
            handle.remove()
        return -logs[:-1].gather(1, tokens[0, 1:, None])[:, 0], seen

    def latents(self, x):
        """[B, n], as the architecture chooses them."""
        config, p, torch = self.made.config, self.p, self.torch
        bias = self.made.method.input_bias(p.shared)
        pre = (x if bias is None else x - bias) @ p.W_enc.T + p.b_enc
        if config.architecture == "topk":
            keep = pre >= pre.topk(K, 1).values[:, -1:]
        else:
            floor = p.latent["threshold"] if config.architecture == "jumprelu" else self.made.threshold
            keep = pre > floor
        return torch.where(keep, pre, 0).clamp(min=0)

    def parts(self):
        """(f [B, n], a [B, n], errors, gradients, x [B, d]) of all rows, what skips the latents, and the loss."""
        out, total = [], 0.0
        for ids in self.ids:
            zeros = self.torch.zeros(1, len(ids), D, requires_grad=True, dtype=self.torch.float64)
            losses, seen = self.losses(ids, zeros)
            losses.sum().backward()
            pull, (read, x) = zeros.grad[0], (seen[site].detach() for site in self.sites)
            f = self.latents(read)
            skip = read @ self.p.shared["W_skip"].T if "W_skip" in self.p.shared else 0 * x
            error = x - f @ self.p.W_dec - self.p.b_dec - skip
            out.append([part[1:].numpy() for part in (f, f * (pull @ self.p.W_dec.T), error, pull, x, skip)])
            total += losses.sum().item()  # the first token of a sequence is special
        return [np.concatenate(parts) for parts in zip(*out, strict=True)], total


@pytest.mark.parametrize("kind, architecture", [("sae", "topk"), ("sae", "batchtopk"), ("transcoder", "jumprelu")])
def test_every_figure_is_that_of_torch_with_dense_latents(kind, architecture, store, make_model, stories, attribute):
    made = dictionary(store, kind, architecture)
    found, arrays = attribute(made)
    (f, a, error, pull, x, skip), loss = Reference(made, make_model("llama"), stories).parts()
    rows, close = len(f), lambda value: pytest.approx(value, rel=2e-3, abs=1e-6)
    assert found["tokens"] == found["predictions"] == rows and found["sequences"] == len(stories[40:])
    assert found["held_out"] and found["ce"] == close(loss / rows)
    dots = lambda part: (part * pull).sum(1)
    b_dec = np.asarray(made.params.b_dec, np.float64)
    expected = {
        "absolute": abs(a).sum(1),
        "net": a.sum(1),
        "error_absolute": abs(dots(error)),
        "error_net": dots(error),
        "bias_net": dots(b_dec),
        "input_absolute": abs(dots(x)),
        "input_net": dots(x),
    }
    for name, values in expected.items():
        assert found[name] == close(values.mean()), name
    assert ("skip_net" in found) == (kind == "transcoder") and found.get("skip_net", 0) == close(dots(skip).mean())
    parts = found["net"] + found["error_net"] + found["bias_net"] + found.get("skip_net", 0)
    assert parts == pytest.approx(found["input_net"], abs=1e-5)
    assert found["unexplained"] == close(found["error_absolute"] / (found["error_absolute"] + found["absolute"]))

    by_latent = abs(a).sum(0)
    np.testing.assert_allclose(arrays["absolute"], by_latent, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(arrays["net"], a.sum(0), rtol=2e-3, atol=1e-5)
    np.testing.assert_array_equal(arrays["firings"], (f > 0).sum(0))
    mass = f * np.linalg.norm(np.asarray(made.params.W_dec, np.float64), axis=1)
    np.testing.assert_allclose(arrays["mass"], mass.sum(0), rtol=1e-4)
    carry = lambda sizes, share: int(np.searchsorted(np.cumsum(np.sort(sizes)[::-1]), share * sizes.sum())) + 1
    plain, there = found["baselines"]["activation"], abs(a).sum(1) > 0
    for figures, sizes in ((found, abs(a)), (plain, mass)):
        assert figures["latents_of_half"] == carry(sizes.sum(0), 0.5)
        assert figures["latents_of_90_percent"] == carry(sizes.sum(0), 0.9)
        a_token = np.mean([carry(row, 0.9) for row in sizes[there]])
        assert figures["latents_a_token_of_90_percent"] == pytest.approx(a_token, abs=2.1 / rows)  # near ties
    size = np.linalg.norm(error, axis=1).sum()
    assert plain["unexplained"] == close(size / (size + mass.sum()))
    assert found["attributed_tokens"] == there.sum() < rows  # a sequence's last predicts nothing
    assert found["l0"] == close((f[there] > 0).sum(1).mean())
    first = found["top"][0]
    assert first["latent"] == by_latent.argmax() and len(found["top"]) == attribution.TOP
    assert first["share"] == close(by_latent.max() / by_latent.sum())
    assert first["frequency"] == (f[:, first["latent"]] > 0).mean()
    assert any(found["documents"] in line for line in attribution.table(found))


def test_steps_along_the_error_change_the_loss_as_torch_says(store, make_model, stories, attribute, monkeypatch):
    made = dictionary(store)
    found, _ = attribute(made)
    reference, changes = Reference(made, make_model("llama"), stories), np.zeros(3)
    torch = reference.torch
    for ids in reference.ids:
        losses, seen = reference.losses(ids)
        x = seen["resid_post.1"].detach()
        error = x - reference.latents(x) @ reference.p.W_dec - reference.p.b_dec
        error[0] = 0  # of a special token, which is not replaced
        for number, step in enumerate(attribution.STEPS):
            with torch.no_grad():
                changes[number] += (reference.losses(ids, -step * error[None])[0] - losses).sum().item()
    first = found["first_order"]
    assert [step["t"] for step in first] == [0.01, 0.1, 1.0]
    for step, change in zip(first, changes / found["tokens"], strict=True):
        assert step["actual"] == pytest.approx(change, rel=1e-2, abs=2e-6)
        assert step["predicted"] == pytest.approx(-step["t"] * found["error_net"])
    assert first[0]["actual"] == pytest.approx(first[0]["predicted"], rel=0.05)
    assert abs(first[2]["actual"] - first[2]["predicted"]) > 0.1 * abs(first[2]["predicted"])
    config = EvaluateConfig(run=str(store.url) + "-splice", suite=("splice",))
    spliced = evaluate(config, made, quiet=True)["splice"]
    assert first[2]["actual"] == pytest.approx(spliced["delta_ce"], rel=1e-3)  # the whole error is the splice


def test_every_mesh_gives_the_same(store, attribute):
    made = dictionary(store, "transcoder", "batchtopk")
    (one, by_one), (many, by_many) = attribute(made, (1, 1)), attribute(made, (2, 2))
    for name in by_one:
        np.testing.assert_allclose(by_many[name], by_one[name], rtol=1e-4, atol=1e-5)
    for name in (*MEANS, "ce", "unexplained", "l0", "tokens", "attributed_tokens", "latents_of_90_percent"):
        assert many[name] == pytest.approx(one[name], rel=1e-4, abs=1e-6), name
    for a, b in zip(one["first_order"], many["first_order"], strict=True):
        assert b["actual"] == pytest.approx(a["actual"], rel=1e-2, abs=2e-6)


def test_what_has_no_gradient_or_several_sites_is_refused_by_name(store, make_model, configure, tmp_path):
    run = lambda made, **options: evaluate(
        EvaluateConfig(run=str(tmp_path / "r"), suite=("attribution",), hf=HFConfig(**options)), made, quiet=True
    )
    made = dictionary(store)
    with pytest.raises(InputError, match="--backend=torch: --suite=attribution takes gradients .* in JAX"):
        run(made, backend="torch")
    path = {"sites": ("model.layers.1",), "store": str(tmp_path / "path")}
    path = harvest(configure(make_model("llama"), {"documents": "0:40"}, **path)).url
    with pytest.raises(InputError, match="--suite=attribution: JAX .* --site=model.layers.1: no such site"):
        run(dataclasses.replace(made, metadata=made.metadata | {"site": "model.layers.1", "store": path}))
    bert = harvest(configure(make_model("bert"), {"documents": "0:40"}, store=str(tmp_path / "bert")))
    masked = made.metadata | {"store": bert.url, "model": bert.metadata("resid_post.1")["model"]}
    with pytest.raises(InputError, match="bert.*: predicts masked tokens, and --suite=attribution"):
        run(dataclasses.replace(made, metadata=masked))
    several = made.metadata | {"reads": ["mlp_out.1", "resid_post.2"], "writes": ["mlp_out.1", "resid_post.2"]}
    both = lambda name: jnp.concatenate([getattr(made.params, name)] * 2, -1)
    params = made.params.put(**{name: both(name) for name in ("W_enc", "W_dec", "b_dec")})
    config = dataclasses.replace(made.config, site_widths=(D, D))
    with pytest.raises(InputError, match="a crosscoder of several, mlp_out.1, resid_post.2"):
        run(Dictionary(params, config, several | {"site": "mlp_out.1+resid_post.2"}))
    layers = several | {"reads": ["mlp_in.1", "mlp_in.2"], "site": "cross"}
    config = dataclasses.replace(made.config, transcode=True, layers=2)
    with pytest.raises(InputError, match="a cross-layer transcoder of several, mlp_in.1, mlp_in.2"):
        run(Dictionary(made.params.put(W_dec=params.W_dec, b_dec=params.b_dec), config, layers))
    assert not (tmp_path / "r").exists()
