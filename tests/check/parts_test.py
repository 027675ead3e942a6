"""The parts of `jaxsae check` that measure, or need several devices; the table."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.check import ceilings, machine, mesh, show, steps, training
from jaxsae.check.findings import MEASURED, PASSED, WRONG, Findings
from jaxsae.check.poisoned import Poisoned
from jaxsae.check.trace import operations
from jaxsae.check.worker import run_check
from jaxsae.errors import InputError
from jaxsae.kernels import select

TINY = steps.Shape(16, 256, 64, 4, 2)


def test_a_result_that_is_not_written_shows_the_poison():
    device = jax.devices()[0]
    program = Poisoned(lambda x: (x + 1, (x > 0).sum()), device, np.ones(5, np.float32))
    assert program(np.ones(5, np.float32))[0].tolist() == [2] * 5
    unwritten = jax.jit(lambda old: old, donate_argnums=0)  # stands for a kernel that writes nothing
    program.compiled = type(
        "Idle", (), {"memory_analysis": program.compiled.memory_analysis, "__call__": lambda s, o, x: unwritten(o)}
    )()
    values, index = program(np.ones(5, np.float32))
    assert np.isnan(values).all() and index == 0x7FC0DEAD


def test_steps_are_timed_in_both_states_with_one_program():
    none, some = (run_check(check, 0).outcome for check in steps.checks(jax.devices()[0], TINY))
    assert none.status == some.status == MEASURED
    assert none.figures["dead_fraction"] == 0 and some.figures["dead_fraction"] == pytest.approx(0.1, abs=0.01)
    for figures in (none.figures, some.figures):
        assert set(figures["parts"]) == {"gradients", "update"}  # latents do not go by pairs at this size
        assert (
            figures["step_over_floor"] > 0 and figures["peak_memory_bytes"] > 0 and figures["encoder"]["takes"] == "cpu"
        )


def test_a_shape_that_does_not_fit_is_taken_with_smaller_moments(monkeypatch):
    made = steps.TimedStep

    def refuse(config, mesh):
        if config.optimization.optimizer == "adam":
            raise InputError("this configuration needs 200 GiB on each device and 100 GiB are free.")
        return made(config, mesh)

    monkeypatch.setattr(steps, "TimedStep", refuse)
    outcome = run_check(next(iter(steps.checks(jax.devices()[0], TINY))), 0).outcome
    assert outcome.status == MEASURED and outcome.figures["optimizer"] == "adam_bf16"
    assert "n 256 with adam does not fit: this configuration needs 200 GiB" in outcome.message


def test_a_run_is_killed_resumed_and_compared(monkeypatch):
    small = training.Run(16, 32, 4096, 64, 4, 256, 12, 4, "float32")
    monkeypatch.setattr(training, "ON_HOST", small)
    monkeypatch.setenv("XLA_FLAGS", "")
    (check,) = training.checks("cpu")
    outcome = run_check(check, 0).outcome
    assert outcome.status == PASSED, outcome.message
    assert outcome.figures["fvu"] < outcome.figures["start_fvu"] and outcome.figures["steps"] == 12


def test_a_run_that_comes_back_otherwise_or_learns_nothing_is_wrong(monkeypatch, tmp_path):
    states = iter([(12, {"W_enc": 1, "b_enc": 2}), (12, {"W_enc": 3, "b_enc": 2})])
    done = training.subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(training.subprocess, "run", lambda *a, **k: done)
    monkeypatch.setattr(training, "_kill", lambda *a: 4)
    monkeypatch.setattr(training, "_figures", lambda run: {"fvu": 0.9, "start_fvu": 0.5})
    monkeypatch.setattr(training, "bits", lambda run: next(states))
    outcome = training._compared(training.ON_HOST, tmp_path)
    assert outcome.status == WRONG
    assert "differs in its bits from one left alone: W_enc;" in outcome.message and "does not learn" in outcome.message


def test_a_run_that_fails_says_its_last_words(monkeypatch):
    monkeypatch.setattr(training, "_write", lambda *a: None)
    (check,) = training.checks("cpu")
    outcome = run_check(check, 0).outcome
    assert outcome.status == "failed" and "a run left alone ended with status 2: jaxsae train: " in outcome.message


def test_devices_are_compared_and_work_together(monkeypatch):
    alike, together = mesh.checks(jax.local_devices()[:2])
    assert run_check(alike, 0).outcome.status == run_check(together, 0).outcome.status == PASSED
    monkeypatch.setattr(select, "merge_over_model", lambda values, k: jnp.ones(values.shape, bool))
    assert run_check(together, 0).outcome.status == WRONG
    assert not list(mesh.checks(jax.local_devices()[:1]))


def test_the_machine_and_its_choices():
    (about,) = machine.checks(jax.devices()[0])
    figures = run_check(about, 0).outcome.figures
    assert figures["platform"] == "cpu" and figures["versions"]["jax"] == jax.__version__
    for check in machine.choices():
        found = run_check(check, 0).outcome.figures
        assert found["takes"] in ("cpu", "screened") and "needs a Hopper GPU" in found["refused"]["mosaic_gpu"]


def test_a_trace_names_operations():
    a = jnp.ones((512, 512))
    product = jax.jit(lambda a: a @ a)
    found = operations(lambda number: product(a))
    assert found["operations"] and all(row["seconds"] > 0 for row in found["operations"])


def test_ceilings_are_measured(monkeypatch):
    monkeypatch.setattr(ceilings, "HOST_SIZE", 128)
    monkeypatch.setattr(ceilings, "HOST_COPY_BYTES", 2**16)
    found = [run_check(check, 0).outcome for check in ceilings.checks(jax.devices()[0])]
    assert [o.status for o in found] == [MEASURED] * 3
    assert found[0].figures["flops"] > 0 and found[2].figures["bytes_per_second"] > 0


def test_the_table_reads_well(tmp_path):
    file = tmp_path / "found.json"
    findings = Findings(str(file), {"flags": {"seed": 3}})
    kernels = {"part": "kernels", "interpreted": False, "shapes": {}, "seconds": 1.0, "message": "", "figures": {}}
    findings.add(
        kernels | {"name": "encode mosaic_gpu k 32", "implementation": "mosaic_gpu", "status": "passed"} | worst(1e-6)
    )
    wrong = {"name": "encode mosaic_gpu k 512", "implementation": "mosaic_gpu", "status": "wrong"}
    findings.add(kernels | wrong | worst(1.0) | {"message": "values: 1 of 9 are off"})
    findings.add(
        kernels | {"name": "encode chunked k 32", "implementation": "chunked", "status": "passed"} | worst(1e-6)
    )
    findings.add(
        kernels
        | {"name": "decode hopper_pairs d 256", "implementation": "hopper_pairs", "status": "failed"}
        | worst(None)
    )
    step = {
        "step_seconds": 0.2,
        "step_over_floor": 2.0,
        "peak_memory_bytes": 2**30,
        "tokens_per_second": 40960.0,
        "parts": {"encode": {"seconds": 0.125}},
    }
    step |= {
        "optimizer": "adam",
        "width": 1024,
        "flops_of_step": 4e14,
        "encoder_flops": 8e13,
        "flags": {"compute_dtype": "bfloat16"},
    }
    step |= {
        "trace": {"operations": [{"name": "wgmma", "seconds": 0.15}], "others_seconds": 0.01, "idle_fraction": 0.02}
    }
    about = {
        "part": "steps",
        "interpreted": False,
        "seconds": 1.0,
        "message": "",
        "error": None,
        "bound": None,
        "status": MEASURED,
    }
    findings.add(
        about
        | {"name": "step d 8 n 1024 0% dead", "implementation": "jaxsae", "shapes": {"width": 1024}, "figures": step}
    )
    peers = {"variants": {"sparsify-adam": {"seconds": 0.5, "seconds_over_ours": 2.5}}}
    findings.add(
        about
        | {"name": "step d 8 n 1024 0% dead, sparsify", "implementation": "sparsify", "shapes": {}, "figures": peers}
    )
    ceiling = about | {
        "part": "ceilings",
        "name": "matmul bfloat16",
        "implementation": "library",
        "shapes": {"width": 8192},
    }
    findings.add(ceiling | {"figures": {"flops": 8e14}})
    text = "\n".join(show.report(findings))
    assert "mosaic_gpu                         1    2" in text and "<-- encode mosaic_gpu k 512" in text
    assert (
        "step d 8 n 1024 0% dead, adam" in text and "50%         80%" in text and "2.50 times as long as ours" in text
    )
    assert "150.00  wgmma" in text and "800 TFLOP/s" in text
    advice = show.advice(findings)
    assert "encode mosaic_gpu k 512 is wrong: values: 1 of 9 are off" in advice
    assert "--encoder=chunked in `jaxsae train`, or JAXSAE_AVOID=mosaic_gpu,hopper_pairs in the environment" in advice
    assert json.loads(file.read_text())["wrong"] == ["encode mosaic_gpu k 512", "decode hopper_pairs d 256"]
    assert all(show.lines(finding) for finding in findings.all)


def worst(error):
    return {"error": error, "bound": None if error is None else 1e-4}
