"""Places that cannot be written to are named with what stands in the way."""

import numpy as np
import pytest

from jaxsae import cli
from jaxsae.errors import InputError
from jaxsae.report.page import output_file


@pytest.fixture
def file(tmp_path):
    (tmp_path / "file").touch()
    return tmp_path / "file"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_store_below_a_file(scheme, file, capsys):
    np.save(file.parent / "a.npy", np.ones((8, 4), "float32"))
    assert cli.run(["harvest", "--source=arrays", f"--input={file.parent}/a.npy", f"--store={scheme}{file}/store"]) == 2
    assert f"--store={file}/store: {file} is a file, so nothing can be written below it" in capsys.readouterr().err


def test_a_report_below_a_file(file):
    with pytest.raises(InputError, match="--output=.*/file/x.html: .*/file is a file, so nothing can be written"):
        output_file(str(file / "x.html"), file.parent)
