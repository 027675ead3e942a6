"""How soon pages of latents are there, and how soon they answer, in Chromium without a window.

    PYTHONPATH=tests python tests/studies/latent_pages.py [FOLDER]

Without a FOLDER, pages of 100,000 made-up latents, half of them with labels, are written and read. Prints milliseconds,
the median and the worst of REPEATS fresh browsers: from the start of navigation until the list and a latent are drawn, and
from an input in the search box until the frame with its answer has been painted. Not a test: its figures stand in
BUILD_NOTES.md.
"""

import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from chromium import chromium
from latent_records import made_stream, made_words, text_record

from jaxsae.dashboard.pages import INDEX, write_pages

REPEATS, LATENTS, WORDS, TOKENS = 7, 100_000, 20_000, 1_000_000
QUERIES = ("k", "ka", "label", "lomiten", "12345", '"</script>"', "number ka", "zzzz", "")
MARK = "performance.getEntriesByName('{}')[0]?.startTime"
SEARCH = """(async () => {{
  const box = document.getElementById("query"), before = performance.now();
  box.value = {query!r};
  box.dispatchEvent(new Event("input"));
  const found = performance.now();
  await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
  return [found - before, performance.now() - before, document.getElementById("count").textContent];
}})()"""


def make(folder: Path) -> None:
    """Writes the made-up pages, and says what that took."""
    words = made_words(WORDS)
    record = text_record(LATENTS, words, made_stream(WORDS, TOKENS), top=6, banded=1, length=20)
    labels = {latent: f"label of{words[latent % WORDS]} number {latent}" for latent in range(0, LATENTS, 2)}
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    write_pages(folder, {"made": record}, {"made": labels})
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    size = sum(file.stat().st_size for file in folder.rglob("*")) / 1e6
    print(
        f"written in {time.monotonic() - start:.1f} s, {size:.0f} MB, {more / 1e3:.0f} MB of memory above the record's peak"
    )


def visit(page: Path, times: dict[str, list[float]]) -> None:
    """One fresh browser: opens a latent of the page, searches at once, and goes on to search."""
    note = lambda name, value: times.setdefault(name, []).append(value)
    with chromium() as tab:
        tab.window(1200, 820)
        site = tab_site(tab, page)
        tab.open("about:blank", "true")
        tab.open(f"{page.as_uri()}#{site}/0", MARK.format("latent") + " > 0")
        found, painted, _ = tab.run(SEARCH.format(query="ka"))  # before the page has made ready for it
        note("open, list drawn", tab.run(MARK.format("list")))
        note("open, latent drawn", tab.run(MARK.format("latent")))
        note("first search, painted", painted)
        for query in QUERIES:
            found, painted, count = tab.run(SEARCH.format(query=query))
            note(f"search {query!r}, found ({count})", found)
            note(f"search {query!r}, painted", painted)
        assert not tab.errors, tab.errors


def tab_site(tab, page: Path) -> str:
    """The first dictionary of the pages, as its links name it."""
    tab.open(page.as_uri(), "document.querySelector('#detail article')")
    return tab.run("encodeURIComponent(document.getElementById('site').value)")


def main(*arguments: str) -> None:
    """Measures a folder, or the made-up one."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments[0] if arguments else temporary).resolve()
        if not arguments:
            make(folder)
        times: dict[str, list[float]] = {}
        for _ in range(REPEATS):
            visit(folder / INDEX, times)
    for name, values in times.items():
        print(f"{name:50} median {statistics.median(values):7.1f}   worst {max(values):7.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
