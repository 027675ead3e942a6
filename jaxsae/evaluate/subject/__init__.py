"""The model that a dictionary belongs to, and the held-out sequences that suites read, of text and of games alike."""

from jaxsae.evaluate.subject.base import Batch, Subject
from jaxsae.evaluate.subject.games import GameSubject
from jaxsae.evaluate.subject.open import open_subject
from jaxsae.evaluate.subject.text import TextSubject

__all__ = ["Batch", "GameSubject", "Subject", "TextSubject", "open_subject"]
