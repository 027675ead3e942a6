"""Commands called from Python: keyword arguments are flags, modules of a command's name are called as the command."""

import inspect
import pydoc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from python.small import WIDTH, D, write_store

import jaxsae
from jaxsae import calls
from jaxsae.commands import COMMANDS
from jaxsae.config import from_flag_lines, leaves
from jaxsae.dictionary import MethodConfig
from jaxsae.training import OptimizerConfig, TrainConfig

GIVEN = {"store": "s", "workdir": "w", "width": 64}


def configured(**given):
    return calls.configuration("train", {**GIVEN, **given})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(directory, dictionary) of a store and a run of a few steps, made by calls alone."""
    directory = tmp_path_factory.mktemp("trained")
    rows = np.random.default_rng(0).normal(1, 2, (600, D)).astype(np.float32)
    store, run = write_store(directory, rows), directory / "run"
    flags = {"width": WIDTH, "k": 4, "batch_size": 32, "tokens": 32 * 8, "mesh": [1, 8], "log_every": 4}
    return directory, jaxsae.train(store=store, workdir=run, **flags)


def test_arguments_are_flags_whatever_group_they_are_in():
    expected = TrainConfig("s", "w", method=MethodConfig(64, k=8), optimization=OptimizerConfig(optimizer="adam"))
    assert configured(k=8, optimizer="adam") == expected
    lines = ["--store=s", "--workdir=w", "--width=64", "--mesh=1,2", "--follow", "--learning_rate=3e-5", "--reads=a,b"]
    more = {"mesh": (1, 2), "follow": True, "learning_rate": 3e-5, "reads": ["a", "b"]}
    assert configured(**more) == from_flag_lines(TrainConfig, lines)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("workdir", Path("a/b, c"), "a/b, c"),
        ("tokens", np.int64(2**40), 2**40),
        ("learning_rate", np.float32(0.1), float(np.float32(0.1))),
        ("learning_rate", 1, 1.0),
        ("seed", "7", 7),
        ("mesh", np.array([1, 2]), (1, 2)),
        ("mesh", "1,2", (1, 2)),
        ("sites", "resid_post.*", ("resid_post.*",)),
        ("data_seed", None, None),
        ("follow", False, False),
    ],
)
def test_values_are_taken_as_python_has_them(name, value, expected):
    config = configured(**{name: value})
    parts = (config, config.method, config.optimization, config.end_to_end)
    found = next(getattr(part, name) for part in parts if hasattr(part, name))
    assert found == expected and type(found) is type(expected)


def test_paths_may_hold_commas_and_quotes():
    of = lambda value: calls.configuration("harvest", {"store": "s", "source": "arrays", "input": value}).input
    assert of(Path("a, b.npy")) == of(["a, b.npy"]) == ("a, b.npy",)
    assert of([Path('q"uote.npy'), "b,c.npy"]) == ('q"uote.npy', "b,c.npy") and of("a.npy,b.npy") == ("a.npy", "b.npy")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"widht": 8},
            r"jaxsae.train\(widht=...\): no such argument. Did you mean width\? help\(jaxsae.train\) lists them.",
        ),
        ({"method": MethodConfig(64)}, r"jaxsae.train\(method=...\): no such argument"),
        ({"width": "many"}, "--width=many: expected a whole number"),
        ({"width": 8.5}, "--width=8.5: expected a whole number"),
        ({"width": True}, "--width=true: expected a whole number"),
        ({"learning_rate": "fast"}, "--learning_rate=fast: expected a number"),
        ({"architecture": "vanilla"}, "architecture=vanilla"),
        ({"follow": 3}, "--follow=3"),
        ({"mesh": [1, "x"]}, "--mesh=1,x: expected a comma-separated list of ints"),
        ({"mesh": {1: 2}}, r"jaxsae.train\(mesh=dict\): give a string"),
        ({"k": 65}, "--k=65: must be at most --width=64"),
        ({"width": None}, "--width is required: number of latents"),
    ],
)
def test_what_flags_refuse_is_refused(given, told):
    with pytest.raises(jaxsae.InputError, match=told):
        jaxsae.train(**{**GIVEN, **given})


def test_a_configuration_is_taken_as_it_is_and_nothing_else():
    with pytest.raises(jaxsae.InputError, match="a TrainConfig or its fields by name, not both"):
        jaxsae.train(TrainConfig("s", "w", method=MethodConfig(64)), width=8)
    with pytest.raises(
        jaxsae.InputError, match=r"jaxsae.train\('runs/x'\): takes a TrainConfig, or its fields by name"
    ):
        jaxsae.train("runs/x")


def test_calls_do_what_commands_do_and_give_what_they_make(trained):
    directory, sae = trained
    assert isinstance(sae, jaxsae.Dictionary) and sae.width == WIDTH and sae.metadata["step"] == 8
    run = directory / "run"
    found = jaxsae.evaluate(run=run, suite=["reconstruction"], rows=128)
    assert 0 < found["reconstruction"]["fvu"] < 10 and (run / "eval" / "reconstruction.json").is_file()
    assert jaxsae.report(run=run, cards=0) == run / "report.html" and (run / "report.html").is_file()
    export = jaxsae.export(run=run, format="sparsify", output=directory / "export")
    back = jaxsae.import_(format="sparsify", input=export, output=directory / "back")
    x = np.ones((3, D), np.float32)
    np.testing.assert_allclose(jaxsae.load(back).reconstruct(x), sae.reconstruct(x), rtol=1e-4, atol=1e-4)
    np.save(directory / "x.npy", np.zeros((8, D), np.float32))
    store = jaxsae.harvest(store=directory / "s2", source="arrays", input=directory / "x.npy")
    assert store.rows == 8
    assert "is        topk, 64 latents" in jaxsae.inspect(path=run)


def test_flags_that_follow_from_others_do(trained):
    directory, _ = trained
    given = {"source_run": str(directory / "run"), "workdir": str(directory / "meta")}
    config = calls.configuration("train", given)
    assert config.method.architecture == "batchtopk" and config.method.width == WIDTH // 4


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_function_with_a_signature_and_help(command):
    function = getattr(jaxsae, calls.python_name(command))
    parameters, config_class = inspect.signature(function).parameters, COMMANDS[command].load()[0]
    assert list(parameters) == ["config", *(field.name for field, _ in leaves(config_class))]
    text = pydoc.plain(pydoc.render_doc(function))
    for field, _ in leaves(config_class):
        assert f"{field.name}: " in text
    assert calls.python_name(command) in dir(jaxsae) and calls.python_name(command) in jaxsae.__all__


def test_required_arguments_have_no_default_and_others_theirs():
    parameters = inspect.signature(jaxsae.train).parameters
    empty = inspect.Parameter.empty
    assert parameters["store"].default is empty and parameters["width"].default is empty
    assert parameters["batch_size"].default == 4096 and parameters["k"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "Default: 4096." in jaxsae.train.__doc__ and "Returns:" in jaxsae.train.__doc__


ORDERS = {
    "import of the module first": "import jaxsae.{0}; module = jaxsae.{0}",
    "import of something in it first": "from jaxsae.{0}.config import {1}Config; import jaxsae; module = jaxsae.{0}",
    "attribute first": "import jaxsae; module = jaxsae.{0}; import jaxsae.{0}; assert jaxsae.{0} is module",
    "from": "from jaxsae import {0} as module",
    "as": "import jaxsae.{0} as module",
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_module_is_called_whichever_was_imported_first(order):
    code = [ORDERS[order].format("evaluate", "Evaluate")]
    code += ["import jaxsae, sys", "from jaxsae.evaluate import evaluate, SUITES", "assert module.SUITES is SUITES"]
    code += ["assert module.evaluate is evaluate and callable(evaluate) and module is sys.modules['jaxsae.evaluate']"]
    code += ["try: module(run='/no/such/run')", "except jaxsae.InputError as error: print(error)"]
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, check=True)
    assert "--run=/no/such/run: no such directory" in done.stdout


def test_to_import_the_package_imports_nothing_heavy():
    code = (
        "import jaxsae, sys; dir(jaxsae); sys.exit([m for m in ('jax', 'numpy', 'absl', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip() == "[]"


def test_names_that_there_are_not():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        jaxsae.nonsense  # noqa: B018
