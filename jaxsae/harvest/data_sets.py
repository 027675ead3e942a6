"""Documents out of data sets of the `datasets` library: parquet files, directories, the hub."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxsae.errors import InputError
from jaxsae.harvest.text_config import TextConfig
from jaxsae.harvest.text_files import Entry, text_of
from jaxsae.lm import libraries

_DEFAULT_SPLIT = "train"


def open_parquet(path: str, config: TextConfig) -> Entry:
    """A parquet file."""
    datasets = libraries.import_datasets()
    return _entry(_loaded(path, lambda: datasets.load_dataset("parquet", data_files=path)), path, config)


def open_directory(path: str, config: TextConfig) -> Entry:
    """What `save_to_disk` wrote, or files of a data set, which are streamed."""
    datasets, name = libraries.import_datasets(), config.text_name or None
    if any((Path(path) / file).is_file() for file in ("dataset_info.json", "dataset_dict.json")):
        load = lambda: datasets.load_from_disk(path)
    else:
        load = lambda: datasets.load_dataset(path, name, streaming=True)
    return _entry(_loaded(path, load), path, config)


def open_hub(name: str, config: TextConfig) -> Entry:
    """A data set of the hub, streamed; out of the local cache where the hub cannot be reached."""
    tried = libraries.reach_hub()
    datasets, split = libraries.import_datasets(), config.text_split or _DEFAULT_SPLIT
    load = lambda: datasets.load_dataset(name, config.text_name or None, split=split, streaming=not tried)
    return _entry(_loaded(name, load, tried), name, config, split)


def _entry(data: Any, name: str, config: TextConfig, split: str = "") -> Entry:
    """An entry over a data set, map-style or streamed, or a dict of splits; `split` is the one that was loaded."""
    if hasattr(data, "keys") and not hasattr(data, "features"):  # a dict of splits
        data = data[_split(list(data), name, config.text_split)]
    elif config.text_split and not split:
        own = str(data.split) if getattr(data, "split", None) else ""
        if own != config.text_split:
            told = f"it is the split {own} alone" if own else "it is one data set without splits"
            raise InputError(f"--text_split={config.text_split}: not in {name}: {told}. Leave it out.")
    fields = list(data.features) if data.features else None
    if fields is not None and config.text_field not in fields:
        raise InputError(f"--text_field={config.text_field}: not in {name}. There are: {', '.join(fields)}")

    def read(items: Any) -> Iterator[str]:
        with _telling(name):
            for item in items:
                yield text_of(item, config.text_field, f"--text={name}")

    if hasattr(data, "__len__"):
        return Entry(lambda skip: read(data.select(range(min(skip, len(data)), len(data)))), True, lambda: len(data))
    return Entry(lambda skip: read(data.skip(skip)), False, lambda: sum(1 for _ in data))


def _split(there: list[str], name: str, asked: str) -> str:
    """The split to read: that of `--text_split`, else "train", else the only one."""
    split = asked or (_DEFAULT_SPLIT if _DEFAULT_SPLIT in there or len(there) > 1 else there[0])
    if split not in there:
        raise InputError(f"--text_split={asked}: give a split of {name}. There are: {', '.join(there)}")
    return split


def _loaded(name: str, load: Callable[[], Any], tried: str = "") -> Any:
    with _telling(name, tried):
        return load()


@contextmanager
def _telling(name: str, tried: str = "") -> Iterator[None]:
    """Tells in one line what the library fails on."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the library raises a dozen kinds, and chains what they come from
        cause = error.__cause__ or error
        reason = str(cause).strip().split("\n")[0] or type(cause).__name__
        tried = f" Tried: no file or directory of that name here; {tried}." if tried else ""
        raise InputError(
            f"--text={name}: no text could be read ({reason}).{tried} Give text or .jsonl files, or a directory with "
            "the data set's files."
        ) from None
