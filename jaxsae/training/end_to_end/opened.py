"""The model and the text of an end-to-end run, found by what its store says of itself."""

import dataclasses
import fnmatch
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.config import check
from jaxsae.errors import InputError
from jaxsae.harvest.corpus import open_corpus
from jaxsae.harvest.hf import reading_of
from jaxsae.harvest.othello import model_of
from jaxsae.harvest.sequences import Sequences
from jaxsae.lm.checkpoint import Checkpoint, find
from jaxsae.lm.decoder.lm import DecoderLM, check_sites
from jaxsae.lm.decoder.program import specs_of
from jaxsae.lm.gpt import check_sites as check_gpt_sites
from jaxsae.lm.options import HFConfig
from jaxsae.lm.passes import DecoderPasses, GPTPasses, Passes
from jaxsae.parallel import DATA
from jaxsae.store import Store
from jaxsae.training.end_to_end.config import EndToEndConfig
from jaxsae.training.end_to_end.effect import Effect
from jaxsae.training.end_to_end.texts import GameBatches, TextBatches


@dataclasses.dataclass(frozen=True)
class ThroughModel:
    """What an end-to-end step needs besides a plain one.

    Attributes:
      weights: of the model, over the mesh. batches: `batch(step)` gives a `Text`.
    """

    effect: Effect
    weights: Any
    batches: TextBatches | GameBatches

    @property
    def specs(self) -> Any:
        """PartitionSpecs of the weights."""
        return specs_of(self.weights)

    @property
    def abstract(self) -> Any:
        """Shapes, types and shardings of the weights."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), self.weights)


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a run takes of a store: `batch_size` rows a step in the order of `seed`, of the `rows` that are not held out."""

    batch_size: int
    seed: int
    rows: int


def open_model(
    config: EndToEndConfig,
    store: Store,
    sites: Sequence[str],
    writes: str,
    mesh: Mesh,
    rows: Rows,
    shared: dict[Any, Any],
) -> ThroughModel:
    """The model of a store, and the text that it is to read.

    Args:
      sites: what is read and what is written, each once, as they stand side by side in a row.
      shared: what was opened for other runs on the same model and text.

    Raises:
      InputError: a store whose model does not run here, or is not the one that was harvested; text that has changed; a
        site or a later site that the model does not have.
    """
    attributes = store.metadata(sites[0])
    source = attributes.get("settings", {}).get("source")
    if source == "othello":
        return _othello(config, attributes, tuple(sites), writes, mesh, rows)
    if source != "hf":
        raise InputError(
            f"--kl={config.kl}: {store.url} holds rows of source {source}, whose model no step runs: give a store of "
            "--source=hf or othello."
        )
    key = store.url, config.lm, config.lm_text, config.lm_documents, config.lm_dtype, mesh, rows
    if key not in shared:
        shared[key] = _decoder(config, store, attributes, mesh, rows)
    lm, batches = shared[key]
    check_sites(lm.shape, sites, "site")
    effect = _effect(config, DecoderPasses(lm.shape), lm.shape.sites, tuple(sites), writes, lm.shape.d_model)
    return ThroughModel(effect, lm.weights, batches)


def _othello(
    config: EndToEndConfig, attributes: dict[str, Any], sites: tuple[str, ...], writes: str, mesh: Mesh, rows: Rows
) -> ThroughModel:
    for name in ("lm", "lm_text", "lm_documents"):
        check(not getattr(config, name), name, getattr(config, name), "is for stores of --source=hf; leave it out")
    model, settings = model_of(attributes), attributes["settings"]
    check_gpt_sites(model.config, sites, "site")
    graph, state = nnx.split(model)
    weights = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, P())), state)
    ends = settings["first_position"], settings["last_position"]
    batches = GameBatches(rows.batch_size, rows.seed, mesh.shape[DATA], *ends)
    effect = _effect(config, GPTPasses(graph), model.config.sites(), sites, writes, model.config.d_model)
    return ThroughModel(effect, weights, batches)


def _decoder(
    config: EndToEndConfig, store: Store, attributes: dict[str, Any], mesh: Mesh, rows: Rows
) -> tuple[DecoderLM, TextBatches]:
    settings = attributes["settings"]
    dtype = settings["model_dtype"] if config.lm_dtype == "auto" else config.lm_dtype
    checkpoint = find(config.lm or attributes["model"], HFConfig(backend="jax", model_dtype=dtype))
    if checkpoint.fingerprint != settings["weights"]:
        raise InputError(
            f"--lm={checkpoint.name}: its weights are not those that {store.url} was harvested from. Name that model, or "
            "harvest this one."
        )
    sequences = _sequences(config, store, attributes, checkpoint)
    end = None if config.lm_text else rows.rows
    batches = TextBatches(sequences, rows.batch_size, rows.seed, mesh.shape[DATA], end)
    return DecoderLM(checkpoint, mesh), batches


def _sequences(config: EndToEndConfig, store: Store, attributes: dict[str, Any], checkpoint: Checkpoint) -> Sequences:
    """The text that was harvested, or that of the flags cut as that was."""
    settings, reading = attributes["settings"], reading_of(attributes)
    if reading.tokenizer == attributes["model"]:  # the model's own, which may lie elsewhere now
        reading = dataclasses.replace(reading, tokenizer="")
    own = {"text": config.lm_text, "documents": config.lm_documents} if config.lm_text else {}
    check(not config.lm_documents or bool(own), "lm_documents", config.lm_documents, "is of --lm_text: give that, too")
    corpus = open_corpus(dataclasses.replace(reading, **own), checkpoint.name, checkpoint.options)
    corpus = corpus.within(checkpoint.context)
    vocabulary = checkpoint.config.get_text_config().vocab_size
    sequences = corpus.sequences(vocabulary, 1, None if own else store.rows_planned, fewer=bool(own))
    if not own and sequences.fingerprint() != settings["text_sha256"]:
        raise InputError(
            f"--lm_text={','.join(reading.text)}: is not what it was when {store.url} was harvested. Give other text with "
            "--lm_text, or harvest again."
        )
    return sequences


def _effect(
    config: EndToEndConfig, passes: Passes, there: Sequence[str], sites: tuple[str, ...], writes: str, d_out: int
) -> Effect:
    """The terms of the flags, of a model with the sites `there`, in the order of its pass."""
    behind = there[there.index(writes) + 1 :]
    later = [site for site in behind if any(fnmatch.fnmatchcase(site, name) for name in config.later)]
    fix = f"names no site behind {writes}. There are {', '.join(behind) or 'none'}"
    check(bool(later) or not config.later, "later", ",".join(config.later), fix)
    weight = config.later_weight if later else 0.0
    return Effect(passes, sites, writes, d_out, tuple(later), config.kl, weight, config.own_weight, config.attribution)
