"""Formats that hold what latents fire on, and no weights: made of the record that `report --latents` leaves in a run."""

from pathlib import Path

from jaxsae.dashboard import labels
from jaxsae.dashboard.record import RECORD, load
from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.exchange import contexts, examples, neuronpedia
from jaxsae.progress import say

FORMATS = {"neuronpedia": neuronpedia, "contexts": contexts}


def write(file_format: str, run: Path, dictionary: Dictionary, output: Path, label_file: str = "") -> None:
    """Writes what is recorded of a run's latents into the directory `output`.

    Args:
      label_file: neuronpedia: labels to write as explanations; empty: none.

    Raises:
      InputError: no record in the run, one of another dictionary, one without tokens or latents; labels that do not fit.
    """
    path = run / "latents" / RECORD
    collect = f"jaxsae report --run={run} --latents"
    if not path.is_file():
        raise InputError(
            f"--format={file_format}: is of what latents fire on, and {path} is missing. Collect it first: {collect}"
        )
    record = load(path)
    examples.check(record, path, dictionary, file_format, collect)
    if file_format == "contexts":
        contexts.write(record, dictionary, output)
        if not len(record.drawn):
            say(f"{path}: has no windows drawn at random, so no line has inactive examples.")
    else:
        known = labels.read(label_file, {str(record.about.get("site")): record.width}) if label_file else {}
        own = next(iter(known.values()), {})
        neuronpedia.write(record, dictionary, output, run.resolve().name, own)
    say(f"{file_format}: {len(record.shown):,} of {record.width:,} latents, by {record.about.get('rows', 0):,} rows.")
