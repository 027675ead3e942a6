"""The flags of `jaxsae evaluate`."""

import dataclasses

from jaxsae.config import check, check_positive, group, option
from jaxsae.errors import InputError
from jaxsae.evaluate.absorption_config import AbsorptionConfig
from jaxsae.evaluate.bench_config import BenchConfig
from jaxsae.evaluate.causal_config import CausalConfig
from jaxsae.evaluate.compare_config import CompareConfig
from jaxsae.evaluate.latents_config import LatentsConfig
from jaxsae.evaluate.othello_config import OthelloConfig
from jaxsae.evaluate.probing_config import ProbingConfig
from jaxsae.evaluate.rare_config import RareConfig
from jaxsae.harvest.text_config import parse_documents
from jaxsae.lm.options import HFConfig
from jaxsae.lm.othello import CONTEXT

# One file or folder of this one each; `run.py` imports those that are asked for.
ALL = "all"  # those that apply to a dictionary, but for the costly ones
SUITES = (
    "reconstruction",
    "splice",
    "effective_compute",
    "attribution",
    "othello",
    "latents",
    "causal",
    "probing",
    "absorption",
    "rare",
    "compare",
    "bench",
    "decomposability",
)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Which dictionary is evaluated, on what, and how."""

    run: str = option(
        help="directory of a run, an imported dictionary, or runs of several sites (train --sites, --reads='mlp_in.*'), "
        "which are judged each and, by splice, together; figures go to its eval/"
    )
    suite: tuple[str, ...] | None = option(
        None,
        f"what to measure, comma-separated: {', '.join(SUITES)}; all: those that apply, each beside its baselines, but for "
        "costly ones; default: reconstruction, of a meta-SAE (train --source_run) decomposability",
    )
    store: str = option("", "activations to evaluate on; default: the end of the run's own store, kept from training")
    site: str = option("", "which activations; default: those that the dictionary was trained on")
    model: str = option(
        "",
        "splice, attribution, othello: shipped, a .safetensors file, random:SEED, or a Hugging Face model; default: the "
        "run's own",
    )
    k: int | None = option(
        None,
        "latents that a row keeps, of a dictionary that was trained for several (hierarchical_topk), or of another top-k; "
        "figures go to eval/SUITE_kK.json; default: its own k",
    )
    rows: int = option(65_536, "reconstruction: rows of the store, at most")
    batch_size: int = option(4096, "rows encoded at once")
    games: int = option(
        2000, "games that a suite plays, of a dictionary of the Othello GPT, where it has no number of its own"
    )
    games_per_batch: int = option(64, "games in a forward pass")
    first_position: int | None = option(None, "first ply of a game that is looked at; default: as harvested, or 4")
    last_position: int | None = option(None, "last ply of a game that is looked at; default: as harvested, or 50")
    control_run: str = option(
        "",
        "a run on the same model with random weights, whose figures stand beside those of most suites; decomposability: one "
        "of --source_rows=random, the baseline `random_decoder`",
    )
    against: tuple[str, ...] = option(
        (),
        "compare, bench: other runs, or imported dictionaries, of the same site and model, with commas between; RUN@STEP is "
        "one of a run's checkpoints",
    )
    probe_rows: int = option(20_000, "othello: positions, of other games, that the linear probe is fitted to")
    text: tuple[str, ...] = option(
        (),
        "what a language model reads for splice and all suites that run it, as for harvest; default: the text that was "
        "harvested, after its end",
    )
    text_field: str = option("", "the field of --text that holds the text; default: as harvested")
    text_split: str = option("", "the split of --text where that is a data set; default: train, or the only one")
    documents: str = option("", "which documents of the text, FIRST:END, such as -100: for the last 100")
    text_tokens: int = option(200_000, "tokens of text, at most")
    sequences_per_batch: int = option(8, "sequences of text in a forward pass")
    splice_with: tuple[str, ...] = option(
        (),
        "splice: other runs on the same language model, spliced in at their own sites at the same time; figures go to "
        "eval/splice_with_SITES.json, beside those of this run alone",
    )
    scaling_curve: tuple[str, ...] | None = option(
        None,
        "effective_compute: how the loss falls with compute: hoffmann, epoch (of English text), othello, othello_frontier "
        "(of the Othello GPT's family), or a JSON file that holds E, A, B, a, b of L(N, D) = E + A/N^a + B/D^b, or points "
        "[N, D, loss] to fit them to, with floor where E is known; default: hoffmann,epoch, of games all four",
    )
    model_tokens: float | None = option(
        None,
        "effective_compute: tokens the language model was trained on; default: the best number for its loss, on the curve of "
        "its own family those of its card",
    )
    seed: int = option(
        0,
        "of the games; of the tokens that a masked language model has to guess; of decomposability's random dictionary",
    )
    mesh: tuple[int, ...] = option(
        (), "devices as DATA,MODEL, which a language model of --backend=jax is split over, too; default: one device"
    )
    hf: HFConfig = group(HFConfig)
    othello: OthelloConfig = group(OthelloConfig)
    latents: LatentsConfig = group(LatentsConfig)
    causal: CausalConfig = group(CausalConfig)
    probing: ProbingConfig = group(ProbingConfig)
    absorption: AbsorptionConfig = group(AbsorptionConfig)
    rare: RareConfig = group(RareConfig)
    compare: CompareConfig = group(CompareConfig)
    bench: BenchConfig = group(BenchConfig)

    def __post_init__(self):
        check_positive(self, "k", "rows", "batch_size", "games", "games_per_batch", "probe_rows")
        check_positive(self, "text_tokens", "sequences_per_batch", "model_tokens")
        parse_documents(self.documents)
        check(self.games >= 2, "games", self.games, "must be at least 2: half of them choose, the others measure")
        check(self.seed >= 0, "seed", self.seed, "must be 0 or more")
        check(self.scaling_curve != (), "scaling_curve", "", "give one or more of hoffmann, epoch, or a JSON file")
        if self.suite is not None:
            check_suites(self.suite)


def check_suites(names: tuple[str, ...]) -> None:
    """Raises `InputError` listing the suites there are unless every name is one of them."""
    unknown = [name for name in names if name not in SUITES]
    if names != (ALL,) and (unknown or not names):
        raise InputError(f"--suite={','.join(names)}: give {ALL}, or one or more of {', '.join(SUITES)}")


def check_positions(first: int, last: int) -> None:
    """Raises `InputError` unless first..last are plies that a model reads."""
    check(0 <= first < CONTEXT, "first_position", first, f"must be from 0 to {CONTEXT - 1}")
    check(first <= last < CONTEXT, "last_position", last, f"must be from --first_position={first} to {CONTEXT - 1}")
