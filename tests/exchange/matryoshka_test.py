"""The prefixes of a Matryoshka dictionary go along, and come from what the packages train; batchtopk_test has the rest."""

import json

import pytest

from jaxsae.errors import InputError
from jaxsae.exchange import dictionary_learning, saelens

D, N, K = 48, 128, 8


def test_we_load_what_saelens_trains(x, package, randomise, load_saelens, check_same, tmp_path):
    package("sae_lens")
    from sae_lens import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig

    config = MatryoshkaBatchTopKTrainingSAEConfig(d_in=D, d_sae=N, k=12, matryoshka_widths=[16, 40, N])
    sae = MatryoshkaBatchTopKTrainingSAE(config)
    randomise(sae)
    sae.topk_threshold.fill_(120.0)
    sae.save_inference_model(tmp_path)
    dictionary = saelens.read(tmp_path)
    assert (dictionary.method.name, dictionary.config.prefixes) == ("matryoshka", (16, 40, N))
    assert (dictionary.config.k, dictionary.threshold) == (12, 120)
    check_same(dictionary, load_saelens(tmp_path), x)


def test_we_load_what_dictionary_learning_saves(x, torch, package, randomise, load_dictionary, check_same, tmp_path):
    package("dictionary_learning")
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE

    sae = MatryoshkaBatchTopKSAE(D, N, K, [16, 24, 88])
    randomise(sae)
    sae.threshold.fill_(120.0)
    torch.save(sae.state_dict(), tmp_path / "ae.pt")
    trainer = {"dict_class": "MatryoshkaBatchTopKSAE", "lm_name": "gpt2", "layer": 3, "k": K}
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer}))
    dictionary = dictionary_learning.read(tmp_path)
    assert (dictionary.method.name, dictionary.config.prefixes) == ("matryoshka", (16, 40, N))
    check_same(dictionary, load_dictionary(tmp_path)[0], x)


@pytest.mark.parametrize("widths", [None, [], [32, 16, N], [32, 64], [32.5, N], "all"], ids=str)
def test_prefixes_that_saelens_could_not_have_are_the_defaults(widths, make_dictionary, tmp_path):
    saelens.write(make_dictionary("matryoshka"), tmp_path)
    settings = json.loads((tmp_path / "cfg.json").read_text())
    settings["metadata"]["training_architecture_details"]["matryoshka_widths"] = widths
    (tmp_path / "cfg.json").write_text(json.dumps(settings))
    assert saelens.read(tmp_path).config.prefixes == ()


@pytest.mark.parametrize("sizes", [[N], [N - 1, 2], [N + 1, -1], [0, N], [0.5 * N, 0.5 * N]], ids=str)
def test_group_sizes_that_do_not_fit_are_refused(sizes, torch, make_dictionary, tmp_path):
    dictionary_learning.write(make_dictionary("matryoshka"), tmp_path)
    tensors = torch.load(tmp_path / "ae.pt", weights_only=True) | {"group_sizes": torch.tensor(sizes)}
    torch.save(tensors, tmp_path / "ae.pt")
    if sizes == [N]:
        assert dictionary_learning.read(tmp_path).config.prefixes == (N,)
        return
    with pytest.raises(InputError, match=r"ae.pt: group_sizes = \[.*expected whole numbers from 1 on whose sum is 128"):
        dictionary_learning.read(tmp_path)
