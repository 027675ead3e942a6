"""Flags of `jaxsae train`."""

import dataclasses
from pathlib import Path
from typing import Literal

from jaxsae.config import check, check_positive, group, option
from jaxsae.dictionary import MethodConfig
from jaxsae.store.schema import SOURCE_STORE
from jaxsae.training.end_to_end.config import EndToEndConfig
from jaxsae.training.optimizer_config import OptimizerConfig
from jaxsae.training.site_flags import check_end_to_end, check_sites

# What a resumed run may change: where and how often, never what is computed. --tokens may change too (`more_tokens.py`).
FREE_ON_RESUME = ("mesh", "checkpoint_every", "keep_checkpoints", "log_every", "prefetch", "on_nan", "keep_bytes")

# The rows after which a latent that did not fire counts as dead: those in which one of average frequency fires so often,
# no more than 2406.04093 has, but so many batches. Not cut to the run's length: in a run that is short for its width most
# of what a shorter window calls dead is merely rare, and AuxK doubles the time of its steps for nothing.
FIRINGS, MOST_ROWS, FEWEST_BATCHES = 40, 10_000_000, 8
FORMER_FIRINGS = 200  # while checkpoints did not say the window


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Flags of `jaxsae train`; a run's `config.flags` holds them all."""

    store: str = option(help="activations to train on: a path, file://, gs:// or s3://")
    workdir: str = option(help="directory of the run; the same command again resumes it")
    source_run: str = option(
        "",
        "instead of --store: a run, one of its checkpoints or an imported dictionary, whose decoder rows, at length 1, are "
        "trained on (meta-SAE, 2502.04878). Defaults are then batchtopk, k 4, a quarter of its latents, no row held out, "
        "4,000 steps of an eighth of the rows, at most 4,096 (100 epochs where that is more), and another seed than its own",
    )
    source_rows: Literal["decoder", "random", "gaussian"] = option(
        "decoder",
        "source_run: its decoder's rows, or the control that `evaluate --control_run` takes: as many random directions, or "
        "Gaussian ones with the rows' mean and covariance",
    )
    site: str = option("", "which of the store's sites; default: its only one")
    sites: tuple[str, ...] = option(
        (),
        "instead of --site: a dictionary of each of these, trained side by side on rows that are read once, as runs of their "
        "own in WORKDIR/SITE; names, or patterns such as 'resid_post.*'. Transcoders of every layer: --reads='mlp_in.*' "
        "--writes='mlp_out.*'",
    )
    reads: tuple[str, ...] = option(
        (),
        "instead of --site: with --writes the site that is read; else those that are read and reconstructed as one, two or "
        "more (crosscoder, Anthropic 2024)",
    )
    beside: str = option(
        "",
        "another model's store of the same tokens, row by row: --reads then has its sites too, as beside:SITE (crosscoder of "
        "two models)",
    )
    writes: tuple[str, ...] = option(
        (), "instead of --site, with --reads: the site that is reconstructed from it (transcoder, 2406.11944)"
    )
    cross_layer: bool = option(
        False,
        "with --reads and --writes of as many layers, in their order: one dictionary whose latents each read their own layer "
        "and write that and all later ones (cross-layer transcoder, Anthropic 2025)",
    )
    batch_size: int = option(4096, "rows of a step")
    tokens: int = option(100_000_000, "rows to train on, in all; more of them, for a run that is there, go on with it")
    first_tokens: int | None = option(
        None,
        "rows that a run was begun with, where --tokens was changed since: its default rate, and all that rises from 0, are "
        "those of a run of so many; default: --tokens",
    )
    seed: int = option(0, "of the initial weights, and of the order of the rows where --data_seed gives none")
    data_seed: int | None = option(None, "of the order of the rows; default: --seed")
    initialize_from: str = option("", "a run whose weights are the initial ones; default: random")
    finetune: str = option(
        "",
        "a run or an imported dictionary to train on by what the model makes of it, for a twentieth of its tokens (300 "
        "steps at least) at a thirtieth of its rate, with --kl=4; all else is as it is",
    )
    start_scale: float | None = option(
        None,
        "the encoder starts as its decoder's transpose times this; default: what brings reconstructions nearest to rows of "
        "the store; 1 for a relu that aims at no L0, and with --tied or --aligned",
    )
    normalize: Literal["center_scale", "scale", "none"] = option(
        "center_scale", "what is done to activations before training, with the store's mean and scale"
    )
    holdout_rows: int | None = option(
        None, "rows at the store's end kept for evaluation; default: 1/32, at most 65,536"
    )
    compute_dtype: Literal["float32", "bfloat16"] = option("float32", "of matmul inputs; parameters stay float32")
    dead_tokens: int | None = option(
        None,
        "rows without firing after which a latent counts as dead; default of rankings: those in which a latent of average "
        "frequency fires 40 times (40 width / k), at most 10,000,000, at least 8 batches",
    )
    ema_decay: float = option(0.0, "decay of an average of the weights that is saved beside them; 0: none")
    on_nan: Literal["stop", "skip"] = option(
        "stop", "what a batch with NaN or Inf does: stop the run, or skip and count"
    )
    mesh: tuple[int, ...] = option((), "devices as DATA,MODEL; default: all on MODEL")
    checkpoint_every: int = option(1000, "steps between checkpoints")
    keep_checkpoints: int = option(
        2,
        "how many checkpoints are kept, beside the newest from before the rate falls; that is not kept with --keep_bytes",
    )
    log_every: int = option(50, "steps between lines of metrics.jsonl")
    prefetch: int = option(4, "batches read ahead")
    follow: bool = option(
        False, "start while the store is still being written, and wait for its shards; rows are mixed within 4 shards"
    )
    keep_bytes: int | None = option(
        None, "follow: remove the store's oldest shards, once trained on and saved, beyond so many bytes of activations"
    )
    end_to_end: EndToEndConfig = group(EndToEndConfig)
    method: MethodConfig = group(MethodConfig)
    optimization: OptimizerConfig = group(OptimizerConfig)

    def __post_init__(self):
        check_positive(self, "batch_size", "tokens", "dead_tokens", "checkpoint_every", "keep_checkpoints")
        check_positive(self, "log_every", "prefetch", "keep_bytes")
        # Beyond, latents or their gradients round to nothing.
        within = self.start_scale is None or 1e-3 <= self.start_scale <= 1e3
        check(within, "start_scale", self.start_scale, "must be between 0.001 and 1,000")
        both = bool(self.initialize_from) and self.start_scale is not None
        check(
            not both,
            "start_scale",
            self.start_scale,
            "does nothing with --initialize_from, whose weights are the start",
        )
        fixed = self.method.tied or self.method.aligned
        check(
            not fixed or self.start_scale is None,
            "start_scale",
            self.start_scale,
            "does nothing with --tied or --aligned, which say how long the encoder's rows are",
        )
        bare = self.method.architecture == "rescaled" and not self.initialize_from
        check(not bare, "initialize_from", "", "--architecture=rescaled needs a relu run, whose latents it rescales")
        controls = self.source_rows != "decoder"
        check(bool(self.source_run) or not controls, "source_rows", self.source_rows, "needs --source_run")
        if self.source_run:
            check(not self.store, "source_run", self.source_run, f"leave --store={self.store} out, or this flag")
            check(not self.follow, "follow", "true", "the rows of --source_run are all there")
        check_sites(self)
        if self.end_to_end.runs_model:
            check_end_to_end(self)
        if self.finetune:
            start, fix = self.initialize_from, "starts from that run: leave --initialize_from out"
            check(start == self.finetune, "finetune", self.finetune, fix)
            fix = "trains on what the model makes of it: give --kl, --later or --attribution"
            check(self.end_to_end.runs_model, "finetune", self.finetune, fix)
        check(self.follow or self.keep_bytes is None, "keep_bytes", self.keep_bytes, "needs --follow")
        check(bool(self.workdir), "workdir", "", "name a directory")
        check(
            "://" not in self.workdir,
            "workdir",
            self.workdir,
            "a run lies in a directory: its log is appended to, and Orbax writes checkpoints to file systems and gs:// "
            "alone. Mount the bucket (gcsfuse, mountpoint-s3) or give a directory that all hosts share; stores may be URLs",
        )
        for name in ("seed", "data_seed"):
            value = getattr(self, name)
            check(value is None or 0 <= value < 2**32, name, value, "must be from 0 to 2^32 - 1")
        check(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "must be at least 0 and below 1")
        lazy = self.optimization.lazy_rows  # a row that waits would stand in the average with the wrong weight
        check(not (lazy and self.ema_decay), "ema_decay", self.ema_decay, "needs --lazy_rows=false")
        check(
            self.holdout_rows is None or self.holdout_rows >= 0, "holdout_rows", self.holdout_rows, "must be 0 or more"
        )
        for name in ("tokens", "first_tokens"):
            value = getattr(self, name)
            enough = value is None or value >= self.batch_size
            check(enough, name, value, f"is less than one batch of {self.batch_size} rows")

    @property
    def is_several(self) -> bool:
        """Whether these are the flags of several runs, one for each site."""
        return bool(self.sites) or (not self.cross_layer and any("*" in site for site in (*self.reads, *self.writes)))

    @property
    def store_url(self) -> str:
        """Where the rows are: --store, or what is made of --source_run."""
        return str(Path(self.workdir) / SOURCE_STORE) if self.source_run else self.store

    @property
    def order_seed(self) -> int:
        """The seed of the order of the rows."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def dead_window(self) -> int:
        """Rows without firing after which a latent counts as dead."""
        return self.window_of(FIRINGS)

    def window_of(self, firings: int) -> int:
        """The same, where it is by default those in which a latent of average frequency fires so often."""
        if self.dead_tokens is not None:
            return self.dead_tokens
        active = self.method.told_k
        if not active:  # not known, and nothing hangs on it
            return MOST_ROWS
        rows = min(int(firings * self.method.width // active), MOST_ROWS)
        return max(rows, FEWEST_BATCHES * self.batch_size)

    @property
    def calibration_steps(self) -> int:
        """Steps before a checkpoint whose batches are read again for the threshold of the averaged weights."""
        return 8 if self.ema_decay and self.method.has_threshold else 0

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.tokens // self.batch_size

    @property
    def first_steps(self) -> int:
        """Steps that the run was begun with: what its default rate and its warm-ups go by."""
        return (self.tokens if self.first_tokens is None else self.first_tokens) // self.batch_size
