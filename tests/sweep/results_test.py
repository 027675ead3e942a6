"""What a sweep's table says of a member, from what its run has written."""

import json

import pytest

from jaxsae.sweep.results import figures

FLAGS = {"architecture": "topk", "width": 64, "k": 4, "tokens": 640, "batch_size": 64, "seed": 0, "learning_rate": None}


@pytest.mark.parametrize(("flag", "recorded", "shown"), [(None, 0.02, 0.02), (0.5, 0.02, 0.5), (None, None, 0.005)])
def test_the_rate_is_the_peak_and_not_that_of_a_line_in_the_fall(tmp_path, flag, recorded, shown):
    (tmp_path / "metrics.jsonl").write_text(
        json.dumps({"step": 10, "tokens": 640, "learning_rate": 0.005, "fvu": 0.1, "loss": 0.1}) + "\n"
    )
    if recorded:
        (tmp_path / "run.json").write_text(json.dumps({"learning_rate": recorded}))
    assert figures(tmp_path, FLAGS | {"learning_rate": flag}, d_model=8)["learning_rate"] == shown
