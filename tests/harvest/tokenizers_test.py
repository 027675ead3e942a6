"""Which rows give way to special tokens, for tokenizers made by hand: named and unnamed BOS, EOS, two ids, none."""

import pytest

from jaxsae.harvest.hf import open_hf
from jaxsae.harvest.text_config import TextConfig
from jaxsae.harvest.tokenizer import load_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz .\n"
SPECIAL = ["<unk>", "<s>", "</s>", "<x>"]
# name: (special tokens that the configuration names, the template) -> prefix, suffix, separator, special
CASES = {
    "named": ({"bos_token": "<s>"}, "<s> $A", [1], [], [1], {1}),
    "unnamed": ({}, "<s> $A", [1], [], [1], {1}),
    "eos as separator": ({"eos_token": "</s>"}, None, [2], [], [2], {2}),
    "two ids": ({}, "<s> <x> $A </s>", [1, 3], [2], [2], {1, 2, 3}),
    "none": ({}, None, [], [], [], set()),
    "unknown token in front": ({}, "<unk> $A", [0], [], [0], {0}),
}


@pytest.fixture
def save(transformers, tmp_path):
    """save(case) -> the directory of a tokenizer of letters."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors

    def make(case: str) -> str:
        names, template = CASES[case][:2]
        vocabulary = {token: i for i, token in enumerate([*SPECIAL, *LETTERS])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
        if template:
            ids = [(token, vocabulary[token]) for token in SPECIAL]
            tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
        directory = tmp_path / "tokenizer"
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **names).save_pretrained(
            directory
        )
        return str(directory)

    return make


@pytest.mark.parametrize("case", CASES)
def test_what_stands_around_a_text_gives_no_row(case, save, make_model, configure, stories):
    directory, (_, _, prefix, suffix, separator, special) = save(case), CASES[case]
    packing = bool(separator)
    tokenizer = load_tokenizer(directory, "", TextConfig(text=("unused",), packing=packing))
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.separator) == (prefix, suffix, separator)
    assert set(tokenizer.special) == special
    source = open_hf(configure(make_model("llama"), {"tokenizer": directory, "packing": packing}))
    kept = [token for shard in range(source.plan.shards) for token in source.shard(shard)[1]["tokens"]]
    letters = "".join(LETTERS[token - len(SPECIAL)] for token in kept)
    expected = "".join(
        story if packing else story[: 24 - len(prefix) - len(suffix)] for story in stories if story.strip()
    )
    assert min(kept) >= len(SPECIAL) and letters == expected
    dropped = source.plan.settings["positions"]["dropped"]
    assert {f"special {SPECIAL[i]}" for i in special} == {name for name in dropped if name.startswith("special")}
