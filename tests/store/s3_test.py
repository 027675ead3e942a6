"""A store in S3, on a real server over loopback: harvest, train, kill, resume, export; and no credentials on disk."""

import dataclasses
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from jaxsae import cli
from jaxsae.config import to_flag_lines
from jaxsae.dictionary import MethodConfig
from jaxsae.faults.children import Children, free_port
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.store import location, open_store
from jaxsae.training import TrainConfig
from jaxsae.training.checkpoint import read_metadata

SECRET = "a-secret-of-nobody"


@pytest.fixture
def bucket(monkeypatch):
    """URL of an empty bucket."""
    server_module = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    for name, value in (("ACCESS_KEY_ID", "AKIDNOBODY"), ("SECRET_ACCESS_KEY", SECRET), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="bucket")
    yield "s3://bucket"
    server.stop()


def steps(config):
    return [int(path.name) for path in Path(config.workdir, "checkpoints").glob("*") if path.name.isdigit()]


def test_harvest_train_kill_resume_and_export_from_s3(bucket, tmp_path):
    x = np.random.default_rng(0).normal(size=(1000, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    rows = {"source": "arrays", "input": (str(tmp_path / "x.npy"),), "shard_rows": 256, "chunk_rows": 32}
    local, remote = str(tmp_path / "store"), f"{bucket}/some/store"
    harvest(HarvestConfig(store=local, **rows))
    with Children(tmp_path / "out", ["harvest", *to_flag_lines(HarvestConfig(store=remote, **rows))], 2) as two:
        assert two.wait(60) == [0, 0], two.output(0)
    np.testing.assert_array_equal(open_store(remote).read("activations", 0, 1000), x)
    assert open_store(remote).statistics("activations").scale == open_store(local).statistics("activations").scale

    method = MethodConfig(width=64, k=4, aux_k=8)
    sizes = {"batch_size": 64, "tokens": 64 * 80, "checkpoint_every": 10, "log_every": 20, "mesh": (1, 1)}
    config = TrainConfig(store=remote, workdir=str(tmp_path / "run"), method=method, **sizes)
    with Children(tmp_path / "out", ["train", *to_flag_lines(config)]) as one:
        assert one.until(lambda: steps(config)), one.output()
        one.signal(0, signal.SIGKILL)
        assert one.wait(20) == [-9]
    assert max(steps(config)) < 80
    with Children(tmp_path / "out", ["train", *to_flag_lines(config)]) as one:
        assert one.wait(90) == [0] and "resuming" in one.output()
    alone = dataclasses.replace(config, store=local, workdir=str(tmp_path / "alone"))
    with Children(tmp_path / "out", ["train", *to_flag_lines(alone)]) as one:
        assert one.wait(90) == [0]
    newest = [read_metadata(Path(c.workdir, "checkpoints")) for c in (config, alone)]
    assert newest[0][0] == newest[1][0] == 80 and newest[0][1]["sums"] == newest[1][1]["sums"]

    out = tmp_path / "export"
    assert cli.run(["export", f"--run={config.workdir}", "--format=saelens", f"--output={out}"]) == 0
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()


def test_a_server_that_does_not_answer_is_told_within_the_time(monkeypatch, capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((4, 4), np.float32))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    endpoint = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setattr(location, "ANSWER_SECONDS", 1.0)
    for flags in (
        ["train", "--store=s3://bucket/store", f"--workdir={tmp_path / 'run'}", "--width=64"],
        ["harvest", "--source=arrays", f"--input={tmp_path / 'x.npy'}", "--store=s3://bucket/store"],
        ["inspect", "s3://bucket/store"],
    ):
        began = time.monotonic()
        assert cli.run(flags) == 2
        assert time.monotonic() - began < 10
        said = capsys.readouterr().err
        assert f"the server {endpoint} does not answer within 1 s" in said and SECRET not in said, said
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_put_into_a_bucket_by_mistake():
    with pytest.raises(ValueError, match=r"--workdir=s3://bucket/run: a run lies in a directory.*Mount the bucket"):
        TrainConfig(store="x", workdir="s3://bucket/run", method=MethodConfig(width=64))
