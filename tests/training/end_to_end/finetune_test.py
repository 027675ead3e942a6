"""`--finetune`: what is taken from the run, and what is refused."""

from pathlib import Path

import pytest
from training.end_to_end.conftest import BATCH

from jaxsae import cli
from jaxsae.config import read_flag_file
from jaxsae.training import TrainConfig, train
from jaxsae.training.end_to_end import finetune


def test_finetuning_takes_everything_from_the_run(end_to_end, capsys, monkeypatch):
    monkeypatch.setattr(finetune, "FEWEST_STEPS", 4)
    start = end_to_end("start", kl=0.0, tokens=12 * BATCH, architecture="batchtopk", seed=3)
    train(start)
    workdir = Path(start.workdir).parent / "tuned"
    command = ["train", f"--finetune={start.workdir}", f"--workdir={workdir}", "--mesh=1,1"]
    assert cli.run(command) == 0
    flags = read_flag_file(workdir / "config.flags", TrainConfig)
    assert flags.method == start.method and flags.store == start.store and flags.site == start.site
    assert flags.initialize_from == start.workdir and flags.batch_size == BATCH and flags.steps == 4
    assert flags.optimization.learning_rate == pytest.approx(3e-3 / 30) and flags.end_to_end.kl == 4
    Path(start.workdir).rename(f"{start.workdir}-gone")
    capsys.readouterr()
    assert cli.run(command) == 0  # the same command again: it is complete
    assert "is complete" in capsys.readouterr().err
    assert cli.run([*command, "--kl=0"]) == 2
    assert cli.run(["train", f"--finetune={start.workdir}", f"--workdir={workdir}-other"]) == 2
    assert f"--finetune={start.workdir}: " in capsys.readouterr().err


def test_what_finetuning_keeps_and_what_it_refuses(end_to_end, capsys):
    start = end_to_end("start", tokens=2 * BATCH, later=("resid_post.2",), attribution=0.1)
    train(start)
    flags = finetune.finetune_flags({"finetune": start.workdir})
    assert flags["kl"] == 1 and flags["later"] == ["resid_post.2"] and flags["attribution"] == 0.1
    command = ["train", f"--finetune={start.workdir}"]
    for more, message in (
        ([f"--workdir={start.workdir}"], f"--workdir={start.workdir}: is the run that --finetune names"),
        (["--workdir=w", "--site=resid_post.0"], "--site=resid_post.0: --finetune="),
        (["--workdir=w", "--width=128"], "--width=128: --finetune="),
    ):
        assert cli.run([*command, *more]) == 2
        assert message in capsys.readouterr().err
