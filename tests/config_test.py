"""Dataclasses, flags and flag files say the same, for every command there is."""

import dataclasses
import math
import tempfile
import typing
from pathlib import Path
from typing import Literal

import pytest
from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsae import config as config_module
from jaxsae.commands import COMMANDS
from jaxsae.config import (
    check,
    define_flags,
    from_dict,
    from_flags,
    group,
    option,
    read_flag_file,
    to_dict,
    to_flag_lines,
    write_flag_file,
)
from jaxsae.errors import InputError

REQUIRED = {str: "something", int: 128}  # values for flags without a default
NEEDED = {
    "sweep": {"width": 128},
    "harvest": {"tokens": 100},
    "export": {"format": "saelens"},
    "import": {"format": "saelens"},
    "plan": {"d_model": 64},
}


@dataclasses.dataclass(frozen=True)
class Inner:
    ratio: float = option(0.1, "a float")
    maybe: int | None = option(None, "an integer, or none")


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str = option(help="a required string")
    on: bool = option(True, "a switch")
    off: bool = option(False, "another")
    kind: Literal["a", "b"] = option("a", "one of two")
    sizes: tuple[int, ...] = option((), "integers")
    names: tuple[str, ...] = option(("x", "y"), "strings")
    rate: float | None = option(None, "a float, or none")
    inner: Inner = group(Inner)


def parsed(cls, arguments):
    values = flags.FlagValues()
    define_flags(cls, values)
    values(["test", *arguments])
    return from_flags(cls, values)


def default_of(command):
    """The command's configuration with defaults, and something for what is required."""
    cls, _ = COMMANDS[command].load()
    required = [
        f"--{field.name}={REQUIRED[hint]}"
        for field, hint in config_module.leaves(cls)
        if field.default is dataclasses.MISSING and hint in REQUIRED and field.name not in NEEDED.get(command, {})
    ]
    return parsed(cls, [*required, *(f"--{name}={value}" for name, value in NEEDED.get(command, {}).items())])


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_of_every_command_survive_flags_files_and_dictionaries(command, tmp_path):
    config = default_of(command)
    assert parsed(type(config), to_flag_lines(config)) == config
    assert from_dict(type(config), to_dict(config)) == config
    write_flag_file(tmp_path / "f.flags", config, command)
    assert read_flag_file(tmp_path / "f.flags", type(config)) == config
    assert f"jaxsae {command} --flagfile=" in (tmp_path / "f.flags").read_text().splitlines()[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_every_command_has_a_name_of_its_own_and_a_help_text(command):
    cls, _ = COMMANDS[command].load()
    fields = [field for field, _ in config_module.leaves(cls)]
    names = [field.name for field in fields]
    assert len(names) == len(set(names)) > 0
    assert [f.name for f in fields if not f.metadata.get("help")] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_numbers_of_every_command_come_through_flags_exactly(command):
    """Each float or integer flag is set to a number that does not print short, where the command takes it."""
    config, tried = default_of(command), 0
    for field, hint in config_module.leaves(type(config)):
        value = {float: 0.1 + 0.2, int: 2**31 + 1}.get(config_module._without_none(hint))
        line = f"--{field.name}={value!r}"
        try:
            found = value and to_dict(parsed(type(config), [*to_flag_lines(config), line]))[field.name]
        except InputError:
            continue  # the command's own checks
        tried += value is not None
        assert found == value
    assert tried or not any(
        config_module._without_none(h) in (int, float) for _, h in config_module.leaves(type(config))
    )


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), max_size=12)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Outer,
        name=TEXT,
        on=st.booleans(),
        off=st.booleans(),
        kind=st.sampled_from(["a", "b"]),
        sizes=st.lists(st.integers(-(2**70), 2**70), max_size=3).map(tuple),
        names=st.lists(TEXT.filter(bool), max_size=3).map(tuple),
        rate=st.none() | FLOATS,
        inner=st.builds(Inner, ratio=FLOATS, maybe=st.none() | st.integers()),
    )
)
def test_any_values_survive_flags_files_and_dictionaries(config):
    assert parsed(Outer, to_flag_lines(config)) == config
    assert from_dict(Outer, to_dict(config)) == config
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "f.flags"
        write_flag_file(path, config, "test")
        assert read_flag_file(path, Outer) == config


