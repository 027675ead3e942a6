"""Which format a directory holds, hub ids in place of directories, and names of sites."""

import io
import json

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.exchange import ImportConfig, dictionary_learning, gemma_scope, import_, saelens, sites, sparsify
from jaxsae.exchange.files import write_safetensors
from jaxsae.exchange.formats import FORMATS, find, read_any
from jaxsae.training import load

D, N = 48, 128
MADE = {
    "saelens": "topk",
    "sparsify": "topk",
    "dictionary_learning": "topk",
    "gemma_scope": "jumprelu",
    "safetensors": "gated",
}


def test_a_directory_is_told_by_its_files(make_dictionary, package, tmp_path):
    package("torch")
    for name, architecture in MADE.items():
        (tmp_path / name).mkdir()
        FORMATS[name].write(make_dictionary(architecture), tmp_path / name)
        assert find(tmp_path / name) == name
        assert read_any(tmp_path / name).metadata["imported_from"] == name
    for name in sparsify.FILES:
        (tmp_path / "sparsify" / name).unlink()  # what is left is the hookpoint's directory
    assert find(tmp_path / "sparsify") == "sparsify"
    assert {*MADE, "circuit_tracer"} == {*FORMATS}


def test_what_no_format_has_is_listed_beside_what_they_have(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError) as error:
        import_(ImportConfig(input=str(tmp_path), output=str(tmp_path / "run")))
    said = str(error.value)
    assert "holds the files of no format that is known" in said and f"{tmp_path} holds: model.safetensors" in said
    assert all(f"{name}: " in said for name in FORMATS) and "params.npz or params.safetensors" in said


def test_what_a_format_says_itself_is_not_given(make_dictionary, tmp_path):
    (tmp_path / "in").mkdir()
    sparsify.write(make_dictionary("topk"), tmp_path / "in")
    for flag, why in (("k", "says k itself"), ("layer", "holds one dictionary")):
        with pytest.raises(InputError, match=f"--{flag}=3: a directory of --format=sparsify {why}. Leave the flag out"):
            import_(ImportConfig(input=str(tmp_path / "in"), output=str(tmp_path / "run"), **{flag: 3}))
        with pytest.raises(InputError, match=f"--{flag}=3"):
            ImportConfig(input="a", output="b", format="sparsify", **{flag: 3})
    assert not (tmp_path / "run").exists()


def test_a_folder_of_a_hub_is_imported(make_dictionary, serve, x, tmp_path):
    (tmp_path / "up").mkdir()
    dictionary = make_dictionary("jumprelu")
    saelens.write(dictionary, tmp_path / "up")
    files = {f"deep/sae/{path.name}": path.read_bytes() for path in (tmp_path / "up").iterdir()}
    hub = serve({"own/er": files | {"deep/sae/trainer_state.pt": b"a pickle"}})
    run = import_(ImportConfig(input="own/er/deep/sae@main", output=str(tmp_path / "run")))
    np.testing.assert_array_equal(load(run).reconstruct(x), dictionary.reconstruct(x))
    assert sorted(hub.fetched) == ["deep/sae/cfg.json", "deep/sae/sae_weights.safetensors"]
    with pytest.raises(InputError, match="exists and is not empty"):
        import_(ImportConfig(input="own/other", output=str(run)))  # before anything is asked


def test_gemma_scope_says_what_it_is_of_by_where_it_is(serve, tmp_path):
    rng, file = np.random.default_rng(0), io.BytesIO()
    np.savez(file, W_enc=rng.normal(size=(D, N)), b_enc=np.zeros(N), W_dec=rng.normal(size=(N, D)), b_dec=np.zeros(D),
             threshold=np.ones(N))  # fmt: skip
    serve({"google/gemma-scope-9b-it-att": {"layer_31/width_16k/average_l0_52/params.npz": file.getvalue()}})
    name = "google/gemma-scope-9b-it-att/layer_31/width_16k/average_l0_52"
    back = load(import_(ImportConfig(input=name, output=str(tmp_path / "run"))))
    assert back.metadata["model"] == "google/gemma-2-9b-it" and back.config.k == 52
    assert back.metadata["site"] == "model.layers.31.self_attn.o_proj.input"


