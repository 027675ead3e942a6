"""What tests read off an HTML page."""

import re
from html.parser import HTMLParser


class Balanced(HTMLParser):
    """Collects elements, attributes and text; fails where a closing tag does not match."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self, page: str):
        super().__init__()
        self.open, self.attributes, self.tags, self.text = [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def words(page: str) -> str:
    """The text that a reader sees, with single spaces."""
    return re.sub(r"\s+", " ", " ".join(Balanced(page).text))