def test_flags_that_are_left_out_have_their_defaults():
    assert parsed(Outer, ["--name=n"]) == Outer("n")
    assert parsed(Outer, ["--name=n", "--noon", "--sizes=3,4", "--names="]) == Outer("n", False, sizes=(3, 4), names=())
    assert parsed(Outer, ["--name=n", "--maybe=0", "--ratio=1e-3"]).inner == Inner(1e-3, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--name is required: a required string"),
        (["--name=n", "--sizes=1,x"], "--sizes=1,x: expected a comma-separated list of ints"),
    ],
)
def test_what_is_missing_or_malformed_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        parsed(Outer, arguments)


@pytest.mark.parametrize("argument", ["--kind=c", "--maybe=1.5", "--ratio=much", "--on=perhaps", "--nonsense=1"])
def test_values_of_another_type_are_refused(argument):
    with pytest.raises(flags.Error, match=argument.split("=")[0][2:]):
        parsed(Outer, ["--name=n", argument])


def test_a_flag_file_that_does_not_parse_is_named(tmp_path):
    (tmp_path / "f.flags").write_text("--name=n\n--nonsense=1\n")
    with pytest.raises(InputError, match=r"f\.flags: .*nonsense"):
        read_flag_file(tmp_path / "f.flags", Outer)
    with pytest.raises(InputError, match=r"g\.flags"):
        read_flag_file(tmp_path / "g.flags", Outer)


def test_a_flag_file_is_replaced_whole(tmp_path):
    path = tmp_path / "f.flags"
    write_flag_file(path, Outer("a" * 100), "test")
    write_flag_file(path, Outer("b"), "test")
    assert read_flag_file(path, Outer) == Outer("b")
    assert [f.name for f in tmp_path.iterdir()] == ["f.flags"]


def test_a_type_that_no_flag_holds_is_an_error_of_the_program():
    cls = dataclasses.make_dataclass("Bad", [("x", dict[str, int], option(None, "x"))])
    assert typing.get_type_hints(cls) == {"x": dict[str, int]}
    with pytest.raises(TypeError, match=r"Bad\.x"):
        define_flags(cls, flags.FlagValues())


def test_checks_name_flag_value_and_fix():
    check(True, "k", 3, "no")
    with pytest.raises(InputError, match="--k=3: must be less"):
        check(False, "k", 3, "must be less")
    for value, why in ((0, "above 0"), (-1, "above 0"), (math.inf, "finite"), (math.nan, "finite")):
        with pytest.raises(InputError, match=f"must be {why}"):
            config_module.check_positive(Inner(ratio=value), "ratio")
    config_module.check_positive(Inner(), "ratio", "maybe")  # None is the default's affair


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[1].glob("configs/*_*.flags")), ids=lambda path: path.stem
)
def test_flag_files_of_whole_jobs_hold_flags_that_there_are(path):
    command = next((name for name in ("harvest", "train") if path.stem.endswith(f"_{name}")), None)
    if command is None:
        pytest.skip("read by tests/lm")
    config_class, _ = COMMANDS[command].load()
    values = flags.FlagValues()
    define_flags(config_class, values)
    flags.DEFINE_string("flagfile", "", "", flag_values=values)
    values(["jaxsae", f"--flagfile={path}", "--store=s", *(["--workdir=w"] if command == "train" else [])])
    from_flags(config_class, values)
    first = path.read_text().splitlines()[0]
    assert first.startswith(f"# jaxsae {command} --flagfile=configs/{path.name}") and "NOT RUN" in path.read_text()


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].glob("configs/sweeps/*.flags")), ids=lambda p: p.stem)
def test_flag_files_of_sweeps_make_members(path):
    from jaxsae.sweep import SweepConfig
    from jaxsae.sweep.grid import make_members

    members = make_members(read_flag_file(path, SweepConfig))
    assert len(members) >= 12 and any(m.held_out for m in members)
    text = path.read_text()
    assert text.startswith(f"# jaxsae sweep --flagfile=configs/sweeps/{path.name}\n")
    assert ("NOT RUN" in text) == (path.stem != "quick") and "# Cost" in text
