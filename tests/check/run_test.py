"""`jaxsae check` as a command: its file, its status, and real processes that die or do not end."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from jaxsae.check import CheckConfig, check, run
from jaxsae.errors import InputError


def command(tmp_path, *flags, setup=""):
    """Runs the command; `setup` is Python that its processes run first."""
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(setup))
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}", "XLA_FLAGS": ""}
    arguments = [sys.executable, "-m", "jaxsae", "check", f"--json={tmp_path / 'found.json'}", *flags]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120)


def found_in(tmp_path):
    return json.loads((tmp_path / "found.json").read_text())


def test_kernels_that_are_wrong_or_take_their_process_along_are_named_and_the_rest_goes_on(tmp_path):
    setup = """
        import os, signal, sys
        if "jaxsae.check.worker" in sys.orig_argv:
            from jaxsae.kernels.encode_topk import api
            sound = api.IMPLEMENTATIONS["chunked"]

            def wrong(x, w, b, k):
                values, indices = sound(x, w, b, k)
                return values.at[3, 0].add(1.0), indices

            def deadly(x, w, b, k):
                if k == 1:
                    print("an illegal access", flush=True)
                    os.kill(os.getpid(), signal.SIGSEGV)
                return sound(x, w, b, k)

            api.IMPLEMENTATIONS |= {"chunked": wrong, "xla": deadly}
    """
    done = command(tmp_path, "--parts=kernels", "--only= k 32 float32", "--seed=5", setup=setup)
    assert done.returncode == 1, done.stderr
    assert "encode chunked k 32 float32 is wrong: " in done.stderr
    assert "Keep away from chunked: --encoder=xla in `jaxsae train`, or JAXSAE_AVOID=chunked" in done.stderr
    found = found_in(tmp_path)
    assert (
        found["state"] == "complete"
        and found["wrong"] == ["encode chunked k 32 float32"]
        and found["flags"]["seed"] == 5
    )
    assert {c["status"] for c in found["checks"] if c["implementation"] in ("cpu", "screened", "xla")} == {"passed"}
    for one in found["checks"][1:]:
        assert {"name", "shapes", "implementation", "error", "bound", "seconds"} <= set(one)
    done = command(tmp_path, "--parts=kernels", "--only=encode xla k", setup=setup)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    status = {c["name"]: (c["status"], c["message"]) for c in found_in(tmp_path)["checks"][1:]}
    ended, why = status["encode xla k 1 float32"]
    assert ended == "failed" and "ended by SIGSEGV" in why and "an illegal access" in why
    assert [s for s, _ in status.values()].count("passed") == len(status) - 1 == 4


def test_it_ends_in_time_with_a_whole_file_and_starts_no_backend_itself(tmp_path):
    script = f"""
        import time
        from jaxsae.check import CheckConfig, check
        began = time.monotonic()
        check(CheckConfig(json={str(tmp_path / "found.json")!r}, minutes=0.5, compare=()))
        assert time.monotonic() - began < 48
        from jax._src import xla_bridge
        assert not xla_bridge.backends_are_initialized()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = found_in(tmp_path)
    assert found["state"] == "cut" and found["not_reached"] and found["checks"][0]["figures"]["platform"] == "cpu"
    assert "not reached: " in done.stdout


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_an_end_from_outside_leaves_a_whole_file_and_no_process(tmp_path, ending):
    file = tmp_path / "found.json"
    started = [sys.executable, "-m", "jaxsae", "check", f"--json={file}", "--parts=kernels"]
    process = subprocess.Popen(started, stderr=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (file.exists() and len(json.loads(file.read_text())["checks"]) > 1):
        time.sleep(0.1)
    workers = children_of(process.pid)
    process.send_signal(ending)
    said, _ = process.communicate(timeout=20)
    found = found_in(tmp_path)
    assert len(found["checks"]) > 1 and workers
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
    if ending == signal.SIGTERM:
        assert process.returncode == 143 and found["state"] == "cut" and "nothing was compared" in said


def test_a_process_that_does_not_end_is_not_waited_for(tmp_path):
    setup = """
        import atexit, sys, time
        if "jaxsae.check.worker" in sys.orig_argv:
            atexit.register(time.sleep, 100)
    """
    began = time.monotonic()
    done = command(tmp_path, "--parts=kernels", "--only=choice d 128 float32", setup=setup)
    assert done.returncode == 0 and time.monotonic() - began < 40 and found_in(tmp_path)["state"] == "complete"


def test_a_worker_that_ends_before_it_begins_is_a_failure(tmp_path):
    setup = """
        import os, sys
        if "jaxsae.check.worker" in sys.orig_argv and '"kernels"' in sys.orig_argv[-1]:
            os._exit(0)
    """
    done = command(tmp_path, "--parts=kernels", setup=setup)
    assert done.returncode == 1 and "kernels: no check began failed: its process ended with status 0" in done.stderr


def test_no_time_to_compare_anything_is_no_success(tmp_path):
    done = command(tmp_path, "--parts=kernels", "--minutes=0.04")
    assert done.returncode == 1 and "before anything was compared" in done.stderr
    assert "nothing was compared" in done.stdout and found_in(tmp_path)["state"] == "cut"


def test_a_kernel_to_be_avoided_is_left_alone_and_an_unknown_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSAE_AVOID", "xla,chunked,screened,mosaic_gpu,pallas_tpu")
    done = command(tmp_path, "--parts=kernels", "--only= k 1 float32")
    assert done.returncode == 0 and {c["implementation"] for c in found_in(tmp_path)["checks"][1:]} == {
        "cpu",
        "reference",
    }
    monkeypatch.setenv("JAXSAE_AVOID", "nosuch")
    done = command(tmp_path)
    assert done.returncode == 2 and "JAXSAE_AVOID=nosuch: no kernel 'nosuch'" in done.stderr


def children_of(pid):
    return [int(p) for p in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return open(f"/proc/{pid}/stat").read().split()[2] != "Z"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"json": "/nowhere/found.json"}, "--json=/nowhere/found.json: cannot be written"),
        ({"minutes": 0.0}, "--minutes=0.0"),
        ({"minutes": float("nan")}, "--minutes=nan"),
        ({"minutes": 1e300}, "--minutes=1e.300: must be at most 10080, a week"),
        ({"parts": ("kernels", "speed")}, "--parts=kernels,speed: choose from kernels, ceilings, steps, training"),
        ({"parts": ()}, "--parts=: choose from"),
        ({"compare": ("nosuch",)}, "--compare=nosuch: choose from sparsify"),
        ({"seed": -1}, "--seed=-1"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(flags, message, monkeypatch):
    monkeypatch.setattr(run, "Session", lambda *a: pytest.fail("something was started"))
    with pytest.raises(InputError, match=message):
        check(CheckConfig(**flags))


def test_a_name_that_no_check_has_is_refused(tmp_path):
    done = command(tmp_path, "--parts=ceilings", "--only=nosuch")
    assert done.returncode == 2 and "--only=nosuch: no check's name holds that; there are" in done.stderr
