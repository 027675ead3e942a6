"""Real processes that run a jaxsae command and meet over loopback, started in a tenth of a second each.

They are forked from a server that has imported jax but not started it; to jax, and to the kernel that kills
them, they are processes like any other.
"""

import atexit
import faulthandler
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PRELOADED = ["jaxsae.cli", "jaxsae.training", "jaxsae.harvest", "tensorboardX"]


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _child(arguments: Sequence[str], environment: Mapping[str, str], output: str) -> None:
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1, closefd=False), os.fdopen(2, "w", 1, closefd=False)
    import jax

    for name, value in environment.items():  # jax has read its own variables already
        if name.startswith("JAX_"):
            setting, numeric = name.lower(), value.lstrip("-").isdigit()
            jax.config.update(setting, float(value) if "secs" in setting else int(value) if numeric else value)
    faulthandler.register(signal.SIGUSR1)  # where a hung process hangs
    status = 1
    try:
        if arguments[0].endswith(".py"):
            sys.argv = list(arguments)
            runpy.run_path(arguments[0], run_name="__main__")
            status = 0
        else:
            from jaxsae import cli

            status = cli.run(list(arguments))
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    atexit._run_exitfuncs()  # among them jax's farewell to the other processes, which multiprocessing leaves out
    os._exit(status)


class Children:
    """`count` processes of one command, with `devices` simulated devices each; a context that leaves none behind."""

    def __init__(
        self,
        directory: Path,
        arguments: Sequence[str],
        count: int = 1,
        devices: int = 1,
        each: Callable[[int], Sequence[str]] | None = None,
        **join: float | str,
    ):
        """Starts them.

        Args:
          directory: for the files `output-N` of what they say.
          arguments: of `jaxsae`, or a script's path and its arguments.
          each: further arguments of the N-th process.
          join: further flags by which they join.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.count = directory, count
        others = [f for f in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in f]
        environment = dict(os.environ) | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": " ".join([*others, f"--xla_force_host_platform_device_count={devices}"]),
        }
        join = {"coordinator": f"127.0.0.1:{free_port()}", "num_processes": count, "peer_timeout": 20} | join
        flags = [f"--{name}={value}" for name, value in join.items()] if count > 1 else []
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.processes = []
        for number in range(count):
            own = [f"--process_id={number}"] if count > 1 else []
            own += each(number) if each else []
            output = str(directory / f"output-{number}")
            Path(output).write_text("", encoding="utf-8")
            self.processes.append(
                context.Process(target=_child, args=([*arguments, *flags, *own], environment, output))
            )
            self.processes[-1].start()

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *exception) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def output(self, number: int = 0) -> str:
        """What a process has said so far."""
        return (self.directory / f"output-{number}").read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout: float = 90) -> list[int | None]:
        """Exit statuses, below 0 for signals; None of those that have not ended after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        hung = [number for number, process in enumerate(self.processes) if process.exitcode is None]
        for number in hung:
            self.signal(number, signal.SIGUSR1)
            time.sleep(0.5)
        return [process.exitcode for process in self.processes]

    def until(self, happened: Callable[[], object], timeout: float = 90) -> bool:
        """Returns once `happened()`, True, or once a process has ended or the time is over, False."""
        deadline = time.monotonic() + timeout
        while not happened():
            if time.monotonic() > deadline or any(process.exitcode is not None for process in self.processes):
                return False
            time.sleep(0.01)
        return True

    def signal(self, number: int, what: signal.Signals) -> None:
        """Sends a signal to a process, where it still runs."""
        if self.processes[number].exitcode is None:
            os.kill(self.processes[number].pid, what)
