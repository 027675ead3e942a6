"""Formats that hold what latents fire on, and no weights: made of the record that `report --latents` leaves in a run."""

import re
from pathlib import Path

from jaxsae.dashboard import labels
from jaxsae.dashboard.record import FOLDER, RECORD, load
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
      InputError: no record of the run, one of another dictionary, one without tokens or latents; labels that do not fit.
    """
    path, member, collect = _find(run, file_format)
    record = load(path)
    examples.check(record, path, dictionary, file_format, collect)
    site = member or str(record.about.get("site"))
    if file_format == "contexts":
        contexts.write(record, dictionary, output, site)
        if not len(record.drawn):
            length = record.tokens.shape[1]
            say(
                f"{path}: has no window of {length} tokens drawn at random, so no line has inactive examples. Where texts "
                f"are short, contexts of fewer tokens do: {collect} --around=8,4"
            )
    else:
        # There a set has one dictionary of each layer, of whose number and the set's name it makes that of the dictionary.
        kind, whole = re.sub(r"[._]?\d+", "", member), run.resolve()
        name = f"{whole.parent.name}-{kind}" if member else whole.name
        others = {file.stem for file in path.parent.glob("*.npz")} - {site} if member else set()
        known = labels.read(label_file, {site: record.width}, others) if label_file else {}
        neuronpedia.write(record, dictionary, output, name, known.get(site))
    say(f"{file_format}: {len(record.shown):,} of {record.width:,} latents, by {record.about.get('rows', 0):,} rows.")


def _find(run: Path, file_format: str) -> tuple[Path, str, str]:
    """The record of a run, what pages call its dictionary ("" where there is but one), and the command that collects it.

    Raises:
      InputError: there is none.
    """
    own, home = run / FOLDER / RECORD, run.resolve().parent
    if own.is_file():
        return own, "", f"jaxsae report --run={run} --latents"
    of_set = home / FOLDER / f"{run.resolve().name}.npz"
    if of_set.is_file():
        return of_set, run.resolve().name, f"jaxsae report --run={home} --latents"
    raise InputError(
        f"--format={file_format}: is of what latents fire on, and {own} is missing. Collect it first: "
        f"jaxsae report --run={run} --latents"
    )
