"""Cross-layer transcoders: each latent reads its own layer and writes that and all later ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SPECS, Batch, MethodConfig, Params, Widths, make_method
from jaxsae.dictionary.parameters import from_own_layer_on
from jaxsae.errors import InputError
from jaxsae.kernels.blocks import cut
from jaxsae.parallel import DATA, MODEL, make_mesh
from jaxsae.training import load, train, update
from jaxsae.training.gradients import PairGradient, TileGradient
from jaxsae.training.routes import choose, loss_and_gradient
from jaxsae.training.setup import Setup

ROWS, LAYERS, D_IN, D_OUT, WIDTH, K, AUX, BATCH = 2048, 3, 7, 5, 72, 6, 8, 16
WIDTHS = Widths((D_IN,) * LAYERS + (D_OUT,) * LAYERS, LAYERS, tuple(range(LAYERS, 2 * LAYERS)), LAYERS)
METHODS = {
    "batchtopk": {"architecture": "batchtopk", "k": K, "aux_k": AUX},
    "jumprelu": {"architecture": "jumprelu", "k": K},
    "relu": {"architecture": "relu", "target_l0": 0.0, "l1_coefficient": 0.3, "l1_warmup": 0.0},
}
OWN = np.arange(WIDTH) % LAYERS
ONE = {"cross_layer": False, "reads": ("mlp_in.9",), "writes": ("mlp_out.9",)}  # a transcoder of a layer


def method_config(name: str, layers: int = LAYERS) -> MethodConfig:
    return MethodConfig(width=WIDTH, transcode=True, layers=layers, **METHODS[name])


@pytest.fixture(scope="module")
def store(store_of):
    """A store of three layers: what a layer writes is made of features that this layer and earlier ones read."""
    rng, rows = np.random.default_rng(0), {}
    active = rng.random((ROWS, LAYERS, 24)) * (rng.random((ROWS, LAYERS, 24)) < 0.08)
    for layer in range(LAYERS):
        read = active[:, layer] @ rng.normal(size=(24, D_IN)) + 3 * rng.normal(size=D_IN)
        written = sum(active[:, before] @ rng.normal(size=(24, D_OUT)) for before in range(layer + 1))
        rows |= {f"mlp_in.{9 + layer}": read, f"mlp_out.{9 + layer}": 10.0**layer * written - layer}
    rows |= {"wide.9": rng.normal(size=(ROWS, 4))}
    return store_of({site: x.astype(np.float32) for site, x in rows.items()})


@pytest.fixture
def configured(configure, store):
    """configured(name of METHODS, run, **flags) -> TrainConfig."""

    def make(name: str = "batchtopk", run: str = "run", **flags):
        sites = {"cross_layer": True, "reads": ("mlp_in.*",), "writes": ("mlp_out.*",)}
        return configure(run, **{"store": store, "method": method_config(name, 1), **sites} | flags)

    return make


def drawn(name: str, seed: int = 1) -> Params:
    rng = np.random.default_rng(seed)
    params = make_method(method_config(name)).init(jax.random.key(0), WIDTHS)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape) / a.shape[-1] ** 0.5, jnp.float32), params)
    params = params.put(W_dec=from_own_layer_on(params.W_dec, 0, LAYERS))
    return params.put(threshold=jnp.full(WIDTH, 0.3)) if name == "jumprelu" else params


def whole(gradient, params: Params) -> Params:
    """A gradient as a step's blocks of latents have it."""
    if isinstance(gradient, Params):
        return gradient
    width, size, shared, blocks = len(params.b_enc), gradient.size, None, []
    for number, start in enumerate(range(0, width, size)):
        count = min(size, width - start)
        latent, more = gradient.block(params.replace(latent=cut(params.latent, start, count)), number, count)
        shared = more if shared is None else jax.tree.map(jnp.add, shared, more)
        blocks.append(latent)
    return Params(jax.tree.map(lambda *a: jnp.concatenate(a), *blocks), gradient.shared_with(shared))


@functools.lru_cache(None)
def compiled(name: str, shape: tuple[int, int], by: str):
    method, rule = make_method(method_config(name)), None
    rule = update.UpdateRule(method, None, blocked=by.endswith("blocks"))

    def device(params, x, target, dead):
        batch = Batch(x=x, target=target, dead=dead, rows=BATCH, step_fraction=0.25)
        way = None if not method.ranks else "pairs" if by == "pairs" else "tiles"
        value, _, gradient = loss_and_gradient(method, rule, params, batch, way)
        if by.endswith("blocks") and shape == (1, 1):
            assert isinstance(gradient, PairGradient if method.ranks else TileGradient) and gradient.size < WIDTH // 2
        gradient = whole(gradient, params)
        first = jax.lax.axis_index(MODEL) * len(params.b_enc)
        return jax.lax.psum(value, DATA), method.project_gradient(params, gradient, first)

    mesh = make_mesh(shape, jax.devices()[: shape[0] * shape[1]])
    specs = SPECS, P(DATA, None), P(DATA, None), P(MODEL)
    return jax.jit(jax.shard_map(device, mesh=mesh, in_specs=specs, out_specs=(P(), SPECS), check_vma=False))


