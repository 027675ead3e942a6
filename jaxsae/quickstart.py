"""The walk of the whole house on the model in the box: harvest, train, evaluate, export, report.

A second dictionary is trained the same way on the same model with random weights: the control that says
which figures mean something.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from jaxsae.config import check_positive, option, read_flag_file
from jaxsae.dashboard.settings import GAMES
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.exchange import ExportConfig, export
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.progress import say
from jaxsae.report import ReportConfig, report
from jaxsae.store import open_store
from jaxsae.training import OptimizerConfig, TrainConfig, train

EXPORTS = ("saelens", "sparsify", "dictionary_learning")
ROWS_OF_A_GAME = 47


@dataclasses.dataclass(frozen=True)
class QuickstartConfig:
    """Flags of `jaxsae quickstart`; the defaults are the README's run."""

    workdir: str = option("runs/quickstart", "where everything goes")
    site: str = option("resid_post.1", "activations of the Othello GPT to explain")
    rows: int = option(752_000, "rows to harvest: 16,000 games of 47 positions")
    width: int = option(1024, "latents")
    architecture: Literal["topk", "batchtopk"] = option("batchtopk", "method, as in `jaxsae train`")
    k: int = option(32, "active latents of a row; batchtopk: on average")
    row_k_max: int | None = option(None, "batchtopk: the most latents that one row keeps; default: 2 k")
    batch_size: int = option(1024, "rows of a step")
    steps: int = option(6000, "training steps")
    learning_rate: float = option(0.002, "peak rate")
    decoder_rate: float = option(1.0, "rate of the decoder's rows over that of all else")
    dead_tokens: int | None = option(
        None, "rows without firing after which a latent counts as dead; default: as `train`"
    )
    seed: int = option(0, "of games, weights and order")

    def __post_init__(self):
        check_positive(self, "rows", "batch_size", "steps", "dead_tokens")
        _method(self)
        _optimization(self)


def quickstart(config: QuickstartConfig) -> Path:
    """Runs every stage that is not done yet; a second call finds all of them done.

    Returns:
      The report's path, which is printed as well.
    """
    started, workdir = time.perf_counter(), Path(config.workdir)
    page = workdir / "run" / "report.html"
    if page.is_file():
        _check_same_walk(config)
        say(f"everything under {workdir} is there already; remove it to start anew")
        print(f"report: {page}")
        return page
    for name, stage in _stages(config, workdir):
        begun = time.perf_counter()
        say(f"\n== {name}")
        stage()
        say(f"   {time.perf_counter() - begun:.0f} s")
    say(f"\ndone in {time.perf_counter() - started:.0f} s")
    print(f"report: {page}")
    return page


def _harvest_config(config: QuickstartConfig, store: Path, model: str) -> HarvestConfig:
    return HarvestConfig(store=str(store), tokens=config.rows, sites=(config.site,), model=model, seed=config.seed)


def _method(config: QuickstartConfig) -> MethodConfig:
    return MethodConfig(config.width, config.architecture, config.k, config.row_k_max or 2 * config.k)


def _optimization(config: QuickstartConfig) -> OptimizerConfig:
    return OptimizerConfig(learning_rate=config.learning_rate, decoder_rate=config.decoder_rate)


def _train_config(config: QuickstartConfig, store: Path, run: Path) -> TrainConfig:
    return TrainConfig(
        store=str(store),
        workdir=str(run),
        batch_size=config.batch_size,
        tokens=config.steps * config.batch_size,
        seed=config.seed,
        dead_tokens=config.dead_tokens,
        method=_method(config),
        optimization=_optimization(config),
    )


def _check_same_walk(config: QuickstartConfig) -> None:
    """Refuses a finished walk that was made with other flags: rows and site are told by its store, the rest by its run."""
    from jaxsae.training.run import FLAGS, open_run

    workdir = Path(config.workdir)
    steps = read_flag_file(workdir / "run" / FLAGS, TrainConfig).steps
    if steps != config.steps:  # which a run may change, and a finished walk not
        raise InputError(
            f"--workdir={workdir}: holds another walk: --steps={steps} (now {config.steps}). Give another --workdir."
        )
    open_run(_train_config(config, workdir / "store", workdir / "run"))
    if (workdir / "store").exists():
        store = open_store(workdir / "store")
        found = {"rows": store.rows_planned, "site": ",".join(store.sites)}
        changes = [f"--{n}={v} (now {getattr(config, n)})" for n, v in found.items() if v != getattr(config, n)]
        if changes:
            raise InputError(f"--workdir={workdir}: holds another walk: {', '.join(changes)}. Give another --workdir.")


def _stages(config: QuickstartConfig, workdir: Path) -> list[tuple[str, Callable[[], object]]]:
    """Name and work of each stage; each finds by itself what is done already."""
    run, control = workdir / "run", workdir / "control"
    games = min(GAMES, config.rows // ROWS_OF_A_GAME + 1)  # a small walk looks at little
    random_model = f"random:{config.seed}"
    judge = EvaluateConfig(
        run=str(run), suite=("reconstruction", "splice", "othello"), control_run=str(control / "run")
    )
    return [
        (
            f"harvest {config.site} of the Othello GPT",
            lambda: harvest(_harvest_config(config, workdir / "store", "shipped")),
        ),
        (
            "harvest the control: the same model with random weights",
            lambda: harvest(_harvest_config(config, control / "store", random_model)),
        ),
        ("train", lambda: train(_train_config(config, workdir / "store", run))),
        ("train the control", lambda: train(_train_config(config, control / "store", control / "run"))),
        ("evaluate", lambda: evaluate(judge)),
        ("export", lambda: _export_all(run, workdir / "exports")),
        ("report, and pages of latents", lambda: report(ReportConfig(run=str(run), latents=True, games=games))),
    ]


def _export_all(run: Path, output: Path) -> None:
    for name in EXPORTS:
        try:
            export(ExportConfig(run=str(run), format=name, output=str(output / name), overwrite=True))
        except InputError as error:
            say(f"{name}: not exported. {error}")
