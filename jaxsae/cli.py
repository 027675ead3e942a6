"""`jaxsae <command> [--flagfile=FILE] [--flag=value ...]`.

Exit status: 0 done; 2 bad usage or input, one message and no traceback; 75 stopped by SIGTERM with all saved, to be
started again; 1 anything else.
"""

import locale
import os
import sys
import textwrap
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from absl import flags

import jaxsae
from jaxsae import flag_files
from jaxsae.commands import COMMANDS
from jaxsae.config import define_flags, from_flags
from jaxsae.errors import CheckFailed, InputError, MembersFailed, Preempted
from jaxsae.hosts import processes
from jaxsae.hosts.joining import JoinConfig

USAGE = "usage: jaxsae <command> [--flagfile=FILE] [--flag=value ...]"
WRAP = 100


def _overview() -> str:
    lines = [USAGE, "", "Sparse autoencoders on TPUs and GPUs. Commands:", ""]
    lines += [f"  {name:<12}{command.help}" for name, command in COMMANDS.items()]
    lines += ["", "`jaxsae <command> --help` lists a command's flags with their defaults."]
    return "\n".join(lines)


def _flag_help(name: str, values: flags.FlagValues) -> str:
    lines = [f"usage: jaxsae {name} [--flagfile=FILE] [--flag=value ...]", "", COMMANDS[name].help, ""]
    for flag_name in values:
        flag = values[flag_name]
        default = "" if flag.default is None else flag.default
        default = ",".join(map(str, default)) if isinstance(default, list) else default
        lines.append(f"  --{flag_name}={str(default).lower() if isinstance(default, bool) else default}")
        lines += textwrap.wrap(flag.help, WRAP, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def _parse(name: str, config_class: type, arguments: list[str]) -> tuple[Callable[[], Any], JoinConfig] | None:
    """What makes the command's configuration, and how it joins other processes; None where only help was asked for.

    Where flags follow from what a run on disk says, that is for when processes have joined: to read it starts JAX.
    """
    values = flags.FlagValues()
    define_flags(config_class, values)
    if COMMANDS[name].joins:
        define_flags(JoinConfig, values)
    values.set_gnu_getopt(True)
    if any(a in ("--help", "-h", "-help") for a in arguments):
        print(_flag_help(name, values))
        return None
    arguments = flag_files.expand(arguments)
    _check_started_once(name, arguments)
    rest = values([f"jaxsae {name}", *arguments])[1:]
    if name == "inspect" and len(rest) == 1:
        values["path"].value, rest = rest[0], []
    if rest:
        raise InputError(f"{' '.join(rest)}: not a flag. Flags look like --name=value; see `jaxsae {name} --help`.")
    joining = from_flags(JoinConfig, values) if COMMANDS[name].joins else JoinConfig()
    given = {flag: values[flag].value for flag in values if values[flag].present}
    if COMMANDS[name].implies(given):
        return lambda: from_flags(config_class, values, COMMANDS[name].implied_flags(given)), joining
    config = from_flags(config_class, values)
    return lambda: config, joining


def _log_dir(config: Any, joining: JoinConfig) -> Path:
    """Where the processes after the first write; a directory that any host can make."""
    workdir = getattr(config, "workdir", "")
    here = Path(workdir, "logs") if workdir and "://" not in workdir else Path("jaxsae-logs")
    return Path(joining.log_dir) if joining.log_dir else here


class _OneProcess(Exception):
    """A command that does not join others was started several times."""

    def __init__(self, count: int | str):
        super().__init__(
            f"this command runs in one process, and {count} were started. Start one (srun --ntasks=1, or on one host)."
        )


def _check_started_once(name: str, arguments: list[str]) -> None:
    """Refuses the flags by which a launcher makes processes join, where the command does not."""
    given = dict(a.lstrip("-").partition("=")[::2] for a in arguments if a.startswith("-"))
    if not COMMANDS[name].joins and (count := given.get("num_processes", "")) not in ("", "1"):
        raise _OneProcess(count)


def _work(name: str, function: Callable[[Any], Any], make: Callable[[], Any], joining: JoinConfig) -> None:
    if not COMMANDS[name].joins:
        with suppress(InputError):  # half a cluster, such as a shell of one, does not concern it
            if (place := joining.place()) is not None:
                raise _OneProcess(place.count)
        return function(make())
    from jaxsae.progress import log_under  # jax, which `jaxsae --help` does without

    with processes.joined(joining, name):
        config = make()
        log_under(_log_dir(config, joining))
        function(config)


_EXPECTED = (InputError, flags.Error, _OneProcess)


def _after_error(name: str, error: BaseException) -> int:
    """Says what went wrong, here and to the other processes, and gives the exit status."""
    if isinstance(error, _EXPECTED):
        status, message = 2, str(error)
    else:
        lost = not processes.is_alone() and any(sign in str(error) for sign in ("Gloo", "NCCL", "coordination"))
        status, message = 1, f"{type(error).__name__}: {error}"
        if lost:  # a collective that broke off says no more than that; the process that has gone may have said why
            processes.listen()
            message = f"another process has gone ({str(error).splitlines()[0][:200]}). {processes.RESUME}"
        else:
            traceback.print_exception(error)
    if status == 2 or not processes.is_alone():
        print(f"jaxsae {name}: {message}", file=sys.stderr, flush=True)
    processes.leave(status, message)
    return status


def run(arguments: list[str]) -> int:
    """Runs one command; returns the exit status."""
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(jaxsae.__version__)
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        print(f"jaxsae: no command {name!r}.\n\n{_overview()}", file=sys.stderr)
        return 2
    try:
        if "JAXSAE_AVOID" in os.environ:
            from jaxsae.kernels.avoid import check_names  # jax, which `jaxsae --help` does without

            check_names()
        config_class, function = COMMANDS[name].load()
        if (parsed := _parse(name, config_class, arguments[1:])) is not None:
            _work(name, function, *parsed)
    except (Preempted, MembersFailed, CheckFailed) as ended:
        print(f"jaxsae {name}: {ended}", file=sys.stderr)
        return ended.status
    except BaseException as error:
        if processes.is_alone() and not isinstance(error, _EXPECTED):
            raise
        return _after_error(name, error)
    return 0


def _take_utf8() -> None:
    """Begins again in UTF-8 mode where the locale has another encoding.

    Python would write names in that one, and TensorStore, which writes beside it, in UTF-8: a run in two directories.
    """
    if sys.getfilesystemencoding() == "utf-8" and locale.getpreferredencoding(False).lower() in ("utf-8", "utf8"):
        return
    if os.environ.get("PYTHONUTF8") == "1":  # asked for, and overruled by -X utf8=0: it would begin again for ever
        return
    os.environ["PYTHONUTF8"] = "1"
    # As it was started, not by -m: that would put the working directory before the installed modules.
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # the bytes as they came


def main() -> None:
    """The console script."""
    _take_utf8()
    try:
        status = run(sys.argv[1:])
        if sys.stdout is not None:  # as it is where it was closed
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status)


if __name__ == "__main__":
    main()
