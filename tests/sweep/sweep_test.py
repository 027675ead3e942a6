"""The command, in processes of its own: killed, shared by workers, with members that fail; and what it refuses."""

import csv
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from jaxsae import cli
from jaxsae.faults.children import Children
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.inspect import InspectConfig, inspect
from jaxsae.sweep import cost
from jaxsae.sweep.compute import training_flops

LONG = dict(
    width="32,64", seed="0,1", tokens=64 * 400, checkpoint_seconds=0, together=2, holdout_members="seed1_width64"
)


def table(path) -> list[dict]:
    with open(path) as file:
        return list(csv.DictReader(file))


def steps_saved(sweep: Path) -> dict[str, int]:
    """Member -> its newest checkpoint."""
    found = {}
    for place in sweep.glob("members/*/checkpoints/[0-9]*"):
        if place.name.isdigit():
            found[place.parts[-3]] = max(found.get(place.parts[-3], 0), int(place.name))
    return found


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    """The table of a sweep that was left alone, and its directory."""
    place = tmp_path_factory.mktemp("undisturbed")
    with Children(place / "out", command(store, place / "sweep", csv=place / "table.csv", **LONG)) as child:
        assert child.wait(400) == [0], child.output()
        text = child.output()
    assert "4 of 4 members finished" in text
    return table(place / "table.csv"), place / "sweep"


def command(store, workdir, **changes) -> list[str]:
    values = dict(store=store, workdir=workdir, width=64, k=4, aux_k=8, batch_size=64, tokens=1280, learning_rate=0.003)
    values |= dict(dead_tokens=300, log_every=5, evaluate="reconstruction")
    return ["sweep", *(f"--{n}={v}" for n, v in (values | changes).items())]


def test_a_sweep_killed_and_stopped_gives_the_table_of_one_left_alone(undisturbed, store, tmp_path):
    again = command(store, tmp_path / "sweep", csv=tmp_path / "table.csv", **LONG)
    for number, (what, status) in enumerate(((signal.SIGKILL, -9), (signal.SIGTERM, 75))):
        with Children(tmp_path / "out", again) as child:
            before = steps_saved(tmp_path / "sweep")
            assert child.until(lambda before=before: _further(before, steps_saved(tmp_path / "sweep")), 400)
            child.signal(0, what)
            assert child.wait(400) == [status], child.output()
        assert len(list((tmp_path / "sweep").glob("members/*/member.json"))) < 4, number
    with Children(tmp_path / "out", again) as child:
        assert child.wait(400) == [0], child.output()
    assert table(tmp_path / "table.csv") == undisturbed[0]


def _further(before: dict[str, int], now: dict[str, int]) -> bool:
    return any(step > before.get(name, 0) and step >= 20 for name, step in now.items())


def test_two_workers_share_the_members_and_one_completes_those_of_a_killed_one(undisturbed, store, tmp_path):
    sweep = tmp_path / "sweep"
    one = command(store, sweep, csv=tmp_path / "table.csv", **LONG)
    with Children(tmp_path / "one", one) as lost, Children(tmp_path / "two", one) as other:
        assert lost.until(lambda: len(steps_saved(sweep)) == 4, 400)  # two members each
        mine = {
            f.name.rpartition(".")[0] for f in sweep.glob("claims/*.1") if f"-{lost.processes[0].pid}-" in f.read_text()
        }
        assert len(mine) == 2
        lost.signal(0, signal.SIGKILL)
        assert lost.wait(400) == [-9] and other.wait(400) == [0], other.output()
    assert table(tmp_path / "table.csv") == undisturbed[0]
    # Each member was claimed once, but for those that the lost worker had not finished.
    claims = {m["name"]: sorted(int(f.suffix[1:]) for f in sweep.glob(f"claims/{m['name']}.*")) for m in members(sweep)}
    assert all(numbers in ([1], [1, 2]) for numbers in claims.values())
    assert {name for name, numbers in claims.items() if numbers == [1, 2]} <= mine
    workers = {json.loads(f.read_text())["worker"] for f in sweep.glob("members/*/member.json")}
    assert any(f"-{other.processes[0].pid}-" in worker for worker in workers)


def members(sweep: Path) -> list[dict]:
    return json.loads((sweep / "sweep.json").read_text())["members"]


