"""Files and names are UTF-8 whatever the locale; flag files as editors and shells write them."""

import os
import subprocess
import sys

import numpy as np
import pytest

import jaxsae
from jaxsae import flag_files
from jaxsae.errors import InputError
from jaxsae.paths import check_encoding
from jaxsae.training import load

# A locale without UTF-8 that every system has; Latin-1 need not be installed.
ASCII = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "JAX_PLATFORMS": "cpu"}
NAME = "größe-日本"


def command(tmp_path, *arguments):
    line = [os.fsencode(a) for a in (sys.executable, "-m", "jaxsae", *arguments)]
    return subprocess.run(line, cwd=os.fsencode(tmp_path), env=ASCII, capture_output=True, text=True, encoding="utf-8")


def test_names_and_files_are_utf8_in_another_locale(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(512, 8)).astype(np.float32))
    workdir = f"{NAME}/run"
    for arguments in [
        ("harvest", "--source=arrays", "--input=x.npy", f"--store={NAME}/store"),
        (
            "train",
            f"--store={NAME}/store",
            f"--workdir={workdir}",
            "--width=16",
            "--k=2",
            "--batch_size=64",
            "--tokens=128",
        ),
        ("report", f"--run={workdir}"),
    ]:
        done = command(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(os.fsencode(tmp_path))) == sorted([NAME.encode(), b"x.npy"])
    assert (tmp_path / workdir / "checkpoints/2").is_dir()
    page = (tmp_path / workdir / "report.html").read_bytes().decode()
    assert "Â" not in page and "·" in page


def test_the_working_directory_hides_no_module(tmp_path):
    (tmp_path / "absl.py").write_text("raise SystemExit('the wrong absl')")
    (tmp_path / "start.py").write_text("from jaxsae.cli import main\nmain()\n")
    # A console script has its own directory on sys.path, as a file elsewhere has; not the working directory.
    (tmp_path / "bin").mkdir()
    script = (tmp_path / "start.py").rename(tmp_path / "bin/jaxsae")
    done = subprocess.run(
        [sys.executable, script, "--version"], cwd=tmp_path, env=ASCII, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_python_that_was_not_started_so_refuses(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    check_encoding("--workdir=", "plain")
    with pytest.raises(InputError, match="--workdir='.*gr.*iso8859-1.*PYTHONUTF8=1"):
        check_encoding("--workdir=", NAME)
    with pytest.raises(InputError, match="PYTHONUTF8=1"):  # not "damaged. Remove that directory"
        load(f"{NAME}/run")
    with pytest.raises(InputError, match="--store=.*PYTHONUTF8=1"):  # not "no such store"
        jaxsae.open_store(tmp_path / NAME)
    monkeypatch.setattr(os, "getcwd", lambda: f"/{NAME}")
    with pytest.raises(InputError, match="--workdir='/gr.*/plain'"):
        check_encoding("--workdir=", "plain")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_flag_files_in_any_unicode(encoding, tmp_path):
    inner, outer = tmp_path / "inner.flags", tmp_path / "outer.flags"
    inner.write_text(f"--workdir={NAME}\r\n// no\n", encoding=encoding)
    outer.write_text(f"# a comment\n\n--width=7\n--flagfile={inner}\n--k=3\n", encoding=encoding)
    expected = ["--seed=1", "--width=7", f"--workdir={NAME}", "--k=3", "--k=2"]
    assert flag_files.expand(["--seed=1", f"--flagfile={outer}", "--k=2"]) == expected
    assert flag_files.expand(["--seed=1", "--flagfile", str(outer), "--k=2"]) == expected


def test_only_line_ends_end_a_line(tmp_path):
    path = tmp_path / "a.flags"
    path.write_text("--workdir=a\u2028b\x85c\n--k=1\r\n--seed=2", encoding="utf-8", newline="")
    assert flag_files.expand([f"--flagfile={path}"]) == ["--workdir=a\u2028b\x85c", "--k=1", "--seed=2"]


def test_flag_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.flags"
    with pytest.raises(InputError, match="--flagfile: names no file"):
        flag_files.expand(["--k=1", "--flagfile"])
    path.write_bytes("--workdir=größe".encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.flags: is not UTF-8 text \(byte 12\)"):
        flag_files.expand([f"--flagfile={path}"])
    path.write_bytes("--seed=1".encode("utf-16-le"))
    with pytest.raises(InputError, match=r"a\.flags: holds zero bytes, as UTF-16 without"):
        flag_files.expand([f"--flagfile={path}"])
    path.write_text(f"--flagfile={path}")
    with pytest.raises(InputError, match="names itself"):
        flag_files.expand([f"--flagfile={path}"])
    with pytest.raises(InputError, match="--flagfile=/no/file: cannot be read"):
        flag_files.expand(["--flagfile=/no/file"])
