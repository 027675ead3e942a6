"""Trains the Othello GPT on random legal games.

The target at each position is the exact distribution of the next move, uniform over the legal ones, so
that the loss has no sampling noise; matrices of the blocks are moved by Muon, the rest by AdamW.

Reference: Jordan et al., Muon (2024).
"""

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from optax.contrib import MuonDimensionNumbers, muon

from jaxsae.config import check, check_positive, group, option, write_flag_file
from jaxsae.files import write_json
from jaxsae.lm import othello
from jaxsae.lm.gpt import GPT, GPTConfig, init
from jaxsae.lm.weights import load, read_notes, save
from jaxsae.progress import Progress, prefetched

HELD_OUT_SEED = 10**6 + 7  # games no training seed plays
MEASURED_AT_ONCE = 64  # games


@dataclasses.dataclass(frozen=True)
class TrainLMConfig:
    """Flags of `jaxsae train_lm`."""

    output: str = option(help="directory for model.safetensors, card.json, log.jsonl and config.flags")
    initial: str = option("", "a model to start from: a .safetensors file or shipped; default: random weights")
    games: int = option(480_000, "full games to train on, each of 59 predicted moves")
    games_per_batch: int = option(128, "games in a batch")
    learning_rate: float = option(3e-3, "peak rate of AdamW, for embeddings")
    muon_rate: float = option(3e-2, "peak rate of Muon, for the blocks' matrices")
    warmup_steps: int = option(100, "steps of linear warm-up")
    decay_fraction: float = option(0.25, "last part of the steps, over which the rates fall linearly to 0")
    held_out_games: int = option(512, "games of the evaluation")
    log_every: int = option(200, "steps between evaluations")
    seed: int = option(0, "of the initial weights and of the games")
    model: GPTConfig = group(GPTConfig)

    def __post_init__(self):
        check_positive(self, "games", "games_per_batch", "learning_rate", "muon_rate", "held_out_games", "log_every")
        check(self.seed >= 0, "seed", self.seed, "must be 0 or more")
        check(0 <= self.decay_fraction <= 1, "decay_fraction", self.decay_fraction, "must be between 0 and 1")
        batch = self.games_per_batch
        check(self.games >= batch, "games", self.games, f"is less than one batch of --games_per_batch={batch}")
        check(
            self.held_out_games >= MEASURED_AT_ONCE,
            "held_out_games",
            self.held_out_games,
            f"at least {MEASURED_AT_ONCE}",
        )


def _optimizer(config: TrainLMConfig, steps: int) -> optax.GradientTransformation:
    decay = int(config.decay_fraction * steps)

    def schedule(peak: float) -> optax.Schedule:
        flat = optax.linear_schedule(0.0, peak, config.warmup_steps)
        fall = optax.linear_schedule(peak, 0.0, decay)
        return optax.join_schedules([flat, fall], [steps - decay])

    def matrices(params):  # Muon moves the blocks' matrices alone
        inside = lambda path, x: MuonDimensionNumbers(0, 1) if "blocks" in str(path) and x.ndim == 2 else None
        return jax.tree_util.tree_map_with_path(inside, params)

    move = muon(
        schedule(config.muon_rate),
        beta=0.95,
        weight_decay=0.01,
        adam_b2=0.98,
        adam_learning_rate=schedule(config.learning_rate),
        muon_weight_dimension_numbers=matrices,
    )
    return optax.chain(optax.clip_by_global_norm(1.0), move)


def cross_entropy(logits: jax.Array, legal: jax.Array) -> jax.Array:
    """Mean cross-entropy in nats against the uniform distribution over `legal` (1 where legal)."""
    target = legal / legal.sum(-1, keepdims=True)
    return -(target * jax.nn.log_softmax(logits)).sum(-1).mean()


@nnx.jit
def _measure(model: GPT, tokens: jax.Array, legal: jax.Array) -> jax.Array:
    logits, _ = model(tokens)
    legal = legal.astype(jnp.float32)
    top = jnp.take_along_axis(legal, logits.argmax(-1)[..., None], -1).mean()
    mass = (jax.nn.softmax(logits) * legal).sum(-1).mean()
    return jnp.stack([cross_entropy(logits, legal), top, mass])


def measure(model: GPT, games: othello.Games, batch: int = MEASURED_AT_ONCE) -> dict[str, float]:
    """Cross-entropy beside its floor, share of legal top-1 predictions, and probability on legal moves."""
    tokens, legal = games.moves[:, : othello.CONTEXT].astype(np.int32), games.legal_tokens()
    starts = range(0, len(games) // batch * batch, batch)
    sums = np.mean([np.asarray(_measure(model, tokens[i : i + batch], legal[i : i + batch])) for i in starts], 0)
    floor = othello.loss_floor(legal[: len(starts) * batch])
    return {
        "cross_entropy_nats": float(sums[0]),
        "floor_nats": floor,
        "excess_nats": float(sums[0]) - floor,
        "legal_top1": float(sums[1]),
        "legal_probability": float(sums[2]),
        "games": len(starts) * batch,
    }


def _batches(config: TrainLMConfig) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for games in othello.stream(config.games_per_batch, config.seed):
        yield games.moves[:, : othello.CONTEXT].astype(np.int32), games.legal_tokens()


def train(config: TrainLMConfig) -> GPT:
    """Trains, evaluates on held-out games, and writes the model, its card and its flag file."""
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    write_flag_file(output / "config.flags", config, "train_lm")
    steps = config.games // config.games_per_batch
    model = load(config.initial) if config.initial else init(config.model, config.seed)
    graph, params = nnx.split(model, nnx.Param)
    optimizer = _optimizer(config, steps)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, tokens, legal):
        loss = lambda p: cross_entropy(nnx.merge(graph, p)(tokens)[0], legal.astype(jnp.float32))
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    held_out = othello.full_games(config.held_out_games, np.random.default_rng(HELD_OUT_SEED))
    wall, cpu = time.perf_counter(), time.process_time()
    with Progress(steps, "train_lm", "step") as bar, (output / "log.jsonl").open("w", encoding="utf-8") as log:
        for index, (tokens, legal) in zip(range(1, steps + 1), prefetched(_batches(config), 4), strict=False):
            params, state, loss = step(params, state, tokens, legal)
            if index % config.log_every == 0 or index == steps:
                nnx.update(model, params)
                figures = {"step": index, "games": index * config.games_per_batch, "loss": float(loss)}
                figures["wall_seconds"] = time.perf_counter() - wall
                log.write(json.dumps(figures | {"held_out": measure(model, held_out)}) + "\n")
                log.flush()
            bar.advance(1)
    cost = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    _write_card(output, config, model, steps, cost)
    return model


def _write_card(output: Path, config: TrainLMConfig, model: GPT, steps: int, cost: dict[str, float]) -> None:
    rng = np.random.default_rng(HELD_OUT_SEED + 1)  # apart from the games watched during training
    figures = measure(model, othello.full_games(2048, rng))
    card = {
        "model": dataclasses.asdict(model.config),
        "parameters": sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param))),
        "data": "uniformly random legal Othello games of full length, generated; soft targets over legal moves",
        "games": steps * config.games_per_batch,
        "steps": steps,
        "started_from": read_notes(config.initial) if config.initial else None,
        "seed": config.seed,
        "held_out": figures,
        **cost,
    }
    save(model, output / "model.safetensors", notes=card)
    write_json(output / "card.json", card)