def test_a_finished_sweep_is_left_as_it_is(undisturbed, store, tmp_path, capsys):
    path = tmp_path / "sweep"
    shutil.copytree(undisturbed[1], path)
    shutil.rmtree(path / "members" / "seed0_width32" / "checkpoints")  # nothing looks for what is finished
    before = {f: f.read_bytes() for f in path.glob("members/*/*.jsonl")}
    grid = json.loads((path / "grid.json").read_text())
    assert cli.run(command(store, path, csv=tmp_path / "table.csv", **LONG)) == 0
    assert {f: f.read_bytes() for f in path.glob("members/*/*.jsonl")} == before
    assert table(tmp_path / "table.csv") == undisturbed[0] and json.loads((path / "grid.json").read_text()) == grid
    assert "seed1_width64" in capsys.readouterr().out


def test_sweep_json_has_flags_status_and_figures_of_each_member(undisturbed):
    rows, path = undisturbed
    content = json.loads((path / "sweep.json").read_text())
    assert set(content) >= {"members", "fits", "grid", "store", "jaxsae"} and content["grid"]["width"] == [32, 64]
    member = next(m for m in content["members"] if m["name"] == "seed1_width64")
    assert member["status"] == "finished" and member["error"] is None and member["held_out"]
    figures, found = (
        member["figures"],
        json.loads((path / "members/seed1_width64/eval/reconstruction.json").read_text()),
    )
    assert {n: figures[n] for n in ("fvu", "l0", "dead_fraction", "rows")} == {
        n: found[n] for n in ("fvu", "l0", "dead_fraction", "rows")
    }
    names = ("width", "k", "d_model", "seed", "tokens", "steps")
    assert [figures[n] for n in names] == [64, 4, 16, 1, 25600, 400]
    assert figures["flops"] == training_flops(16, 64, 4, 25600) == 25600 * (2 * 16 * 64 + 8 * 16 * 4)
    curve = figures["curve"]
    assert len(curve) <= 64 and curve[0]["tokens"] == 320 and curve[-1]["tokens"] == 25600
    assert curve[-1]["flops"] == figures["flops"] and curve[-1]["fvu"] < curve[0]["fvu"]
    assert figures["delta_ce"] is None and member["flags"]["seed"] == 1
    assert float(next(r for r in rows if r["member"] == "seed1_width64")["fvu"]) == figures["fvu"]
    text = inspect(InspectConfig(str(path)))
    assert "4 finished" in text and "width 32,64" in text and f"{figures['fvu']:.4f}" in text


def test_members_of_a_sweep_are_runs(undisturbed, capsys):
    run = str(undisturbed[1] / "members" / "seed0_width32")
    assert "topk, 32 latents" in inspect(InspectConfig(run))
    assert cli.run(["train", f"--flagfile={run}/config.flags"]) == 0
    assert "is complete: 400 steps" in capsys.readouterr().err


def test_a_member_that_fails_is_shown_and_the_rest_goes_on(store, tmp_path, capsys):
    grid = dict(learning_rate="0.003,1e30", warmup_fraction=0, csv=tmp_path / "table.csv")
    asked = command(store, tmp_path / "sweep", **grid)
    assert cli.run(asked) == 1
    told = capsys.readouterr()
    assert "1 of 2 members failed: learning_rate1e30" in told.err and "Traceback" not in told.err
    good, bad = table(tmp_path / "table.csv")
    assert good["status"] == "finished" and bad["status"] == "failed" and "loss is not finite" in bad["error"]
    assert (tmp_path / "sweep/members/learning_rate1e30/error.txt").is_file()
    assert cli.run(asked) == 1 and len(list((tmp_path / "sweep/claims").glob("learning_rate1e30.*"))) == 1  # not again
    assert cli.run([*asked, "--retry_failed"]) == 1
    assert len(list((tmp_path / "sweep/claims").glob("learning_rate1e30.*"))) == 2  # once more
    assert len(list((tmp_path / "sweep/claims").glob("learning_rate0.003.*"))) == 1


def refused(arguments, capsys) -> str:
    assert cli.run(arguments) == 2
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return told.err


