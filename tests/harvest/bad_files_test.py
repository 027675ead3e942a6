"""Files and data sets that hold no text are refused in one line that names them."""

import gzip

import pytest

from jaxsae.errors import InputError
from jaxsae.harvest.text import Documents
from jaxsae.harvest.text_config import TextConfig


def test_files_of_text(tmp_path):
    def read(path, **options):
        return list(Documents(TextConfig(text=(str(path),), **options)))

    (tmp_path / "a.txt").write_text("one\ntwo\n\n\nthree\n")
    assert read(tmp_path / "a.txt") == [(0, "one\ntwo\n\n\nthree\n")]
    assert read(tmp_path / "a.txt", text_unit="paragraph") == [(0, "one\ntwo"), (1, "three")]
    assert read(tmp_path / "a.txt", text_unit="line", documents="1:4") == [(1, "two"), (2, ""), (3, "")]
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write('{"story": "x"}\n\n{"story": "y"}\n')
    assert read(tmp_path / "b.jsonl.gz", text_field="story", documents="-1:") == [(1, "y")]
    both = TextConfig(text=(str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl.gz")), text_field="story", documents="1:3")
    assert list(Documents(both)) == [(1, "x"), (2, "y")]
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\nnot json\n')
    (tmp_path / "list.jsonl").write_text('{"text": ["x"]}\n')
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "latin.jsonl").write_bytes('{"text": "x"}\n{"text": "\xe9"}\n'.encode("latin-1"))
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbfone")
    assert read(tmp_path / "marked.txt") == [(0, "one")]
    for path, options, words in [
        ("bad.jsonl", {}, r"bad.jsonl: line 2 is not JSON \(Expecting value at its character 1\)"),
        ("list.jsonl", {}, "line 1: field 'text' holds list"),
        ("list.jsonl", {"text_field": "body"}, "has no field 'body', it has: text"),
        ("bytes.txt", {}, r"not UTF-8 text \(line 1, byte 1\)"),
        ("latin.jsonl", {}, r"not UTF-8 text \(line 2, byte 11\)"),
        ("absent.jsonl", {}, "no such file"),
    ]:
        with pytest.raises(InputError, match=words):
            read(tmp_path / path, **options)


def test_files_that_are_no_text_and_damaged_archives(tmp_path):
    for name in ("x.json", "x.csv"):
        (tmp_path / name).write_text('[{"text": "hello"}]')
        with pytest.raises(InputError, match=f"{name}: reads .jsonl"):
            Documents(TextConfig(text=(str(tmp_path / name),)))
    whole = gzip.compress(b'{"text": "hello"}\n' * 1000)
    for name, damaged in {"cut": whole[: len(whole) // 2], "noise": b"no archive at all"}.items():
        path = tmp_path / f"{name}.jsonl.gz"
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=f"{name}.jsonl.gz: cannot be read"):
            list(Documents(TextConfig(text=(str(path),))))


def test_data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "n": [1, 2, 3]})
    data.save_to_disk(tmp_path / "saved")
    data.to_parquet(tmp_path / "files" / "train.parquet")
    read = lambda name, **options: list(Documents(TextConfig(text=(str(tmp_path / name),), **options)))
    assert read("saved", documents="-2:") == [(1, "b"), (2, "c")]
    assert read("files", documents="1:") == [(1, "b"), (2, "c")]  # streamed
    assert read("files/train.parquet") == [(0, "a"), (1, "b"), (2, "c")]
    for options, words in [
        ({"text_field": "body"}, "--text_field=body: not in .*text, n"),
        ({"text_split": "test"}, "--text_split=test"),
        ({"documents": "-1:"}, "no end to count from"),
    ]:
        with pytest.raises(InputError, match=words):
            read("files", **options)


def test_splits(tmp_path):
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_dict({"text": ["a", "b"]})
    one.save_to_disk(tmp_path / "one")
    datasets.Dataset.from_dict({"text": ["v"]}, split="validation").save_to_disk(tmp_path / "named")
    datasets.DatasetDict({"test": one}).save_to_disk(tmp_path / "single")
    datasets.DatasetDict({"train": one, "test": one.select([1])}).save_to_disk(tmp_path / "both")
    datasets.DatasetDict({"left": one, "right": one}).save_to_disk(tmp_path / "neither")

    def read(name, split=""):
        return [text for _, text in Documents(TextConfig(text=(str(tmp_path / name),), text_split=split))]

    assert read("one") == read("single") == read("both") == read("single", "test") == ["a", "b"]
    assert read("both", "test") == ["b"] and read("named") == read("named", "validation") == ["v"]
    for name, split, words in [
        ("one", "test", "--text_split=test: not in .*without splits"),
        ("named", "test", "the split validation alone"),
        ("single", "train", "There are: test"),
        ("neither", "", "give a split of .*There are: left, right"),
    ]:
        with pytest.raises(InputError, match=words):
            read(name, split)


def test_a_damaged_parquet_file_is_told_in_one_line(tmp_path, capfd):
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "x.parquet"
    datasets.Dataset.from_dict({"text": ["a" * 100] * 50}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="x.parquet: no text could be read .*Parquet"):
        list(Documents(TextConfig(text=(str(path),))))
    assert capfd.readouterr().err == ""


def test_half_a_character_is_told_with_its_line(tmp_path):
    (tmp_path / "half.jsonl").write_text('{"text": "whole"}\n{"text": "abc \\ud800 def"}\n')
    with pytest.raises(InputError, match=r"half.jsonl: line 2: field 'text' holds half a character"):
        list(Documents(TextConfig(text=(str(tmp_path / "half.jsonl"),))))
