"""A model's sequences as suites see them: what is read and put back changes nothing, and backends agree."""

import numpy as np
import pytest

from jaxsae.evaluate import EvaluateConfig
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.subject import open_subject
from jaxsae.evaluate.subject.text import TextSubject
from jaxsae.evaluate.text_model import open_text
from jaxsae.lm.options import HFConfig

SITE = "resid_post.0"


@pytest.fixture
def of_games(make_dictionary, model_path):
    dictionary = make_dictionary(model=model_path, site=SITE, source="othello")
    config = EvaluateConfig(run="run", games=6, games_per_batch=4)
    return open_subject(Context(config, dictionary), "causal")


@pytest.fixture
def of_text(make_set):
    """of_text(backend) -> a small Llama and stories."""
    run = make_set(sites=(SITE,)) / SITE

    def open_by(backend: str) -> TextSubject:
        from jaxsae.evaluate.context import load_dictionary

        config = EvaluateConfig(run=str(run), text_tokens=300, sequences_per_batch=3, hf=HFConfig(backend=backend))
        return TextSubject(open_text(Context(config, load_dictionary(str(run))), "causal"))

    return open_by


def everything(subject, replace=None):
    """Logits of all asked positions of all batches; `replace`: a function of the batch's rows."""
    found = []
    for batch in subject.batches():
        rows = {SITE: replace(subject.read(batch, (SITE,))[SITE])} if replace else None
        found.append(subject.logits(batch, batch.asked, rows))
    return np.concatenate(found)


def test_games_with_their_own_activations_put_back_have_the_same_logits(of_games):
    plain, back, other = (everything(of_games, f) for f in (None, lambda x: x, np.zeros_like))
    assert plain.shape == (6 * (59 - 4), 60)
    np.testing.assert_allclose(back, plain, atol=1e-5)
    assert np.abs(other - plain).max() > 0.1


def test_positions_that_are_not_kept_stay_as_they_are(of_games):
    batch = next(of_games.batches())
    before = np.zeros_like(batch.kept)
    before[:, : of_games.positions.start] = True
    rows = np.zeros_like(of_games.read(batch, (SITE,))[SITE])
    np.testing.assert_array_equal(of_games.logits(batch, before), of_games.logits(batch, before, {SITE: rows}))


def test_words_of_games_are_squares(of_games):
    assert [of_games.word(token) for token in (0, 7, 8, 59)] == ["A1", "H1", "A2", "H8"]


def test_text_with_its_own_activations_put_back_has_the_same_logits_by_either_backend(of_text):
    found = {backend: everything(of_text(backend)) for backend in ("jax", "torch")}
    np.testing.assert_allclose(found["jax"], found["torch"], atol=2e-4)
    for backend, plain in found.items():
        subject = of_text(backend)
        np.testing.assert_allclose(everything(subject, lambda x: x), plain, atol=2e-4)
        assert np.abs(everything(subject, np.zeros_like) - plain).max() > 1e-3


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_lens_of_a_direction_is_what_the_unembedding_makes_of_it(of_games, of_text, backend):
    subject = of_games if backend == "jax" else of_text(backend)
    batch = next(subject.batches())
    rows = subject.read(batch, (subject.last_site,))[subject.last_site]
    stream, directions = rows.mean(0), np.eye(rows.shape[1], dtype=np.float32)
    parts = list(subject.lens(directions, stream, 1e-2 * float(np.linalg.norm(stream))))
    assert [first for first, _ in parts] == list(range(0, len(directions), 64))
    lens = np.concatenate([part for _, part in parts])  # the Jacobian of the logits at the mean
    step = 1e-2 * np.float32(np.random.default_rng(0).standard_normal(len(stream)))
    at = np.zeros_like(batch.kept)
    at[0, np.flatnonzero(batch.kept[0])[0]] = True
    near = [
        subject.logits(batch, at, {subject.last_site: np.tile(x, (len(rows), 1))})[0] for x in (stream, stream + step)
    ]
    np.testing.assert_allclose(step @ lens, near[1] - near[0], atol=0.02 * np.abs(near[1] - near[0]).max())


def test_texts_that_are_brought_along_are_read_each_alone(of_text):
    subject = of_text("torch")
    ids = subject.encoded(["one two three four", "five"])
    (_, both), (_, first) = next(subject.batches_of(ids)), next(subject.batches_of(ids[:1]))
    assert both.kept.sum(1).tolist() == [len(ids[0]), len(ids[1])]
    rows = subject.read(both, (SITE,))[SITE]
    np.testing.assert_allclose(rows[: len(ids[0])], subject.read(first, (SITE,))[SITE], atol=1e-5)
    assert (both.targets[both.asked] == np.concatenate(ids)).all()  # the first by the BOS before it
