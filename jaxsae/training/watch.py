"""What is said of finished steps: a line of the log, the bar, an end where a step was not finite."""

from collections.abc import Callable

import jax
import numpy as np

from jaxsae.errors import InputError
from jaxsae.hosts import processes
from jaxsae.progress import Progress, say
from jaxsae.training.end_to_end.effect import Terms
from jaxsae.training.held_out import missed_l0, words
from jaxsae.training.metrics import MetricsLog, Speed
from jaxsae.training.setup import Setup
from jaxsae.training.step import StepMetrics


class Watch:
    """Looks at the metrics of finished steps: logs them, moves the bar, stops on what is not finite."""

    def __init__(self, setup: Setup, open_log: Callable[[], MetricsLog], bar: Progress, done: int, skipped: int):
        """`open_log` is called once, when the first step is known to be one that does not stop the run."""
        self._setup, self._open_log, self._bar = setup, open_log, bar
        self._log: MetricsLog | None = None
        self._speed, self._first, self._skipped = Speed(), done, skipped
        self._last: dict[str, float] = {}
        self._held_out: dict[str, float | int] = {}
        # A step's FVU is over the squares of what it was given, whose mean need not be 0.
        self._norm_to_variance = setup.norm_to_variance

    def __call__(
        self, step: int, metrics: StepMetrics, judged: Callable[[], dict[str, float | int]] | None = None
    ) -> None:
        """Takes the metrics of the `step`-th step, counted from 1; `judged` gives those of its weights."""
        config = self._setup.config
        metrics = jax.device_get(metrics)
        processes.beat(f"step {step}")
        if not metrics.finite:
            self._not_finite(step)
        self._log = self._log or self._open_log()
        if step % config.log_every and step != config.steps and not judged:
            return self._bar.advance(config.batch_size)
        tokens = step * config.batch_size
        figures = {
            "step": step,
            "tokens": tokens,
            "loss": float(metrics.loss),
            "fvu": float(metrics.fvu) * self._norm_to_variance,
            "l0": float(metrics.l0),
            # Not known before its window has passed: none could count as dead.
            "dead_fraction": float(metrics.dead) / config.method.width if tokens > config.dead_window else float("nan"),
            "dead_window": config.dead_window,
            "aux_loss": float(metrics.aux),
            "learning_rate": float(metrics.learning_rate),
            **({} if metrics.explained is None else {"adversary_explained": float(metrics.explained)}),
            **({} if metrics.terms is None else _of_model(metrics.terms, self._setup)),
            "skipped_batches": self._skipped,
            "tokens_per_second": self._speed(tokens - self._first * config.batch_size),
        }
        found = judged() if judged else {}
        self._held_out, figures = found or self._held_out, figures | found
        self._log.write(figures)
        self._last = figures
        shown = {name: f"{figures[name]:.4g}" for name in ("loss", "fvu", "l0")}
        self._bar.advance(config.batch_size, **shown, **self._dead())

    def closing(self, start_fvu: float | None) -> str:
        """The last figures that were logged, in words; warnings where the start had a lower FVU, or L0 is not as asked."""
        if not self._last:
            return ""
        names = [name for name in ("loss", "fvu", "l0", "kl", "later", "adversary_explained") if name in self._last]
        shown = ", ".join(f"{name} {self._last[name]:.4g}" for name in names)
        judged = words(self._held_out)
        # By 5%: the start's is of other rows.
        if start_fvu is not None and self._held_out.get("held_out_fvu", 0.0) > 1.05 * start_fvu:
            judged += f". WARNING: that is worse than the start, which had {start_fvu:.4g}; try a lower --learning_rate"
        judged += missed_l0(self._setup.config.method, self._held_out)
        shown = ", ".join([shown, *(f"{name} {share}" for name, share in self._dead().items())])
        return f", {self._last['tokens']:,} tokens: {shown}{'; ' if judged else ''}{judged}"

    def _dead(self) -> dict[str, str]:
        """`dead`: latents that did not fire, and in how many rows; empty of a method that has no say in which fire."""
        if not self._setup.config.method.takes("k"):
            return {}
        share, window = self._last["dead_fraction"], self._last["dead_window"]
        known = f"{share:.1%} in {window:,} rows" if np.isfinite(share) else f"not known before {window:,} rows"
        return {"dead": known}

    def _not_finite(self, step: int) -> None:
        self._skipped += 1
        where = describe_bad_batch(self._setup, step - 1)
        if self._setup.config.on_nan == "skip":
            return say(f"step {step} left out: {where}")
        raise InputError(
            f"step {step}: {where} The weights are those of step {step - 1}. "
            "Mend the store, or add --on_nan=skip to leave such batches out and count them."
        )


def _of_model(terms: Terms, setup: Setup) -> dict[str, float]:
    """What the model made of a batch: `kl`, in nats a token, and, where some are asked for, the change of `later` sites."""
    later = {"later": float(terms.later)} if setup.through.effect.later else {}
    return {"kl": float(terms.kl)} | later


def describe_bad_batch(setup: Setup, index: int) -> str:
    """Which rows of the batch of a step (from 0) hold NaN or Inf."""
    if setup.through:
        return "the loss is not finite; a lower --learning_rate, --kl or --later_weight may help."
    bad = ~np.isfinite(setup.batches[index].astype(np.float32)).all(1)
    if not bad.any():
        return "the loss is not finite though the batch is; a lower --learning_rate may help."
    rows = np.sort(setup.batches.rows_of(index)[bad])
    listed = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    return f"{len(rows)} of {len(bad)} rows hold NaN or Inf (rows {listed} of {setup.store.url}, site {setup.site})."