def test_another_grid_another_judgement_and_a_changed_store_are_refused(undisturbed, store, rows, tmp_path, capsys):
    path = tmp_path / "sweep"
    shutil.copytree(undisturbed[1], path)
    message = refused(command(store, path, **LONG | {"width": "64,128"}), capsys)
    assert "another grid" in message and "seed0_width32" in message and "seed0_width128" in message
    assert "--tokens=25600 (now 12800)" in refused(command(store, path, **LONG | {"tokens": 12800}), capsys)
    assert "--eval_rows=65536 (now 10)" in refused(command(store, path, **LONG, eval_rows=10), capsys)
    np.save(tmp_path / "x.npy", rows[:1024] + 1)
    other = str(tmp_path / "other")
    harvest(
        HarvestConfig(store=other, source="arrays", input=(str(tmp_path / "x.npy"),), shard_rows=256, chunk_rows=32)
    )
    assert "has changed since" in refused(command(other, path, **LONG), capsys)
    assert cli.run(command(store, path, **LONG, log_every=7)) == 0  # what is logged changes no member


def test_members_that_cannot_be_trained_here_are_refused_by_name(store, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cost, "available_bytes", lambda device: 2_000_000)
    message = refused(command(store, tmp_path / "s", width="64,65536"), capsys)
    assert "1 of 2 members do not fit" in message and "width65536 (" in message and "width64 (" not in message
    monkeypatch.undo()
    assert "member width36: --width=36 does not divide" in refused(
        command(store, tmp_path / "s", width="64,36"), capsys
    )
    message = refused(command(store, tmp_path / "s", batch_size="64,2048"), capsys)
    assert "member batch_size2048" in message or "--tokens=1280: is less than one batch" in message
    assert "does not say which model" in refused(command(store, tmp_path / "s", evaluate="splice"), capsys)
    assert "no such store" in refused(command("nowhere", tmp_path / "s"), capsys)
    assert "holds a store" in refused(command(store, store), capsys)
    assert not (tmp_path / "s").exists()


def test_a_directory_below_a_file_is_refused(store, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert cli.run(command(store, tmp_path / "file/sweep")) == 2
    assert "file is a file, so nothing can be written below it" in capsys.readouterr().err


def test_a_dry_run_shows_what_members_cost_and_starts_nothing(store, tmp_path, capsys):
    assert cli.run([*command(store, tmp_path / "s", seed="0,1"), "--dry_run"]) == 0
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert lines[1].split()[:3] == ["seed0", "20", "1,280"] and lines[2].startswith("seed1")
    flops = 2 * training_flops(16, 64, 4, 1280)
    assert (
        f"2 members, {flops:.4g} operations; {1280 * 16 * 4 / 1e9:.3g} GB read" in told and "one after another" in told
    )
    assert not (tmp_path / "s").exists()


def test_local_workers_are_started_and_their_members_are_all_there(undisturbed, store, tmp_path):
    ask = command(store, tmp_path / "sweep", csv=tmp_path / "table.csv", workers=2, **LONG)
    with Children(tmp_path / "out", ask) as parent:
        assert parent.wait(400) == [0], parent.output() + (tmp_path / "sweep/logs/worker-0.log").read_text()
    assert table(tmp_path / "table.csv") == undisturbed[0]
    assert len({json.loads(f.read_text())["worker"] for f in (tmp_path / "sweep").glob("members/*/member.json")}) == 2


def test_a_worker_of_two_processes_trains_members_that_lie_on_both(store, tmp_path):
    ask = command(store, tmp_path / "sweep", seed="0,1", evaluate="", mesh="1,2")
    with Children(tmp_path / "out", ask, count=2) as worker:
        assert worker.wait(400) == [0, 0], worker.output() + worker.output(1)
    with Children(tmp_path / "out", [*ask[:2], f"--workdir={tmp_path / 'alone'}", *ask[3:]], devices=2) as worker:
        assert worker.wait(400) == [0], worker.output()
    for found, expected in zip(members(tmp_path / "sweep"), members(tmp_path / "alone"), strict=True):
        assert found["status"] == expected["status"] == "finished" and found["figures"]["rows"] == 0
        assert found["figures"]["fvu"] == pytest.approx(expected["figures"]["fvu"], rel=1e-5)
    claims = sorted(f.name for f in (tmp_path / "sweep" / "claims").glob("*.[0-9]"))
    assert claims == ["seed0.1", "seed1.1"]  # by one of the two processes
    with Children(tmp_path / "out", command(store, tmp_path / "other", mesh="1,2"), count=2) as worker:
        assert worker.wait(400) == [2, 2] and "evaluation runs in one process" in worker.output()
