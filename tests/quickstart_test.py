"""A finished quickstart is taken as it is by the same flags, and by no others."""

import pytest

from jaxsae import quickstart as walk
from jaxsae.errors import InputError
from jaxsae.harvest import harvest
from jaxsae.quickstart import QuickstartConfig, quickstart
from jaxsae.training.run import METRICS, open_run


@pytest.fixture
def finished(tmp_path):
    """A directory as a finished walk leaves it, but for what a second call does not look at; its configuration."""
    config = QuickstartConfig(workdir=str(tmp_path / "q"), rows=470, width=64, k=4, batch_size=32, steps=3)
    harvest(walk._harvest_config(config, tmp_path / "q" / "store", "random:0"))
    run = open_run(walk._train_config(config, tmp_path / "q" / "store", tmp_path / "q" / "run"))
    (run / METRICS).write_text("")
    (run / "report.html").write_text("")
    return config


def test_a_second_call_says_that_all_is_there(finished, capsys):
    assert quickstart(finished).name == "report.html"
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"rows": 940}, {"site": "mlp_out.1"}, {"width": 128}, {"steps": 4}, {"seed": 1}])
def test_other_flags_are_refused(finished, change):
    with pytest.raises(InputError, match="another"):
        quickstart(QuickstartConfig(**{**vars(finished), **change}))


def test_a_row_keeps_twice_k_where_nothing_is_said(tmp_path):
    for given, kept in ((None, 8), (6, 6)):
        config = QuickstartConfig(workdir=str(tmp_path), width=64, k=4, row_k_max=given)
        assert walk._train_config(config, tmp_path, tmp_path).method.row_k_max == kept


@pytest.mark.parametrize(
    ("flag", "value"), [("k", 2000), ("learning_rate", 0.0), ("row_k_max", 31), ("width", 0), ("decoder_rate", -1.0)]
)
def test_flags_that_the_run_would_refuse_are_refused_at_once(flag, value):
    with pytest.raises(InputError, match=f"--{flag}="):
        QuickstartConfig(**{flag: value})
