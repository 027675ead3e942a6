"""What is in an export, in a screen."""

import pytest

from jaxsae.exchange import describe_export, dictionary_learning, gemma_scope, saelens, sparsify

N = 128
FORMATS = {"saelens": saelens, "sparsify": sparsify, "dictionary_learning": dictionary_learning}
CLASSES = {"jumprelu": "JumpReluAutoEncoder", "gated": "GatedAutoEncoder"}


@pytest.fixture(params=FORMATS)
def file_format(request, package):
    package("torch")
    return FORMATS[request.param]


def test_a_topk(file_format, make_dictionary, tmp_path):
    file_format.write(make_dictionary("topk"), tmp_path)
    text = describe_export(tmp_path)
    assert str(N) in text and "48" in text and "k             8" in text and "kB" in text


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("name", ["saelens", "dictionary_learning"])
def test_a_jumprelu_and_a_gated(name, kind, package, make_dictionary, tmp_path):
    package("torch")
    FORMATS[name].write(make_dictionary(kind), tmp_path)
    text = describe_export(tmp_path)
    assert f"architecture  {kind if name == 'saelens' else CLASSES[kind]}\n" in text
    assert ("target L0     8\n" in text) == (kind == "jumprelu") and "\nk   " not in text
    assert ("threshold     33.4" in text) == (kind == "jumprelu" and name == "saelens")


def test_all_exports_of_a_folder(make_dictionary, tmp_path):
    for name, module in (("a", saelens), ("b", sparsify), ("c", gemma_scope)):
        (tmp_path / name).mkdir()
        module.write(make_dictionary("topk" if module is not gemma_scope else "jumprelu"), tmp_path / name)
    heads = [
        line.partition("  ")[2].strip() for line in describe_export(tmp_path).splitlines() if line.startswith("format")
    ]
    assert heads == ["SAELens", "sparsify", "Gemma Scope"]


def test_what_is_no_export(tmp_path):
    assert describe_export(tmp_path) is None
    assert describe_export(tmp_path / "missing") is None
