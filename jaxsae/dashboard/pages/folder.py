"""Writes the folder: the page's own files, which are the same for every dictionary, and data of each site."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jaxsae import version
from jaxsae.dashboard.pages.block import write_block
from jaxsae.dashboard.pages.columns import BEFORE, columns, labelled, previews
from jaxsae.dashboard.pages.details import PAGE, write_page
from jaxsae.dashboard.pages.fires import fires
from jaxsae.dashboard.pages.vocabulary import vocabulary
from jaxsae.dashboard.record import Record
from jaxsae.errors import InputError
from jaxsae.files import write_text
from jaxsae.progress import Progress

INDEX = "index.html"
DATA = "data"
PAGE_FILES = "page"
SITES = "sites.js"  # says what there is; where it is, the folder is one of ours


def write_pages(folder: Path, records: Mapping[str, Record], labels: Mapping[str, Mapping[int, str]]) -> Path:
    """Writes the pages of the dictionaries of one run or set, in the place of older ones in the same folder.

    Args:
      records: {name of a dictionary: its record}, each asked for once and let go of, in the order of the page's switch.
      labels: {name of a dictionary: {latent: label}}; a dictionary may be absent.

    Returns:
      the file to open.

    Raises:
      InputError: a label for what is not there, or a folder that holds something else; what was there stays.
    """
    names = list(records)
    if strange := sorted(set(labels) - set(names)):
        raise InputError(f"--labels: {strange[0]!r} is no dictionary of these pages: {', '.join(map(repr, names))}.")
    _check_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".pages.{os.getpid()}.part"
    try:
        data = fresh / DATA
        data.mkdir(parents=True)
        sites = [
            _write_site(data / slug, slug, name, records[name], labels.get(name, {}))
            for name, slug in zip(names, slugs(names), strict=True)
        ]
        _write_sites(data / SITES, sites)
        with resources.as_file(resources.files("jaxsae.dashboard.pages") / "static") as static:
            shutil.copytree(static / PAGE_FILES, fresh / PAGE_FILES)
            index = (static / INDEX).read_text(encoding="utf-8")
        for part in (PAGE_FILES, DATA):  # whole folders: older pages may have had more files
            if (folder / part).exists():
                shutil.rmtree(folder / part)
            (fresh / part).rename(folder / part)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    write_text(folder / INDEX, index)
    return folder / INDEX


def _check_ours(folder: Path) -> None:
    """Raises `InputError` where something other than pages of latents would be replaced."""
    parts = [folder / part for part in (DATA, PAGE_FILES) if (folder / part).exists()]
    if (folder.exists() and not folder.is_dir()) or (parts and not (folder / DATA / SITES).is_file()):
        raise InputError(f"{folder}: holds something other than pages of latents. Name another folder, or remove it.")


def slugs(names: Iterable[str]) -> list[str]:
    """Names of folders for dictionaries, all different, also where a file system does not tell A from a."""
    taken: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-").lower() or "dictionary"
        number, slug = 1, plain
        while slug in taken:
            number += 1
            slug = f"{plain}-{number}"
        taken.append(slug)
    return taken


def _write_site(folder: Path, slug: str, name: str, record: Record, labels: Mapping[int, str]) -> dict[str, Any]:
    """Writes data of one dictionary; returns what sites.js says of it."""
    folder.mkdir()
    latents, texts = labelled(record, labels, name)
    words = vocabulary(record)
    write_block(folder / "columns.js", f"{slug}/columns", columns(record) | {"labelled": latents}, {"labels": texts})
    found, whole = fires(record, words)
    known = {"token": words.tokens} | previews(record, words) | found
    write_block(folder / "words.js", f"{slug}/words", known, {"words": words.words, "whole": whole})
    pages = -(-len(record.shown) // PAGE)
    with Progress(len(record.shown), f"pages {name}".strip(), "latent") as progress:
        for number in range(pages):
            write_page(folder, slug, record, words, number)
            progress.advance(min(PAGE, len(record.shown) - number * PAGE))
    return {
        "name": name,
        "folder": slug,
        "about": record.about,
        "width": record.width,
        "shown": len(record.shown),
        "labelled": len(texts),
        "page": PAGE,
        "before": BEFORE,
        "together": list(record.together),
    }


def _write_sites(path: Path, sites: list[dict[str, Any]]) -> None:
    """As a call with JSON, in which `<` is escaped lest a reader pastes it into a page."""
    told = json.dumps({"version": version.__version__, "sites": sites}, indent=1).replace("<", "\\u003c")
    write_text(path, f"receiveSites({told});\n")
