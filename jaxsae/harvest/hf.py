"""Activations of a Hugging Face language model on text."""

from typing import Any

import jax

from jaxsae.config import check, from_dict
from jaxsae.errors import InputError
from jaxsae.harvest.config import HarvestConfig
from jaxsae.harvest.corpus import Corpus, open_corpus
from jaxsae.harvest.sequences import Sequences
from jaxsae.harvest.text_config import TextConfig
from jaxsae.harvest.text_source import TextSource, when_asked
from jaxsae.lm import backend
from jaxsae.lm.checkpoint import Checkpoint, find
from jaxsae.lm.decoder.families import shape_of
from jaxsae.lm.decoder.lm import DecoderLM, check_sites
from jaxsae.lm.decoder.reader import Reader
from jaxsae.lm.torch_lm import TorchLM
from jaxsae.parallel import DATA, make_mesh
from jaxsae.store import Plan


def open_hf(config: HarvestConfig) -> TextSource:
    """The source of `--source=hf`. Text, context and tokenizer are looked at before weights are read.

    Raises:
      InputError: no such model, site, tokenizer or text; a context that the model does not take; a model, a site, a mesh or
        a batch that `--backend` cannot have.
    """
    checkpoint = find(config.model, config.hf)
    chosen = backend.choose(checkpoint, config.sites)
    corpus = open_corpus(config.corpus, checkpoint.name, config.hf).within(checkpoint.context)
    return (_in_jax if chosen == backend.JAX else _in_torch)(config, checkpoint, corpus)


def _in_torch(config: HarvestConfig, checkpoint: Checkpoint, corpus: Corpus) -> TextSource:
    mesh = ",".join(map(str, config.mesh))
    check(not mesh, "mesh", mesh, "is for --backend=jax; torch runs the model on one --device. Leave it out")
    lm = TorchLM(checkpoint)
    widths = lm.widths(config.sites or ("",))  # which names those that there are
    sequences = corpus.sequences(lm.vocabulary, config.forward_batch, config.tokens)
    plan = _plan(config, checkpoint, lm, widths, corpus, sequences)
    return TextSource(
        plan, sequences, when_asked(lambda tokens, kept: lm.read(tokens, kept, config.sites, config.dtype))
    )


def _in_jax(config: HarvestConfig, checkpoint: Checkpoint, corpus: Corpus) -> TextSource:
    shape = shape_of(checkpoint.config, checkpoint.name)
    check_sites(shape, config.sites)
    mesh, batch = open_mesh(config.mesh), config.forward_batch
    data = mesh.shape[DATA]
    check(batch % data == 0, "batch_size", batch, f"must be a multiple of the {data} data shards")
    sequences = corpus.sequences(shape.vocabulary, batch, config.tokens)  # before weights are read, which may take long
    lm, together = DecoderLM(checkpoint, mesh, config.sites), mesh.size > jax.local_device_count()
    plan = _plan(config, checkpoint, lm, lm.widths(config.sites), corpus, sequences, {"backend": backend.JAX})
    reader = Reader(lm, config.sites, config.dtype, min(batch, len(sequences)), sequences.longest, whole=together)
    return TextSource(plan, sequences, reader.start, together)


def open_mesh(shape: tuple[int, ...]) -> jax.sharding.Mesh:
    """The mesh that a model is split over: of this process's devices, or where `shape` is as large as that of those of all
    processes, which then run it together; by default of this process's, all on `data`.

    Raises:
      InputError: a shape that is neither.
    """
    mine, every = jax.local_devices(), jax.devices()
    size = shape[0] * shape[1] if len(shape) == 2 else None
    if len(every) > len(mine) and size == len(every):
        return make_mesh(shape)
    if len(every) > len(mine) and size not in (None, len(mine)):
        raise InputError(
            f"--mesh={','.join(map(str, shape))}: give two numbers whose product is {len(mine)}, the devices of each "
            f"process, which then make shards of their own, or {len(every)}, those of all {jax.process_count()}, which "
            "then run one model together."
        )
    return make_mesh(shape or (len(mine), 1), mine)


def _plan(
    config: HarvestConfig,
    checkpoint: Checkpoint,
    lm: TorchLM | DecoderLM,
    widths: dict[str, int],
    corpus: Corpus,
    sequences: Sequences,
    more: dict[str, Any] | None = None,
) -> Plan:
    settings = {"source": "hf", "weights": checkpoint.fingerprint, "kind": lm.kind, "model_dtype": lm.dtype}
    settings |= (more or {}) | corpus.described(sequences, config.tokens)
    return text_plan(config, widths, lm.name, lm.vocabulary, sequences, settings)


def text_plan(
    config: HarvestConfig,
    widths: dict[str, int],
    model: str,
    vocabulary: int,
    sequences: Sequences,
    settings: dict[str, Any],
) -> Plan:
    """The plan of a store of text; its context and tokenizer stand where people look for them."""
    settings = dict(settings)
    return Plan(
        rows=config.tokens or sequences.rows,
        sites=widths,
        dtype=config.dtype,
        model=model,
        tokenizer=settings.pop("tokenizer"),
        vocabulary=vocabulary,
        context=sequences.context,
        settings=settings,
        shard_rows=config.shard_rows,
        chunk_rows=config.chunk_rows,
    )


def reading_of(attributes: dict[str, Any]) -> TextConfig:
    """How the text of a store was read, out of its attributes."""
    whole = attributes["settings"] | {name: attributes[name] for name in ("context", "tokenizer")}
    return from_dict(TextConfig, whole)
