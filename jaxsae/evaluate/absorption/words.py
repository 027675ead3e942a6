"""First letters: the tokenizer's own words, each at the end of some solved examples, read at the word's token.

The prompt is SAEBench's: lines "{word} has the first letter: {LETTER}" of other words of the same half, then the word's own
line without its answer. Words are single tokens of ASCII letters, with the space before them where the tokenizer has such.
"""

import dataclasses
import string
from collections.abc import Sequence

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate.absorption.seen import Seen, read_both
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.subject import TextSubject
from jaxsae.progress import Progress

TEMPLATE = "{word} has the first letter:"
LETTERS = string.ascii_uppercase
TEST_SHARE, FEWEST = 0.2, 2  # of the words; words of a letter in either half
_WORDS_KEY = 0xA1B2


def letter(word: str) -> str:
    """Its first, in capitals."""
    return word.strip()[0].upper()


def prompt(word: str, examples: Sequence[str]) -> tuple[str, int]:
    """The text, and the character after the word's last."""
    solved = "".join(f"\n{TEMPLATE.format(word=one)} {letter(one)}" for one in examples)
    return f"{solved}\n{TEMPLATE.format(word=word)}", len(solved) + 1 + len(word)


def vocabulary(context: Context, subject: TextSubject) -> tuple[list[str], list[str], int]:
    """Words that fit, those that judge, and how many the tokenizer has.

    Raises:
      InputError: too few.
    """
    config, seed = context.config.absorption, context.config.seed
    known = sorted(subject.text.tokenizer.words().values())
    rng = np.random.default_rng([seed, _WORDS_KEY])
    taken = [known[i] for i in rng.permutation(len(known))[: config.absorption_words]]
    judge, fit = [], []
    for first in LETTERS:
        own = [word for word in taken if letter(word) == first]
        tests = round(TEST_SHARE * len(own))
        if min(tests, len(own) - tests) < FEWEST:
            tests = 0  # of a letter with so few nothing is said; they are among the others' negatives
        judge, fit = judge + own[:tests], fit + own[tests:]
    if len({letter(word) for word in judge}) < 2:
        raise InputError(
            f"--suite=absorption: the tokenizer of {subject.name} has {len(known):,} words of a single token, and not "
            f"{round(FEWEST / TEST_SHARE)} of two letters each: there are no first letters to tell. Leave it out of --suite."
        )
    return fit, judge, len(known)


def read_words(context: Context, subject: TextSubject, words: Sequence[str], part: int) -> Seen:
    """Rows of the words' tokens, with a parent for each of `LETTERS`; words that are no single token in their prompt are left
    out.

    Args:
      part: which half, so that examples are drawn anew.

    Raises:
      InputError: NaN in the activations; prompts that are longer than a sequence.
    """
    config = context.config.absorption
    rng = np.random.default_rng([context.config.seed, _WORDS_KEY, part + 1])
    texts, ends = [], []
    for i, word in enumerate(words):
        others = rng.permutation(len(words) - 1)[: config.absorption_examples]
        text, end = prompt(word, [words[other + (other >= i)] for other in others])
        texts.append(text)
        ends.append(end)
    tokenizer = subject.text.tokenizer
    own = {word: token for token, word in tokenizer.words().items()}
    whole = tokenizer.encode(texts)
    at = [np.flatnonzero(places[:, 1] == end) for places, end in zip(tokenizer.places(texts), ends, strict=True)]
    at = [int(found[-1]) if len(found) else -1 for found in at]
    single = [i for i, word in enumerate(words) if at[i] >= 0 and whole[i][at[i]] == own[word]]
    room = subject.context - len(tokenizer.prefix) - len(tokenizer.suffix)
    longest = max((len(whole[i]) for i in single), default=0)
    if longest > room:
        raise InputError(
            f"--absorption_examples={config.absorption_examples}: makes prompts of {longest} tokens, and a sequence of the "
            f"store has room for {room}. Give fewer."
        )
    if not single:
        raise InputError(
            f"--suite=absorption: no word of {subject.name}'s tokenizer is a single token within the prompt."
        )
    seen = []
    with Progress(len(single), "absorption", "word") as bar:
        for which, batch in subject.batches_of([whole[i] for i in single]):
            kept = np.zeros_like(batch.kept)
            kept[np.arange(len(kept)), [len(tokenizer.prefix) + at[i] for i in single[which]]] = True
            seen.append(read_both(context, subject, dataclasses.replace(batch, kept=kept)))
            bar.advance(len(kept))
    read, written = (np.concatenate(some) for some in zip(*seen, strict=True))
    letters = np.array([letter(words[i]) for i in single])
    return Seen(read, written, np.arange(len(single)), letters[:, None] == np.array(list(LETTERS)))
