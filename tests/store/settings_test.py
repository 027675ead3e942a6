"""Two harvests of one store: what differs is told in flags, and a file that was moved is the same file."""

import pytest

from jaxsae.store import Plan
from jaxsae.store.settings import differences

OF_TEXT = {
    "source": "hf", "weights": "w1", "tokenizer_sha256": "t1", "text_sha256": "x1", "text": ["/a/x.txt"], "documents": "",
    "documents_read": "0:62", "sequences": 9, "positions": {"seen": 110, "dropped": {}}, "batch_size": 16, "seed": 0,
}  # fmt: skip


def metadata(rows=100, context=24, model="/a/m", tokenizer="/a/m", **settings):
    plan = Plan(
        rows=rows, sites={"a": 8}, model=model, tokenizer=tokenizer, context=context, settings=OF_TEXT | settings
    )
    return plan.metadata("tokens")


@pytest.mark.parametrize(
    ("asked", "phrases"),
    [
        ({}, []),
        ({"model": "/b/m", "tokenizer": "/b/m", "text": ["/b/x.txt"]}, []),  # all moved
        (
            {"documents": "1:", "text_sha256": "x2", "documents_read": "1:62", "sequences": 8, "rows": 90},
            ["--documents= in the store, 1: asked"],
        ),
        ({"context": 20, "text_sha256": "x2", "sequences": 12, "rows": 90}, ["--context=24 in the store, 20 asked"]),
        (
            {"rows": 50, "text_sha256": "x2"},
            ["--tokens=100 in the store, 50 asked, or given by a text that has changed since"],
        ),
        ({"text_sha256": "x2"}, ["what --text=/a/x.txt names has changed since"]),
        ({"weights": "w2"}, ["what --model=/a/m names has changed since"]),
        (
            {"model": "/b/m", "tokenizer": "/b/m", "weights": "w2", "tokenizer_sha256": "t2", "text_sha256": "x2"},
            ["--model=/a/m in the store, /b/m asked"],
        ),
        ({"tokenizer": "/b/t", "tokenizer_sha256": "t2"}, ["--tokenizer=/a/m in the store, /b/t asked"]),
        ({"seed": 1}, ["--seed=0 in the store, 1 asked"]),
        ({"positions": {"seen": 111, "dropped": {}}}, ['positions {"dropped": {}, "seen": 110} in the store']),
    ],
)
def test_phrases(asked, phrases):
    found = differences(metadata(), metadata(**asked))
    assert len(found) == len(phrases) and all(wanted in got for wanted, got in zip(phrases, found, strict=True))


def test_the_weights_of_a_function_do_not_stand_for_its_code():
    mine = {"source": "nnx", "tokenizer": ""}
    (phrase,) = differences(metadata(model="m:build", **mine), metadata(model="m:other", **mine))
    assert phrase == "--model=m:build in the store, m:other asked"
