"""`report --latents`: the folder latents/ beside a report, with records of what latents fire on and pages of them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from jaxsae.dashboard import labels, pages, record
from jaxsae.dashboard.collect import collect_run, collect_set
from jaxsae.dashboard.record import FOLDER, RECORD, Record
from jaxsae.errors import InputError
from jaxsae.files import replacing, write_json
from jaxsae.progress import say
from jaxsae.report.config import ReportConfig
from jaxsae.training.run import find_dictionary, has_checkpoints
from jaxsae.training.sets import is_set, runs_in

WRITTEN = "written.json"  # which files of the folder are ours


def write(config: ReportConfig, output: Path) -> Path:
    """Collects records of a run, or of all runs of a set, and writes them and their pages into the folder beside `output`,
    whole or not at all, in the place of what an earlier call wrote.

    Returns:
      The file to open.

    Raises:
      InputError: files in the folder that no earlier call wrote; labels that do not fit; what `collect_run` refuses.
    """
    folder = output.parent / FOLDER
    check_own(folder)
    told = labels.read(config.labels, _widths(config.run)) if config.labels else {}
    with replacing(folder) as staging:
        found = _collected(config, staging, folder)
        pages.write_pages(staging, found, told)
        files = sorted(str(p.relative_to(staging)) for p in staging.rglob("*") if p.is_file())
        write_json(staging / WRITTEN, {"files": files})
    say(f"wrote {folder / pages.INDEX}")
    return folder / pages.INDEX


def link(output: Path) -> str:
    """From a report to the pages that are there; "" where there are none."""
    return f"{FOLDER}/{pages.INDEX}" if (output.parent / FOLDER / pages.INDEX).is_file() else ""


def check_own(folder: Path) -> None:
    """Raises `InputError` where a folder holds what no earlier call wrote."""
    if not folder.exists():
        return
    try:
        own = set(json.loads((folder / WRITTEN).read_text(encoding="utf-8"))["files"]) | {WRITTEN}
    except (OSError, ValueError, KeyError, TypeError):
        own = set()
    there = [folder] if folder.is_file() else [p for p in folder.rglob("*") if not p.is_dir()]
    if strange := sorted(str(p.relative_to(folder.parent)) for p in there if str(p.relative_to(folder)) not in own):
        raise InputError(
            f"--latents: {folder.parent / strange[0]} is there, and no `jaxsae report --latents` wrote it. Move it away, or "
            "name another place with --output."
        )


class _Saved(Mapping[str, Record]):
    """Records by name, each read when it is asked for: those of a set need not all stand in memory."""

    def __init__(self, files: Mapping[str, Path]):
        self._files = files

    def __getitem__(self, name: str) -> Record:
        return record.load(self._files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _widths(run: str) -> dict[str, int]:
    """{name of a record: latents of its dictionary}, from what checkpoints say of themselves."""
    if is_set(run):
        begun = filter(has_checkpoints, runs_in(Path(run)))
        return {path.name: find_dictionary(path)[2]["method"]["width"] for path in begun}
    about = find_dictionary(run)[2]
    return {str(about["dictionary"].get("site")): about["method"]["width"]}


def _collected(config: ReportConfig, folder: Path, earlier: Path) -> Mapping[str, Record]:
    """Records by name, which are saved in `folder`, those of the `earlier` one among them that would come out the same."""
    file = lambda name: f"{name}.npz" if name else RECORD

    def known(name: str) -> Record | None:
        try:
            return record.load(earlier / file(name))
        except InputError:  # there is none, or one of another version
            return None

    if not is_set(config.run):
        own = collect_run(config.run, config.store, config.search, known)
        record.save(own, folder / RECORD)
        return {str(own.about["site"]): own}
    files = {}
    for name, own in collect_set(config.run, config.store, config.search, known):
        files[name] = folder / file(name)
        record.save(own, files[name])
    return _Saved(files)
