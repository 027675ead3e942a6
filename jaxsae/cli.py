"""`jaxsae <command> [--flagfile=FILE] [--flag=value ...]`.

Exit status: 0 done; 2 bad usage or input, one message and no traceback; 1 anything else.
"""

import sys
import textwrap

from absl import flags

import jaxsae
from jaxsae.commands import COMMANDS
from jaxsae.config import define_flags, from_flags
from jaxsae.errors import InputError

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
        if flag_name == "flagfile":
            continue
        default = "" if flag.default is None else flag.default
        default = ",".join(map(str, default)) if isinstance(default, list) else default
        lines.append(f"  --{flag_name}={str(default).lower() if isinstance(default, bool) else default}")
        lines += textwrap.wrap(flag.help, WRAP, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def _parse(name: str, config_class: type, arguments: list[str]):
    """The command's configuration, or None where only help was asked for."""
    values = flags.FlagValues()
    define_flags(config_class, values)
    flags.DEFINE_string("flagfile", "", "a file with one flag a line", flag_values=values)
    values.set_gnu_getopt(True)
    if any(a in ("--help", "-h", "-help") for a in arguments):
        print(_flag_help(name, values))
        return None
    rest = values([f"jaxsae {name}", *arguments])[1:]
    if name == "inspect" and len(rest) == 1:
        values["path"].value, rest = rest[0], []
    if rest:
        raise InputError(f"{' '.join(rest)}: not a flag. Flags look like --name=value; see `jaxsae {name} --help`.")
    return from_flags(config_class, values)


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
        config_class, function = COMMANDS[name].load()
        config = _parse(name, config_class, arguments[1:])
        if config is not None:
            function(config)
    except (InputError, flags.Error) as error:
        print(f"jaxsae {name}: {error}", file=sys.stderr)
        return 2
    return 0


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