def reference(name: str, latent: dict, shared: dict, x, target, dead):
    """The loss in float64, layer by layer: y^l = sum_(m <= l) W_dec^(m -> l) f^m + b_dec^l."""
    read = x.reshape(len(x), LAYERS, D_IN)
    pre = jnp.einsum("bnd,nd->bn", read[:, OWN], latent["W_enc"]) + latent["b_enc"]
    fixed, method = np.asarray(jax.lax.stop_gradient(pre)), make_method(method_config(name))
    rows = latent["W_dec"].reshape(WIDTH, LAYERS, D_OUT)

    def written(z):
        layers = [jnp.where(layer >= OWN, z, 0) @ rows[:, layer] for layer in range(LAYERS)]
        return jnp.concatenate(layers, 1)

    if name == "jumprelu":  # whose penalty has a test of its own
        error = target - written(pre * (fixed > latent["threshold"])) - shared["b_dec"]
        return (error**2).sum() / target.size
    if name == "relu":
        z = jnp.maximum(pre, 0)
        error = target - written(z) - shared["b_dec"]
        lengths = jnp.sqrt((rows**2).sum((1, 2)))
        return ((error**2).sum() + METHODS[name]["l1_coefficient"] * (z * lengths).sum()) / len(x)
    most = -np.sort(-fixed, 1)[:, [4 * K - 1]]
    flat = np.sort(np.where(fixed >= most, fixed, 0).reshape(-1))[-K * len(x)]
    error = target - written(jnp.where((fixed >= flat) & (fixed >= most) & (fixed > 0), pre, 0)) - shared["b_dec"]
    among = np.where(dead, fixed, -np.inf)
    best = (among >= -np.sort(-among, 1)[:, [AUX - 1]]) & (among > 0)
    left = jax.lax.stop_gradient(error) - written(jnp.where(best, pre, 0))
    aux = method.aux.coefficient * (left**2).sum() / jax.lax.stop_gradient((error**2).sum())
    return (error**2).sum() / target.size + aux


@pytest.mark.parametrize(
    ("name", "by", "shape"),
    [
        *(("batchtopk", by, (1, 1)) for by in ("pairs", "products", "blocks")),
        *(("batchtopk", by, (2, 4)) for by in ("tiles", "products")),
        ("jumprelu", "blocks", (1, 1)),
        ("jumprelu", "tiles", (2, 4)),
        ("relu", "tiles", (1, 1)),
    ],
)
def test_loss_and_gradients_are_those_of_the_equations(name, by, shape, monkeypatch):
    monkeypatch.setattr(choose, "widest_by_products", lambda *_: WIDTH if by == "products" else 0)
    monkeypatch.setattr(update, "MADE_NUMBERS", 10 * LAYERS * D_OUT)  # blocks of 10, no multiple of the layers
    rng, params = np.random.default_rng(2), drawn(name)
    x, target = (rng.normal(size=(BATCH, LAYERS * d)).astype(np.float32) for d in (D_IN, D_OUT))
    dead = rng.random(WIDTH) < 0.5
    value, gradient = compiled(name, shape, by)(params, x, target, dead)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: np.asarray(a, np.float64), (params.latent, params.shared))
        loss, expected = jax.value_and_grad(lambda p: reference(name, *p, np.float64(x), np.float64(target), dead))(
            wide
        )
        expected = jax.tree.map(np.asarray, expected[0] | expected[1])
    if name != "jumprelu":
        np.testing.assert_allclose(value, loss, rtol=1e-5)
    for n, a in (gradient.latent | gradient.shared).items():
        if name != "jumprelu" or n == "b_dec" or n == "W_dec":
            np.testing.assert_allclose(a, expected[n], rtol=1e-4, atol=1e-6, err_msg=n)


@pytest.mark.parametrize("name", ["batchtopk", "jumprelu"])
def test_a_resumed_run_ends_bit_identical_and_gives_the_same_on_other_meshes(name, configured, resumed):
    stopped, _ = resumed(functools.partial(configured, name))
    one, spread = (load(stopped.workdir, mesh) for mesh in (None, make_mesh((1, 8))))
    x = np.random.default_rng(0).normal(size=(9, LAYERS * D_IN)).astype(np.float32)
    np.testing.assert_allclose(one.reconstruct(x), spread.reconstruct(x), rtol=1e-5, atol=1e-5)
    below = np.arange(LAYERS)[None] < OWN[:, None]
    rows = np.asarray(one.params.W_dec).reshape(WIDTH, LAYERS, D_OUT)
    assert not rows[below].any() and rows[~below].any(-1).all()


