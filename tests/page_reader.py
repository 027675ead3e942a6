"""What tests of pages of latents look at, and how they ask for it."""

from chromium import Tab
from latent_records import made_words

WORDS = made_words(300)
TEXT, BOARD = "layer/2", "board"
LABELS = {0: "zero", 2: "<img src=x onerror='hit = 1'>", 30: "Royal women", 31: "royal men", 107: "dead and labelled"}


class Reader:
    """What a test asks of the page."""

    def __init__(self, tab: Tab, page: str):
        self.tab, self.page = tab, page
        tab.window(1200, 820)

    def go(self, hash="", ready="document.querySelector('#detail article')"):
        self.tab.open(self.page + hash, ready)

    def latent(self, number, site="layer%2F2"):
        """Opens one, and waits until it stands there."""
        self.go(f"#{site}/{number}", f"document.querySelector('#latent').textContent.startsWith('Latent {number}')")

    def change(self, id, setting, event="change"):
        """Does with a control what a reader does."""
        one = f"document.getElementById({id!r})"
        self.tab.run(f"{one}.{setting}; {one}.dispatchEvent(new Event({event!r}))")

    def search(self, query):
        """Latents listed, all of them, in order."""
        self.change("query", f"value = {query!r}", "input")
        return self.listed()

    def listed(self):
        """All latents of the list, from the page's own state, after a look that the first stand there as elements."""
        drawn = self.tab.run(
            "[...document.querySelectorAll('#rows .row .number')].map((row) => Number(row.textContent))"
        )
        found = self.tab.run("Page.listed()")
        assert drawn == found[: len(drawn)] and len(drawn) >= min(len(found), 10)
        return found

    def hash(self):
        return self.tab.run("decodeURIComponent(location.hash)")

    def texts(self, selector):
        return self.tab.run(f"[...document.querySelectorAll({selector!r})].map((one) => one.textContent)")
