"""The command line: what it lists, what it refuses, and with which exit status."""

import subprocess
import sys

import pytest

import jaxsae
from jaxsae import cli
from jaxsae.commands import COMMANDS
from jaxsae.config import leaves


def run(capsys, *arguments):
    """(exit status, standard output, standard error)."""
    status = cli.run(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize("argument", ["--help", "-h", "help"])
def test_help_lists_every_command_with_a_line(argument, capsys):
    status, out, _ = run(capsys, argument)
    assert status == 0 and "usage: jaxsae <command>" in out
    for name, command in COMMANDS.items():
        assert any(line.split(None, 1) == [name, command.help] for line in out.splitlines())


def test_no_command_shows_the_help_and_fails(capsys):
    status, out, _ = run(capsys)
    assert status == 2 and "usage: jaxsae" in out


def test_an_unknown_command_is_named_with_those_there_are(capsys):
    status, out, err = run(capsys, "trian", "--k=3")
    assert status == 2 and out == "" and "no command 'trian'" in err and "train" in err


def test_the_version_is_told(capsys):
    assert run(capsys, "--version") == (0, jaxsae.__version__ + "\n", "")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("position", [0, 1])
def test_help_of_a_command_lists_every_flag_with_its_help(command, position, capsys):
    arguments = ["--seed=1"]
    arguments.insert(position, "--help")
    status, out, _ = run(capsys, command, *arguments[: position + 1])
    assert status == 0 and out.startswith(f"usage: jaxsae {command} ")
    flowing = " ".join(out.split())
    config_class, function = COMMANDS[command].load()
    assert callable(function)
    for field, _ in leaves(config_class):
        assert f"--{field.name}=" in out and " ".join(field.metadata["help"].split()) in flowing


def test_help_shows_defaults(capsys):
    out = run(capsys, "train", "--help")[1]
    for line in ("--k=32", "--optimizer=adam", "--batch_size=4096", "--epsilon=6.25e-10", "--mesh=", "--store="):
        assert f"  {line}\n" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_flag_is_refused_by_every_command(command, capsys):
    status, _, err = run(capsys, command, "--nonsense=1")
    assert status == 2 and "nonsense" in err and err.startswith(f"jaxsae {command}: ") and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["train"], "--store is required: activations to train on"),
        (["train", "--store=s", "--workdir=w"], "--width is required: number of latents"),
        (["train", "--store=s", "--workdir=w", "--width=many"], "width"),
        (["train", "--store=s", "--workdir=w", "--width=8", "--k=9"], "--k=9: must be at most --width=8"),
        (["train", "--store=s", "--workdir=w", "--width=8", "--architecture=vanilla"], "architecture"),
        (["train", "--store=s", "--workdir=w", "--width=64", "--mesh=2,x"], "--mesh=2,x: expected"),
        (["train", "--store=s", "--workdir=w", "--width=64", "k=3"], "k=3: not a flag. Flags look like --name=value"),
        (["train", "--flagfile=/no/such.flags"], "/no/such.flags"),
        (["harvest", "--store=s"], "--tokens"),
        (["inspect"], "--path is required"),
        (["inspect", "/no/such/place"], "/no/such/place: nothing there"),
        (["evaluate", "--run=/no/such/run"], "/no/such/run"),
        (["export", "--run=/no/such/run", "--format=saelens", "--output=/tmp/none"], "/no/such/run"),
        (["report", "--run=/no/such/run"], "/no/such/run"),
    ],
)
def test_bad_usage_is_one_message_and_status_2(arguments, part, capsys):
    status, _, err = run(capsys, *arguments)
    assert status == 2 and part in err and err.startswith(f"jaxsae {arguments[0]}: ") and err.count("jaxsae: ") == 0


def test_flag_files_are_read_and_what_follows_them_wins(tmp_path, capsys):
    path = tmp_path / "f.flags"
    path.write_text("# a comment\n--store=/no/such/store\n--workdir=w\n--width=64\n\n--k=100\n")
    assert "--k=100: must be at most" in run(capsys, "train", f"--flagfile={path}")[2]
    assert "/no/such/store" in run(capsys, "train", f"--flagfile={path}", "--k=4")[2]


def test_errors_of_the_program_are_not_hidden(monkeypatch):
    def broken(config):
        raise ZeroDivisionError

    inspect_config = COMMANDS["inspect"].load()[0]
    monkeypatch.setattr(type(COMMANDS["inspect"]), "load", lambda self: (inspect_config, broken))
    with pytest.raises(ZeroDivisionError):
        cli.run(["inspect", "x"])


def test_as_a_program_it_prints_no_traceback_and_needs_no_jax_to_list_its_commands():
    command = [sys.executable, "-m", "jaxsae"]
    refused = subprocess.run([*command, "train", "--k=0"], capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stdout == "" and refused.stderr.startswith("jaxsae train: ")
    assert len(refused.stderr.splitlines()) == 1
    code = "import sys; from jaxsae import cli; cli.run(['--help']); sys.exit('jax' in sys.modules)"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert listed.returncode == 0 and "quickstart" in listed.stdout


def test_numbers_in_words_of_ours(capsys):
    flags = ["train", "--store=x", "--workdir=y", "--width=16"]
    assert cli.run([*flags, "--tokens=1e3"]) == 2 and cli.run([*flags, "--learning_rate=fast"]) == 2
    told = capsys.readouterr().err
    assert "--tokens=1e3: expected a whole number in digits, such as 1000." in told and "literal" not in told
    assert "--learning_rate=fast: expected a number, such as 0.001." in told