def test_a_run_over_a_mesh_is_that_of_one_device(configured, newest_state):
    states = []
    for run, mesh in {"one": (1, 1), "spread": (2, 4)}.items():
        config = configured(run=run, mesh=mesh, steps=6, ema_decay=0.0)
        train(config)
        states.append(newest_state(config)[1])
    for n in ("W_enc", "b_enc", "W_dec"):
        np.testing.assert_allclose(*(s.params.latent[n] for s in states), rtol=1e-3, atol=1e-4, err_msg=n)


def test_it_learns_and_gives_activations_in_their_own_units(configured, store, metrics):
    flags = {"steps": 300, "mesh": (1, 1), "checkpoint_every": 300, "ema_decay": 0.0, "learning_rate": 1e-2}
    config = configured(**flags)
    dictionary = train(config)
    assert metrics(config)[-1]["held_out_fvu"] < 0.45
    setup = Setup.of(config)
    assert setup.sites == tuple(f"mlp_{side}.{layer}" for side in ("in", "out") for layer in (9, 10, 11))
    rows = setup.read([(0, 64)])
    x, t = rows[:, : LAYERS * D_IN], np.float64(rows[:, LAYERS * D_IN :])
    p = {n: np.float64(a) for n, a in (dictionary.params.latent | dictionary.params.shared).items()}
    pre = np.stack([x[:, o * D_IN : (o + 1) * D_IN] @ p["W_enc"][i] for i, o in enumerate(OWN)], 1) + p["b_enc"]
    z = np.where(pre > dictionary.threshold, pre, 0)
    latents = dictionary.encode(x)
    np.testing.assert_allclose(latents.dense(WIDTH), z, rtol=1e-3, atol=1e-4)
    y = z @ p["W_dec"] + p["b_dec"]
    np.testing.assert_allclose(dictionary.reconstruct(x), y, rtol=1e-3, atol=1e-3)
    fvu = [
        np.square(y - t)[:, part].sum() / np.square(t - t.mean(0))[:, part].sum()
        for part in np.split(np.arange(LAYERS * D_OUT), LAYERS)
    ]
    assert max(fvu) < 0.6  # of layers whose activations differ by factors of ten


def test_where_latents_are_chosen_one_by_one_each_layer_starts_as_its_own_linear_map(configured):
    told = []
    params = Setup.of(configured("jumprelu", mesh=(1, 1))).fresh_state(told.append).params
    rows = np.asarray(params.W_dec).reshape(WIDTH, LAYERS, D_OUT)
    own = OWN[:, None] == np.arange(LAYERS)
    assert rows[own].any(-1).all() and not rows[~own].any()
    assert any("linear map" in line for line in told)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"writes": ()}, "--cross_layer=true: needs --reads and --writes"),
        ({"cross_layer": False, "reads": ("mlp_in.9", "mlp_in.10"), "writes": ("mlp_out.9", "mlp_out.10")}, "--cross_layer"),
        ({"reads": ("mlp_in.9", "mlp_in.10")}, "--writes=mlp_out.9,mlp_out.10,mlp_out.11: --cross_layer writes as many"),
        ({"reads": ("mlp_in.9", "mlp_in.10"), "writes": ("mlp_out.9",)}, "--writes=mlp_out.9: --cross_layer writes as many"),
        ({"reads": ("mlp_in.10", "mlp_in.9", "mlp_in.11")}, "--reads=mlp_in.10,mlp_in.9,mlp_in.11: .*in their order"),
        ({"reads": ("*.9",), "writes": ("mlp_out.9", "mlp_out.10", "mlp_out.11")}, "--reads=.*: --cross_layer wants"),
        ({"reads": ("attn.*",)}, r"--reads=attn.\*: .* has mlp_in"),
        ({"writes": ("mlp_in.*",)}, "--writes=.*: some of these are read"),
        ({"mesh": (1, 1), "method": MethodConfig(width=70, transcode=True, **METHODS["relu"])}, "--width=70: .*, such as 72"),
        ({"method": MethodConfig(width=72, architecture="topk", k=4, transcode=True)}, "--architecture=topk: .*batchtopk"),
        ({"method": MethodConfig(width=72, architecture="batchtopk", skip=True, transcode=True)}, "--skip=true: nothing"),
        ({**ONE, "method": method_config("batchtopk", 2)}, "--layers=2: goes with --cross_layer"),
        ({"method": MethodConfig(width=72, architecture="batchtopk", layers=2, transcode=True)}, "--layers=2: .* are of 3"),
        ({"mesh": (1, 8), "method": MethodConfig(width=36, architecture="batchtopk", k=4, transcode=True)}, "--width=36"),
    ],
)  # fmt: skip
def test_sites_and_switches_that_do_not_do_are_refused(flags, message, configured):
    with pytest.raises(InputError, match=message):
        Setup.of(configured(**flags))
