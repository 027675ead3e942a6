"""What is written can be read: contrasts of the page's colours (WCAG 2.2, 4.5 to 1 for text), in light and dark."""

import re
from importlib import resources

import pytest

CSS = (resources.files("jaxsae.dashboard.pages") / "static/page/page.css").read_text(encoding="utf-8")
LEAST = 4.5


def theme(selector):
    """{name: (red, green, blue)} of its variables."""
    body = re.search(re.escape(selector) + r" \{(.*?)\n\}", CSS, re.S)[1]
    found = {name: tuple(bytes.fromhex(value)) for name, value in re.findall(r"--([\w-]+): #([0-9a-f]{6})", body)}
    return found | {n: tuple(map(int, v.split())) for n, v in re.findall(r"--([\w-]+): (\d+ \d+ \d+)", body)}


LIGHT = theme(":root")
THEMES = {"light": LIGHT, "dark": LIGHT | theme(':root[data-theme="dark"]')}


def contrast(one, other):
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (c / 255 for c in colour)]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def over(colour, share, paper):
    return [share * c + (1 - share) * p for c, p in zip(colour, paper, strict=True)]


def shades(kind):
    """The weakest and the strongest share of colour behind a token."""
    least, more = map(float, re.search(rf"\.t\.{kind} .* / calc\(([\d.]+) \+ ([\d.]+) \* var\(--a\)\)", CSS).groups())
    return least, least + more


def test_contrast_is_the_standards():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((0x76, 0x76, 0x76), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)  # the known grey


@pytest.mark.parametrize("name", THEMES)
@pytest.mark.parametrize("ink", ["ink", "muted", "accent"])
@pytest.mark.parametrize("paper", ["paper", "panel", "hover", "chosen"])
def test_text_is_read_on_each_ground(name, ink, paper):
    assert contrast(THEMES[name][ink], THEMES[name][paper]) >= LEAST


@pytest.mark.parametrize("name", THEMES)
@pytest.mark.parametrize("kind, colour", [("fires", "fire"), ("below", "below")])
def test_tokens_are_read_in_every_shade(name, kind, colour):
    own = THEMES[name]
    for share in shades(kind):
        assert contrast(own["ink"], over(own[colour], share, own["paper"])) >= LEAST


@pytest.mark.parametrize("name", THEMES)
def test_a_weak_token_differs_from_none_and_a_strong_one_from_a_weak(name):
    own, (weak, strong) = THEMES[name], shades("fires")
    ground = own["paper"]
    assert contrast(over(own["fire"], weak, ground), ground) > 1.05
    assert contrast(over(own["fire"], strong, ground), over(own["fire"], weak, ground)) > 1.4


@pytest.mark.parametrize("name", THEMES)
def test_weights_are_read_over_their_bars(name):
    own = THEMES[name]
    for colour in ("fire", "below"):
        assert contrast(own["ink"], over(own[colour], 0.22, own["panel"])) >= LEAST
    assert CSS.count("/ 0.22)") == 2
