"""The suite on games and on words: rows and labels against a plain forward pass, refusals, and what is said."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate import games as play
from jaxsae.evaluate.absorption import squares, words
from jaxsae.evaluate.absorption_config import AbsorptionConfig
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.subject import open_subject
from jaxsae.harvest import harvest

SITE = "resid_post.0"


@pytest.fixture
def of_games(tmp_path, make_dictionary, model_path):
    def make(**flags):
        dictionary = make_dictionary(model=model_path, site=SITE, source="othello")
        absorption = AbsorptionConfig(**dict(absorption_squares=3, absorption_rows=800) | flags)
        config = EvaluateConfig(
            run=str(tmp_path),
            suite=("absorption",),
            games=4,
            games_per_batch=16,
            batch_size=1024,
            absorption=absorption,
        )
        return config, dictionary

    return make


def test_rows_of_boards_are_positions_of_games_apart(of_games, model):
    config, dictionary = of_games()
    context = Context(config, dictionary)
    fit, judged = squares.read_boards(context, open_subject(context, "absorption"))
    games = play.held_out_games(100, 0, play.PARENTS)
    assert len(fit.read) == 67 * 8 and len(judged.read) == 33 * 8 and not set(fit.cluster) & set(judged.cluster)
    x = np.asarray(model(games.moves[:, :59].astype(np.int32), read=[SITE])[1][SITE])
    names = squares.parents(context)
    assert len(names) == 9 and len({square for _, square in names}) == 3
    for row in range(0, len(fit.read), 97):
        game = games[fit.cluster[row] : fit.cluster[row] + 1]
        distance = np.abs(x[fit.cluster[row], 4:51] - fit.read[row]).max(1)
        ply = 4 + int(distance.argmin())
        assert distance.min() < 1e-4
        for (state, square), holds in zip(names, fit.parents[row], strict=True):
            mine, theirs = (int(discs[0, ply]) >> square & 1 for discs in (game.own, game.opponent))
            assert holds == {"mine": mine, "theirs": theirs, "empty": not mine and not theirs}[state]


def test_the_board(tmp_path, capsys, of_games):
    config, dictionary = of_games(absorption_main_gain=0.0, absorption_probe_f1=0.0)
    found = evaluate(config, dictionary)["absorption"]
    assert found["task"] == "board" and found["origin"] == "b_dec" and found["asked"] == len(found["by_parent"]) == 9
    assert found["parents"] == sum(parent["counts"] for parent in found["by_parent"]) > 0
    for parent in found["by_parent"]:
        own = parent["b_dec"]
        assert own["main"] + own["absorbed"] <= parent["true"] and 1 <= len(parent["main_latents"]) <= 10
    low, high = found["score"]["interval"]
    assert 0 <= low <= found["score"]["value"] <= high <= 1 and found["baselines"]["random_dictionary"]["parents"] > 0
    constants = found["constants"]
    reference = dict(k=10, f1_jump=0.03, cosine=0.025, share=0.4, part_cosine=0.1, part_latents=3, l1=0.01)
    assert {name: constants[name] for name in reference} == reference and "prompt" not in constants
    assert "f1_jump 0.03" in capsys.readouterr().err and "of cases" in found["summary"]["says"]
    assert json.loads((tmp_path / "eval" / "absorption.json").read_text()) == found


def test_of_a_transcoder_projections_are_of_what_it_writes(of_games, model):
    config, dictionary = of_games()
    about = {"reads": ["mlp_in.0"], "writes": ["mlp_out.0"], "site": "mlp_in.0->mlp_out.0"}
    method = dataclasses.replace(dictionary.config, transcode=True)
    dictionary = dataclasses.replace(dictionary, config=method, metadata=dictionary.metadata | about)
    context = Context(config, dictionary)
    seen, _ = squares.read_boards(context, open_subject(context, "absorption"))
    moves = play.held_out_games(100, 0, play.PARENTS).moves[:1, :59].astype(np.int32)
    found = model(moves, read=("mlp_in.0", "mlp_out.0"))[1]
    for rows, site in ((seen.read, "mlp_in.0"), (seen.written, "mlp_out.0")):
        assert np.abs(np.asarray(found[site])[0] - rows[0]).max(1).min() < 1e-4
    result = evaluate(config, dictionary)["absorption"]
    assert result["baselines"]["random_dictionary"] is None and result["asked"] == 9


def test_nothing_is_said_where_no_parent_counts(of_games):
    config, dictionary = of_games(absorption_main_gain=1.0, absorption_probe_f1=1.0)
    found = evaluate(config, dictionary)["absorption"]
    assert found["parents"] == 0 and found["score"] is None and "None of 9 parents" in found["summary"]["says"]


WORDS = [f"{a}{b}" for a in "ab" for b in "cdefghijklm"] + ["has", "the", "first", "letter", ":", "A", "B"]


@pytest.fixture
def of_words(transformers, make_model, configure, make_dictionary, tmp_path):
    """A small Llama whose tokenizer has 22 words of two letters, its dictionary, and a text of those words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    directory = tmp_path / "words"
    shutil.copytree(make_model("llama"), directory)
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    roles = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(directory)
    text = tmp_path / "words.jsonl"
    rng = np.random.default_rng(0)
    text.write_text("".join(json.dumps({"text": " ".join(rng.choice(WORDS, 20))}) + "\n" for _ in range(40)))
    store = harvest(configure(str(directory), {"text": (str(text),), "documents": "0:20"}, sites=(SITE,)))
    dictionary = make_dictionary(store=store.url, site=SITE, source="hf", model=store.metadata(SITE)["model"])
    absorption = AbsorptionConfig(absorption_examples=1, absorption_probe_f1=0.0, absorption_main_gain=0.0)
    config = EvaluateConfig(run=str(tmp_path / "run"), suite=("absorption",), text_tokens=60, absorption=absorption)
    return config, dictionary, directory


