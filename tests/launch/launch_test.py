"""The launchers, as far as they can be tried without their clusters: faked schedulers, schemas, real local processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = [path for path in sorted(LAUNCH.iterdir()) if path.suffix != ".yaml"]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """fake(name, body): puts a command on the PATH that notes how it was called, in the list that is returned."""

    def make(name: str, body: str = "") -> Path:
        calls = tmp_path / f"{name}.calls"
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "$*" >>{calls}\n{body}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        return calls

    monkeypatch.setenv("JAXSAE_PYTHON", sys.executable)
    return make


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.name)
def test_scripts_pass_bash_and_shellcheck(script):
    subprocess.run(["bash", "-n", script], check=True)
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    found = subprocess.run([shellcheck, "-x", script], cwd=LAUNCH.parent, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(("status", "queued"), [(0, False), (2, False), (75, True)])
@pytest.mark.parametrize(("script", "array", "job"), [("slurm", None, "123"), ("sweep_slurm", "7", "120_7")])
def test_slurm_queues_a_job_again_that_was_saved(fake, monkeypatch, status, queued, script, array, job):
    srun, scontrol = fake("srun", f"exit {status}"), fake("scontrol")
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    if array is not None:
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "120")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", array)
    command = ["train"] if script == "slurm" else []
    done = subprocess.run(["bash", LAUNCH / script, *command, "--flagfile=a b.flags"], capture_output=True)
    assert done.returncode == status
    name = "train" if script == "slurm" else "sweep"
    assert srun.read_text().endswith(f"-m jaxsae {name} --flagfile=a b.flags --distributed=auto\n")
    assert (scontrol.read_text() if scontrol.exists() else "") == (f"requeue {job}\n" if queued else "")


def test_slurm_outlives_its_tasks_at_the_time_limit(fake, monkeypatch):
    srun = fake("srun", "sleep 1; exit 75")
    fake("scontrol")
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    job = subprocess.Popen(["bash", LAUNCH / "slurm", "train"])
    while not srun.exists():
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    assert job.wait(20) == 75


def test_tpu_vm_runs_the_command_on_all_workers(fake, tmp_path):
    gcloud, flags = fake("gcloud"), tmp_path / "run.flags"
    flags.write_text("--k=4\n")
    command = [
        LAUNCH / "tpu_vm",
        "--name=slice",
        "--zone=z",
        "--",
        "train",
        f"--flagfile={flags}",
        "--store=gs://b/a b",
    ]
    subprocess.run(command, check=True)
    copied, ran = gcloud.read_text().split("\n", 1)
    assert copied.endswith(f"{flags} slice: --zone=z --worker=all") and "jaxsae.tar.gz" in copied
    assert r"train --flagfile=run.flags --store=gs://b/a\ b --distributed=auto" in ran and "--worker=all" in ran
    assert subprocess.run([LAUNCH / "tpu_vm", "--", "train"], capture_output=True).returncode == 2


def check_schema(value, kind: str) -> None:
    """Fails where `value` has a field that the Kubernetes API does not know, lacks one, or has one of another type."""
    client = pytest.importorskip("kubernetes.client")
    if kind.startswith("list["):
        assert isinstance(value, list)
        return [check_schema(item, kind[5:-1]) for item in value] and None
    if kind.startswith("dict("):
        assert isinstance(value, dict)
        return None
    if not hasattr(client, kind):
        known = {"str": str, "int": int, "bool": bool}
        assert isinstance(value, known.get(kind, object)), (value, kind)
        return None
    model = getattr(client, kind)
    fields = {name: model.openapi_types[python] for python, name in model.attribute_map.items()}
    for name, item in value.items():
        assert name in fields, f"{kind} has no field {name}"
        check_schema(item, fields[name])
    arguments = {python: value[name] for python, name in model.attribute_map.items() if name in value}
    model(**arguments)  # raises where a required field is missing
    return None


@pytest.mark.parametrize("name", ["gke.yaml", "sweep_gke.yaml"])
def test_the_gke_manifests_are_ones_that_kubernetes_takes(name):
    manifest = yaml.safe_load((LAUNCH / name).read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert set(manifest["spec"]) <= {"replicatedJobs", "network", "successPolicy", "failurePolicy", "startupPolicy"}
    (job,) = manifest["spec"]["replicatedJobs"]
    assert set(job) <= {"name", "replicas", "template", "groupName"}
    check_schema(job["template"], "V1JobTemplateSpec")
    spec = job["template"]["spec"]
    assert spec["parallelism"] == spec["completions"] and spec["completionMode"] == "Indexed"
    with pytest.raises(AssertionError, match="has no field paralelism"):
        check_schema({"spec": {**spec, "paralelism": 4}}, "V1JobTemplateSpec")


def test_local_ends_all_processes_and_passes_their_status_on(fake, tmp_path):
    done = subprocess.run(
        [
            LAUNCH / "local",
            "--processes=2",
            "--",
            "train",
            "--width=64",
            "--store=nowhere",
            f"--workdir={tmp_path / 'run'}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and "--store=nowhere: no such store" in done.stderr and "Traceback" not in done.stderr
    wrong = subprocess.run([LAUNCH / "local", "--processes=two", "--", "train"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "'two' is not a number above 0" in wrong.stderr


def test_local_passes_sigterm_on_and_leaves_no_process_behind(fake, monkeypatch, tmp_path):
    """A stand-in for Python, which says its number and waits for SIGTERM; the second to leave has failed."""
    calls = fake("stand-in", 'trap "kill \\$!; exit $STATUS" TERM; sleep 60 & echo $$ >>"$PIDS"; wait')
    (tmp_path / "bin" / "port").write_text("")
    real = fake("python-of-port", f'[ "$1" = -c ] && exec {sys.executable} "$@"; exec stand-in "$@"')
    monkeypatch.setenv("JAXSAE_PYTHON", str(tmp_path / "bin" / "python-of-port"))
    pids = tmp_path / "pids"
    monkeypatch.setenv("PIDS", str(pids))
    for status, wanted in ((75, 75), (0, 0), (7, 7), (127, 127)):
        pids.unlink(missing_ok=True)
        monkeypatch.setenv("STATUS", str(status))
        local = subprocess.Popen([LAUNCH / "local", "--processes=3", "--", "train"], stderr=subprocess.DEVNULL)
        while not pids.exists() or len(pids.read_text().split()) < 3:
            time.sleep(0.02)
        local.send_signal(signal.SIGTERM)
        assert local.wait(30) == wanted
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids.read_text().split())
    assert calls.exists() and real.exists()


def test_a_card_is_checked_from_wheels_without_a_network(tmp_path):
    """A wheel that the machine lacks is put aside for this process; one that it has as new is left alone."""
    for part in ("launch", "jaxsae"):
        (tmp_path / part).symlink_to(LAUNCH.parent / part)
    (tmp_path / "wheels").mkdir()
    for name, version in (("lacking", "1.0"), ("numpy", "0.1")):
        with zipfile.ZipFile(tmp_path / "wheels" / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "import pathlib; pathlib.Path(__file__)")
            about = f"{name}-{version}.dist-info"
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")
    # What Python would find: asked for by the stand-in, which then goes on as the interpreter that it stands for.
    asks = "import importlib.util as u, numpy; print('aside', u.find_spec('lacking') is not None, numpy.__version__ != '0.1')"
    stand_in = tmp_path / "python"
    stand_in.write_text(
        f'#!/usr/bin/env bash\nif [ "$1" = -m ] && [ "$2" = jaxsae ]; then {sys.executable} -c "{asks}"; fi\n'
        f'exec {sys.executable} "$@"\n'
    )
    stand_in.chmod(0o755)
    environment = os.environ | {"JAXSAE_PYTHON": str(stand_in), "XLA_FLAGS": ""}
    command = ["bash", tmp_path / "launch" / "check_gpu", "1", "--only=choice", f"--out={tmp_path / 'out'}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "aside True True" in done.stdout
    found = json.loads((tmp_path / "out" / "check-1.json").read_text())
    assert found["state"] == "complete" and {c["part"] for c in found["checks"]} == {"machine", "kernels"}
    assert "nothing was compared, seed" in (tmp_path / "out" / "check-1.txt").read_text()


def test_a_card_is_checked_in_rounds():
    done = subprocess.run(["bash", LAUNCH / "check_gpu", "3"], capture_output=True, text=True)
    assert done.returncode == 2 and "./launch/check_gpu ROUND [FLAGS]" in done.stderr
