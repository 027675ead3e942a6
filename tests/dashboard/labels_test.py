"""Labels are read as people and other tools write them; what is wrong with a line is said by its number."""

import json

import pytest

from jaxsae.dashboard import labels
from jaxsae.errors import InputError
from jaxsae.report.config import ReportConfig

ONE, TWO = {"resid_post.2": 8}, {"resid_post.2": 8, "resid_post.5": 16}


@pytest.fixture
def written(tmp_path):
    """Lines, objects or text, -> the file that has them."""

    def write(*lines, name="labels.jsonl"):
        path = tmp_path / name
        path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        return path

    return write


def test_latent_and_text(written):
    path = written({"latent": 3, "text": " days of\nthe  week"}, "", {"latent": 0, "text": "été"})
    assert labels.read(path, ONE) == {"resid_post.2": {3: "days of the week", 0: "été"}}


def test_several_sites(written):
    path = written(
        {"latent": 3, "text": "a", "site": "resid_post.2"},
        {"latent": 3, "text": "b", "site": "resid_post.5"},
        {"latent": 15, "text": "c", "site": "resid_post.5"},
    )
    assert labels.read(path, TWO) == {"resid_post.2": {3: "a"}, "resid_post.5": {3: "b", 15: "c"}}


def test_a_site_without_labels_is_there(written):
    path = written({"latent": 3, "text": "a", "site": "resid_post.5"})
    assert labels.read(path, TWO)["resid_post.2"] == {}


def test_the_same_label_twice_is_one(written):
    assert labels.read(written({"latent": 3, "text": "a b"}, {"latent": 3, "explanation": "a  b"}), ONE) == {
        "resid_post.2": {3: "a b"}
    }


def test_explanations_of_neuronpedia(written):
    line = {"modelId": "gpt2-small", "layer": "2-res-jb", "description": "dates", "typeName": "oai_token-act-pair"}
    assert labels.read(written(line | {"index": "7"}, line | {"index": 1}), ONE)["resid_post.2"] == {
        7: "dates",
        1: "dates",
    }


def test_contexts_that_a_labeller_added_to(written):
    line = {"latent": 1, "site": "resid_post.2", "frequency": 0.1, "examples": [{"tokens": ["a"]}]}
    path = written(line | {"explanation": "vowels"}, line | {"latent": 2})
    assert labels.read(path, ONE) == {"resid_post.2": {1: "vowels"}}


def test_a_folder_of_delphi(tmp_path):
    for name, text in [("layers.2_latent3", "a"), ("layers.2_latent7", "b"), ("layers.2_latent7.old", "c")]:
        (tmp_path / f"{name}.txt").write_text(json.dumps(text))
    assert labels.read(tmp_path, ONE) == {"resid_post.2": {3: "a", 7: "b"}}


def test_a_folder_of_delphi_of_several_modules(tmp_path):
    for name, text in [("layers.2_latent3", "a"), ("layers.5_latent3", "b")]:
        (tmp_path / f"{name}.txt").write_text(json.dumps(text))
    assert labels.read(tmp_path, {"layers.2": 8, "layers.5": 8}) == {"layers.2": {3: "a"}, "layers.5": {3: "b"}}
    with pytest.raises(InputError, match=r"layers.5_latent3.txt: layer is 'layers.5', and layers.2_latent3.txt has"):
        labels.read(tmp_path, ONE)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"latent": 3, ', r"line 2: '\{\"latent\": 3,' is not JSON .*one whole object on each line"),
        ("[" * 100_000, r"line 2: '\[+' is not JSON"),
        ('[{"latent": 3}]', "line 2: holds a list, not an object"),
        ({"text": "a"}, r"line 2: has no 'latent' \(or 'index'\); its keys: 'text'"),
        ({"latent": 3}, r"line 2: has no 'text' \(or 'explanation', 'description'\); its keys: 'latent'"),
        ({"latent": 3, "index": 4, "text": "a"}, "line 2: 'latent' is 3 and 'index' is 4. Keep one"),
        ({"latent": 3, "text": "a", "description": "b"}, "line 2: 'text' is 'a' and 'description' is 'b'. Keep one"),
        ({"latent": 8, "text": "a"}, "line 2: latent 8 is not there: resid_post.2 has 8, 0 to 7"),
        ({"latent": -1, "text": "a"}, "line 2: latent -1 is not there"),
        ({"latent": 3.0, "text": "a"}, "line 2: latent 3.0 is not a whole number"),
        ({"latent": True, "text": "a"}, "line 2: latent True is not a whole number"),
        ({"latent": "9" * 5000, "text": "a"}, "line 2: latent '9+' is not a whole number"),
        ({"latent": 3, "text": " "}, "line 2: its text is ' ': expected some words"),
        ({"latent": 3, "text": None}, "line 2: its text is None"),
        ({"latent": 3, "text": ["a"]}, r"line 2: its text is \['a'\]"),
        ('{"latent": 3, "text": "\\ud800"}', "line 2: its text .* holds half a character"),
        ({"latent": 3, "text": "a", "site": "resid_post.5"}, "line 2: site 'resid_post.5' is not there; .* of resid_post.2"),
        ({"latent": 3, "text": "a", "site": ["x"]}, r"line 2: site \['x'\] is not there"),
        ({"latent": 0, "text": "b"}, "line 2: labels latent 0 of resid_post.2 'b', and line 1 'a'. Keep one"),
        ({"latent": 3, "text": "a", "modelId": "gpt2"}, "line 2: modelId is 'gpt2', and line 1 has None: .* different"),
    ],
)  # fmt: skip
def test_bad_lines(line, said, written):
    path = written({"latent": 0, "text": "a"}, line)
    with pytest.raises(InputError, match=f"^--labels={path}: {said}"):
        labels.read(path, ONE)


def test_a_line_that_does_not_say_which_of_several_sites(written):
    with pytest.raises(InputError, match='line 1: names no "site", and there are resid_post.2, resid_post.5'):
        labels.read(written({"latent": 0, "text": "a"}), TWO)


def test_files_that_are_none(tmp_path, written):
    with pytest.raises(InputError, match=r"labels=.*none.jsonl: cannot be read \(No such file"):
        labels.read(tmp_path / "none.jsonl", ONE)
    for path in (written(), written({"latent": 1, "examples": []}), tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=r"holds no label. Give a line such as \{\"latent\": 12"):
            labels.read(path, ONE)
    (tmp_path / "binary").write_bytes(b'{"latent": 0, "text": "a"}\n\xff\xfe')
    with pytest.raises(InputError, match="is not text in UTF-8"):
        labels.read(tmp_path / "binary", ONE)
    (tmp_path / "a_latent1.txt").write_text("not quoted")
    with pytest.raises(InputError, match="a_latent1.txt is not a JSON string"):
        labels.read(tmp_path, ONE)


def test_labels_need_latents():
    with pytest.raises(InputError, match="--labels=a.jsonl: stand in pages of latents: give --latents"):
        ReportConfig(labels="a.jsonl")
    assert ReportConfig(labels="a.jsonl", latents=True).labels == "a.jsonl"
