"""Joining: whole configurations or clear errors, never a process that overlooks the others."""

import os
import socket
import time

import numpy as np
import pytest

from jaxsae import cli
from jaxsae.errors import InputError
from jaxsae.faults.children import Children, free_port
from jaxsae.hosts import processes
from jaxsae.hosts.cluster import detect, refuse_half_a_cluster
from jaxsae.hosts.joining import JoinConfig

ALL = {"coordinator": "host:1234", "num_processes": 4, "process_id": 1}


@pytest.fixture
def environment(monkeypatch):
    """environment(**variables): those of a scheduler, and no other scheduler's."""

    def make(**variables):
        for name in list(os.environ):
            if name.startswith(("SLURM_", "OMPI_", "TPU_", "KUBERNETES_", "JAX_COORDINATOR")):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    make()
    return make


def test_alone_without_a_cluster_and_with_distributed_off(environment):
    assert JoinConfig().place() is None
    environment(SLURM_JOB_ID="7", SLURM_NTASKS="4")
    assert JoinConfig(distributed="off").place() is None


def test_the_three_flags_make_a_place():
    for distributed in ("auto", "explicit"):
        place = JoinConfig(distributed=distributed, **ALL).place()
        assert (place.coordinator, place.count, place.process, place.devices) == ("host:1234", 4, 1, None)


@pytest.mark.parametrize("left_out", list(ALL))
def test_half_a_configuration_is_an_error(left_out):
    some = {name: value for name, value in ALL.items() if name != left_out}
    with pytest.raises(InputError, match=f"--{left_out}: missing.*or --distributed=off"):
        JoinConfig(**some)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"distributed": "explicit"}, "--coordinator, --num_processes, --process_id: missing"),
        ({"distributed": "off", **ALL}, "--distributed=off: goes against --coordinator=host:1234"),
        ({**ALL, "process_id": 4}, "--process_id=4: must be from 0 to --num_processes - 1 = 3"),
        ({**ALL, "coordinator": "host"}, "--coordinator=host: must be HOST:PORT"),
        ({**ALL, "coordinator": "http://host:1234"}, "--coordinator=http://host:1234: must be HOST:PORT"),
        ({**ALL, "coordinator": "host:99999"}, "--coordinator=host:99999: must be HOST:PORT"),
        ({"join_timeout": 0}, "--join_timeout=0: must be above 0"),
        ({"peer_timeout": 0.5}, "--peer_timeout=0.5: must be at least 1 second"),
    ],
)
def test_flags_that_cannot_be(flags, message):
    with pytest.raises(InputError, match=message):
        JoinConfig(**flags)