def test_words_are_read_at_their_own_token_within_the_prompt(of_words, transformers):
    import torch

    config, dictionary, directory = of_words
    context = Context(config, dictionary)
    subject = open_subject(context, "absorption")
    fit, judge, known = words.vocabulary(context, subject)
    assert known == 28 and not set(fit) & set(judge)  # all but the colon
    assert sorted(judge) == sorted(w for w in judge if w[0] in "ab" or w in "AB") and len(judge) == 4
    seen = words.read_words(context, subject, judge, 1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    for row, word in enumerate(judge):
        held = words.LETTERS[int(np.flatnonzero(seen.parents[row])[0])]
        assert held == word[0].upper() and seen.parents[row].sum() == 1
        near = []
        for other in judge:  # the example before it is another word of the same half
            if other != word:
                ids = tokenizer(words.prompt(word, [other])[0])["input_ids"]
                at = max(i for i, token in enumerate(ids) if token == tokenizer.convert_tokens_to_ids(word))
                with torch.no_grad():
                    near.append(model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0, at].numpy())
        assert min(np.abs(x - seen.written[row]).max() for x in near) < 1e-4


def test_first_letters(of_words):
    config, dictionary, _ = of_words
    found = evaluate(config, dictionary)["absorption"]
    assert found["task"] == "first letters" and found["origin"] == "zero" and found["asked"] == 26
    assert found["constants"]["prompt"] == "{word} has the first letter:" and found["constants"]["examples"] == 1
    assert (
        found["words"] == {"tokenizer": 28, "fit": 24, "judge": 4} and found["parents"] == 0
    )  # too few rows of a letter
    assert {parent["parent"] for parent in found["by_parent"]} == {"A", "B"}


def test_a_prompt_is_that_of_saebench():
    text, end = words.prompt(" dog", [" cat", "Ant"])
    assert text == "\n cat has the first letter: C\nAnt has the first letter: A\n dog has the first letter:"
    assert text[:end].endswith("\n dog")


def test_a_tokenizer_without_words_is_refused(make_set):
    run = make_set(sites=(SITE,)) / SITE  # its tokens are letters
    with pytest.raises(InputError, match=r"has 26 words of a single token, and not 10 of two letters each"):
        evaluate(EvaluateConfig(run=str(run), suite=("absorption",), text_tokens=60))


def test_prompts_that_are_too_long_are_refused(of_words):
    config, dictionary, _ = of_words
    absorption = AbsorptionConfig(absorption_examples=3)
    with pytest.raises(InputError, match=r"--absorption_examples=3: makes prompts of \d+ tokens, .* has room for 23"):
        words.read_words(
            Context(EvaluateConfig(**{**vars(config), "absorption": absorption}), dictionary),
            open_subject(Context(config, dictionary), "absorption"),
            ["ac", "ad", "ae", "bc", "bd"],
            0,
        )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"absorption_share": 1.5}, "--absorption_share=1.5: must be from 0 to 1"),
        ({"absorption_squares": 65}, "--absorption_squares=65: a board has 64"),
        ({"absorption_parents": ("occupied",)}, "--absorption_parents=occupied: give one or more of mine"),
    ],
)
def test_flags(flags, says):
    with pytest.raises(InputError, match=says):
        AbsorptionConfig(**flags)
