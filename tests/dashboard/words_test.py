"""Tokens as people read them, of the kinds of tokenizers that there are."""

import pytest

from jaxsae.dashboard.words import pieces, words_of

TEXT = "It's a na\u00efve caf\u00e9,\n\tyes \U0001f642  ok"


def fast(transformers, tokenizer, **more):
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **more)


def shown(tokenizer, text=TEXT):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    words = pieces(tokenizer, ids)
    return [words[i] for i in ids]


@pytest.fixture
def tokenizers(transformers):
    import tokenizers

    return tokenizers


def test_byte_level_vocabularies_are_text_again(transformers, tokenizers):
    whole = tokenizers.Tokenizer(tokenizers.models.BPE())
    whole.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    whole.train_from_iterator(["a caf\u00e9 a caf\u00e9 yes yes"] * 9, trainer)
    found = shown(fast(transformers, whole))
    assert "".join(found[:4]) == "It's" and " caf\u00e9" in found and " a" in found
    assert "\u21b5" in found and "\u21e5" in found
    at = found.index("\\xf0")
    assert found[at : at + 4] == ["\\xf0", "\\x9f", "\\x99", "\\x82"]  # bytes of one sign, which none is alone
    assert "\u0120" not in "".join(found)


def test_sentencepiece_keeps_spaces_and_reads_bytes(transformers, tokenizers):
    vocabulary = [
        "<unk>",
        *(f"<0x{i:02X}>" for i in range(256)),
        "\u2581",
        "\u2581yes",
        "\u2581caf\u00e9",
        *"Itsanvek'",
    ]
    whole = tokenizers.Tokenizer(
        tokenizers.models.BPE({t: i for i, t in enumerate(vocabulary)}, [], unk_token="<unk>", byte_fallback=True)
    )
    whole.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    whole.decoder = tokenizers.decoders.Sequence([tokenizers.decoders.ByteFallback(), tokenizers.decoders.Metaspace()])
    found = pieces(fast(transformers, whole), range(len(vocabulary)))
    byte = lambda b: found[1 + b]
    assert byte(0x0A) == "\u21b5" and byte(0x09) == "\u21e5" and byte(0x41) == "A" and byte(0xE2) == "\\xe2"
    assert byte(0x00) == "\\x00" and found[257] == " " and found[258] == " yes" and found[259] == " caf\u00e9"


def test_word_pieces_that_begin_a_word_have_a_space(transformers, tokenizers):
    vocabulary = {token: i for i, token in enumerate(["[UNK]", "[CLS]", "play", "##ing", "##s"])}
    whole = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    whole.decoder = tokenizers.decoders.WordPiece()
    found = pieces(fast(transformers, whole, unk_token="[UNK]", cls_token="[CLS]"), [1, 2, 3, 4, 99])
    assert found == {1: "[CLS]", 2: " play", 3: "ing", 4: "s", 99: "<99>"}


def test_words_of_a_directory(make_model):
    found, why = words_of(make_model("llama"), [3, 29, 30, 31])
    assert not why and found[29] == " " and found[31] == "\u21b5" and found[3] == "a"


def test_squares_are_words_of_othello():
    assert words_of("othello", [0, 59, -1, 60]) == ({0: "a1", 59: "h8"}, "")


def test_where_there_is_no_tokenizer_the_reason_is_said(tmp_path):
    assert words_of("", [1]) == ({}, "the store names no tokenizer")
    found, why = words_of(str(tmp_path / "gone"), [1])
    assert found == {} and "gone: its tokenizer could not be read" in why