def test_slurm_and_open_mpi_are_found(environment):
    step = {"SLURM_STEP_NODELIST": "node[003-006]", "SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
    environment(SLURM_JOB_ID="7", **step)
    place = detect(5)
    assert (place.coordinator.split(":")[0], place.count, place.process, place.devices) == ("node003", 8, 5, [1])
    environment(SLURM_JOB_ID="7", **step | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"})
    assert detect(5) is None  # and all of the node's devices, not those of one task
    ranks = {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
    environment(OMPI_MCA_orte_hnp_uri="1531576320.0;tcp://10.96.0.1,10.148.0.1:34911", **ranks)
    place = detect(5)
    assert (place.coordinator.split(":")[0], place.count, place.process) == ("10.96.0.1", 3, 2)


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"},
        {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1"},
        {"TPU_WORKER_HOSTNAMES": "a,b"},
        {"JAX_COORDINATOR_ADDRESS": "host:1"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"},
    ],
)
def test_half_a_cluster_is_an_error(environment, variables):
    with pytest.raises(InputError, match=f"{next(reversed(variables))}|{next(iter(variables))}"):
        refuse_half_a_cluster(variables)
    with pytest.raises(InputError, match="--distributed=off"):
        refuse_half_a_cluster(variables)
    refuse_half_a_cluster({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1"})


def test_a_coordinator_that_does_not_answer_is_told_within_the_time(tmp_path):
    port = free_port()
    flags = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2", "--join_timeout=2"]
    began = time.monotonic()
    command = ["harvest", "--store=s", "--source=arrays", "--input=x.npy", *flags]
    with Children(tmp_path, [*command, "--process_id=1"]) as second:
        assert second.wait(20) == [2]
    assert f"--coordinator=127.0.0.1:{port}: does not answer after 2 s (--join_timeout)" in second.output()
    with Children(tmp_path, [*command, "--process_id=0"]) as first:
        assert first.wait(20) == [2]
    assert "not all 2 processes joined within 2 s (--join_timeout)" in first.output()
    assert time.monotonic() - began < 30


def test_a_port_that_is_taken_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        flags = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2", "--process_id=0", "--join_timeout=20"]
        with Children(tmp_path, ["harvest", "--store=s", "--source=arrays", "--input=x.npy", *flags]) as first:
            assert first.wait(20) == [2]
    assert f"--coordinator=127.0.0.1:{port}: this host cannot serve there" in first.output()


def test_more_processes_than_shards_and_commands_of_one_process_are_refused(tmp_path, environment, capsys):
    np.save(tmp_path / "x.npy", np.ones((100, 4), np.float32))
    flags = ["--source=arrays", f"--input={tmp_path / 'x.npy'}", f"--store={tmp_path / 'store'}"]
    several = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n", "SLURM_NTASKS": "2"}
    environment(**several, SLURM_PROCID="0", SLURM_LOCALID="0")
    assert cli.run(["inspect", str(tmp_path)]) == 2
    assert "runs in one process, and 2 were started" in capsys.readouterr().err
    environment(SLURM_JOB_ID="7", SLURM_NTASKS="2")  # a shell of such a job
    assert cli.run(["inspect", str(tmp_path / "x.npy")]) == 2
    assert "were started" not in capsys.readouterr().err
    environment()
    join = ["--coordinator=127.0.0.1:1", "--num_processes=2", "--process_id=0"]  # as launch/local gives them
    assert cli.run(["evaluate", f"--run={tmp_path}", *join]) == 2
    assert "this command runs in one process, and 2 were started" in capsys.readouterr().err
    with Children(tmp_path, ["harvest", *flags], 2) as two:
        assert two.wait(60) == [2, 2]
    assert "--num_processes=2: this store has 1 shards" in two.output() and not (tmp_path / "store").exists()


def test_a_process_that_is_alone_agrees_with_itself():
    assert processes.is_alone() and processes.gather("x", "y") == ["y"]
    assert processes.from_first("x", lambda: 3) == 3
    processes.agree({"a": 1}, "")
    processes.barrier("x")
    with processes.busy("x"):
        processes.beat("y")
    processes.leave(1, "only where there are others")


LEAVE = """
import os, signal, sys, time
import jax
from jaxsae.hosts.joining import JoinConfig
from jaxsae.hosts.processes import joined

given = dict(f[2:].split("=") for f in sys.argv[1:])
number = int(given["process_id"])
join = JoinConfig(coordinator=given["coordinator"], num_processes=2, process_id=number, peer_timeout=5)
with joined(join, "test"):
    if number:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.5)  # jax's notice goes out within a second, while the other process is leaving
"""


def test_a_sigterm_while_another_process_leaves_holds_nobody_up(tmp_path):
    script = tmp_path / "leave.py"
    script.write_text(LEAVE)
    with Children(tmp_path, [str(script)], 2) as two:
        assert two.wait(60) == [0, 0], two.output(0)


BREAK = """
import sys, time
from jaxsae import cli
from jaxsae.errors import InputError
from jaxsae.hosts.joining import JoinConfig
from jaxsae.hosts.processes import joined, watchdog

given = dict(f[2:].split("=") for f in sys.argv[1:])
number = int(given["process_id"])
join = JoinConfig(coordinator=given["coordinator"], num_processes=2, process_id=number, peer_timeout=100)
try:
    with joined(join, "test"):
        if number == 0:
            time.sleep(1)  # less than process 0 takes to look by itself
            while NOTED and "failed" not in watchdog()._pulse:  # then it is about to end, last of all
                time.sleep(0.01)
            raise RuntimeError("Gloo all-reduce failed: connection closed by peer")
        raise InputError("the disk is full")
except Exception as error:
    cli._after_error("test", error)
"""


@pytest.mark.parametrize("noted", [False, True])
def test_a_process_whose_collective_broke_off_says_what_the_other_one_failed_of(tmp_path, noted):
    script = tmp_path / "break.py"
    script.write_text(f"NOTED = {noted}" + BREAK)
    with Children(tmp_path, [str(script)], 2) as two:
        assert two.wait(60) == [2, 2], two.output(0)
        assert "process 1" in two.output(0) and two.output(0).count("the disk is full") == 1
        assert "closed" not in two.output(0) and "has gone" not in two.output(0)
