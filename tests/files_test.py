"""A file is the old one or the new one, never a part."""

import json
import os

import pytest

from jaxsae import files


def test_a_file_is_replaced_whole_and_kept_where_writing_fails(tmp_path):
    path = tmp_path / "figures.json"
    files.write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1} and path.read_text().endswith("}\n")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "half of it \ud800")
    assert json.loads(path.read_text()) == {"a": 1} and os.listdir(tmp_path) == ["figures.json"]
    with pytest.raises(FileNotFoundError):
        files.write_text(tmp_path / "absent" / "x", "")


def test_what_is_no_file_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(tmp_path / "pipe", "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