def test_of_a_set_on_a_hub_one_layer_is_fetched(serve, tmp_path):
    settings = "model_kind: transcoder_set\nfeature_input_hook: mlp.hook_in\nfeature_output_hook: hook_mlp_out\n"
    rng, files = np.random.default_rng(0), {"config.yaml": settings.encode()}
    for layer in range(3):
        tensors = {"W_enc": rng.normal(size=(N, D)), "b_enc": np.zeros(N), "W_dec": rng.normal(size=(N, D))}
        write_safetensors(tmp_path / "one", tensors | {"b_dec": np.zeros(D)})
        files[f"layer_{layer}.safetensors"] = (tmp_path / "one").read_bytes()
    hub = serve({"own/set": files})
    back = load(import_(ImportConfig(input="own/set", layer=1, output=str(tmp_path / "run"))))
    assert back.metadata["site"] == "mlp_in.1->mlp_out.1" and "layer_2.safetensors" not in hub.fetched


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("blocks.4.hook_resid_post", "resid_post.4"),
        ("blocks.4.hook_mlp_in", "blocks.4.hook_mlp_in"),  # in front of the norm, where mlp_in is behind it
        ("blocks.4.mlp.hook_in", "mlp_in.4"),
        ("hook_embed", "embed"),
        ("model.layers.4.output", "resid_post.4"),
        ("model.layers.4.self_attn.o_proj.input", "model.layers.4.self_attn.o_proj.input"),
        ("layers.4", "resid_post.4"),
        ("resid_post_layer_4", "resid_post.4"),
        ("resid_post.4", "resid_post.4"),
        ("", None),
        (None, None),
    ],
)
def test_names_of_other_tools(name, site):
    assert sites.site_of(name) == site


def test_a_site_that_files_do_not_say_is_asked_for_and_given(make_dictionary, package, torch, tmp_path, capsys):
    dictionary = make_dictionary("topk")
    (tmp_path / "in").mkdir()
    dictionary_learning.write(dictionary, tmp_path / "in")
    settings = json.loads((tmp_path / "in/config.json").read_text())
    del settings["jaxsae"], settings["trainer"]["submodule_name"], settings["trainer"]["layer"]
    (tmp_path / "in/config.json").write_text(json.dumps(settings))
    import_(ImportConfig(input=str(tmp_path / "in"), output=str(tmp_path / "a")))
    assert "Which activations it takes is not said: import it with --site, such as --site=resid_post.3" in (
        capsys.readouterr().err
    )
    run = import_(ImportConfig(input=str(tmp_path / "in"), output=str(tmp_path / "b"), site="resid_post.7"))
    assert load(run).metadata["site"] == "resid_post.7" and "is not said" not in capsys.readouterr().err
    for wrong in ("mlp_in.3->mlp_out.3", "a+b"):
        with pytest.raises(InputError, match="these files hold an autoencoder: name one site"):
            read_any(tmp_path / "in", site=wrong)


def test_a_transcoder_s_sites_are_named_on_both_sides(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"w_enc": rng.normal(size=(D, N)), "b_enc": np.zeros(N), "w_dec": rng.normal(size=(N, 2 * D))}
    write_safetensors(tmp_path / gemma_scope.WEIGHTS, tensors | {"b_dec": np.zeros(2 * D), "threshold": np.ones(N)})
    assert "reads" not in read_any(tmp_path).metadata
    assert read_any(tmp_path, site="a->b").metadata["writes"] == ["b"]
    for wrong in ("a", "a->b->c", "a+b->c+d", "->b"):
        with pytest.raises(InputError, match="--site=.*: these files hold a transcoder: give READS->WRITES, such as"):
            read_any(tmp_path, site=wrong)
